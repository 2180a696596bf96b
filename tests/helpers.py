"""The language that tests are written in: conversations with one connection, without a socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import h11

from uvicorn.interfaces.detect import build_interface
from uvicorn.keywords import build_settings
from uvicorn.server.clock import Clock
from uvicorn.server.context import ServerContext
from uvicorn.server.http1 import HTTP1Connection
from uvicorn.server.websocket import WebSocketConnection

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class ManualClock(Clock):
    """Time that moves by `advance` only."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        super().__init__()

    def monotonic(self) -> float:
        return self.seconds

    def jitter(self) -> float:
        return 0.0

    def advance(self, seconds: int) -> None:
        """Let `seconds` ticks pass."""
        for _ in range(seconds):
            self.seconds += 1
            self.tick()


class FakeSocket:
    """Just enough of a socket for a connection to ask that closing it be a reset."""

    def __init__(self, family: int = socket.AF_INET, fails: bool = False) -> None:
        self.family = family
        self._fails = fails

    def setsockopt(self, *option: Any) -> None:
        if self._fails:
            raise OSError("gone")

    def fileno(self) -> int:
        """Of none that the kernel knows."""
        return -1


class FakeTransport(asyncio.Transport):
    """A transport whose client is the test: it sees every write, and takes bytes as slowly as it likes."""

    def __init__(self, protocol: HTTP1Connection | WebSocketConnection, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self.protocol = protocol
        self.writes: list[bytes] = []
        self.unsent = 0
        self.client_takes = True
        self.reading = True
        self.eof_written = False
        # Not with TLS.
        self.half_closes = True
        self.aborted = False
        self.closing = False
        self._reset = False
        self._high = 65536

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, (HTTP1Connection, WebSocketConnection))
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high or 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._reset:
            return
        assert not self.closing, "written after it was closed"
        self.writes.append(bytes(data))
        if not self.client_takes:
            self.unsent += len(data)
            if self.unsent > self._high and not self.protocol.write_paused:
                self.protocol.pause_writing()

    def take(self, count: int) -> None:
        """The client reads `count` bytes."""
        self.unsent = max(0, self.unsent - count)
        if self.unsent <= self._high // 4 and self.protocol.write_paused:
            self.protocol.resume_writing()
        if self.closing and not self.unsent:
            self._lose()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        assert self.half_closes or not self.closing, "asyncio's transports for TLS may have let go of what would"
        self.reading = True

    def can_write_eof(self) -> bool:
        return self.half_closes

    def write_eof(self) -> None:
        assert self.half_closes
        self.eof_written = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        assert self.half_closes or not self.closing, "asyncio's transports for TLS let go of everything the second time"
        if not self.closing:
            self.closing = True
            if not self.unsent:
                self._lose()

    def abort(self) -> None:
        self.aborted = True
        if not self.closing:
            self.closing = True
        self._lose()

    def reset(self) -> None:
        """The client resets the connection. As on a socket, writes until `connection_lost` are lost."""
        self._reset = not self.closing
        self.closing = True
        self._lose()

    def _lose(self) -> None:
        self.unsent = 0
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


