"""Decides whether a handshake may become a WebSocket."""

from __future__ import annotations

from collections.abc import Callable

from uvicorn.core.exchange import ERROR_HEADERS, HTTPExchange
from uvicorn.server.context import ServerContext
from uvicorn.websocket_origin import is_allowed_origin
from uvicorn.wire.websocket.handshake import WebSocketHandshake


def admits_origin(
    context: ServerContext, request: HTTPExchange, handshake: WebSocketHandshake, checks_origin: bool = True
) -> bool:
    """Return whether the origin of a handshake is allowed. If it is forbidden, respond 403."""
    if is_allowed_origin(handshake.origin, handshake.host, context.allowed_origins, checks_origin):
        return True
    context.warnings.warn(
        request.client,
        f"refused: origin {handshake.origin!r:.200} must not open a WebSocket to host {handshake.host!r:.200} (403); "
        "to allow the origin, add it to --ws-allowed-origins",
    )
    request.respond(403, ERROR_HEADERS, b"Forbidden\n")
    return False


def admit_thread(context: ServerContext, request: HTTPExchange) -> Callable[[], object] | None:
    """Admit a thread that takes over a connection. Return a function to call when the thread ends.

    If too many threads serve WebSockets, respond 503 and return None.
    """
    # A peer on a Unix socket is a proxy for all clients, unless it forwards their addresses.
    client = request.client[0] if request.client is not None else ""
    refusal = context.ws_threads.refusal(client)
    if not refusal:
        return context.ws_threads.begin(client)
    context.ws_threads.refused += 1
    context.warnings.warn(request.client, f"refused: {refusal}")
    request.respond(503, (*ERROR_HEADERS, (b"retry-after", b"1")), b"Service Unavailable\n")
    return None
