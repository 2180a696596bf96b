"""The connection on which a process publishes."""

from __future__ import annotations

import asyncio
import logging
from bisect import insort
from collections import deque
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, final

from uvicorn.broadcast.backend import BackendMetrics, BackendOptions
from uvicorn.broadcast.redis.connection import Connect, ConnectionLost, RedisConnection
from uvicorn.broadcast.redis.reconnecting import MAX_DENIALS_LOGGED, ReconnectingConnection
from uvicorn.broadcast.redis.resp import FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, RedisRefusal
from uvicorn.errors import BroadcastUnavailable
from uvicorn.escape import escaped
from uvicorn.log_limit import first_time

logger = logging.getLogger("uvicorn.broadcast")

#: Messages are rejected while 10,000 publishes are unanswered, or 16 MiB wait for the kernel.
MAX_UNANSWERED: Final = 10_000
MAX_UNSENT_BYTES: Final = 16 << 20
#: The part of the publish timeout before the first check. A late event loop reads the reply before the second check.
_FIRST_CHECK: Final = 0.95


@final
@dataclass(slots=True, eq=False)
class _Held:
    number: int
    command: tuple[bytes, bytes, bytes]
    refusal: RedisRefusal | None = None
    #: The result is None, or the error to raise.
    outcome: asyncio.Future[Exception | None] = field(default_factory=asyncio.Future)
    is_sent: bool = False
    #: Whether the message is in the list of held messages.
    is_held: bool = True

    @property
    def size(self) -> int:
        return sum(map(len, self.command))


