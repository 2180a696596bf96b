"""Accepts or rejects requests to upgrade to WebSocket (RFC 6455, section 4.2)."""

from __future__ import annotations

from typing import Final

from uvicorn.core.exchange import ERROR_HEADERS, HTTPExchange
from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.errors import RemoteProtocolError
from uvicorn.server.access_log import trace
from uvicorn.server.context import ServerContext
from uvicorn.server.http1_gateway import HTTP1Gateway
from uvicorn.server.websocket import WebSocketConnection
from uvicorn.server.websocket_admission import admits_origin
from uvicorn.wire.http1.encoder import PHRASES
from uvicorn.wire.websocket.handshake import WebSocketHandshake

# The response to another version names ours (section 4.2.2), and the protocol (RFC 9110, section 15.5.22).
_SUPPORTED: Final = ((b"upgrade", b"websocket"), (b"sec-websocket-version", b"13"))


def open_websocket(context: ServerContext, http: HTTP1Gateway, request: HTTPExchange) -> None:
    """Pass a handshake to the application. Reject a malformed handshake, and a forbidden origin.

    An application without WebSockets gets an ordinary request, and may take over the connection.
    """
    interface = context.interface.at(request)
    if not interface.serves_websockets:
        http.ignore_upgrade()
        handshake = _valid_handshake(request) if interface.takes_over else None
        if handshake is None:
            interface.serve_http(request)
        else:
            interface.serve_handshake(_new_session(context, http, request, handshake))
        return
    if http.close_half_closed():
        return
    trace(request.client, "Upgrading to WebSocket")
    try:
        handshake = WebSocketHandshake(request.method, request.http_version, request.headers, request.has_content)
    except RemoteProtocolError as error:
        context.warnings.warn(request.client, f"refused: {error} ({error.status_hint})")
        supported = _SUPPORTED if error.status_hint == 426 else ()
        request.respond(error.status_hint, (*ERROR_HEADERS, *supported), PHRASES[error.status_hint].encode() + b"\n")
        return
    if admits_origin(context, request, handshake, interface.checks_origin):
        interface.serve_websocket(_new_session(context, http, request, handshake))


def _valid_handshake(request: HTTPExchange) -> WebSocketHandshake | None:
    try:
        return WebSocketHandshake(request.method, request.http_version, request.headers, request.has_content)
    except RemoteProtocolError:
        return None


def _new_session(
    context: ServerContext, http: HTTP1Gateway, request: HTTPExchange, handshake: WebSocketHandshake
) -> WebSocketSession:
    connection = WebSocketConnection(context, http, handshake)
    session = connection.session = WebSocketSession(connection, request, handshake.subprotocols)
    return session
