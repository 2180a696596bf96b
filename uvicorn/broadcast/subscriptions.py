"""Subscribes the backend to all groups that have local members."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context
from typing import Any, Final, TypeAlias, final

from uvicorn.broadcast.backend import RECONNECT, OnGap
from uvicorn.errors import BroadcastError
from uvicorn.escape import escaped

logger = logging.getLogger("uvicorn.broadcast")

#: The delay of a retry after a backend has failed to subscribe. Our own backends retry by themselves.
RETRY_SECONDS: Final = 30.0

Change: TypeAlias = Callable[[Collection[str]], Coroutine[Any, Any, None]]


@final
class Subscriptions:
    """Keeps the backend subscribed to all wanted groups. Calls to the backend never overlap."""

    def __init__(
        self,
        subscribe: Change,
        unsubscribe: Change,
        start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_gap: OnGap,
    ) -> None:
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._start = start
        self._wanted: set[str] = set()
        self.active: set[str] = set()
        # The groups to compare. Comparing all groups would make joining and leaving slower with each group.
        self._changed: set[str] = set()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._running = False
        self._on_gap = on_gap
        # The groups whose subscription has failed, and the time of the first failure.
        self._failed: dict[str, float] = {}
        self._retry: asyncio.TimerHandle | None = None

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._failed.clear()

    def want(self, group: str) -> asyncio.Future[None] | None:
        """Subscribe to `group`. Return a future, or None if already subscribed."""
        self._wanted.add(group)
        if group in self.active:
            return None
        waiting = self._waiting.get(group)
        if waiting is None:
            waiting = self._waiting[group] = asyncio.get_running_loop().create_future()
            self._changed.add(group)
            self._reconcile()
        return None if waiting.done() else waiting

    def drop(self, group: str) -> None:
        self._wanted.discard(group)
        self._failed.pop(group, None)
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
            missing = {group for group in changed if group in self._wanted and group not in self.active}
            surplus = {group for group in changed if group in self.active and group not in self._wanted}
            try:
                if missing:
                    await self._subscribe_all(missing)
                if surplus:
                    # Before the call: a group that is wanted again during the call needs another subscription.
                    self.active -= surplus
                    await self._unsubscribe(surplus)
            except Exception:
                self._changed |= changed
                self._retry_later(missing - self.active)
                raise
            # Release callers whose group was dropped again before the call.
            for group in changed - self._wanted:
                self._release(group)

    async def _subscribe_all(self, groups: set[str]) -> None:
        try:
            await self._subscribe(groups)
        except BroadcastError as error:
            if len(groups) > 1:
                # Subscribe them one by one, because only one of the groups may have failed.
                for group in groups:
                    await self._subscribe_all({group})
                return
            if self._retry_later(groups):
                logger.error(
                    "group %.200r is not subscribed; retrying every %g s: %s", *groups, RETRY_SECONDS, escaped(error)
                )
        else:
            self.active |= groups
            late = [(group, self._failed.pop(group)) for group in groups if group in self._failed]
            if late:
                self._on_gap([group for group, _ in late], RECONNECT, min(since for _, since in late))
        for group in groups:
            self._release(group)

    def _retry_later(self, groups: Collection[str]) -> bool:
        known = len(self._failed)
        for group in groups:
            self._failed.setdefault(group, time.time())
        if self._retry is None and self._failed:
            self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._on_retry, context=Context())
        # Whether a group has failed for the first time.
        return len(self._failed) > known

    def _on_retry(self) -> None:
        self._retry = None
        self._changed |= self._failed.keys()
        if self._changed:
            self._reconcile()

    def _release(self, group: str) -> None:
        waiting = self._waiting.pop(group, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running = False
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            if error is not None:
                logger.error("subscribing to groups failed; retrying every %g s", RETRY_SECONDS, exc_info=error)
            # Otherwise callers would wait for ever.
            for group in tuple(self._waiting):
                self._release(group)
        elif self._changed:
            self._reconcile()
