"""The site in Bottle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bottle
from bottle import redirect, request, response, static_file

from tests.frameworks import BIG, COOKIES, FILE, PAGE, broken_pieces, digest, environ_of, pieces, told


def page() -> str:
    return PAGE


def away() -> None:
    redirect("/show/%C3%BC/a%20b")


def show(rest: str) -> str:
    return told(request.method, rest, request.path, request.url, sorted(request.query.allitems()))


def environ() -> str:
    return environ_of(request.environ)


def cookies() -> str:
    for name, value in COOKIES:
        response.set_cookie(name, value, max_age=60, path="/", httponly=True, samesite="lax")
    response.add_header("X-Two", "a")
    response.add_header("X-Two", "b")
    return told(sorted(request.cookies.allitems()))


def form() -> str:
    return told(sorted(request.forms.allitems()))


def upload() -> str:
    file = request.files["file"]
    return told(file.raw_filename, file.content_type, digest(file.file.read()), request.forms["note"])


def raw() -> str:
    return digest(request.body.read())


def json() -> dict[str, Any]:
    return {"got": request.json}


def stream() -> Iterator[bytes]:
    response.content_type = "text/plain"
    return pieces()


def fail() -> str:
    raise ValueError("fail")


def fail_midway() -> Iterator[bytes]:
    return broken_pieces()


def nothing() -> None:
    response.status = 204


def file() -> Any:
    return static_file(Path(FILE).name, root=str(Path(FILE).parent), mimetype="text/x-python")


def big() -> bytes:
    return BIG


app: Any = bottle.Bottle()
app.route("/", ["GET"], page)
app.route("/redirect", ["GET"], away)
app.route("/show/<rest:path>", ["GET"], show)
app.route("/environ", ["GET", "POST"], environ)
app.route("/cookies", ["GET"], cookies)
app.route("/form", ["POST"], form)
app.route("/upload", ["POST"], upload)
app.route("/raw", ["POST"], raw)
app.route("/json", ["POST"], json)
app.route("/stream", ["GET"], stream)
app.route("/fail", ["GET"], fail)
app.route("/fail-midway", ["GET"], fail_midway)
app.route("/nothing", ["GET"], nothing)
app.route("/file", ["GET"], file)
app.route("/big", ["GET"], big)
