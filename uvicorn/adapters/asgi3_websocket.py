"""Connects the WebSocket of another ASGI server to the application's session."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from typing import Any, final

from uvicorn.adapters.asgi import exchange_from_message
from uvicorn.adapters.response_checks import ResponseChecks, encode_fields
from uvicorn.concurrency.flow_control import FlowControl
from uvicorn.core.exchange import COMPLETE, HTTPExchange, HTTPGateway
from uvicorn.core.unsent import UNAWAITED_MESSAGES
from uvicorn.core.websocket_session import CLOSED, OPEN, WebSocketGateway, WebSocketSession
from uvicorn.errors import LocalProtocolError, ResponseAborted
from uvicorn.interfaces.base import Interface
from uvicorn.routing.interface import Refusal
from uvicorn.settings import Settings
from uvicorn.types import Headers, Message
from uvicorn.websocket_origin import is_allowed_origin

logger = logging.getLogger("uvicorn.app")

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@final
class ASGI3WebSocketGateway(WebSocketGateway, HTTPGateway):
    """Transfers the events of one connection. Until accept, the handshake is an HTTP exchange."""

    __slots__ = (
        "_backlog", "_changed", "_decided", "_events", "_failure", "_checks", "_receive", "_receiving", "_resumed",
        "_send", "_settings", "_takes_responses", "session",
    )  # fmt: skip

    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send, settings: Settings) -> None:
        self._receive = receive
        self._send = send
        self._settings = settings
        self._receiving: asyncio.Task[None] | None = None
        self._takes_responses = "websocket.http.response" in (scope.get("extensions") or ())
        self._events: deque[Message] = deque()
        self._backlog = FlowControl()
        self._changed = asyncio.Event()
        # Set when the application has answered the handshake.
        self._decided = asyncio.Event()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._failure = ""
        self._checks = ResponseChecks("GET")
        scheme = "https" if scope.get("scheme") == "wss" else "http"
        request = exchange_from_message({**scope, "method": "GET", "scheme": scheme}, self, has_content=False)
        self.session = WebSocketSession(self, request, list(scope.get("subprotocols") or ()))

    async def serve(self, interface: Interface, allowed_origins: Collection[str]) -> None:
        """Let the application accept or reject, then transfer messages until the connection is closed."""
        event = await self._receive()
        session = self.session
        if event["type"] != "websocket.connect":
            return
        interface = interface.at(session.request)
        session.endpoint = session.request.endpoint
        if isinstance(interface, Refusal):
            interface.serve_http(session.request)
            await self._pump()
            return
        if not interface.serves_websockets or not self._is_allowed(interface, allowed_origins):
            session.request.respond(403)
            await self._pump()
            return
        self._receive_on()
        try:
            interface.serve_websocket(session)
            await self._pump()
        except OSError:
            # Hosts raise OSError when the client has disconnected.
            pass
        finally:
            if self._receiving is not None:
                self._receiving.cancel()
            self._disconnected(1006, "")

    def _is_allowed(self, interface: Interface, allowed_origins: Collection[str]) -> bool:
        request = self.session.request
        fields = {name: value.decode("latin-1") for name, value in zip(*request.fields, strict=True)}
        origin, host = fields.get(b"origin"), fields.get(b"host", "")
        allowed = is_allowed_origin(origin, host, allowed_origins, interface.checks_origin)
        if not allowed:
            logger.warning(
                "%s: websocket rejected with 403, origin %.200r is not allowed for host %.200r; "
                "list the origin in ASGI3Adapter(..., allowed_origins=[...])",
                request.client,
                origin,
                host,
            )
        return allowed

    # What the session calls

    @property
    def write_paused(self) -> bool:  # type: ignore[override]
        return self._backlog.above_high_water

    def send_accept(self, session: WebSocketSession, subprotocol: str | None, headers: Headers) -> None:
        if subprotocol is not None and subprotocol not in session.subprotocols:
            offered = session.subprotocols
            raise LocalProtocolError(f"subprotocol: expected one of {offered!r:.200}, got {subprotocol!r:.100}")
        fields = encode_fields(ResponseChecks("GET").start(200, b"", headers, b"", True)[1])
        for name, _ in fields:
            # A host would send the field, or fail when the application already considers the connection open.
            if name.startswith(b"sec-websocket-") or name == b"content-length":
                instead = "; expected the subprotocol in 'subprotocol'" if name == b"sec-websocket-protocol" else ""
                raise LocalProtocolError(
                    f"header {name!r}: only the ASGI server may set this field in a handshake{instead}"
                )
        self._put({"type": "websocket.accept", "subprotocol": subprotocol, "headers": fields})
        session.request.switch_protocols()

    def send_text(self, text: str) -> None:
        self._put_message({"type": "websocket.send", "text": text}, len(text))

    def send_bytes(self, data: bytes) -> None:
        self._put_message({"type": "websocket.send", "bytes": data}, len(data))

    def send_close(self, code: int, reason: str) -> None:
        """Close the connection. If the ASGI server reports no disconnect, the session ends after `ws_close_seconds`."""
        self._put({"type": "websocket.close", "code": code, "reason": reason})
        self._resumed.set()
        timer = asyncio.get_running_loop().call_later(self._settings.ws_close_seconds, self._disconnected, 1006, "")
        self.session.on_end(timer.cancel)

    def pause_receiving(self) -> None:
        self._resumed.clear()

    def resume_receiving(self) -> None:
        self._resumed.set()

    async def drain(self) -> None:
        await self._backlog.wait(lambda: self.session.state is CLOSED)

    def last_send(self) -> Callable[[], object] | None:
        return self._backlog.last_send()

    # What the handshake's exchange calls: a response to it rejects the handshake

    def send_response(
        self, exchange: HTTPExchange, status: int, headers: Headers, content: bytes, more_content: bool, reason: bytes
    ) -> None:
        """Reject the handshake with this response, or with 403 if the ASGI server cannot send responses."""
        _, fields, content = self._checks.start(status, reason, headers, content, more_content)
        if not self._takes_responses:
            self._put({"type": "websocket.close"})
            return
        self._put({"type": "websocket.http.response.start", "status": int(status), "headers": encode_fields(fields)})
        self._put({"type": "websocket.http.response.body", "body": content, "more_body": more_content})

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        try:
            content = self._checks.count(content, more_content)
        except Exception as error:
            self.abort(exchange, str(error))
            raise
        if self._takes_responses:
            self._put({"type": "websocket.http.response.body", "body": content, "more_body": more_content})

    def want_content(self, exchange: HTTPExchange) -> None: ...

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        self._decided.set()
        self._changed.set()

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        self._failure = reason
        self._changed.set()

    # From and to the host

    def _receive_on(self) -> None:
        self._receiving = asyncio.get_running_loop().create_task(self._receive_all())

    async def _receive_all(self) -> None:
        session = self.session
        try:
            while session.state is not CLOSED:
                await self._resumed.wait()
                event = await self._receive()
                if event["type"] == "websocket.disconnect":
                    self._disconnected(event.get("code") or 1005, event.get("reason") or "")
                    return
                # A host may deliver messages before the accept.
                await self._decided.wait()
                listener = session.listener
                if session.state is OPEN and listener is not None:
                    text = event.get("text")
                    if text is not None:
                        listener.on_text(text)
                    else:
                        listener.on_bytes(event.get("bytes") or b"")
        except Exception as error:
            logger.error(
                "%s: the ASGI server's receive() failed; treating the client as disconnected", session, exc_info=error
            )
            self._disconnected(1006, "")

    async def _pump(self) -> None:
        session = self.session
        while True:
            while self._events:
                event = self._events.popleft()
                # Measured before it is sent: a middleware may change it.
                size = _size(event)
                if event["type"] == "websocket.close" and self._receiving is not None:
                    # granian cannot close while a receive() is pending. It delivers websocket.disconnect again.
                    self._receiving.cancel()
                    await asyncio.wait((self._receiving,))
                    await self._send(event)
                    self._receive_on()
                else:
                    await self._send(event)
                if self._backlog.consumed(size):
                    self._backlog.wake()
            if self._failure:
                raise ResponseAborted(self._failure)
            if session.state is CLOSED and session.request.state >= COMPLETE:
                return
            self._changed.clear()
            await self._changed.wait()

    def _put(self, event: Message) -> None:
        self._events.append(event)
        self._backlog.add(_size(event))
        self._changed.set()

    def _put_message(self, event: Message, size: int) -> None:
        shortage = self._backlog.shortage(size, self._settings, UNAWAITED_MESSAGES)
        if shortage:
            logger.warning("%s closed with 1013: the client does not read its messages, %s", self.session, shortage)
            self._events.clear()
            self._put({"type": "websocket.close", "code": 1013, "reason": ""})
            self._disconnected(1013, "")
            return
        self._put(event)

    def _disconnected(self, code: int, reason: str) -> None:
        request = self.session.request
        if request.state < COMPLETE:
            request.disconnect()
        elif self.session.state is not CLOSED:
            self.session.disconnect(code, reason)
        self._changed.set()
        self._backlog.wake()


def _size(event: Message) -> int:
    return len(event.get("text") or event.get("bytes") or event.get("body") or b"")
