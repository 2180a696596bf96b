"""One WebSocket connection, between a gateway and an interface (RFC 6455).

The table shows the states, in the notation of `uvicorn.core.exchange`. `notify` calls `on_disconnect`.
tests/core/test_websocket_session.py reads the table.

    event                 CONNECTING   OPEN             CLOSING          CLOSED
    accept                OPEN         error            error            ignore
    accept, invalid       error        error            error            ignore
    hand_over             OPEN         error            error            error
    send_text             error        OPEN             drop             drop
    send_bytes            error        OPEN             drop             drop
    close                 error        CLOSING          ignore           ignore
    close, invalid code   error        error            error            error
    close_begun           -            CLOSING          ignore           ignore
    disconnect            CLOSED       notify, CLOSED   notify, CLOSED   ignore
    handshake denied      CLOSED       -                -                -
    client gone           CLOSED       -                -                -
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final, final

from uvicorn.core.exchange import COMPLETE, HTTPExchange
from uvicorn.core.exchange_end import run_callbacks
from uvicorn.core.gateway import Gateway
from uvicorn.errors import LocalProtocolError
from uvicorn.fields import CLOSE_CODES
from uvicorn.types import Headers


class SessionState(IntEnum):
    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


# Unpacked for mypy, as in `exchange`.
CONNECTING, OPEN, CLOSING, CLOSED = SessionState

# A control frame has 125 bytes (section 5.5), two of which are the code.
_REASON_BYTES: Final = 123


class WebSocketGateway(Gateway):
    """Base class of WebSocket gateways, which send messages."""

    __slots__ = ()

    def send_accept(self, session: WebSocketSession, subprotocol: str | None, headers: Headers) -> None:
        """Open the connection. For invalid arguments, send nothing and raise LocalProtocolError."""
        raise NotImplementedError

    def hand_over(self, session: WebSocketSession) -> socket.socket:
        """Return a socket that acts as the client's connection. Raises OSError."""
        raise NotImplementedError

    def catch_up(self) -> None:
        """Send the client all bytes that the application has written to its socket."""

    def admit(self, session: WebSocketSession) -> Callable[[], object] | None:
        """Count a thread, and return a function that ends the count. Or reject the handshake and return None."""
        raise NotImplementedError

    def send_text(self, text: str) -> None:
        raise NotImplementedError

    def send_bytes(self, data: bytes) -> None:
        raise NotImplementedError

    def send_close(self, code: int, reason: str) -> None:
        """Start the closing handshake. At its end or timeout, call `session.disconnect`."""
        raise NotImplementedError

    def pause_receiving(self) -> None:
        """Stop passing messages to the listener until `resume_receiving`."""

    def resume_receiving(self) -> None:
        """Pass messages to the listener again."""


_GONE: Final = WebSocketGateway()


class WebSocketListener:
    """Base class for receivers of WebSocket messages."""

    __slots__ = ()

    def on_text(self, text: str) -> None:
        raise NotImplementedError

    def on_bytes(self, data: bytes) -> None:
        raise NotImplementedError

    def on_disconnect(self, code: int, reason: str) -> None:
        """Handle the end of an accepted connection. Without a close frame, `code` is 1006."""
        raise NotImplementedError


