"""A connection to Redis, which sends commands and receives replies."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar, cast

from asyncio_redis import RedisProtocol
from asyncio_redis.encoders import BytesEncoder

from uvicorn.broadcast.redis.resp import NotRedis, RedisReader, RedisRefusal, Reply

T = TypeVar("T")

#: Makes a connection that is authenticated, has selected its database, and has replied to PING.
Connect: TypeAlias = Callable[[], "Awaitable[RedisConnection]"]

#: Silence is counted in steps, because an event loop that was blocked has to read the bytes that have arrived first.
_STEP_SECONDS: Final = 0.5
#: Send PING after 1 s without a byte.
_STEPS_UNTIL_PING: Final = 2
#: The connection is lost after 3 s without a byte. Redis replies within milliseconds; packets may be retransmitted.
_STEPS_UNTIL_LOST: Final = 6

#: Further error replies to PING of a Redis that delivers messages: the user must not PING, or the disk is full.
_ALIVE: Final = ("NOPERM", "MISCONF")

#: The limit for a transport that does not report the end of an aborted connection.
CLOSE_SECONDS: Final = 1.0


class ConnectFailed(Exception):
    """An attempt to connect has failed. The message never shows a password."""

    def __init__(self, reason: str, denied: bool = False) -> None:
        super().__init__(reason)
        self.denied = denied


class ConnectionLost(Exception):
    """The connection was lost before the reply."""


def connect_refused(refusal: RedisRefusal, command: str = "") -> ConnectFailed:
    command = "AUTH" if refusal.code == "WRONGPASS" else command
    return ConnectFailed(f"Redis refuses{f' {command}' if command else ''}: {refusal}", refusal.is_denied)


@asynccontextmanager
async def closed_on_failure(connection: RedisConnection, command: str = "") -> AsyncIterator[None]:
    """Close `connection` if the `with` block raises. RedisRefusal and ConnectionLost become ConnectFailed."""
    try:
        yield
    except BaseException as error:
        await connection.close("connecting failed")
        if isinstance(error, RedisRefusal):
            raise connect_refused(error, command) from None
        if isinstance(error, ConnectionLost):
            raise ConnectFailed(str(error)) from None
        raise


async def first_reply(hosts: Iterable[tuple[str, int]], seconds: float, ask: Callable[[str, int], Awaitable[T]]) -> T:
    """Ask one host after another, each for at most `seconds`. Raises ConnectFailed."""
    reasons = []
    for host, port in hosts:
        try:
            async with asyncio.timeout(seconds):
                return await ask(host, port)
        except (ConnectFailed, ConnectionLost, RedisRefusal, OSError, TimeoutError) as error:
            reasons.append(f"{host}:{port}: {error or type(error).__name__}")
    raise ConnectFailed("; ".join(reasons))


class RedisConnection(asyncio.Protocol):
    """A connection to Redis. Do not call `execute` after `receive_pushes`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        #: `host:port` of a server that redis-py has connected to, otherwise ''.
        self.place = ""
        self.transport: asyncio.Transport
        # Only for commands: its parser cannot parse acknowledgements, and queues pushes without bound.
        self._encoder = RedisProtocol(encoder=BytesEncoder(), enable_typechecking=False)
        self._reader = RedisReader(self.reply_received)
        #: redis-py's writer, which would close the transport when it is freed. Otherwise None.
        self.writer: asyncio.StreamWriter | None = None
        #: Done when the connection has ended. The result is the reason.
        self.lost: asyncio.Future[str] = self._loop.create_future()
        #: A `time.monotonic()`: uvloop updates its own clock only once in each iteration of the event loop.
        self.last_byte_at = time.monotonic()
        self._replies: deque[asyncio.Future[Reply]] = deque()
        self._on_push: Callable[[Reply], None] | None = None
        self._ping: Callable[[], Any] = self._execute_ping
        self._silent_steps = 0
        self._step: asyncio.TimerHandle | None = None
        self._reason = ""

    # For the owner.

    @property
    def unanswered(self) -> int:
        return len(self._replies)

    @property
    def unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def fileno(self) -> int:
        return int(self.transport.get_extra_info("socket").fileno())

    def send(self, *command: bytes) -> None:
        if not self.transport.is_closing():
            self._encoder._send_command(command)

    def execute(self, *command: bytes) -> asyncio.Future[Reply]:
        """Send a command. The returned future may raise RedisRefusal or ConnectionLost."""
        reply: asyncio.Future[Reply] = self._loop.create_future()
        if self.lost.done():
            reply.set_exception(ConnectionLost(self.lost.result()))
            return reply
        self._replies.append(reply)
        self.send(*command)
        return reply

    async def check_alive(self) -> None:
        """Wait for a reply to PING. Raises RedisRefusal or ConnectionLost."""
        # A connection alone proves nothing: the kernel accepts connections even if Redis hangs.
        try:
            await self.execute(b"PING")
        except RedisRefusal as refusal:
            if not refusal.is_transient and refusal.code not in _ALIVE:
                raise

    def receive_pushes(self, on_push: Callable[[Reply], None], ping: Callable[[], None]) -> None:
        """Pass each further reply to `on_push`. Call `ping` after 1 s without a byte."""
        self._on_push = on_push
        self._ping = ping

    def abort(self, reason: str) -> None:
        """Abort the connection. A second call does not change the reason."""
        self._reason = self._reason or reason
        self._reader.close()
        self.transport.abort()

    async def close(self, reason: str) -> None:
        self.abort(reason)
        # `wait` does not cancel `lost` if this task is cancelled.
        await asyncio.wait([self.lost], timeout=CLOSE_SECONDS)

    # For the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast instead of an assertion, because uvloop's transports do not subclass asyncio.Transport.
        self.transport = self._encoder.transport = cast(asyncio.Transport, transport)
        self._step = self._loop.call_later(_STEP_SECONDS, self._take_step)

    def data_received(self, data: bytes) -> None:
        self.last_byte_at = time.monotonic()
        self._silent_steps = 0
        try:
            self._reader.feed(data)
        except NotRedis as error:
            self.abort(f"the server does not speak Redis' protocol: {error}")

    def reply_received(self, reply: Reply) -> None:
        if self._on_push is not None:
            self._on_push(reply)
            return
        if not self._replies:
            # Redis sends an error reply without a command if it has too many clients.
            is_refusal = isinstance(reply, RedisRefusal)
            self.abort(f"Redis refuses: {reply}" if is_refusal else "unexpected reply from Redis")
            return
        future = self._replies.popleft()
        if future.cancelled():
            return
        if isinstance(reply, RedisRefusal):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        error = "Redis closed the connection" if exc is None else str(exc) or type(exc).__name__
        reason = self._reason or error
        self._reader.close()
        if self._step is not None:
            self._step.cancel()
        self._on_push = None
        while self._replies:
            future = self._replies.popleft()
            if not future.done():
                future.set_exception(ConnectionLost(reason))
        if not self.lost.done():
            self.lost.set_result(reason)

    def _take_step(self) -> None:
        self._silent_steps += 1
        if self._silent_steps > _STEPS_UNTIL_LOST:
            silence = _STEP_SECONDS * _STEPS_UNTIL_LOST
            self.abort(f"no byte received for {silence:g} s, not even a reply to PING")
            return
        if self._silent_steps == _STEPS_UNTIL_PING:
            self._ping()
        self._step = self._loop.call_later(_STEP_SECONDS, self._take_step)

    def _execute_ping(self) -> None:
        # Retrieve the exception: otherwise the event loop logs it.
        self.execute(b"PING").add_done_callback(lambda reply: reply.cancelled() or reply.exception())