class Conversation:
    """One connection to `app`: `send` bytes, let things `settle`, look at what was `received`.

    Keywords are settings. Needs a running event loop.
    """

    def __init__(self, app: Callable[..., Any], *, clock: ManualClock | None = None, **settings: Any) -> None:
        settings.setdefault("access_log", False)
        self.clock = clock or ManualClock()
        apart = {name: settings.pop(name) for name in ("headers", "ws") if name in settings}
        chosen = replace(build_settings(settings), **apart)
        self.interface = build_interface(app, chosen)
        self.context = ServerContext(self.interface, chosen, self.clock)
        self.clock.on_tick(self.context.tick)
        self.clock.tick()
        self.connection, self.transport = self.connect()

    def connect(self, peer: tuple[str, int] | str = ("127.0.0.1", 51234)) -> tuple[HTTP1Connection, FakeTransport]:
        """Another connection to the same server; from a Unix socket if `peer` is a path, which may be empty."""
        connection = HTTP1Connection(self.context)
        transport = FakeTransport(
            connection,
            {"sockname": ("127.0.0.1", 8000), "peername": peer, "socket": FakeSocket()},
        )
        connection.connection_made(transport)
        return connection, transport

    def send(self, data: bytes, piece: int = 65536) -> None:
        """The client sends `data`; what has no room any more, because reading is paused, is an error of the test."""
        for start in range(0, len(data), piece):
            if self.transport.closing:
                return
            assert self.transport.reading, "the server does not read"
            self.feed(data[start : start + piece])

    def feed(self, data: bytes) -> None:
        """The loop hands `data` over; it may have read them just before reading was paused."""
        protocol = self.transport.protocol
        protocol.data_received(data)

    def send_eof(self) -> None:
        """The client closes its side."""
        if not self.transport.closing and not self.transport.protocol.eof_received():
            self.transport.close()

    async def lose(self) -> None:
        """The client is gone."""
        if not self.transport.closing:
            self.transport.reset()
        await settle()

    @property
    def received(self) -> bytes:
        """All that the client was sent."""
        return b"".join(self.transport.writes)

    @property
    def statuses(self) -> list[int]:
        """The status codes of the responses, interim ones included."""
        return [response.status for response in self.responses()]

    def responses(self, *methods: str) -> list[Response]:
        """The responses so far, read by another implementation; `methods` of the requests, GET unless given."""
        return parse_responses(self.received, methods, closed=self.transport.closing or self.transport.eof_written)


@dataclass
class Response:
    """A response as a client sees it. `complete` is false if it was cut off."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes = b""
    complete: bool = False

    def header(self, name: bytes) -> bytes | None:
        """The value of the only field of that name."""
        values = [value for field, value in self.headers if field.lower() == name]
        assert len(values) < 2, f"{name!r} more than once"
        return values[0] if values else None


def parse_responses(data: bytes, methods: tuple[str, ...] = (), closed: bool = False) -> list[Response]:
    """The responses in `data`, by h11."""
    responses: list[Response] = []
    expected = iter(methods)
    while data:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=next(expected, "GET"), target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        if closed:
            client.receive_data(b"")
        response: Response | None = None
        while True:
            try:
                event = client.next_event()
            except h11.RemoteProtocolError:
                break
            if isinstance(event, h11.InformationalResponse):
                responses.append(Response(event.status_code, list(event.headers), complete=True))
            elif isinstance(event, h11.Response):
                response = Response(event.status_code, list(event.headers))
                responses.append(response)
            elif isinstance(event, h11.Data) and response is not None:
                response.content += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and response is not None:
                response.complete = True
                break
            else:
                break
        if response is None or not response.complete:
            break
        data = client.trailing_data[0]
    return responses


async def settle(turns: int = 20) -> None:
    """Let everything that can happen happen."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what another thread, or a timer, brings about."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def read_body(message: dict[str, Any], channels: dict[str, Any]) -> bytes:
    """As the interface's documents have it."""
    body: bytes = message.get("body", b"")
    if "body" in channels:
        while True:
            message_chunk = await channels["body"].receive()
            body += message_chunk["content"]
            if not message_chunk.get("more_content", False):
                break
    return body


async def hello(message: dict[str, Any], channels: dict[str, Any]) -> None:
    """Replies at once, and reads nothing."""
    await channels["reply"].send({"status": 200, "headers": [[b"content-type", b"text/plain"]], "content": b"hello"})


async def echo(message: dict[str, Any], channels: dict[str, Any]) -> None:
    """Replies with what it was sent, when it has all of it; refuses a websocket."""
    if message["channel"] != "http.request":
        await channels["reply"].send({"status": 403})
        return
    body = await read_body(message, channels)
    head = f"{message['method']} {message['path']} ".encode()
    await channels["reply"].send({"status": 200, "content": head + body})


class Recorder:
    """An application that keeps every message it was called with, then does what another one does."""

    def __init__(self, app: Callable[..., Any] = echo) -> None:
        self.messages: list[dict[str, Any]] = []
        self.channels: list[dict[str, Any]] = []
        self._app = app

    async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
        self.messages.append(message)
        self.channels.append(channels)
        await self._app(message, channels)


class ClosingLoop(set[Callable[[], object]]):
    """`_wakes` of `LoopCalls`, for a loop that is closed when the first thread waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop

    def add(self, wake: Callable[[], object]) -> None:
        super().add(wake)
        self._loop.close()
