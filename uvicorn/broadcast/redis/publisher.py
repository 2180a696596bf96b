"""The connection on which a process publishes."""

from __future__ import annotations

import asyncio
import logging
from bisect import insort
from collections import deque
from contextvars import Context
from functools import partial
from typing import Any, Final, final

from uvicorn.broadcast.backend import BackendMetrics
from uvicorn.broadcast.redis.connection import Connect, ConnectionLost, RedisConnection
from uvicorn.broadcast.redis.reconnecting import ReconnectingConnection
from uvicorn.broadcast.redis.resp import RedisRefusal
from uvicorn.errors import BroadcastUnavailable
from uvicorn.escape import escaped

logger = logging.getLogger("uvicorn.broadcast")

#: 10,000 publishes, or 16 MiB that the kernel has not taken: more is refused at once, not queued.
MAX_UNANSWERED: Final = 10_000
MAX_UNSENT_BYTES: Final = 16 << 20
#: The part of the time after which we look first. An answer that is late because our own loop was held up lies in the
#: kernel, and has been read by the second look.
_FIRST_LOOK: Final = 0.95

#: Groups whose denial is logged, each once; the names may be clients' choice.
_MOST_DENIALS_LOGGED: Final = 100

#: 50 ms after a refusal that passes, doubling up to 0.4 s: a publish timeout of 1 s has four attempts.
_FIRST_RETRY_SECONDS: Final = 0.05
_LONGEST_RETRY_SECONDS: Final = 0.4


@final
class _Held:
    """A message that Redis has refused for the moment, or that waits behind such a one."""

    __slots__ = ("number", "command", "size", "done", "refusal", "answered", "is_sent", "is_held")

    def __init__(self, number: int, command: tuple[bytes, bytes, bytes], refusal: RedisRefusal | None) -> None:
        self.number = number
        self.command = command
        self.size = sum(map(len, command))
        #: None when Redis has taken it, or what to raise.
        self.done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.refusal = refusal
        #: It was sent again, and has been refused again.
        self.answered: asyncio.Future[None] = self.done.get_loop().create_future()
        self.is_sent = False
        #: It is in the list of those that wait.
        self.is_held = True


