"""Connects a WebSocket of another ASGI server to the application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Any, final

from uvicorn.adapters.asgi import exchange_from_message
from uvicorn.adapters.crossing import MessageGateway
from uvicorn.adapters.response_checks import ResponseChecks, encode_fields
from uvicorn.core.exchange import COMPLETE, HTTPExchange
from uvicorn.core.unsent import UNAWAITED_MESSAGES
from uvicorn.core.websocket_session import CLOSED, OPEN, WebSocketGateway, WebSocketSession
from uvicorn.errors import LocalProtocolError
from uvicorn.interfaces.base import Interface
from uvicorn.routing.interface import Refusal
from uvicorn.settings import Settings
from uvicorn.types import Headers, Message, Receive, Send
from uvicorn.websocket_origin import is_allowed_origin

logger = logging.getLogger("uvicorn.app")


@final
class ASGI3WebSocketGateway(MessageGateway, WebSocketGateway):
    """Passes one WebSocket's messages between an ASGI server and the application."""

    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send, settings: Settings) -> None:
        super().__init__(settings)
        self._receive = receive
        self._send = send
        self._takes_responses = "websocket.http.response" in (scope.get("extensions") or ())
        # Set when the application has answered the handshake.
        self._decided = asyncio.Event()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._checks = ResponseChecks()
        scheme = "https" if scope.get("scheme") == "wss" else "http"
        self.exchange = exchange_from_message({**scope, "method": "GET", "scheme": scheme}, self, has_content=False)
        self.session = WebSocketSession(self, self.exchange, list(scope.get("subprotocols") or ()))

    async def serve(self, interface: Interface, allowed_origins: Collection[str]) -> None:
        """Call the application, and wait until the connection is closed."""
        event = await self._receive()
        session, request = self.session, self.exchange
        if event["type"] != "websocket.connect":
            return
        interface = interface.at(request)
        session.endpoint = request.endpoint
        try:
            if isinstance(interface, Refusal):
                interface.serve_http(request)
            elif not interface.serves_websockets or not self._is_allowed(interface, allowed_origins):
                request.respond(403)
            else:
                self._read_on()
                interface.serve_websocket(session)
            await self.deliver(self._send_event)
        except OSError:
            # Hosts raise OSError when the client has disconnected.
            pass
        finally:
            self.end()
            self._disconnected(1006, "")

    def _is_allowed(self, interface: Interface, allowed_origins: Collection[str]) -> bool:
        fields = {name: value.decode("latin-1") for name, value in zip(*self.exchange.fields, strict=True)}
        origin, host = fields.get(b"origin"), fields.get(b"host", "")
        allowed = is_allowed_origin(origin, host, allowed_origins, interface.checks_origin)
        if not allowed:
            logger.warning(
                "%s: websocket rejected with 403, origin %.200r is not allowed for host %.200r; "
                "list the origin in ASGI3Adapter(..., allowed_origins=[...])",
                self.exchange.client,
                origin,
                host,
            )
        return allowed

    # What the session calls

    def has_ended(self) -> bool:
        return self.session.state is CLOSED

    def send_accept(self, session: WebSocketSession, subprotocol: str | None, headers: Headers) -> None:
        if subprotocol is not None and subprotocol not in session.subprotocols:
            offered = session.subprotocols
            raise LocalProtocolError(f"subprotocol: expected one of {offered!r:.200}, got {subprotocol!r:.100}")
        fields = encode_fields(self._checks.start("GET", 200, b"", headers, b"", True)[1])
        for name, _ in fields:
            # A host would send the field, or fail when the application already considers the connection open.
            if name.startswith(b"sec-websocket-") or name == b"content-length":
                instead = "; expected the subprotocol in 'subprotocol'" if name == b"sec-websocket-protocol" else ""
                raise LocalProtocolError(
                    f"header {name!r}: only the ASGI server may set this field in a handshake{instead}"
                )
        self._put({"type": "websocket.accept", "subprotocol": subprotocol, "headers": fields}, 0)
        session.request.switch_protocols()

    def send_text(self, text: str) -> None:
        self._put_message("text", text)

    def send_bytes(self, data: bytes) -> None:
        self._put_message("bytes", data)

    def send_close(self, code: int, reason: str) -> None:
        self._put({"type": "websocket.close", "code": code, "reason": reason}, 0)
        self._resumed.set()
        # The session ends even if the ASGI server reports no disconnect.
        timer = asyncio.get_running_loop().call_later(self._settings.ws_close_seconds, self._disconnected, 1006, "")
        self.session.on_end(timer.cancel)

    def pause_receiving(self) -> None:
        self._resumed.clear()

    def resume_receiving(self) -> None:
        self._resumed.set()

    # What the handshake's exchange calls: a response to it rejects the handshake

    def send_response(
        self, exchange: HTTPExchange, status: int, headers: Headers, content: bytes, more_content: bool, reason: bytes
    ) -> None:
        _, fields, content = self._checks.start("GET", status, reason, headers, content, more_content)
        if not self._takes_responses:
            # The ASGI server sends 403.
            self._put({"type": "websocket.close"}, 0)
            return
        self._put({"type": "websocket.http.response.start", "status": int(status), "headers": encode_fields(fields)}, 0)
        self._put_content(content, more_content)

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        try:
            content = self._checks.count(content, more_content)
        except Exception as error:
            self.abort(exchange, str(error))
            raise
        if self._takes_responses:
            self._put_content(content, more_content)

    def want_content(self, exchange: HTTPExchange) -> None: ...

    def pass_failure(self, exchange: HTTPExchange, error: BaseException) -> bool:
        # A failed handshake gets a response, as without an adapter.
        return False

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        self._decided.set()
        self._wake()

    # From and to the host

    async def _read(self) -> None:
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

    async def _send_event(self, event: Message) -> None:
        if event["type"] == "websocket.close" and self._reading is not None:
            # granian cannot close while a receive() is pending. It delivers websocket.disconnect again.
            self._reading.cancel()
            await asyncio.wait((self._reading,))
            self._reading = None
            await self._send(event)
            self._read_on()
        else:
            await self._send(event)

    def _put_content(self, content: bytes, more_content: bool) -> None:
        body = {"type": "websocket.http.response.body", "body": content, "more_body": more_content}
        self._put(body, len(content))

    def _put_message(self, kind: str, message: str | bytes) -> None:
        size = len(message)
        shortage = self._backlog.shortage(size, self._settings, UNAWAITED_MESSAGES)
        if not shortage:
            if not size:
                # `_put` counts bytes only, but the number of messages is limited too.
                self._backlog.add(0)
            self._put({"type": "websocket.send", kind: message}, size)
            return
        logger.warning("%s closed with 1013: the client does not read its messages, %s", self.session, shortage)
        self._messages.clear()
        self._put({"type": "websocket.close", "code": 1013, "reason": ""}, 0)
        self._disconnected(1013, "")

    def _disconnected(self, code: int, reason: str) -> None:
        if self.exchange.state < COMPLETE:
            self.exchange.disconnect()
        elif self.session.state is not CLOSED:
            self.session.disconnect(code, reason)
        self._wake()
        self._backlog.wake()
