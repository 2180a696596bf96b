"""The default broadcast URL."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.broadcast.redis_servers import RedisServer
from uvicorn.broadcast import default_url as choice
from uvicorn.broadcast.default_url import choose_url, url_of_redis


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[int]:
    """Yield the port of a server that replies to everything with `answer`. It never replies if `answer` is None."""
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        await reader.read(100)
        if answer is not None:
            writer.write(answer)
        await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield int(server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()
    await asyncio.gather(*filter(None, serving), return_exceptions=True)


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UVICORN_BROADCAST_URL", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)


async def test_default_broadcast_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVICORN_BROADCAST_URL", "redis://elsewhere:1")
    assert await choose_url("127.0.0.1", 1) == "redis://elsewhere:1"


async def test_default_broadcast_url_is_a_local_redis_that_responds(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert await choose_url("127.0.0.1", redis_server.port) == f"redis://127.0.0.1:{redis_server.port}"
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"-NOAUTH Authentication required.\r\n", "requires a password"),
        (b"HTTP/1.1 400 Bad Request\r\n", "is not a usable Redis"),
        (b"", "no response from .* within 0.01 s"),
        (None, "no response from .* within 0.01 s"),
        (b"x" * 100_000, "no Redis is running"),
    ],
)
async def test_memory_backend_is_the_default_if_the_local_redis_is_unusable(
    answer: bytes | None, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if not answer:
        monkeypatch.setattr(choice, "_PROBE_SECONDS", 0.01)
    async with answering(answer) as port:
        assert await choose_url("127.0.0.1", port) == "memory://"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    text = caplog.records[0].message
    assert text.startswith("groups reach the clients of this process only")
    assert text.endswith("start Redis (redis-server), or set UVICORN_BROADCAST_URL")
    assert re.search(said, text)


async def test_memory_backend_is_chosen_with_a_warning_if_no_local_redis_responds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await choose_url("127.0.0.1", 1) == "memory://"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "no Redis is running on 127.0.0.1:1" in caplog.text


@pytest.mark.parametrize("source", ["by the server", "by the environment"])
async def test_several_processes_use_redis_by_default_although_redis_is_down(
    source: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if source == "by the server":
        monkeypatch.setattr("uvicorn.process_count.count", 2)
    else:
        monkeypatch.setenv("WEB_CONCURRENCY", "2")
    assert await choose_url("127.0.0.1", 1) == "redis://127.0.0.1:1"
    assert "a server with several processes needs Redis for groups" in caplog.text


@pytest.mark.parametrize("value", ["1", "many"])
async def test_memory_backend_is_the_default_if_WEB_CONCURRENCY_is_1_or_invalid(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", value)
    assert await choose_url("127.0.0.1", 1) == "memory://"


@pytest.mark.parametrize(("host", "url"), [("localhost", "redis://localhost:1"), ("::1", "redis://[::1]:1")])
def test_the_url_of_an_ipv6_host_has_brackets(host: str, url: str) -> None:
    assert url_of_redis(host, 1) == url
