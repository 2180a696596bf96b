"""Outages of Redis, with both drivers at the same time: broadcast rules B1, B3, B4, B5 and B6."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from uvicorn.broadcast.backend import Backend
from uvicorn.broadcast.backend_factory import backend_from_url
from uvicorn.errors import BroadcastUnavailable
from uvicorn.server.loops import loop_factory

from .measuring import Figure, case
from .servers import CaseFailed, Workshop

# `tests` has the Redis servers.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.broadcast.redis_servers import RedisServer, cluster_of_three, running, watched_pair

_GROUPS: Final = ("one", "two", "three")
_INTERVAL: Final = 0.01
_PATIENCE: Final = 30.0


# The log lines of outages are expected here.
logging.getLogger("uvicorn.broadcast").addHandler(logging.NullHandler())


class _Listener:
    """Publishes a number to each group every 10 ms, subscribes to all groups, and records messages and gaps."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.backend: Backend = backend_from_url(url)
        self.received: dict[str, list[int]] = {group: [] for group in _GROUPS}
        self.received_at = 0.0
        self.gaps: dict[str, list[tuple[float, float]]] = {group: [] for group in _GROUPS}
        self.published: list[tuple[str, int, float]] = []
        self.slowest = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Subscribe, then begin to publish."""
        await self.backend.start(self._on_message, self._on_gap)
        await self.backend.subscribe(_GROUPS)
        self._publishing = asyncio.create_task(self._publish())

    async def stop(self) -> None:
        """Stop publishing, wait until published messages have been received or lost, and disconnect."""
        self._publishing.cancel()
        await asyncio.gather(*self._tasks)
        await asyncio.sleep(0.2)
        await self.backend.stop()

    def figures(self, accepted: float, first_received: float) -> list[Figure]:
        """Return the measurements. Redis accepted connections again at `accepted`."""
        lost = sum(self._is_lost(*publish) for publish in self.published)
        twice = sum(len(numbers) - len(set(numbers)) for numbers in self.received.values())
        surplus = max(abs(len(gaps) - 1) for gaps in self.gaps.values())
        return [
            Figure(f"{self.name}: received again after", max(0.0, first_received - accepted), "s", 1.0),
            Figure(f"{self.name}: gaps of a group, other than 1", surplus, "count", 0, bar_may_be_met=True),
            Figure(f"{self.name}: received twice", twice, "count", 0, bar_may_be_met=True),
            Figure(f"{self.name}: lost outside of the gap", lost, "count", 0, bar_may_be_met=True),
            Figure(f"{self.name}: slowest publish", self.slowest, "s", 1.1),
        ]

    def _is_lost(self, group: str, number: int, at: float) -> bool:
        return number not in self.received[group] and not any(
            since <= at <= until + _INTERVAL for since, until in self.gaps[group]
        )

    def _on_message(self, group: str, payload: bytes) -> None:
        if payload.startswith(self.name.encode()):
            self.received[group].append(int(payload.rpartition(b" ")[2]))
            self.received_at = time.time()

    def _on_gap(self, groups: Collection[str], reason: str, since: float) -> None:
        for group in groups:
            self.gaps[group].append((since, time.time()))

    async def _publish(self) -> None:
        number = 0
        while True:
            for group in _GROUPS:
                number += 1
                task = asyncio.create_task(self._publish_one(group, number))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(_INTERVAL)

    async def _publish_one(self, group: str, number: int) -> None:
        began = time.time()
        try:
            await self.backend.publish(group, f"{self.name} {number}".encode())
        except BroadcastUnavailable:
            pass
        else:
            self.published.append((group, number, began))
        self.slowest = max(self.slowest, time.time() - began)


class _Notices(logging.Handler):
    """Records when the backends log that Redis hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "no byte received" in record.getMessage():
            self.times.append(record.created)


def _go_through(workshop: Workshop, urls: dict[str, str], harm: Callable[[], Awaitable[float]]) -> list[Figure]:
    with asyncio.Runner(loop_factory=loop_factory(workshop.loop)) as runner:
        return runner.run(_watch(urls, harm))


