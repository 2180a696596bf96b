"""The connection on which a process publishes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from uvicorn.broadcast.backends.base import BackendMetrics
from uvicorn.broadcast.backends.link import Connect, Link, LinkLost
from uvicorn.broadcast.backends.redis_reader import RedisRefusal
from uvicorn.broadcast.backends.supervised import Supervised
from uvicorn.errors import BroadcastUnavailable

#: 10,000 publishes, or 16 MiB that the kernel has not taken: more is refused at once, not queued.
MAX_UNANSWERED: Final = 10_000
MAX_UNSENT_BYTES: Final = 16 << 20
#: The part of the time after which we look first. An answer that is late because our own loop was held up lies in the
#: kernel, and has been read by the second look.
_FIRST_LOOK: Final = 0.95


class Sender(Supervised):
    """Publishes, or raises in time. An answer that does not come ends the connection: it would put all others off."""

    def __init__(
        self, connect: Connect, where: str, connect_timeout: float, *, publish_timeout: float, metrics: BackendMetrics
    ) -> None:
        super().__init__(connect, where, connect_timeout)
        self._publish_timeout = publish_timeout
        self._metrics = metrics
        self._deadlines: deque[tuple[float, asyncio.Future[object]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._looked_twice = False

    async def publish(self, *command: bytes) -> None:
        """Send a command that publishes; raises BroadcastUnavailable unless Redis says that it was done."""
        try:
            await self.ask(*command)
        except LinkLost as lost:
            self._metrics.publish_failures += 1
            raise BroadcastUnavailable(
                f"{self.where}: the connection went before Redis answered: {lost}; the message may have arrived"
            ) from None
        except RedisRefusal as refusal:
            self._metrics.publish_failures += 1
            raise BroadcastUnavailable(f"{self.where}: Redis refuses: {refusal}") from refusal
        self._metrics.published += 1

    async def ask(self, *command: bytes) -> object:
        """The answer to a command. Raises BroadcastUnavailable at once, LinkLost in time, RedisRefusal."""
        link = self.link
        if link is None:
            self._metrics.publish_failures += 1
            raise BroadcastUnavailable(f"{self.where}: no connection: {self.trouble}; the message was not sent")
        if link.unanswered >= MAX_UNANSWERED or link.unsent_bytes >= MAX_UNSENT_BYTES:
            self._metrics.publish_failures += 1
            raise BroadcastUnavailable(
                f"{self.where}: {link.unanswered} messages wait for Redis already, {link.unsent_bytes} bytes of them in"
                f" this process (at most {MAX_UNANSWERED} and {MAX_UNSENT_BYTES}); the message was not sent"
            )
        loop = asyncio.get_running_loop()
        answer = link.ask(*command)
        if link.unanswered > self._metrics.pending_high_water:
            self._metrics.pending_high_water = link.unanswered
        while self._deadlines and self._deadlines[0][1].done():
            self._deadlines.popleft()
        self._deadlines.append((loop.time() + _FIRST_LOOK * self._publish_timeout, answer))
        if self._timer is None:
            self._timer = loop.call_at(self._deadlines[0][0], self._look)
        return await answer

    async def stop(self) -> None:
        """Wait for the answers that are under way, as long as they may take; then close."""
        if waiting := [answer for _, answer in self._deadlines if not answer.done()]:
            await asyncio.wait(waiting, timeout=self._publish_timeout)
        await super().stop()
        self._end_deadlines()

    def on_made(self, link: Link) -> None:
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
        elif self.link is not None:
            self.link.give_up(f"no answer to a message within {self._publish_timeout:g} s")
