"""Which groups a process hears: those that have members in it, as soon as the backend has come round to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeAlias, final

from uvicorn.errors import BroadcastError

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
        # Those to look at. Never all of them: who comes and goes would pay for everybody who is there.
        self._changed: set[str] = set()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._running = False

    def want(self, group: str) -> asyncio.Future[None] | None:
        """Hear `group`; what is returned is done when it is heard, None if it is already."""
        self._wanted.add(group)
        if group in self._heard:
            return None
        waiting = self._waiting.get(group)
        if waiting is None:
            waiting = self._waiting[group] = asyncio.get_running_loop().create_future()
            self._change(group)
        return None if waiting.done() else waiting

    def drop(self, group: str) -> None:
        """Do not hear `group` any more."""
        self._wanted.discard(group)
        self._change(group)

    @property
    def heard(self) -> frozenset[str]:
        """The groups that are subscribed."""
        return frozenset(self._heard)

    def _change(self, group: str) -> None:
        self._changed.add(group)
        self._reconcile()

    def _reconcile(self) -> None:
        if self._running:
            return
        self._running = True
        task = self._start(self._run())
        if task.done():
            self._ended(task)
        else:
            task.add_done_callback(self._ended)

    async def _run(self) -> None:
        while self._changed:
            changed, self._changed = self._changed, set()
            missing = {group for group in changed if group in self._wanted and group not in self._heard}
            surplus = {group for group in changed if group in self._heard and group not in self._wanted}
            try:
                if missing:
                    await self._hear(missing)
                if surplus:
                    # Before the call: who wants one of them meanwhile has to wait for another.
                    self._heard -= surplus
                    await self._unsubscribe(surplus)
            except Exception:
                # Left for the next one who wants or drops something.
                self._changed |= changed
                raise
            # Somebody may have wanted, and dropped, what was never subscribed.
            for group in changed - self._wanted:
                self._let_go_on(group)

    async def _hear(self, groups: set[str]) -> None:
        try:
            await self._subscribe(groups)
        except BroadcastError as error:
            if len(groups) > 1:
                # One of them is refused, and is not to keep the others from being known as heard.
                for group in groups:
                    await self._hear({group})
                return
            # Not a fault of ours, with a traceback.
            logger.error("not heard, until somebody else is added: %s", error)
        else:
            self._heard |= groups
        for group in groups:
            self._let_go_on(group)

    def _let_go_on(self, group: str) -> None:
        waiting = self._waiting.pop(group, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running = False
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            if error is not None:
                logger.error("groups cannot be subscribed, until another one is", exc_info=error)
            # Nobody is to wait for ever.
            for group in tuple(self._waiting):
                self._let_go_on(group)
        elif self._changed:
            self._reconcile()
