"""The site in Pyramid."""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPFound
from pyramid.response import FileResponse, Response

from tests.frameworks import BIG, COOKIES, FILE, PAGE, broken_pieces, digest, environ_of, pieces, told


def page(request: Any) -> Any:
    return Response(PAGE)


def away(request: Any) -> Any:
    return HTTPFound(request.route_url("show", rest=("ü", "a b")))


def show(request: Any) -> Any:
    rest = request.matchdict["rest"]
    return Response(told(request.method, rest, request.path_info, request.url, sorted(request.GET.items())))


def environ(request: Any) -> Any:
    return Response(environ_of(request.environ))


def cookies(request: Any) -> Any:
    response = Response(told(sorted(request.cookies.items())))
    for name, value in COOKIES:
        response.set_cookie(name, value.replace(" ", "_"), path="/", httponly=True, samesite="Lax")
    response.headerlist += [("X-Two", "a"), ("X-Two", "b")]
    return response


def form(request: Any) -> Any:
    return Response(told(sorted(request.POST.items())))


def upload(request: Any) -> Any:
    file = request.POST["file"]
    return Response(told(file.filename, file.type, digest(file.file.read()), request.POST["note"]))


def raw(request: Any) -> Any:
    return Response(digest(request.body))


def json(request: Any) -> Any:
    return Response(json_body={"got": request.json_body})


def stream(request: Any) -> Any:
    return Response(app_iter=pieces(), content_type="text/plain")


def fail(request: Any) -> Any:
    raise ValueError("fail")


def fail_midway(request: Any) -> Any:
    return Response(app_iter=broken_pieces())


def nothing(request: Any) -> Any:
    return Response(status=204)


def file(request: Any) -> Any:
    return FileResponse(FILE, request, content_type="text/x-python")


def big(request: Any) -> Any:
    return Response(BIG)


def _site() -> Any:
    with Configurator() as config:
        for view, path, methods in (
            (page, "/", ("GET",)),
            (away, "/redirect", ("GET",)),
            (show, "/show/*rest", ("GET",)),
            (environ, "/environ", ("GET", "POST")),
            (cookies, "/cookies", ("GET",)),
            (form, "/form", ("POST",)),
            (upload, "/upload", ("POST",)),
            (raw, "/raw", ("POST",)),
            (json, "/json", ("POST",)),
            (stream, "/stream", ("GET",)),
            (fail, "/fail", ("GET",)),
            (fail_midway, "/fail-midway", ("GET",)),
            (nothing, "/nothing", ("GET",)),
            (file, "/file", ("GET",)),
            (big, "/big", ("GET",)),
        ):
            config.add_route(view.__name__, path)
            config.add_view(view, route_name=view.__name__, request_method=methods)
        return config.make_wsgi_app()


app: Any = _site()
