"""Accept or reject a request to upgrade to WebSocket (RFC 6455, section 4.2)."""

from __future__ import annotations

from uvicorn.core.exchange import ERROR_HEADERS, HTTPExchange
from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.errors import RemoteProtocolError
from uvicorn.server.access_log import trace
from uvicorn.server.context import ServerContext
from uvicorn.server.http1_gateway import HTTP1Gateway
from uvicorn.server.websocket import WebSocketConnection
from uvicorn.websocket_origin import is_allowed_origin
from uvicorn.wire.http1.encoder import PHRASES
from uvicorn.wire.websocket.handshake import WebSocketHandshake


def open_websocket(context: ServerContext, http: HTTP1Gateway, request: HTTPExchange) -> None:
    """Pass a handshake to the application. Reject a malformed handshake, or an origin that is not allowed."""
    interface = context.interface.at(request)
    if not interface.serves_websockets:
        http.ignore_upgrade()
        interface.serve_http(request)
        return
    if http.close_half_closed():
        return
    trace(request.client, "Upgrading to WebSocket")
    try:
        handshake = WebSocketHandshake(request.method, request.http_version, request.headers, request.has_content)
    except RemoteProtocolError as error:
        context.warnings.warn(request.client, f"refused: {error} ({error.status_hint})")
        # Section 4.2.2: the response to an unknown version names the supported one.
        version = ((b"sec-websocket-version", b"13"),) if error.status_hint == 426 else ()
        request.respond(error.status_hint, (*ERROR_HEADERS, *version), PHRASES[error.status_hint].encode() + b"\n")
        return
    if not is_allowed_origin(handshake.origin, handshake.host, context.allowed_origins, interface.checks_origin):
        context.warnings.warn(
            request.client,
            f"refused: websocket from origin {handshake.origin!r:.200} to host {handshake.host!r:.200} (403); "
            "to allow it, add the origin to --ws-allowed-origins",
        )
        request.respond(403, ERROR_HEADERS, b"Forbidden\n")
        return
    connection = WebSocketConnection(context, http, handshake)
    session = connection.session = WebSocketSession(connection, request, handshake.subprotocols)
    interface.serve_websocket(session)
