"""One connection to Redis, whatever the driver: its replies, its liveness and its end."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from uvicorn.broadcast.redis.resp import RedisRefusal, Reply

#: Makes a connection that has been accepted: authenticated, its database selected, and answering.
Connect: TypeAlias = Callable[[], "Awaitable[RedisConnection]"]

#: Silence is counted in steps, not read from a clock: a loop that was itself held up for seconds takes one step for
#: all of them, and reads what came meanwhile before the next.
_STEP_SECONDS: Final = 0.5
#: 1 s without a byte: ask.
_STEPS_UNTIL_PING: Final = 2
#: 3 s without a byte, though asked: gone. Redis answers within milliseconds; 2 s are left for packets sent again.
_STEPS_UNTIL_GONE: Final = 6

#: Refusals of PING with which messages are carried nevertheless, besides those that pass: narrow rights, and a full
#: disk. With others they are not: NOAUTH, DENIED, "ERR max number of clients reached".
_ALIVE_ALL_THE_SAME: Final = ("NOPERM", "MISCONF")

#: A connection that was broken off is gone at the next turn of the loop; the limit is for drivers that fail to see it.
CLOSE_SECONDS: Final = 1.0


class ConnectFailed(Exception):
    """No connection could be made, or none that is of use; the message says why, without the password.

    `denied`: Redis refuses the user's rights or password, until somebody changes them.
    """

    def __init__(self, reason: str, denied: bool = False) -> None:
        super().__init__(reason)
        self.denied = denied


def refused(refusal: RedisRefusal, command: str = "") -> ConnectFailed:
    """The failure of a connection on which Redis has refused a command."""
    command = command or ("AUTH" if refusal.code == "WRONGPASS" else "")
    return ConnectFailed(f"Redis refuses{f' {command}' if command else ''}: {refusal}", refusal.denies)


class ConnectionLost(Exception):
    """The connection went before the answer came."""


class RedisConnection:
    """A connection. Drivers call `made`, `received`, `heard` and `ended`; they implement `send` and `abort_transport`.

    It begins in the order of a conversation: every `ask` has one answer. `listen` turns it into one of pushes.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        #: Done when the connection is gone; says why.
        self.lost: asyncio.Future[str] = self._loop.create_future()
        #: `time.monotonic()` of the last byte that was received; uvloop's own clock may stand still for a whole turn.
        self.last_byte_at = time.monotonic()
        self._answers: deque[asyncio.Future[Reply]] = deque()
        self._on_push: Callable[[Reply], None] | None = None
        self._ping: Callable[[], Any] = self._ask_ping
        self._silent_steps = 0
        self._step: asyncio.TimerHandle | None = None
        self._reason = ""

    # For the owner.

    @property
    def unanswered(self) -> int:
        """How many questions wait for their answer."""
        return len(self._answers)

    @property
    def unsent_bytes(self) -> int:
        """What the kernel has not taken yet."""
        raise NotImplementedError

    def fileno(self) -> int:
        """The socket's number."""
        raise NotImplementedError

    def ask(self, *command: bytes) -> asyncio.Future[Reply]:
        """Send a command; return its reply, RedisRefusal or ConnectionLost. Cancelling it affects no other command."""
        answer: asyncio.Future[Reply] = self._loop.create_future()
        if self.lost.done():
            answer.set_exception(ConnectionLost(self.lost.result()))
            return answer
        self._answers.append(answer)
        self.send(*command)
        return answer

    async def check_alive(self) -> None:
        """Have an answer: a kernel accepts connections for a Redis that hangs. Raises RedisRefusal, ConnectionLost."""
        try:
            await self.ask(b"PING")
        except RedisRefusal as refusal:
            if not refusal.passes and refusal.code not in _ALIVE_ALL_THE_SAME:
                raise

    def receive_pushes(self, on_push: Callable[[Reply], None], ping: Callable[[], None]) -> None:
        """From now on every reply goes to `on_push`, and `ping` is called after a second of silence."""
        self._on_push = on_push
        self._ping = ping

    def abort(self, reason: str) -> None:
        """Break the connection off; `lost` will say `reason`."""
        self._reason = self._reason or reason
        self.abort_transport()

    async def close(self, reason: str) -> None:
        """Give up, and wait until the connection is gone."""
        self.abort(reason)
        # `wait`, which does not cancel `lost` when it is cancelled itself.
        await asyncio.wait([self.lost], timeout=CLOSE_SECONDS)

    # For drivers.

    def send(self, *command: bytes) -> None:
        """Put a command on the wire."""
        raise NotImplementedError

    def abort_transport(self) -> None:
        """Break the connection off, now; nothing that it still brings is received."""
        raise NotImplementedError

    def connection_made(self) -> None:
        """The connection stands: watch it."""
        self._step = self._loop.call_later(_STEP_SECONDS, self._take_step)

    def bytes_received(self) -> None:
        """Bytes came."""
        self.last_byte_at = time.monotonic()
        self._silent_steps = 0

    def reply_received(self, reply: Reply) -> None:
        """A whole reply came."""
        if self._on_push is not None:
            self._on_push(reply)
            return
        if not self._answers:
            # It does so to a client that it has no room for.
            unasked = (
                f"Redis refuses: {reply}" if isinstance(reply, RedisRefusal) else "Redis answered an unasked question"
            )
            self.abort(unasked)
            return
        answer = self._answers.popleft()
        if answer.done():
            # Whoever asked was cancelled.
            return
        if isinstance(reply, RedisRefusal):
            answer.set_exception(reply)
        else:
            answer.set_result(reply)

    def connection_lost(self, reason: str) -> None:
        """The connection is gone."""
        if self._step is not None:
            self._step.cancel()
        self._on_push = None
        while self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_exception(ConnectionLost(self._reason or reason))
        if not self.lost.done():
            self.lost.set_result(self._reason or reason)

    def _take_step(self) -> None:
        self._silent_steps += 1
        if self._silent_steps > _STEPS_UNTIL_GONE:
            silence = _STEP_SECONDS * _STEPS_UNTIL_GONE
            self.abort(f"nothing was heard for {silence:g} s, not even the answer to PING")
            return
        if self._silent_steps == _STEPS_UNTIL_PING:
            self._ping()
        self._step = self._loop.call_later(_STEP_SECONDS, self._take_step)

    def _ask_ping(self) -> None:
        # Read, so that no loop complains of an exception that nobody looked at.
        self.ask(b"PING").add_done_callback(lambda answer: answer.cancelled() or answer.exception())
