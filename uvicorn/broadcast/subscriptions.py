"""Which groups a process hears: those that have members in it, as soon as the backend has come round to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeAlias, final

logger = logging.getLogger("uvicorn.broadcast")

Change: TypeAlias = Callable[[Collection[str]], Coroutine[Any, Any, None]]


@final
class Subscriptions:
    """Brings what the backend hears into line with what is wanted: one call at a time, all that has changed in it."""

    def __init__(
        self,
        subscribe: Change,
        unsubscribe: Change,
        start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._start = start
        self._wanted: set[str] = set()
        self._heard: set[str] = set()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None

    def want(self, group: str) -> asyncio.Future[None] | None:
        """Hear `group`; what is returned is done when it is heard, None if it is already."""
        self._wanted.add(group)
        if group in self._heard:
            return None
        waiting = self._waiting.get(group)
        if waiting is None:
            waiting = self._waiting[group] = asyncio.get_running_loop().create_future()
            self._reconcile()
        return None if waiting.done() else waiting

    def drop(self, group: str) -> None:
        """Do not hear `group` any more."""
        self._wanted.discard(group)
        self._reconcile()

    @property
    def heard(self) -> frozenset[str]:
        """The groups that are subscribed."""
        return frozenset(self._heard)

    def _reconcile(self) -> None:
        if self._task is None:
            task = self._start(self._run())
            if not task.done():
                self._task = task
                task.add_done_callback(self._ended)

    async def _run(self) -> None:
        while True:
            missing = self._wanted - self._heard
            surplus = self._heard - self._wanted
            if missing:
                await self._subscribe(missing)
                self._heard |= missing
                for group in missing:
                    self._set_heard(group)
            elif surplus:
                # Before the call: who wants one of them meanwhile has to wait for another.
                self._heard -= surplus
                await self._unsubscribe(surplus)
            else:
                # Somebody may have wanted, and dropped, what was never subscribed.
                for group in tuple(self._waiting):
                    self._set_heard(group)
                return

    def _set_heard(self, group: str) -> None:
        waiting = self._waiting.pop(group, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            if error is not None:
                logger.error("groups cannot be subscribed, until another one is", exc_info=error)
            # Nobody is to wait for ever.
            for group in tuple(self._waiting):
                self._set_heard(group)
        elif self._wanted != self._heard:
            self._reconcile()