@final
class WebSocketSession:
    """One WebSocket connection, including its handshake. For use on the event loop's thread."""

    __slots__ = ("_end_callbacks", "endpoint", "gateway", "listener", "request", "sends", "state", "subprotocols")

    def __init__(self, gateway: WebSocketGateway, request: HTTPExchange, subprotocols: Sequence[str]) -> None:
        """`request` is the opening handshake. The client lists `subprotocols` by preference."""
        #: An interface that makes the checks of `send_text` itself may call the gateway's `send_text`.
        self.gateway = gateway
        #: The opening handshake (section 1.3). A response rejects it.
        self.request = request
        self.endpoint = request.endpoint
        self.subprotocols = subprotocols
        self.state = CONNECTING
        #: Set by the interface that serves the session, before it accepts.
        self.listener: WebSocketListener | None = None
        #: Number of sends; interfaces let other tasks run after every so many sends.
        self.sends = 0
        self._end_callbacks: list[Callable[[], object]] = []
        request.on_end(self._handshake_ended)

    @property
    def write_paused(self) -> bool:
        return self.gateway.write_paused

    # For interfaces: the application's side

    def accept(self, subprotocol: str | None = None, headers: Headers = ()) -> None:
        """Open the connection. Raises LocalProtocolError."""
        if self.state is not CONNECTING:
            if self.state is CLOSED:
                return
            raise LocalProtocolError(f"websocket: expected one accept, got a second one in state {self.state.name}")
        self.gateway.send_accept(self, subprotocol, headers)
        if self.request.state is COMPLETE:
            self.state = OPEN

    def hand_over(self) -> socket.socket:
        """Return a socket that acts as the client's connection. The application sends the 101 response.

        Raises LocalProtocolError, ClientDisconnected or OSError.
        """
        if self.state is not CONNECTING:
            raise LocalProtocolError(
                f"websocket: expected a handover in state CONNECTING, got one in state {self.state.name}"
            )
        application_end = self.gateway.hand_over(self)
        self.state = OPEN
        return application_end

    def send_text(self, text: str) -> None:
        """Send a text message. Once the connection is closing, do nothing."""
        if self.state is OPEN:
            if not isinstance(text, str):
                raise _wrong_type("text", "str", text)
            self.gateway.send_text(text)
        elif self.state is CONNECTING:
            raise LocalProtocolError("websocket: expected accept, got text in state CONNECTING")

    def send_bytes(self, data: bytes) -> None:
        """Send a binary message. Once the connection is closing, do nothing."""
        if self.state is OPEN:
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise _wrong_type("bytes", "bytes", data)
            self.gateway.send_bytes(data if isinstance(data, bytes) else bytes(data))
        elif self.state is CONNECTING:
            raise LocalProtocolError("websocket: expected accept, got bytes in state CONNECTING")

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection. Raises LocalProtocolError for an invalid code or reason."""
        check_close(code, reason)
        if self.state is OPEN:
            self.state = CLOSING
            self.gateway.send_close(code, reason)
        elif self.state is CONNECTING:
            raise LocalProtocolError("websocket: expected accept, got close in state CONNECTING")

    async def drain(self) -> None:
        await self.gateway.drain()

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call `callback()` once, when the session ends."""
        if self.state is CLOSED:
            callback()
        else:
            self._end_callbacks.append(callback)

    # For gateways

    def disconnect(self, code: int, reason: str) -> None:
        """End the session, because the connection has ended. Notify the listener."""
        listener = self.listener if self.state in (OPEN, CLOSING) else None
        self._end()
        if listener is not None:
            listener.on_disconnect(code, reason)

    def close_begun(self) -> None:
        """Record that the connection is closing."""
        if self.state is OPEN:
            self.state = CLOSING

    def __repr__(self) -> str:
        return f"<websocket {self.request.path!r:.200}{self.endpoint.via} {self.state.name}>"

    def _handshake_ended(self, request: HTTPExchange) -> None:
        if request.status != 101:
            self._end()

    def _end(self) -> None:
        if self.state is CLOSED:
            return
        self.state = CLOSED
        # Both refer to this session: break the reference cycles.
        self.listener = None
        self.gateway = _GONE
        callbacks, self._end_callbacks = self._end_callbacks, []
        run_callbacks(self, callbacks)


def check_message(text: object, data: object) -> None:
    """Raise LocalProtocolError if `text` or `data` is malformed. Either may be None."""
    if text is not None:
        if not isinstance(text, str):
            raise _wrong_type("text", "str", text)
        if not _is_utf8(text):
            raise LocalProtocolError("websocket: expected 'text' that UTF-8 can encode, got a lone surrogate")
    if data is not None and not isinstance(data, (bytes, bytearray, memoryview)):
        raise _wrong_type("bytes", "bytes", data)


def check_close(code: object, reason: object) -> None:
    """Raise LocalProtocolError for an invalid code or reason (RFC 6455, section 7.4)."""
    if not isinstance(code, int) or code not in CLOSE_CODES:
        raise LocalProtocolError(f"websocket: expected a close code such as 1000 or 3000 to 4999, got {code!r:.40}")
    if not isinstance(reason, str) or not _is_utf8(reason) or len(reason.encode()) > _REASON_BYTES:
        raise LocalProtocolError(f"websocket: expected a close reason of up to 123 bytes in UTF-8, got {reason!r:.200}")


def _wrong_type(key: str, expected: str, value: object) -> LocalProtocolError:
    return LocalProtocolError(f"websocket: expected {key!r} as {expected}, got {type(value).__name__}")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
