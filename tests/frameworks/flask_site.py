"""The site in Flask."""

from __future__ import annotations

from flask import Flask, Response, jsonify, redirect, request, send_file, url_for
from werkzeug.wrappers import Response as BaseResponse

from tests.frameworks import BIG, COOKIES, FILE, PAGE, broken_pieces, digest, environ_of, pieces, told

app = Flask(__name__)


@app.get("/")
def page() -> str:
    return PAGE


@app.get("/redirect")
def away() -> BaseResponse:
    return redirect(url_for("show", rest="ü/a b", _external=True))


@app.get("/show/<path:rest>")
def show(rest: str) -> str:
    return told(request.method, rest, request.path, request.url, sorted(request.args.items(multi=True)))


@app.route("/environ", methods=["GET", "POST"])
def environ() -> str:
    return environ_of(request.environ)


@app.get("/cookies")
def cookies() -> Response:
    response = Response(told(sorted(request.cookies.items(multi=True))), headers=[("X-Two", "a"), ("X-Two", "b")])
    for name, value in COOKIES:
        response.set_cookie(name, value, max_age=60, path="/", httponly=True, samesite="Lax")
    return response


@app.post("/form")
def form() -> str:
    return told(sorted(request.form.items(multi=True)))


@app.post("/upload")
def upload() -> str:
    file = request.files["file"]
    return told(file.filename, file.content_type, digest(file.read()), request.form["note"])


@app.post("/raw")
def raw() -> str:
    return digest(request.get_data())


@app.post("/json")
def json() -> Response:
    return jsonify(got=request.get_json())


@app.get("/stream")
def stream() -> Response:
    return Response(pieces(), mimetype="text/plain")


@app.get("/fail")
def fail() -> str:
    raise ValueError("fail")


@app.get("/fail-midway")
def fail_midway() -> Response:
    return Response(broken_pieces(), mimetype="text/plain")


@app.get("/nothing")
def nothing() -> tuple[str, int]:
    return "", 204


@app.get("/file")
def file() -> Response:
    return send_file(FILE, mimetype="text/x-python", conditional=True)


@app.get("/big")
def big() -> bytes:
    return BIG
