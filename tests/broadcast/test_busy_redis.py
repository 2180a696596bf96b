"""Backends, and publishers without an event loop, while Redis runs a script and refuses commands with BUSY (B17b)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from uvicorn.broadcast.backend import RECONNECT, Backend
from uvicorn.broadcast.default_url import choose_url
from uvicorn.broadcast.publisher import Publisher
from uvicorn.broadcast.redis.cluster import ClusterBackend
from uvicorn.broadcast.redis.publisher import RedisPublisher
from uvicorn.broadcast.redis.resp import RedisReader
from uvicorn.broadcast.redis.subscriber import Subscriber
from uvicorn.errors import BroadcastUnavailable

from .recorder import PATIENCE_SECONDS, Recorder, listening
from .redis_servers import RedisServer, cluster_of_three, running, watched_pair

SOON = ("--busy-reply-threshold", "1")


class Site:
    """The servers of one backend, which can be made busy."""

    def __init__(self, url: str, servers: list[RedisServer]) -> None:
        self.url = url
        self._servers = servers
        self._threads: list[threading.Thread] = []

    async def hold_up(self) -> None:
        """Run a script on each server until `let_go`. Return when the servers refuse commands."""
        await asyncio.to_thread(self._hold_up)

    async def let_go(self) -> None:
        await asyncio.to_thread(self.let_go_now)

    def _hold_up(self) -> None:
        for server in self._servers:
            self._threads.append(threading.Thread(target=self._run_script, args=(server,)))
            self._threads[-1].start()
            server.await_answer("BUSY", "PUBLISH", "unused", "x")

    def let_go_now(self) -> None:
        if self._threads:
            for server in self._servers:
                server.ask("SCRIPT", "KILL")
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        self._threads.clear()

    def _run_script(self, server: RedisServer) -> None:
        with contextlib.suppress(redis.ResponseError):
            server.ask("EVAL", "while true do end", 0)


@pytest.fixture(params=["redis", "unix", "redis+py", "redis+sentinel", "redis+cluster"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        if request.param == "redis+cluster":
            servers = stack.enter_context(cluster_of_three(tmp_path))
            url = f"redis+cluster://127.0.0.1:{servers[0].port}"
        elif request.param == "redis+sentinel":
            master, _, sentinel = stack.enter_context(watched_pair(tmp_path))
            servers, url = [master], f"redis+sentinel://127.0.0.1:{sentinel.port}/chat"
        else:
            server = stack.enter_context(running(RedisServer(tmp_path)))
            servers, url = [server], f"{request.param}://127.0.0.1:{server.port}"
            if request.param == "unix":
                url = server.unix_url
        for server in servers:
            server.ask("CONFIG", "SET", SOON[0][2:], SOON[1])
        site = Site(url, servers)
        stack.callback(site.let_go_now)
        yield site


async def until(condition: Any) -> None:
    """Wait for a condition that timers or other processes cause."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def subscribed(site: Site, *groups: str) -> AsyncIterator[tuple[Backend, Recorder]]:
    async with listening(site.url, *groups, publish_timeout=PATIENCE_SECONDS) as (backend, recorder):
        await until(lambda: backend.metrics.connected)
        yield backend, recorder


def subscribers(backend: Any) -> list[Subscriber]:
    if isinstance(backend, ClusterBackend):
        return [server.subscriber for server in backend._servers.values()]
    return [backend._server.subscriber]


def publishers(backend: Any) -> list[RedisPublisher]:
    if isinstance(backend, ClusterBackend):
        return [server.publisher for server in backend._servers.values()]
    return [backend._server.publisher]


