"""The site in Falcon."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

import falcon

from tests.frameworks import BIG, COOKIES, FILE, PAGE, broken_pieces, digest, environ_of, pieces, told


class Page:
    """A resource that answers GET with the result of a function."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._answer = answer

    def on_get(self, req: Any, resp: Any, **segments: str) -> None:
        self._answer(req, resp, **segments)

    on_head = on_get


class Form(Page):
    """A resource that answers POST with the result of a function."""

    def on_post(self, req: Any, resp: Any) -> None:
        self._answer(req, resp)

    def on_get(self, req: Any, resp: Any, **segments: str) -> None:
        raise falcon.HTTPMethodNotAllowed(["POST"])


class Both(Page):
    """A resource that answers GET and POST with the result of a function."""

    def on_post(self, req: Any, resp: Any) -> None:
        self._answer(req, resp)


def page(req: Any, resp: Any) -> None:
    resp.content_type = falcon.MEDIA_HTML
    resp.text = PAGE


def away(req: Any, resp: Any) -> None:
    raise falcon.HTTPFound(quote("/show/ü/a b"))


def show(req: Any, resp: Any, rest: str) -> None:
    resp.text = told(req.method, rest, req.path, req.url, sorted(req.params.items()))


def environ(req: Any, resp: Any) -> None:
    resp.text = environ_of(req.env)


def cookies(req: Any, resp: Any) -> None:
    for name, value in COOKIES:
        resp.set_cookie(name, value.replace(" ", "_"), max_age=60, path="/", secure=False)
    resp.append_header("X-Two", "a")
    resp.append_header("X-Two", "b")
    resp.text = told(sorted(req.cookies.items()))


def form(req: Any, resp: Any) -> None:
    resp.text = told(sorted(req.get_media().items()))


def upload(req: Any, resp: Any) -> None:
    parts = []
    for part in req.get_media():
        parts += [part.name, part.filename, part.content_type, digest(part.stream.read())]
    resp.text = told(*parts)


def raw(req: Any, resp: Any) -> None:
    resp.text = digest(req.bounded_stream.read() if req.content_length else req.stream.read())


def json(req: Any, resp: Any) -> None:
    resp.media = {"got": req.get_media()}


def stream(req: Any, resp: Any) -> None:
    resp.content_type = "text/plain"
    resp.stream = pieces()


def fail(req: Any, resp: Any) -> None:
    raise ValueError("fail")


def fail_midway(req: Any, resp: Any) -> None:
    resp.stream = broken_pieces()


def nothing(req: Any, resp: Any) -> None:
    resp.status = falcon.HTTP_204


def file(req: Any, resp: Any) -> None:
    resp.content_type = "text/x-python"
    # With `read` and no length it goes through wsgi.file_wrapper.
    resp.stream = open(FILE, "rb")


def big(req: Any, resp: Any) -> None:
    resp.data = BIG


def _site(routes: Iterable[tuple[str, object]]) -> Any:
    site = falcon.App()
    for path, resource in routes:
        site.add_route(path, resource)
    return site


app: Any = _site(
    [
        ("/", Page(page)),
        ("/redirect", Page(away)),
        ("/show/{rest:path}", Page(show)),
        ("/environ", Both(environ)),
        ("/cookies", Page(cookies)),
        ("/form", Form(form)),
        ("/upload", Form(upload)),
        ("/raw", Form(raw)),
        ("/json", Form(json)),
        ("/stream", Page(stream)),
        ("/fail", Page(fail)),
        ("/fail-midway", Page(fail_midway)),
        ("/nothing", Page(nothing)),
        ("/file", Page(file)),
        ("/big", Page(big)),
    ]
)
