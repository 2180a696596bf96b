"""The WebSocket of a WSGI application, `environ['uvicorn.websocket']`."""

from __future__ import annotations

import threading
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, final

from uvicorn.core.websocket_session import CLOSED, OPEN, WebSocketListener, WebSocketSession, check_close, check_message
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.interfaces.channels_websocket import WebSocketReply
from uvicorn.interfaces.takeover import Takeover
from uvicorn.loop_calls import LoopCalls
from uvicorn.settings import Settings

# The high-water mark of messages that threads have passed to the event loop.
_HIGH_WATER_BYTES: Final = 65536

# Counted for each message in addition to its content, because empty messages must not fill the memory.
_MESSAGE_BYTES: Final = 128


@final
class Inbox(WebSocketListener):
    """Holds received messages until a thread takes them."""

    def __init__(self, session: WebSocketSession, loop_calls: LoopCalls, settings: Settings) -> None:
        self._session = session
        self._loop_calls = loop_calls
        self._settings = settings
        # None follows the last message, and stays in the queue.
        self._messages: SimpleQueue[str | bytes | None] = SimpleQueue()
        self._receiver = threading.Lock()
        # The bytes that the event loop has put into the queue, and those that the thread has taken.
        self._arrived = 0
        self._taken = 0
        self._paused = False
        #: Close code and reason, once the connection has ended.
        self.end: tuple[int, str] | None = None

    def take(self, timeout: float | None) -> str | bytes | None:
        """Return the next message, or None after `timeout` seconds. Raises ClientDisconnected."""
        if not self._receiver.acquire(blocking=False):
            raise LocalProtocolError("websocket.receive: another thread is receiving; let one thread receive")
        try:
            message = self._loop_calls.block(
                partial(self._messages.get, timeout=None if timeout is None else max(timeout, 0)),
                partial(self._messages.put, None),
            )
        except Empty:
            return None
        finally:
            self._receiver.release()
        if message is None:
            self._messages.put(None)
            raise self.disconnected()
        self._taken += len(message)
        if self._paused and self._messages.empty():
            self._loop_calls.post(self._resume)
        return message

    def disconnected(self) -> ClientDisconnected:
        code, reason = self.end or (1006, "")
        return ClientDisconnected(f"websocket: the connection has ended with code {code}", code, reason)

    # On the event loop's thread

    def on_text(self, text: str) -> None:
        self._put(text)

    def on_bytes(self, data: bytes) -> None:
        self._put(data)

    def on_disconnect(self, code: int, reason: str) -> None:
        self.end = (code, reason)
        self._messages.put(None)

    def _put(self, message: str | bytes) -> None:
        settings = self._settings
        self._arrived += len(message)
        is_full = (
            self._arrived - self._taken > settings.read_buffer_bytes
            or self._messages.qsize() + 1 >= settings.ws_max_queue
        )
        if is_full:
            # Set before the message is put, because the thread that takes it checks this.
            self._paused = True
        self._messages.put(message)
        if is_full:
            self._session.gateway.pause_receiving()

    def _resume(self) -> None:
        self._paused = False
        if self._session.state is OPEN:
            self._session.gateway.resume_receiving()