async def _watch(urls: dict[str, str], harm: Callable[[], Awaitable[float]]) -> list[Figure]:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, report: reports.append(report))
    listeners = [_Listener(url, name) for name, url in urls.items()]
    await asyncio.gather(*(listener.start() for listener in listeners))
    await _until(lambda: all(len(listener.received["one"]) > 20 for listener in listeners))
    accepted = await harm()
    figures = []
    firsts = await asyncio.gather(*(_first_received(listener) for listener in listeners))
    for listener, first in zip(listeners, firsts, strict=True):
        await listener.stop()
        figures += listener.figures(accepted, first)
    unhandled = Figure(
        "in the loop's exception handler", len(reports), "count", 0, bar_may_be_met=True, note=str(reports)[1:-1]
    )
    return [*figures, unhandled]


async def _first_received(listener: _Listener) -> float:
    """Return the time of the first message after the gap. Wait one second more, in which a second gap would show."""
    await _until(lambda: all(listener.gaps.values()))
    reported = max(until for gaps in listener.gaps.values() for _, until in gaps)
    await _until(lambda: listener.received_at >= reported)
    first = listener.received_at
    await asyncio.sleep(1.0)
    return first


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise CaseFailed(f"broadcast: the expected state was not reached within {_PATIENCE:g} s")
        await asyncio.sleep(0.001)


@contextmanager
def _one_server(workshop: Workshop) -> Iterator[tuple[RedisServer, dict[str, str]]]:
    with running(RedisServer(workshop.folder, password="secret")) as server:
        yield server, {"asyncio_redis": server.url, "redis-py": server.url.replace("redis", "redis+py", 1)}


def _outage(workshop: Workshop, seconds: float) -> list[Figure]:
    with _one_server(workshop) as (server, urls):

        async def harm() -> float:
            server.kill()
            await asyncio.sleep(seconds)
            await asyncio.to_thread(server.start)
            return time.time()

        return _go_through(workshop, urls, harm)


@case("BCAST1", "Redis with a password, kill -9, restarted after 3 s", 60)
def short_outage(workshop: Workshop) -> list[Figure]:
    return _outage(workshop, 3)


@case("BCAST2", "Redis with a password, kill -9, restarted after 30 s", 100)
def long_outage(workshop: Workshop) -> list[Figure]:
    return _outage(workshop, 30)


@case("BCAST3", "Redis is halted by SIGSTOP for 10 s", 60)
def halt(workshop: Workshop) -> list[Figure]:
    notices = _Notices()
    logger = logging.getLogger("uvicorn.broadcast")
    logger.addHandler(notices)
    halted = 0.0
    try:
        with _one_server(workshop) as (server, urls):

            async def harm() -> float:
                nonlocal halted
                halted = time.time()
                server.halt()
                await asyncio.sleep(10)
                server.resume()
                return time.time()

            figures = _go_through(workshop, urls, harm)
    finally:
        logger.removeHandler(notices)
    noticed = max(notices.times) - halted if len(notices.times) == 2 else 1000.0
    return [Figure("noticed by both listeners after", noticed, "s", 4.0), *figures]


@case("BCAST4", "CLIENT KILL of all subscribers", 60)
def kick(workshop: Workshop) -> list[Figure]:
    with _one_server(workshop) as (server, urls):

        async def harm() -> float:
            await asyncio.to_thread(server.ask, "CLIENT", "KILL", "TYPE", "pubsub")
            return time.time()

        return _go_through(workshop, urls, harm)


@case("BCAST5", "a cluster of three servers, kill -9 of all, restarted after 3 s", 60)
def cluster(workshop: Workshop) -> list[Figure]:
    with cluster_of_three(workshop.folder) as servers:

        async def harm() -> float:
            for server in servers:
                server.kill()
            await asyncio.sleep(3)
            for server in servers:
                await asyncio.to_thread(server.start)
            return time.time()

        return _go_through(workshop, {"cluster": f"redis+cluster://127.0.0.1:{servers[0].port}"}, harm)


@case("BCAST6", "a master with a sentinel, kill -9; measured after the sentinel names the replica", 60)
def failover(workshop: Workshop) -> list[Figure]:
    with watched_pair(workshop.folder) as (master, replica, sentinel):

        async def harm() -> float:
            # By default the sentinel of `watched_pair` waits for a minute of silence.
            await asyncio.to_thread(sentinel.ask, "SENTINEL", "SET", "chat", "down-after-milliseconds", 1000)
            master.kill()
            await asyncio.to_thread(
                sentinel.await_answer, f"{replica.port}", "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "chat"
            )
            return time.time()

        return _go_through(workshop, {"sentinel": f"redis+sentinel://127.0.0.1:{sentinel.port}/chat"}, harm)