async def test_busy_redis_delays_a_subscription_without_causing_a_gap(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async with subscribed(site) as (backend, recorder):
        await site.hold_up()
        joining = asyncio.create_task(backend.subscribe(["new"]))
        await until(lambda: "SUBSCRIBE: BUSY" in caplog.text)
        await site.let_go()
        await joining
        await backend.publish("new", b"x")
        assert (await recorder.receive(1), recorder.gaps) == ([b"x"], [])


async def test_reconnect_to_a_busy_redis_reports_one_gap_per_group(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async with subscribed(site, "one", "two", "three") as (backend, recorder):
        await site.hold_up()
        for subscriber in subscribers(backend):
            assert subscriber.current is not None
            subscriber.current.abort("by the test")
        # At SUBSCRIBE, or, of a sentinel's master, at ROLE already.
        await until(lambda: "BUSY" in caplog.text)
        assert not backend.metrics.connected
        await site.let_go()
        await until(lambda: backend.metrics.connected)
        for group in ("one", "two", "three"):
            await backend.publish(group, group.encode())
        assert sorted(await recorder.receive(3)) == [b"one", b"three", b"two"]
        assert sorted((gap.group, gap.reason) for gap in recorder.gaps) == [
            ("one", RECONNECT),
            ("three", RECONNECT),
            ("two", RECONNECT),
        ]


async def test_messages_for_a_busy_redis_arrive_once_and_in_order(site: Site) -> None:
    texts = [b"%d" % number for number in range(20)]
    async with subscribed(site, "chat") as (backend, recorder):
        await site.hold_up()
        publishing = [asyncio.create_task(backend.publish("chat", text)) for text in texts]
        await until(lambda: sum(len(publisher._held) for publisher in publishers(backend)) == 20)
        await site.let_go()
        await asyncio.gather(*publishing)
        await backend.publish("chat", b"last")
        assert await recorder.receive(21) == [*texts, b"last"]
        assert recorder.gaps == []


async def test_synchronous_publisher_waits_for_a_busy_redis(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = threading.Event()
    monkeypatch.setattr(time, "sleep", lambda seconds: refused.set() or site.let_go_now())
    async with subscribed(site, "chat") as (_, recorder):
        await site.hold_up()
        with Publisher(site.url.replace("+py", ""), timeout=PATIENCE_SECONDS) as publisher:
            await asyncio.to_thread(publisher.publish, "chat", {"text": "a"})
        assert refused.is_set()
        (payload,) = await recorder.receive(1)
        assert b'"text":"a"' in payload


async def test_default_broadcast_url_is_the_local_redis_even_if_it_is_busy(tmp_path: Path) -> None:
    with running(RedisServer(tmp_path, *SOON)) as server:
        site = Site(server.url, [server])
        await site.hold_up()
        try:
            assert await choose_url("127.0.0.1", server.port) == server.url
        finally:
            await site.let_go()


@contextlib.asynccontextmanager
async def scripted_redis(answers: dict[bytes, list[bytes]]) -> AsyncIterator[int]:
    """Yield the port of a server that replies to commands with `answers` in order, and repeats the last answer."""
    serving: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())

        def answer(command: list[bytes]) -> None:
            left = answers[command[0]]
            writer.write(left.pop(0) if len(left) > 1 else left[0])

        commands = RedisReader(answer)
        while data := await reader.read(65536):
            commands.feed(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if serving:
            await asyncio.wait(serving)


@pytest.mark.parametrize("driver", ["redis", "redis+py"])
@pytest.mark.parametrize("code", ["BUSY", "LOADING", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN"])
async def test_a_transient_error_keeps_the_message_and_the_connection(driver: str, code: str) -> None:
    refusal = b"-%b not now\r\n" % code.encode()
    answers = {b"PING": [refusal, b"+PONG\r\n"], b"PUBLISH": [refusal, refusal, b":1\r\n"]}
    answers[b"SUBSCRIBE"] = [refusal, b"*3\r\n$9\r\nsubscribe\r\n$4\r\nchat\r\n:1\r\n"]
    async with (
        scripted_redis(answers) as port,
        listening(f"{driver}://127.0.0.1:{port}", "chat", publish_timeout=PATIENCE_SECONDS) as (backend, recorder),
    ):
        await until(lambda: backend.metrics.connected)
        await backend.publish("chat", b"x")
        assert (backend.metrics.reconnects, recorder.gaps, answers[b"PUBLISH"]) == (0, [], [b":1\r\n"])


@pytest.mark.parametrize("driver", ["redis", "redis+py"])
async def test_permanent_publish_error_raises_and_keeps_the_connection(driver: str) -> None:
    answers = {b"PING": [b"+PONG\r\n"], b"PUBLISH": [b"-NOAUTH no\r\n"]}
    async with (
        scripted_redis(answers) as port,
        listening(f"{driver}://127.0.0.1:{port}", publish_timeout=PATIENCE_SECONDS) as (backend, _),
    ):
        await until(lambda: backend.metrics.connected)
        for _ in range(2):
            with pytest.raises(BroadcastUnavailable, match="Redis refuses: NOAUTH no"):
                await backend.publish("chat", b"x")
        assert backend.metrics.reconnects == 0


@pytest.mark.parametrize("driver", ["redis", "redis+py"])
async def test_redis_with_a_full_disk_accepts_messages(driver: str) -> None:
    answers = {b"PING": [b"-MISCONF no disk\r\n"], b"PUBLISH": [b":1\r\n"]}
    async with (
        scripted_redis(answers) as port,
        listening(f"{driver}://127.0.0.1:{port}", publish_timeout=PATIENCE_SECONDS) as (backend, _),
    ):
        await until(lambda: backend.metrics.connected)
        await backend.publish("chat", b"x")


@pytest.mark.parametrize("driver", ["redis", "redis+py"])
async def test_error_reply_that_arrives_together_with_the_login_reply_is_logged(
    driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers = {b"AUTH": [b"+OK\r\n-ERR max number of clients reached\r\n"], b"PING": [b"+PONG\r\n"]}
    async with scripted_redis(answers) as port, listening(f"{driver}://:word@127.0.0.1:{port}"):
        assert "Redis refuses: ERR max number of clients reached" in caplog.text