@final
class WSGIWebSocket:
    """`environ['uvicorn.websocket']` of a handshake. Not for use on the event loop's thread.

    The first `accept`, `receive` or `send` accepts the handshake. Afterwards the application's response is dropped.
    Without these calls, the response rejects the handshake. The server closes the WebSocket after the application's
    call.
    """

    def __init__(self, takeover: Takeover, loop_calls: LoopCalls, settings: Settings) -> None:
        self._takeover = takeover
        self._loop_calls = loop_calls
        self._session = takeover.session
        self._inbox = Inbox(takeover.session, loop_calls, settings)
        self._reply: WebSocketReply | None = None
        self._is_closing = False
        # The bytes that threads have passed to the event loop, under the lock, and the bytes that have been sent.
        self._lock = threading.Lock()
        self._sent = 0
        self._taken = 0
        # The bytes of `_sent` that wait for a slow client.
        self._unsent = 0

    @property
    def name(self) -> str:
        """The name of the client's channel. Raises LocalProtocolError before the handshake is accepted."""
        if self._reply is None:
            raise LocalProtocolError("call accept() before websocket.name")
        return self._reply.name

    def accept(self, subprotocol: str | None = None) -> None:
        """Accept the handshake, optionally with a subprotocol that the client offers.

        Raises ClientDisconnected if the client has disconnected, or if the server rejects the handshake. Raises
        LocalProtocolError for other subprotocols, or for a second call.
        """
        self._check_thread()
        if self._reply is not None:
            raise LocalProtocolError("websocket.accept: the handshake has been accepted already")
        self._takeover.take(lambda: self._on_loop_accept(subprotocol))

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """Return the next message, or None after `timeout` seconds.

        Only one thread may receive at a time. Raises ClientDisconnected when the connection has ended.
        """
        self._check_thread()
        if self._reply is None:
            self._accept_once()
        return self._inbox.take(timeout)

    def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a text or binary message. Block while the client is slow. Thread-safe.

        Raises ClientDisconnected when the connection has ended, or after `close`.
        """
        self._check_thread()
        if isinstance(message, str):
            check_message(message, None)
        elif isinstance(message, (bytes, bytearray, memoryview)):
            message = bytes(message)
        else:
            raise LocalProtocolError(f"websocket.send: expected str or bytes, got {type(message).__name__}")
        if self._reply is None:
            self._accept_once()
        if self._inbox.end is not None or self._is_closing:
            raise self._inbox.disconnected()
        size = len(message) + _MESSAGE_BYTES
        with self._lock:
            self._sent += size
        if not self._loop_calls.post(lambda: self._on_loop_send(message, size)) or (
            self._sent - self._taken > _HIGH_WATER_BYTES and not self._loop_calls.wait(self._on_loop_wants_room)
        ):
            raise self._inbox.disconnected()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection. Thread-safe.

        Raises LocalProtocolError for invalid arguments or during the handshake.
        """
        check_close(code, reason)
        if self._reply is None and self._session.state is not CLOSED:
            raise LocalProtocolError(
                "websocket.close: call accept() first; to reject the handshake, return an ordinary response"
            )
        self._is_closing = True
        self._loop_calls.post(lambda: self._session.close(code, reason))

    def __iter__(self) -> Iterator[str | bytes]:
        """Iterate over the messages, until the connection has ended."""
        with suppress(ClientDisconnected):
            while (message := self.receive()) is not None:
                yield message

    def _check_thread(self) -> None:
        if threading.get_ident() == self._session.endpoint.thread:
            raise LocalProtocolError("websocket: expected a call on another thread; this is the event loop's thread")

    def _accept_once(self) -> None:
        try:
            self.accept()
        except LocalProtocolError:
            if self._reply is None:
                raise

    # On the event loop's thread

    def _on_loop_accept(self, subprotocol: str | None) -> None:
        session = self._session
        session.listener = self._inbox
        session.accept(subprotocol)
        if session.state is OPEN:
            self._reply = WebSocketReply(session)

    def _on_loop_send(self, message: str | bytes, size: int) -> None:
        session = self._session
        if isinstance(message, str):
            session.send_text(message)
        else:
            session.send_bytes(message)
        awaited = session.gateway.last_send()
        if awaited is None:
            self._taken += size
        else:
            # The client is slow. Threads wait when they are above the high-water mark.
            self._unsent += size
            awaited()

    def _on_loop_wants_room(self) -> Coroutine[Any, Any, None] | None:
        if self._session.write_paused:
            return self._drain()
        self._on_loop_room()
        return None

    async def _drain(self) -> None:
        await self._session.drain()
        self._on_loop_room()

    def _on_loop_room(self) -> None:
        self._taken += self._unsent
        self._unsent = 0
