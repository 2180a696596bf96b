"""`redis+sentinel://` when the master changes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis._parsers import _AsyncRESP2Parser
from redis.asyncio.connection import AbstractConnection

from uvicorn.broadcast.backend import RECONNECT
from uvicorn.errors import BroadcastUnavailable

from .recorder import listening
from .redis_servers import RedisServer, fail_over, free_port, watched_pair
from .test_faults import GROUPS, course, say_and_hear, until


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    with watched_pair(tmp_path) as servers:
        yield servers


async def test_messages_go_to_the_new_master_after_a_failover(
    pair: tuple[RedisServer, RedisServer, RedisServer],
) -> None:
    master, replica, sentinel = pair
    async with listening(f"redis+sentinel://127.0.0.1:{sentinel.port}/chat", *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"before")
        master.kill()
        await until(lambda: not backend.metrics.connected)
        await asyncio.to_thread(fail_over, sentinel)
        await say_and_hear(backend, recorder, b"after")
        assert course(recorder, "two") == [b"before", RECONNECT, b"after"]
        assert replica.ask("PUBSUB", "NUMSUB", "two") == [b"two", 1]


async def test_messages_go_to_the_new_master_after_a_manual_failover(
    pair: tuple[RedisServer, RedisServer, RedisServer],
) -> None:
    master, replica, sentinel = pair
    async with listening(f"redis+sentinel://127.0.0.1:{sentinel.port}/chat", *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"before")
        await asyncio.to_thread(fail_over, sentinel)
        await recorder.until(lambda: len(recorder.gaps) == 3)
        await say_and_hear(backend, recorder, b"after")
        assert course(recorder, "two") == [b"before", RECONNECT, b"after"]
        assert replica.ask("PUBSUB", "NUMSUB", "two") == [b"two", 1]


async def test_backend_finds_the_master_through_one_reachable_sentinel(
    pair: tuple[RedisServer, RedisServer, RedisServer],
) -> None:
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{pair[2].port}"
    async with listening(f"redis+sentinel://{hosts}/chat", *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"x")


async def test_service_unknown_to_the_sentinels_is_logged(
    pair: tuple[RedisServer, RedisServer, RedisServer],
) -> None:
    async with listening(f"redis+sentinel://127.0.0.1:{pair[2].port}/unknown") as (backend, _):
        with pytest.raises(BroadcastUnavailable, match="No master found for 'unknown'"):
            await backend.publish("one", b"x")


async def test_malformed_reply_of_a_sentinel_without_hiredis_logs_no_traceback(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = inspect.unwrap(AbstractConnection.__init__).__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "parser_class", _AsyncRESP2Parser)

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"*1\r\n" * 5000)
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with listening(f"redis+sentinel://127.0.0.1:{port}/chat") as (backend, _):
        with pytest.raises(BroadcastUnavailable, match="no connection"):
            await backend.publish("one", b"x")
    server.close()
    await server.wait_closed()
    assert "unexpected error" not in caplog.text and "Traceback" not in caplog.text