class RedisPublisher(ReconnectingConnection):
    """Publishes messages, and holds them while Redis is busy."""

    def __init__(self, connect: Connect, where: str, options: BackendOptions, metrics: BackendMetrics) -> None:
        super().__init__(connect, where, options.connect_timeout)
        self._publish_timeout = options.publish_timeout
        self._metrics = metrics
        self._deadlines: deque[tuple[float, asyncio.Future[object]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._checked_once = False
        self._numbers = 0
        # In the order of publishing. Later messages wait behind held ones.
        self._held: list[_Held] = []
        self._held_bytes = 0
        self._resending: asyncio.Task[None] | None = None

    async def publish(self, verb: bytes, channel: bytes, payload: bytes) -> None:
        """Publish `payload`. Raises BroadcastUnavailable unless Redis confirms the payload."""
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
            await self._hold(_Held(number, (verb, channel, payload)), deadline)
            return
        try:
            await self._send(verb, channel, payload)
        except ConnectionLost as lost:
            raise self._lost_error(lost) from None
        except RedisRefusal as refusal:
            if not refusal.is_transient:
                raise self._refused_error(verb, channel, refusal) from refusal
            await self._hold(_Held(number, (verb, channel, payload), refusal), deadline)
        else:
            if self._held:
                self._on_accepted(number, channel)

    def _lost_error(self, lost: ConnectionLost) -> BroadcastUnavailable:
        return BroadcastUnavailable(f"{self.where}: connection lost: {lost}; the message may have arrived")

    def _refused_error(self, verb: bytes, channel: bytes, refusal: RedisRefusal) -> BroadcastUnavailable:
        if refusal.is_denied and first_time(channel, self._denials_logged, MAX_DENIALS_LOGGED):
            name = channel.decode("utf-8", "replace")
            logger.error("%s: group %.200r: Redis refuses %s: %s", self.where, name, verb.decode(), escaped(refusal))
        return BroadcastUnavailable(f"{self.where}: Redis refuses: {refusal}")

    # Held messages.

    async def _hold(self, message: _Held, deadline: float) -> None:
        if len(self._held) >= MAX_UNANSWERED or (self._held and self._held_bytes + message.size > MAX_UNSENT_BYTES):
            raise BroadcastUnavailable(
                f"{self.where}: {len(self._held)} messages with {self._held_bytes} bytes are waiting for Redis "
                f"(at most {MAX_UNANSWERED} messages and {MAX_UNSENT_BYTES} bytes); the message was not sent"
            )
        self._insert(message)
        self._held_bytes += message.size
        try:
            async with asyncio.timeout_at(deadline):
                error = await message.outcome
        except TimeoutError:
            refusal = message.refusal or next((held.refusal for held in self._held if held.refusal is not None), None)
            doubt = "; the message may have arrived" if message.is_sent else ""
            error = BroadcastUnavailable(
                f"{self.where}: not accepted within {self._publish_timeout:g} s: Redis refuses: {refusal}{doubt}"
            )
        if error is not None:
            raise error

    def _insert(self, message: _Held) -> None:
        insort(self._held, message, key=lambda held: held.number)
        if self._resending is None:
            # In an empty context, because the task does not belong to the client that publishes.
            self._resending = asyncio.get_running_loop().create_task(self._resend(), context=Context())

    async def _resend(self) -> None:
        delay = FIRST_RETRY_SECONDS
        try:
            while self._held:
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_RETRY_SECONDS)
                # Error replies to commands that have been sent may add earlier messages.
                while unanswered := [reply for _, reply in self._deadlines if not reply.done()]:
                    await asyncio.wait(unanswered)
                self._held = [held for held in self._held if not held.outcome.done()]
                if self._held:
                    # Retry only the oldest message. The others follow in order.
                    first = self._held[0]
                    either: list[asyncio.Future[Any]] = [first.outcome, self._send_again(first)]
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                    if first.outcome.done():
                        released, self._held = self._held[1:], []
                        for message in released:
                            message.is_held = False
                            if not message.outcome.done():
                                self._send_again(message)
                self._held_bytes = sum(held.size for held in self._held)
        finally:
            self._resending = None

    def _send_again(self, message: _Held) -> asyncio.Future[Any]:
        message.is_sent = True
        try:
            reply = self._send(*message.command)
        except BroadcastUnavailable as error:
            self._settle(message, error)
            return message.outcome
        reply.add_done_callback(partial(self._on_retry_reply, message))
        return reply

    def _on_retry_reply(self, message: _Held, reply: asyncio.Future[object]) -> None:
        verb, channel, _ = message.command
        error = reply.exception()
        message.is_sent = False
        if isinstance(error, RedisRefusal):
            message.refusal = error
            if error.is_transient:
                if not message.is_held and not message.outcome.done():
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
            self._on_accepted(message.number, channel)

    def _settle(self, message: _Held, error: Exception | None) -> None:
        if not message.outcome.done():
            message.outcome.set_result(error)

    def _on_accepted(self, number: int, channel: bytes) -> None:
        for held in self._held:
            if held.number < number and held.command[1] == channel:
                why = f"Redis refuses: {held.refusal}; not sent, because a later message was accepted"
                self._settle(held, BroadcastUnavailable(f"{self.where}: {why}"))

    def _send(self, *command: bytes) -> asyncio.Future[object]:
        connection = self.current
        if connection is None:
            raise BroadcastUnavailable(f"{self.where}: no connection: {self.failure_reason}; the message was not sent")
        if connection.unanswered >= MAX_UNANSWERED or connection.unsent_bytes >= MAX_UNSENT_BYTES:
            raise BroadcastUnavailable(
                f"{self.where}: {connection.unanswered} messages are waiting for Redis, and {connection.unsent_bytes} "
                f"bytes are unsent (at most {MAX_UNANSWERED} messages and {MAX_UNSENT_BYTES} bytes); "
                "the message was not sent"
            )
        loop = asyncio.get_running_loop()
        reply = connection.execute(*command)
        if connection.unanswered > self._metrics.pending_high_water:
            self._metrics.pending_high_water = connection.unanswered
        while self._deadlines and self._deadlines[0][1].done():
            self._deadlines.popleft()
        self._deadlines.append((loop.time() + _FIRST_CHECK * self._publish_timeout, reply))
        if self._timer is None:
            self._timer = loop.call_at(self._deadlines[0][0], self._check)
        return reply

    async def stop(self) -> None:
        waiting: list[asyncio.Future[Any]] = [reply for _, reply in self._deadlines if not reply.done()]
        waiting += [held.outcome for held in self._held if not held.outcome.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=self._publish_timeout)
        if self._resending is not None:
            self._resending.cancel()
        for held in self._held:
            self._settle(held, BroadcastUnavailable(f"{self.where}: stopped before the message was sent"))
        await super().stop()
        self._end_deadlines()

    def on_connected(self, connection: RedisConnection) -> None:
        self.ready()

    def on_lost(self, since: float) -> None:
        self._end_deadlines()

    def _end_deadlines(self) -> None:
        self._deadlines.clear()
        self._checked_once = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        while self._deadlines and self._deadlines[0][1].done():
            self._deadlines.popleft()
        loop = asyncio.get_running_loop()
        due = self._deadlines[0][0] if self._deadlines else None
        if due is None:
            self._checked_once = False
        elif due > loop.time():
            self._checked_once = False
            self._timer = loop.call_at(due, self._check)
        elif not self._checked_once:
            self._checked_once = True
            self._timer = loop.call_later((1 - _FIRST_CHECK) * self._publish_timeout, self._check)
        elif self.current is not None:
            self.current.abort(f"no reply to a message within {self._publish_timeout:g} s")
