"""ASGI WebSockets. One call of the application serves one connection."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Any, final

from uvicorn.channel import DONE, SENDS_IN_A_ROW, LazyAwaitable, let_others_run, shape
from uvicorn.core.exchange import STREAMING, WAITING
from uvicorn.core.waiters import Waiters
from uvicorn.core.websocket_session import CLOSED, CLOSING, CONNECTING, OPEN, WebSocketListener, WebSocketSession
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.fields import INTERNAL_ERROR
from uvicorn.interfaces.handlers import ASGI_FAILURE, answer_failure, is_disconnect, log_failure
from uvicorn.settings import Settings
from uvicorn.types import Headers, Message

logger = logging.getLogger("uvicorn.app")


@final
class WebSocketCall(WebSocketListener):
    """Provides `receive` and `send` to an ASGI application for one WebSocket."""

    __slots__ = ("_connected", "_denial", "_disconnect", "_queue", "_queued", "_receivers", "_session", "_settings")

    def __init__(self, session: WebSocketSession, settings: Settings) -> None:
        self._session = session
        self._settings = settings
        self._connected = False
        # Messages that wait for `receive`, and their total size.
        self._queue: deque[str | bytes] = deque()
        self._queued = 0
        self._receivers = Waiters()
        # Close code and reason; 1006 if the connection ends without a close frame.
        self._disconnect = (1006, "")
        # Status and headers of a denial response, held until its content.
        self._denial: tuple[int, Headers] | None = None
        session.listener = self
        session.on_end(self._receivers.wake)

    def failed(self, error: BaseException) -> None:
        """Log the application's `error`. Then reject the handshake or close the connection."""
        session = self._session
        if session.request.status != 101:
            answer_failure(session.request, error, ASGI_FAILURE)
        elif session.state is not OPEN and is_disconnect(error):
            logger.info("%s: client disconnected before the application finished", session)
        else:
            log_failure(session, error, ASGI_FAILURE)
            session.close(INTERNAL_ERROR)

    # For the session

    def on_text(self, text: str) -> None:
        self._put(text)

    def on_bytes(self, data: bytes) -> None:
        self._put(data)

    def on_disconnect(self, code: int, reason: str) -> None:
        self._disconnect = (code, reason)
        self._receivers.wake()

    # For the application

    async def receive(self) -> Message:
        """Return the next event. The last event is `websocket.disconnect`."""
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        while not self._queue:
            if self._session.state is CLOSED:
                code, reason = self._disconnect
                return {"type": "websocket.disconnect", "code": code, "reason": reason}
            await self._receivers.wait(self._receivers.add())
        message = self._queue.popleft()
        self._queued -= len(message)
        if not self._queue and self._session.state is OPEN:
            self._session.gateway.resume_receiving()
        if isinstance(message, str):
            return {"type": "websocket.receive", "text": message, "bytes": None}
        return {"type": "websocket.receive", "text": None, "bytes": message}

    def send(self, message: Message) -> Coroutine[Any, Any, None]:
        """Send an event. Await the result to wait for a slow client."""
        session = self._session
        kind = message.get("type")
        if kind == "websocket.send" and session.state is OPEN:
            text, data = message.get("text"), message.get("bytes")
            if (text is None) == (data is None):
                raise LocalProtocolError("send: expected 'text' or 'bytes' in websocket.send, got both or neither")
            if text is not None:
                session.send_text(text)
            else:
                session.send_bytes(data)  # type: ignore[arg-type]
            session.sends += 1
            if session.write_paused:
                return LazyAwaitable(self._drain, session.gateway.last_send())
            if session.sends >= SENDS_IN_A_ROW:
                session.sends = 0
                return LazyAwaitable(let_others_run)
            return DONE
        if kind == "websocket.close" and session.request.status == 101:
            # The session ignores `close` after the end of the connection.
            session.close(message.get("code") or 1000, message.get("reason") or "")
        elif session.state is CONNECTING:
            self._answer(kind, message)
        elif session.state is CLOSED and session.request.status in (0, 101):
            raise ClientDisconnected("the client has disconnected")
        else:
            raise self._misplaced(message)
        return DONE

    def _answer(self, kind: str | None, message: Message) -> None:
        session, request = self._session, self._session.request
        waiting = request.state is WAITING and self._denial is None
        if kind == "websocket.accept" and waiting:
            session.accept(message.get("subprotocol"), message.get("headers") or ())
        elif kind == "websocket.close" and waiting:
            request.respond(403)
        elif kind == "websocket.http.response.start" and waiting:
            if "status" not in message:
                raise LocalProtocolError(f"send: expected {kind} with 'status', got {shape(message)}")
            self._denial = (message["status"], message.get("headers") or ())
        elif kind == "websocket.http.response.body" and self._denial is not None:
            (status, headers), self._denial = self._denial, None
            request.respond(status, headers, message.get("body") or b"", message.get("more_body", False))
        elif kind == "websocket.http.response.body" and request.state is STREAMING:
            request.write(message.get("body") or b"", message.get("more_body", False))
        else:
            raise self._misplaced(message)

    def _misplaced(self, message: Message) -> LocalProtocolError:
        state = self._session.state
        if state is OPEN:
            expected = "websocket.send or websocket.close"
        elif state is CLOSING:
            expected = "nothing after websocket.close"
        elif state is CLOSED:
            expected = "nothing after the handshake was denied"
        elif self._denial is not None or self._session.request.state is STREAMING:
            expected = "websocket.http.response.body"
        else:
            expected = "websocket.accept, websocket.close or websocket.http.response.start"
        return LocalProtocolError(f"send: expected {expected}, got {message.get('type')!r:.60}")

    async def _drain(self) -> None:
        await self._session.drain()
        if self._session.state is CLOSED:
            raise ClientDisconnected("the client has disconnected")

    def _put(self, message: str | bytes) -> None:
        self._queue.append(message)
        self._queued += len(message)
        if self._queued > self._settings.read_buffer_bytes or len(self._queue) >= self._settings.ws_max_queue:
            self._session.gateway.pause_receiving()
        self._receivers.wake()

    def ended(self, task: asyncio.Task[Any]) -> None:
        session = self._session
        request = session.request
        if task.cancelled():
            if session.state is OPEN:
                session.close(INTERNAL_ERROR)
            request.app_failed("the application was cancelled")
        elif (error := task.exception()) is not None:
            self.failed(error)
        elif session.state is OPEN:
            session.close()
        elif session.state is CONNECTING:
            logger.error("%s: the application returned without accepting or rejecting the handshake", session)
            request.app_failed("the application returned early")
