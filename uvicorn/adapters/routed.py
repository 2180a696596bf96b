"""Lets another server call the applications behind a Router directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from uvicorn.core.endpoint import is_below
from uvicorn.fields import split_pairs
from uvicorn.interfaces.asgi3 import ASGI3Interface
from uvicorn.interfaces.environ import text_octets
from uvicorn.interfaces.wsgi import WSGIInterface
from uvicorn.routing.entries import HTTP, WEBSOCKET
from uvicorn.routing.interface import RouterInterface
from uvicorn.routing.table import field_value, host_name, intended_method


def wsgi_call(router: RouterInterface, environ: dict[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]] | None:
    """Return the matching WSGI application and its environ, or None."""
    path_info: str = environ.get("PATH_INFO", "")
    script_name: str = environ.get("SCRIPT_NAME", "")
    if (script_name and path_info and not path_info.startswith("/")) or not (script_name or path_info):
        # As in `exchange_from_environ`.
        path_info = "/" + path_info
    path = path_info
    if not path_info.isascii():
        octets = text_octets(path_info)
        path_info, path = octets.decode("latin-1"), octets.decode("utf-8", "replace")
    host, method = "", environ.get("REQUEST_METHOD", "GET")
    if router.reads_fields:
        host = host_name(environ.get("HTTP_HOST", ""))
        method = intended_method(method, environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD", ""))
    interface, prefix = router.leaf(path, host, HTTP, method) or (None, "")
    if not isinstance(interface, WSGIInterface):
        return None
    if prefix:
        octets = text_octets(script_name) + prefix.encode()
        path_info = path_info[len(prefix.encode()) :]
        environ = {**environ, "SCRIPT_NAME": octets.decode("latin-1"), "PATH_INFO": path_info}
    return interface.app, environ


def asgi_call(router: RouterInterface, scope: dict[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]] | None:
    """Return the matching ASGI application and its scope, or None."""
    path: str = scope["path"]
    root_path: str = scope.get("root_path") or ""
    below = path
    if is_below(path, root_path):
        below = path[len(root_path) :]
    else:
        path = root_path + path
    protocol = HTTP if scope["type"] == "http" else WEBSOCKET
    host, method = "", scope.get("method", "GET")
    if router.reads_fields:
        fields = split_pairs([bytes(name).lower(), bytes(value)] for name, value in scope["headers"])
        host = host_name(field_value(fields, b"host"))
        method = intended_method(method, field_value(fields, b"access-control-request-method"))
    interface, prefix = router.leaf(below, host, protocol, method) or (None, "")
    if not isinstance(interface, ASGI3Interface):
        return None
    changed: dict[str, Any] = {}
    if prefix:
        changed["root_path"] = root_path + prefix
        if path is not scope["path"]:
            # The host has cut the root path off.
            changed["path"] = path
            if scope.get("raw_path") is not None:
                changed["raw_path"] = quote(root_path).encode() + scope["raw_path"]
    if interface.state is not None:
        changed["state"] = interface.state.copy()
    return interface.app, {**scope, **changed}