class RedisPublisher(ReconnectingConnection):
    """Publishes, or raises in time. An answer that does not come ends the connection: it would put all others off.

    While Redis refuses for the moment (BUSY, LOADING) all messages are held, each until its time is up: the oldest is
    sent again now and then, and when it is taken the others follow in order.
    """

    def __init__(
        self, connect: Connect, where: str, connect_timeout: float, *, publish_timeout: float, metrics: BackendMetrics
    ) -> None:
        super().__init__(connect, where, connect_timeout)
        self._publish_timeout = publish_timeout
        self._metrics = metrics
        self._deadlines: deque[tuple[float, asyncio.Future[object]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._looked_twice = False
        self._numbers = 0
        # In the order of publishing. While there are any, everything else waits behind them.
        self._held: list[_Held] = []
        self._held_bytes = 0
        self._resending: asyncio.Task[None] | None = None
        self._denials_logged: set[bytes] = set()

    async def publish(self, verb: bytes, channel: bytes, payload: bytes) -> None:
        """Send a command that publishes; raises BroadcastUnavailable unless Redis says that it was done."""
        try:
            await self._publish(verb, channel, payload)
        except BroadcastUnavailable:
            self._metrics.publish_failures += 1
            raise
        self._metrics.published += 1

    async def _publish(self, verb: bytes, channel: bytes, payload: bytes) -> None:
        self._numbers += 1
        number = self._numbers
        deadline = asyncio.get_running_loop().time() + self._publish_timeout
        if self._held:
            await self._hold(_Held(number, (verb, channel, payload), None), deadline)
            return
        try:
            await self._send(verb, channel, payload)
        except ConnectionLost as lost:
            raise self._lost_error(lost) from None
        except RedisRefusal as refusal:
            if not refusal.passes:
                raise self._refused_error(verb, channel, refusal) from refusal
            await self._hold(_Held(number, (verb, channel, payload), refusal), deadline)
        else:
            if self._held:
                self._was_taken(number, channel)

    def _lost_error(self, lost: ConnectionLost) -> BroadcastUnavailable:
        return BroadcastUnavailable(
            f"{self.where}: the connection went before Redis answered: {lost}; the message may have arrived"
        )

    def _refused_error(self, verb: bytes, channel: bytes, refusal: RedisRefusal) -> BroadcastUnavailable:
        if refusal.denies and channel not in self._denials_logged and len(self._denials_logged) < _MOST_DENIALS_LOGGED:
            self._denials_logged.add(channel)
            name = channel.decode("utf-8", "replace")
            logger.error("%s: group %.200r: Redis refuses %s: %s", self.where, name, verb.decode(), escaped(refusal))
        return BroadcastUnavailable(f"{self.where}: Redis refuses: {refusal}")

    # Messages that Redis has not taken yet.

    async def _hold(self, message: _Held, deadline: float) -> None:
        """Keep a message until Redis takes it; raises BroadcastUnavailable when its time is up."""
        if len(self._held) >= MAX_UNANSWERED or (self._held and self._held_bytes + message.size > MAX_UNSENT_BYTES):
            raise BroadcastUnavailable(
                f"{self.where}: {len(self._held)} messages, {self._held_bytes} bytes, wait for Redis already (at most"
                f" {MAX_UNANSWERED} and {MAX_UNSENT_BYTES}); the message was not sent"
            )
        self._insert(message)
        self._held_bytes += message.size
        try:
            async with asyncio.timeout_at(deadline):
                error = await message.done
        except TimeoutError:
            refusal = message.refusal or next((held.refusal for held in self._held if held.refusal is not None), None)
            doubt = "; the message may have arrived" if message.is_sent else ""
            error = BroadcastUnavailable(
                f"{self.where}: not taken within {self._publish_timeout:g} s: Redis refuses: {refusal}{doubt}"
            )
        if error is not None:
            raise error

    def _insert(self, message: _Held) -> None:
        insort(self._held, message, key=lambda held: held.number)
        if self._resending is None:
            # In nobody's context: it is not the work of the client that happens to be the first.
            self._resending = asyncio.get_running_loop().create_task(self._resend(), context=Context())

    async def _resend(self) -> None:
        """Send the oldest again until it is taken; the others follow, all at once."""
        delay = _FIRST_RETRY_SECONDS
        try:
            while self._held:
                await asyncio.sleep(delay)
                delay = min(2 * delay, _LONGEST_RETRY_SECONDS)
                # What was sent before the refusal comes before the held ones, or is one of them.
                while unanswered := [answer for _, answer in self._deadlines if not answer.done()]:
                    await asyncio.wait(unanswered)
                self._held = [held for held in self._held if not held.done.done()]
                if self._held:
                    first = self._held[0]
                    self._send_again(first)
                    either: list[asyncio.Future[Any]] = [first.done, first.answered]
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                    if first.done.done():
                        released, self._held = self._held[1:], []
                        for message in released:
                            message.is_held = False
                            if not message.done.done():
                                self._send_again(message)
                self._held_bytes = sum(held.size for held in self._held)
        finally:
            self._resending = None

    def _send_again(self, message: _Held) -> None:
        message.is_sent = True
        message.answered = asyncio.get_running_loop().create_future()
        try:
            answer = self._send(*message.command)
        except BroadcastUnavailable as error:
            self._settle(message, error)
        else:
            answer.add_done_callback(partial(self._answered_again, message))

    def _answered_again(self, message: _Held, answer: asyncio.Future[object]) -> None:
        verb, channel, _ = message.command
        error = None if answer.cancelled() else answer.exception()
        message.is_sent = False
        if isinstance(error, RedisRefusal):
            message.refusal = error
            if error.passes:
                if not message.answered.done():
                    message.answered.set_result(None)
                if not message.is_held and not message.done.done():
                    message.is_held = True
                    self._insert(message)
                return
            refused = self._refused_error(verb, channel, error)
            refused.__cause__ = error
            self._settle(message, refused)
        elif isinstance(error, ConnectionLost):
            self._settle(message, self._lost_error(error))
        else:
            self._settle(message, None)
            self._was_taken(message.number, channel)

    def _settle(self, message: _Held, error: Exception | None) -> None:
        if not message.done.done():
            message.done.set_result(error)

    def _was_taken(self, number: int, channel: bytes) -> None:
        """A message was taken although an earlier one was refused: to send that one now would break the order."""
        for held in self._held:
            if held.number < number and held.command[1] == channel:
                self._settle(
                    held,
                    BroadcastUnavailable(
                        f"{self.where}: Redis refuses: {held.refusal}; the message was not sent: a later one was taken"
                    ),
                )

    def _send(self, *command: bytes) -> asyncio.Future[object]:
        """The answer to a command: ConnectionLost in time, or RedisRefusal. Raises BroadcastUnavailable."""
        connection = self.current
        if connection is None:
            raise BroadcastUnavailable(f"{self.where}: no connection: {self.failure_reason}; the message was not sent")
        if connection.unanswered >= MAX_UNANSWERED or connection.unsent_bytes >= MAX_UNSENT_BYTES:
            raise BroadcastUnavailable(
                f"{self.where}: {connection.unanswered} messages wait for Redis already, {connection.unsent_bytes}"
                f" bytes in this process (at most {MAX_UNANSWERED} and {MAX_UNSENT_BYTES}); the message was not sent"
            )
        loop = asyncio.get_running_loop()
        answer = connection.ask(*command)
        if connection.unanswered > self._metrics.pending_high_water:
            self._metrics.pending_high_water = connection.unanswered
        while self._deadlines and self._deadlines[0][1].done():
            self._deadlines.popleft()
        self._deadlines.append((loop.time() + _FIRST_LOOK * self._publish_timeout, answer))
        if self._timer is None:
            self._timer = loop.call_at(self._deadlines[0][0], self._look)
        return answer

    async def stop(self) -> None:
        """Wait for the answers that are under way, as long as they may take; then close."""
        waiting: list[asyncio.Future[Any]] = [answer for _, answer in self._deadlines if not answer.done()]
        waiting += [held.done for held in self._held if not held.done.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=self._publish_timeout)
        if self._resending is not None:
            self._resending.cancel()
        for held in self._held:
            self._settle(held, BroadcastUnavailable(f"{self.where}: stopped; the message was not sent"))
        await super().stop()
        self._end_deadlines()

    def on_connected(self, connection: RedisConnection) -> None:
        self.ready()

    def on_lost(self, since: float) -> None:
        self._end_deadlines()

    def _end_deadlines(self) -> None:
        self._deadlines.clear()
        self._looked_twice = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """The oldest question's time may be up."""
        self._timer = None
        while self._deadlines and self._deadlines[0][1].done():
            self._deadlines.popleft()
        loop = asyncio.get_running_loop()
        due = self._deadlines[0][0] if self._deadlines else None
        if due is None:
            self._looked_twice = False
        elif due > loop.time():
            self._looked_twice = False
            self._timer = loop.call_at(due, self._look)
        elif not self._looked_twice:
            self._looked_twice = True
            self._timer = loop.call_later((1 - _FIRST_LOOK) * self._publish_timeout, self._look)
        elif self.current is not None:
            self.current.abort(f"no answer to a message within {self._publish_timeout:g} s")
