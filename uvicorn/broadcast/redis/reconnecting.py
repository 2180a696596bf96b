"""A connection to Redis that reconnects whenever it is lost."""

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
from uvicorn.log_limit import first_time

logger = logging.getLogger("uvicorn.broadcast")

#: The delay of a retry, which doubles up to 0.8 s. 50 ms: the duration of a restart of Redis.
FIRST_DELAY_SECONDS: Final = 0.05
#: 0.8 s: all groups are subscribed again within 1 s after Redis has started.
LONGEST_DELAY_SECONDS: Final = 0.8
#: A connection that ends earlier counts as another failed attempt.
_STEADY_SECONDS: Final = 1.0
#: 30 s: an administrator has to correct a wrong password, and Redis logs each attempt.
DENIED_SECONDS: Final = 30.0
_MAX_REASONS: Final = 10
#: The limit of denied groups that are logged; clients may choose the names of groups.
MAX_DENIALS_LOGGED: Final = 100


class ReconnectingConnection:
    """A connection to Redis that reconnects. Subclasses implement `on_connected` and `on_lost`."""

    #: The level at which disconnects and reconnects are logged.
    log_level: int = logging.DEBUG

    def __init__(self, connect: Connect, where: str, connect_timeout: float) -> None:
        self._connect = connect
        self._connect_timeout = connect_timeout
        self.where = where
        self.current: RedisConnection | None = None
        self.failure_reason = "not started"
        self._tried = asyncio.Event()
        #: Ends the delay before the next attempt.
        self.retry_now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: Called on every connect and disconnect.
        self.on_change: Callable[[], None] = lambda: None
        self._failed_since = 0.0
        self._logged_reasons: set[str] = set()
        self._denials_logged: set[bytes] = set()

    async def start(self) -> None:
        """Connect. Return when the first attempt has succeeded or failed."""
        self.failure_reason = "not connected yet"
        self._task = asyncio.create_task(self._run(), name=f"uvicorn broadcast: {self.where}")
        # Each step of an attempt has a timeout of its own. This one is for drivers that ignore theirs.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._connect_timeout + CLOSE_SECONDS):
                await self._tried.wait()

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            _, pending = await asyncio.wait([task], timeout=2 * CLOSE_SECONDS)
            if pending:
                logger.error("%s: a task did not stop, and still runs: %.500r", self.where, task)

    def ready(self) -> None:
        """Mark the connection as usable, so that `start` returns."""
        self._tried.set()
        if self._failed_since:
            logger.log(self.log_level, "%s: connected after %.1f s", self.where, time.monotonic() - self._failed_since)
            self._failed_since = 0.0
            self._logged_reasons.clear()
        self.on_change()

    def on_connected(self, connection: RedisConnection) -> None:
        raise NotImplementedError

    def on_lost(self, since: float) -> None:
        """Handle a lost connection. `since` is the `time.time()` of the last received byte."""
        raise NotImplementedError

    async def _run(self) -> None:
        delay = FIRST_DELAY_SECONDS
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
                    delay = FIRST_DELAY_SECONDS
            except TimeoutError:
                self._fail(f"no answer within {self._connect_timeout:g} s")
            except ConnectFailed as error:
                self._fail(str(error), denied=error.denied)
                if error.denied:
                    delay = DENIED_SECONDS
            except OSError as error:
                self._fail(str(error) or type(error).__name__)
            except Exception as error:
                # A fault of ours or of a driver. Without a retry the process would receive no messages any more.
                logger.exception("%s: unexpected error; reconnecting", self.where)
                if self.current is not None:
                    self.current.abort(repr(error))
                    self._lose(self.current, repr(error))
                self._fail(repr(error))
            self._tried.set()
            if is_cancelled():
                break
            # Shortened at random by up to half, so that the processes of a site reconnect at different times.
            with suppress(TimeoutError):
                async with asyncio.timeout(delay * random.uniform(0.5, 1.0)):
                    await self.retry_now.wait()
            self.retry_now.clear()
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    async def _use(self, connection: RedisConnection) -> None:
        self.current = connection
        self.failure_reason = ""
        try:
            self.on_connected(connection)
            # `wait` does not cancel `lost` if this task is cancelled.
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
        # Log each reason once: an outage may have thousands of attempts.
        if first_time(reason, self._logged_reasons, _MAX_REASONS):
            level = logging.ERROR if denied and self.log_level > logging.DEBUG else self.log_level
            retry = f"retrying every {DENIED_SECONDS:g} s" if denied else "retrying until connected"
            logger.log(level, "%s: no connection: %s; %s", self.where, reason, retry)
        self.failure_reason = reason
        self._failed_since = self._failed_since or time.monotonic()
        self.on_change()


def is_cancelled() -> bool:
    """Return whether the current task was cancelled."""
    task = asyncio.current_task()
    # redis-py may have swallowed the CancelledError.
    return task is not None and task.cancelling() > 0


#: The parent's connections in a forked process. Freeing them would remove their sockets from the parent's selector.
_inherited: Final[list[ReconnectingConnection]] = []


def drop_inherited(inherited: Iterable[ReconnectingConnection]) -> None:
    """In a forked process, close the copies of the parent's sockets."""
    # Otherwise Redis would not notice the end of the parent.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for reconnecting in inherited:
        if reconnecting.current is not None:
            os.dup2(nowhere, reconnecting.current.fileno())
        _inherited.append(reconnecting)
    os.close(nowhere)
