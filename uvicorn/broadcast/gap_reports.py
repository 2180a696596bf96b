"""Reports lost messages to the members of the affected groups."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import Context
from typing import Final, final

from uvicorn.broadcast.backend import OVERFLOW
from uvicorn.broadcast.members import LOST, Gap, Member
from uvicorn.broadcast.sequences import ReceivedSequences
from uvicorn.log_limit import LogLimit

logger = logging.getLogger("uvicorn.broadcast")

# 5 s: any publisher can cause a gap with each message, and applications may query a database for each gap.
_INTERVAL_SECONDS: Final = 5.0


@final
class GapReports:
    def __init__(self, loop: asyncio.AbstractEventLoop, members_of: Callable[[str], Iterable[Member]]) -> None:
        self._loop = loop
        self._members_of = members_of
        self._received = ReceivedSequences()
        # Gaps to report when the timer ends: reason -> group -> begin.
        self._pending: dict[str, dict[str, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._log = LogLimit()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def forget(self, group: str) -> None:
        self._received.forget(group)

    def on_sequence(self, group: str, sender: str, sequence: int) -> None:
        lost, since = self._received.missing(group, sender, sequence)
        if lost:
            if count := self._log.admits(lost):
                logger.warning(
                    "group %.200r: messages were lost; total of all groups since the last warning: %d", group, count
                )
            self._report_limited(group, LOST, since)

    def on_gap(self, groups: Collection[str], reason: str, since: float) -> None:
        if reason == OVERFLOW:
            # Any publisher can send a message above the size limit.
            for group in groups:
                self._report_limited(group, reason, since)
            return
        for group in groups:
            # Otherwise the next sequence number would report the same gap again.
            self._received.forget(group)
        self._notify(dict.fromkeys(groups, since), reason, logs=True)

    def _report_limited(self, group: str, reason: str, since: float) -> None:
        gaps = self._pending.setdefault(reason, {})
        gaps[group] = min(since, gaps.get(group, since))
        if self._timer is None:
            self._report_pending()

    def _report_pending(self) -> None:
        self._timer = None
        pending, self._pending = self._pending, {}
        for reason, gaps in pending.items():
            self._notify(gaps, reason)
        if pending:
            self._timer = self._loop.call_later(_INTERVAL_SECONDS, self._report_pending, context=Context())

    def _notify(self, gaps: Mapping[str, float], reason: str, logs: bool = False) -> None:
        # Each member is notified once, even if several of its groups are affected.
        affected: dict[Member, Gap] = {}
        for group, since in gaps.items():
            for member in self._members_of(group):
                gap = Gap({group}, reason, since)
                affected.setdefault(member, gap).merge(gap)
        if logs and affected:
            begin = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(min(gaps.values())))
            logger.warning(
                "messages may have been lost since %s (%s); affected clients: %d", begin, reason, len(affected)
            )
        for member, gap in affected.items():
            member.notify_gap(gap)
