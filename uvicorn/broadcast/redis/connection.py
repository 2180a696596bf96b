"""One connection to Redis, independent of the driver: replies, liveness and its end."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from uvicorn.broadcast.redis.resp import RedisRefusal, Reply

#: Makes a connection that is authenticated, has its database selected, and has replied to PING.
Connect: TypeAlias = Callable[[], "Awaitable[RedisConnection]"]

#: Silence is counted in steps, not read from a clock: an event loop that was blocked for seconds takes one step for all
#: of them, and reads what has arrived before the next.
_STEP_SECONDS: Final = 0.5
#: 1 s without a byte: send PING.
_STEPS_UNTIL_PING: Final = 2
#: 3 s without a byte, even after PING: lost. Redis replies within milliseconds; 2 s are for retransmitted packets.
_STEPS_UNTIL_LOST: Final = 6

#: Error replies to PING, besides transient ones, of a Redis that delivers messages: narrow rights, and a full disk.
#: One that replies with NOAUTH, DENIED or "ERR max number of clients reached" does not.
_ALIVE: Final = ("NOPERM", "MISCONF")

#: An aborted connection ends at the next turn of the loop; the limit is for drivers that fail to notice.
CLOSE_SECONDS: Final = 1.0


class ConnectFailed(Exception):
    """No usable connection could be made; the message gives the reason, without the password.

    `denied`: Redis rejects the user's rights or password.
    """

    def __init__(self, reason: str, denied: bool = False) -> None:
        super().__init__(reason)
        self.denied = denied


class ConnectionLost(Exception):
    """The connection ended before the reply."""


def connect_error(error: BaseException, command: str) -> ConnectFailed | None:
    """Return the ConnectFailed for what was raised while connecting, in reply to `command`; None for other errors."""
    if isinstance(error, RedisRefusal):
        command = "AUTH" if error.code == "WRONGPASS" else command
        return ConnectFailed(f"Redis refuses{f' {command}' if command else ''}: {error}", error.is_denied)
    return ConnectFailed(str(error)) if isinstance(error, ConnectionLost) else None


class RedisConnection:
    """A connection. At first every `execute` has one reply, in order; `receive_pushes` ends that.

    Drivers implement `send` and `abort_transport`, and call `connection_made`, `bytes_received`, `reply_received` and
    `connection_lost`.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        #: Done when the connection has ended, with the reason.
        self.lost: asyncio.Future[str] = self._loop.create_future()
        #: In `time.monotonic()`: uvloop's own clock may stand still for a whole turn.
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
        """The number of commands without a reply."""
        return len(self._replies)

    @property
    def unsent_bytes(self) -> int:
        """The number of bytes that the kernel has not taken yet."""
        raise NotImplementedError

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        raise NotImplementedError

    def execute(self, *command: bytes) -> asyncio.Future[Reply]:
        """Send a command; return its reply, RedisRefusal or ConnectionLost. Cancelling it affects no other command."""
        reply: asyncio.Future[Reply] = self._loop.create_future()
        if self.lost.done():
            reply.set_exception(ConnectionLost(self.lost.result()))
            return reply
        self._replies.append(reply)
        self.send(*command)
        return reply

    async def check_alive(self) -> None:
        """Wait for a reply: the kernel accepts connections for a Redis that hangs.

        Raises RedisRefusal or ConnectionLost.
        """
        try:
            await self.execute(b"PING")
        except RedisRefusal as refusal:
            if not refusal.is_transient and refusal.code not in _ALIVE:
                raise

    def receive_pushes(self, on_push: Callable[[Reply], None], ping: Callable[[], None]) -> None:
        """Pass every reply to `on_push` from now on, and call `ping` after a second of silence."""
        self._on_push = on_push
        self._ping = ping

    def abort(self, reason: str) -> None:
        """Abort the connection; `lost` gets `reason`."""
        self._reason = self._reason or reason
        self.abort_transport()

    async def close(self, reason: str) -> None:
        """Abort, and wait for the end."""
        self.abort(reason)
        # `wait` does not cancel `lost` when it is cancelled itself.
        await asyncio.wait([self.lost], timeout=CLOSE_SECONDS)

    # For drivers.

    def send(self, *command: bytes) -> None:
        """Write a command."""
        raise NotImplementedError

    def abort_transport(self) -> None:
        """Abort now; call `reply_received` no more."""
        raise NotImplementedError

    def connection_made(self) -> None:
        """Start the liveness check."""
        self._step = self._loop.call_later(_STEP_SECONDS, self._take_step)

    def bytes_received(self) -> None:
        """Note that the connection is alive."""
        self.last_byte_at = time.monotonic()
        self._silent_steps = 0

    def reply_received(self, reply: Reply) -> None:
        """Handle a complete reply."""
        if self._on_push is not None:
            self._on_push(reply)
            return
        if not self._replies:
            # Redis sends an error reply on its own when it has too many clients.
            is_refusal = isinstance(reply, RedisRefusal)
            self.abort(f"Redis refuses: {reply}" if is_refusal else "unexpected reply from Redis")
            return
        future = self._replies.popleft()
        if future.done():
            # Its caller was cancelled.
            return
        if isinstance(reply, RedisRefusal):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    def connection_lost(self, reason: str) -> None:
        """Fail all commands without a reply."""
        if self._step is not None:
            self._step.cancel()
        self._on_push = None
        while self._replies:
            future = self._replies.popleft()
            if not future.done():
                future.set_exception(ConnectionLost(self._reason or reason))
        if not self.lost.done():
            self.lost.set_result(self._reason or reason)

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
