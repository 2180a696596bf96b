"""Keeps a connection to Redis: made again whenever it is lost, sooner or later."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from uvicorn.broadcast.redis.connection import CLOSE_SECONDS, Connect, ConnectFailed, RedisConnection

logger = logging.getLogger("uvicorn.broadcast")

#: 50 ms: a restarted Redis is back about then.
_FIRST_DELAY_SECONDS: Final = 0.05
#: 0.8 s, since within 1 s of Redis' return all groups shall be heard again; an attempt that is refused costs nothing.
_LONGEST_DELAY_SECONDS: Final = 0.8
#: A connection that lived shorter than this counts as another failed attempt: Redis may be throwing us out.
_STEADY_SECONDS: Final = 1.0
#: 30 s, less by up to half: a wrong password is an administrator's to mend; trying it all the time fills Redis' log.
DENIED_SECONDS: Final = 30.0
#: Reasons that are logged in one outage.
_REPORTS: Final = 10


class ReconnectingConnection:
    """One connection and its successors. Subclasses say what to do when it is made, and when it is lost.

    `where` names the other end in messages, without a password.
    """

    #: How loudly the connection's comings and goings are logged.
    log_level: int = logging.DEBUG

    def __init__(self, connect: Connect, where: str, connect_timeout: float) -> None:
        self._connect = connect
        self._connect_timeout = connect_timeout
        self.where = where
        self.current: RedisConnection | None = None
        #: Why there is no connection.
        self.failure_reason = "not started"
        self._tried = asyncio.Event()
        self._retry_now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: Called whenever there is a connection, or none, that was none or one before.
        self.on_change: Callable[[], None] = lambda: None
        self._failed_since = 0.0
        self._reported: set[str] = set()

    async def start(self) -> None:
        """Begin to keep a connection; returns when the first attempt has succeeded or failed."""
        self.failure_reason = "not connected yet"
        self._task = asyncio.create_task(self._keep(), name=f"uvicorn broadcast: {self.where}")
        # Each step of an attempt has its own limit; this one is for what a driver may do besides.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._connect_timeout + CLOSE_SECONDS):
                await self._tried.wait()

    async def stop(self) -> None:
        """Close the connection, and make no other."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            _, pending = await asyncio.wait([task], timeout=2 * CLOSE_SECONDS)
            if pending:
                logger.error("%s: does not stop; it was left as it is: %.500r", self.where, task)

    def retry_now(self) -> None:
        """There is reason to believe that the next attempt will succeed: make it now."""
        self._retry_now.set()

    def ready(self) -> None:
        """The connection does what it is for: `start` returns. To be called by `on_connected`, or after it."""
        self._tried.set()
        if self._failed_since:
            logger.log(self.log_level, "%s: back after %.1f s", self.where, time.monotonic() - self._failed_since)
            self._failed_since = 0.0
            self._reported.clear()
        self.on_change()

    def on_connected(self, connection: RedisConnection) -> None:
        """There is a connection; `self.current` until `on_lost`."""
        raise NotImplementedError

    def on_lost(self, since: float) -> None:
        """The connection is gone; all was well at `since`, in seconds of `time.time()`."""
        raise NotImplementedError

    async def _keep(self) -> None:
        delay = _FIRST_DELAY_SECONDS
        while not is_cancelled():
            made_at = time.monotonic()
            try:
                async with asyncio.timeout(self._connect_timeout):
                    connection = await self._connect()
                if is_cancelled():
                    await connection.close("stopped")
                    break
                await self._use(connection)
                if time.monotonic() - made_at >= _STEADY_SECONDS:
                    delay = _FIRST_DELAY_SECONDS
            except TimeoutError:
                self._fail(f"no answer within {self._connect_timeout:g} s")
            except ConnectFailed as error:
                self._fail(str(error), denied=error.denied)
                if error.denied:
                    delay = DENIED_SECONDS
            except OSError as error:
                self._fail(str(error) or type(error).__name__)
            except Exception as error:
                # A fault of ours or of a driver: without this the process would be deaf for ever and not know it.
                logger.exception("%s: failed in a way that was not foreseen", self.where)
                if self.current is not None:
                    self.current.abort(repr(error))
                    self._lose(self.current, repr(error))
                self._fail(repr(error))
            self._tried.set()
            if is_cancelled():
                break
            # Less by up to half, so that the processes of a site do not all come at the same moment.
            with suppress(TimeoutError):
                async with asyncio.timeout(delay * random.uniform(0.5, 1.0)):
                    await self._retry_now.wait()
            self._retry_now.clear()
            delay = min(2 * delay, _LONGEST_DELAY_SECONDS)

    async def _use(self, connection: RedisConnection) -> None:
        """Until it is lost, or until this is cancelled; then it is closed."""
        self.current = connection
        self.failure_reason = ""
        try:
            self.on_connected(connection)
            # Not awaited by itself: to cancel this must not be to cancel that.
            await asyncio.wait([connection.lost])
        except asyncio.CancelledError:
            self.current = None
            self.failure_reason = "stopped"
            await connection.close("stopped")
            raise
        self._lose(connection, connection.lost.result())

    def _lose(self, connection: RedisConnection, reason: str) -> None:
        self.current = None
        self.on_lost(time.time() - (time.monotonic() - connection.last_byte_at))
        self._fail(reason)

    def _fail(self, reason: str, *, denied: bool = False) -> None:
        # Each reason once: an outage may have thousands of attempts.
        if reason not in self._reported and len(self._reported) < _REPORTS:
            self._reported.add(reason)
            level, until = self.log_level, "until there is one"
            if denied:
                until = f"every {DENIED_SECONDS:g} s"
                if level > logging.DEBUG:
                    level = logging.ERROR
            logger.log(level, "%s: no connection: %s; trying again %s", self.where, reason, until)
        self.failure_reason = reason
        self._failed_since = self._failed_since or time.monotonic()
        self.on_change()


def is_cancelled() -> bool:
    """Whether the task that asks was cancelled, and somebody has kept it from it.

    redis-py does so before Python 3.12, by way of `asyncio.wait_for`; who waits for the task then waits for ever.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


#: What the parent of this process had open when it forked. Kept, because to destroy it would be to tell the parent's
#: event loop, through the selector that both share.
_inherited: Final[list[ReconnectingConnection]] = []


def drop_inherited(inherited: Iterable[ReconnectingConnection]) -> None:
    """After a fork the parent's connections are ours too: unless we let go, Redis would not see the parent die."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for reconnecting in inherited:
        if reconnecting.current is not None:
            os.dup2(nowhere, reconnecting.current.fileno())
        _inherited.append(reconnecting)
    os.close(nowhere)
