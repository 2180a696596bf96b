"""`request_of` and `login_required`, for coroutines that Django's own handler does not call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache, wraps
from importlib import import_module
from io import BytesIO
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import CsrfViewMiddleware
from django.shortcuts import resolve_url
from django.urls import set_script_prefix
from django.utils.http import urlencode
from django.utils.translation import get_language_from_request

from uvicorn.channel import WrappedReply
from uvicorn.core.endpoint import is_below
from uvicorn.types import Headers, Message

Handler = Callable[..., Awaitable[Any]]

# Django checks no CSRF token for safe methods (RFC 9110, section 9.2.1).
_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))

#: Types of scopes (ASGI) and names of messages (channels) for which `login_required` checks the user.
_HANDSHAKES: Final = frozenset(("websocket", "websocket.connect"))
_REQUESTS: Final = frozenset(("http", "http.request"))


def request_of(message: Message, body: bytes | None = None) -> HttpRequest:
    """Return a Django request for an HTTP request or a WebSocket handshake.

    `message` is a channels message or an ASGI scope. The result has META, COOKIES, GET and LANGUAGE_CODE. With Django's
    applications for sessions and users, the result has `session` and `auser()`. Do not change the session, because the
    client gets no cookie. POST and FILES are parsed from `body`. By default, `body` is the message's content.

    Sets the script prefix of the calling task for `reverse()`.
    """
    path, root_path = message["path"], message.get("root_path") or ""
    scheme = message.get("scheme") or "http"
    scope = {
        **message,
        # The message of a handshake has no method.
        "method": message.get("method") or "GET",
        "scheme": {"ws": "http", "wss": "https"}.get(scheme, scheme),
        # Django would cut the root path "/app" off the path "/apple".
        "root_path": root_path if is_below(path, root_path) else "",
        "headers": [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers") or ()],
    }
    request = ASGIRequest(scope, BytesIO(message.get("body") or b"" if body is None else body))
    set_script_prefix(get_script_prefix(scope))
    if apps.is_installed("django.contrib.sessions"):
        request.session = _session_class(settings.SESSION_ENGINE)(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
        if apps.is_installed("django.contrib.auth"):
            # This import needs Django's models, which are not yet loaded when this module is imported.
            from django.contrib.auth.middleware import AuthenticationMiddleware

            AuthenticationMiddleware(_no_response).process_request(request)
    request.LANGUAGE_CODE = get_language_from_request(request)
    return request


def login_required(handler: Handler) -> Handler:
    """Call `handler` only for users that are logged in.

    `handler` is a channels application or an ASGI application. For requests and handshakes, its first argument gets the
    keys `request` and `user`. Without a login, requests are redirected to LOGIN_URL, and handshakes are rejected with
    403. Unsafe methods, such as POST, need a CSRF token in the field X-CSRFToken. HTTP responses get `Vary: Cookie`.

    The login is checked once, so a WebSocket stays open after a logout.
    """

    @wraps(handler)
    async def checked(message: Message, *others: Any) -> Any:
        # channels messages have "channel"; ASGI scopes have "type".
        kind = message.get("channel") or message.get("type") or "http.request"
        if kind not in _REQUESTS and kind not in _HANDSHAKES:
            return await handler(message, *others)
        is_asgi = len(others) == 2
        send = others[1] if is_asgi else others[0]["reply"].send
        if kind in _REQUESTS:
            send = _varying(send)
            others = (others[0], send) if is_asgi else ({**others[0], "reply": WrappedReply(others[0]["reply"], send)},)
        request = request_of(message)
        response: HttpResponse | None = None
        if request.method not in _SAFE:
            response = await sync_to_async(_csrf_failure)(request, handler)
        if response is None:
            user = await request.auser()
            if user.is_authenticated:
                return await handler({**message, "request": request, "user": user}, *others)
            response = _login_redirect(request)
        return await _send(kind, response, send)

    # For system check W004.
    checked.requires_login = True  # type: ignore[attr-defined]
    return checked


async def _send(kind: str, response: HttpResponse, send: Callable[[Message], Awaitable[Any]]) -> None:
    if kind == "websocket.connect":
        await send({"accept": False})
    elif kind == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
        await send_response(kind, send, response.status_code, headers, response.content)


async def send_response(
    kind: str, send: Callable[[Message], Awaitable[Any]], status: int, headers: Headers, content: bytes
) -> None:
    """Send a response. `kind` is the message's `channel` or the scope's `type`."""
    # A new list, which middleware outside of the application may extend.
    headers = list(headers)
    if kind in ("http.request", "websocket.connect"):
        await send({"status": status, "headers": headers, "content": content})
    else:
        prefix = "http" if kind == "http" else "websocket.http"
        await send({"type": f"{prefix}.response.start", "status": status, "headers": headers})
        await send({"type": f"{prefix}.response.body", "body": content})


def _login_redirect(request: HttpRequest) -> HttpResponse:
    # A copy of `django.contrib.auth.views.redirect_to_login`, which cannot be imported before models are loaded.
    url = resolve_url(settings.LOGIN_URL)
    mark = "&" if "?" in url else "?"
    return HttpResponseRedirect(f"{url}{mark}{urlencode({REDIRECT_FIELD_NAME: request.get_full_path()})}")


def _csrf_failure(request: HttpRequest, handler: Handler) -> HttpResponse | None:
    middleware = CsrfViewMiddleware(_no_response)
    middleware.process_request(request)
    rejection: HttpResponse | None = middleware.process_view(request, handler, (), {})
    return rejection


def _no_response(request: HttpRequest) -> HttpResponse:
    raise NotImplementedError


@lru_cache(maxsize=8)
def _session_class(engine: str) -> Any:
    # `auser()` would change the key of a session that a key of SECRET_KEY_FALLBACKS has signed.
    store = import_module(engine).SessionStore

    async def acycle_key(self: Any) -> None: ...

    # Django signs sessions with a key derived from the qualified name of the class.
    same = {"__qualname__": store.__qualname__, "__module__": store.__module__}
    return type(store.__name__, (store,), {**same, "cycle_key": lambda self: None, "acycle_key": acycle_key})


def _varying(send: Callable[[Message], Awaitable[Any]]) -> Callable[[Message], Awaitable[Any]]:
    def send_varying(message: Message) -> Awaitable[Any]:
        if isinstance(message, dict) and "status" in message:
            message = {**message, "headers": _with_vary(message.get("headers") or ())}
        return send(message)

    return send_varying


def _with_vary(headers: Any) -> list[Any]:
    values = [bytes(value).lower() for name, value in headers if bytes(name).lower() == b"vary"]
    listed = {item.strip() for value in values for item in value.split(b",")}
    return [*headers, *(() if listed & {b"cookie", b"*"} else [(b"vary", b"Cookie")])]
