"""Which groups a process hears: those that have members in it, as soon as the backend has come round to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context
from typing import Any, Final, TypeAlias, final

from uvicorn.errors import BroadcastError
from uvicorn.escape import escaped

logger = logging.getLogger("uvicorn.broadcast")

#: 30 s after a backend has failed to subscribe. Ours do not: they try again by themselves.
RETRY_SECONDS: Final = 30.0

Change: TypeAlias = Callable[[Collection[str]], Coroutine[Any, Any, None]]


@final
class Subscriptions:
    """Brings what the backend hears into line with what is wanted: one call at a time, all that has changed in it.

    A group that the backend fails to subscribe is asked for again every 30 s, and by the next that is wanted;
    `on_late(groups, since)` is called when it is heard after all.
    """

    def __init__(
        self,
        subscribe: Change,
        unsubscribe: Change,
        start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_late: Callable[[Collection[str], float], None] = lambda groups, since: None,
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
        self._on_late = on_late
        # Those that the backend has failed to subscribe, and since when.
        self._failed: dict[str, float] = {}
        self._retry: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Ask for nothing again."""
        if self._retry is not None:
            self._retry.cancel()
        self._failed.clear()

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
        self._failed.pop(group, None)
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
                self._changed |= changed
                self._ask_later(missing - self._heard)
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
            if self._ask_later(groups):
                # Not a fault of ours, with a traceback.
                logger.error(
                    "group %.200r is not heard; asking again every %g s: %s", *groups, RETRY_SECONDS, escaped(error)
                )
        else:
            self._heard |= groups
            late = [(group, self._failed.pop(group)) for group in groups if group in self._failed]
            if late:
                self._on_late([group for group, _ in late], min(since for _, since in late))
        for group in groups:
            self._let_go_on(group)

    def _ask_later(self, groups: Collection[str]) -> bool:
        """Whether any of these has not failed before."""
        known = len(self._failed)
        for group in groups:
            self._failed.setdefault(group, time.time())
        if self._retry is None and self._failed:
            self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._ask_again, context=Context())
        return len(self._failed) > known

    def _ask_again(self) -> None:
        self._retry = None
        self._changed |= self._failed.keys()
        if self._changed:
            self._reconcile()

    def _let_go_on(self, group: str) -> None:
        waiting = self._waiting.pop(group, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running = False
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            if error is not None:
                logger.error("groups cannot be subscribed; asking again every %g s", RETRY_SECONDS, exc_info=error)
            # Nobody is to wait for ever.
            for group in tuple(self._waiting):
                self._let_go_on(group)
        elif self._changed:
            self._reconcile()
