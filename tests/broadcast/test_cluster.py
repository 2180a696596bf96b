"""`redis+cluster://` while servers restart and slots move."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from uvicorn.broadcast.backend import RECONNECT
from uvicorn.broadcast.backend_factory import backend_from_url
from uvicorn.errors import BroadcastUnavailable

from .recorder import PATIENCE_SECONDS, Recorder, listening
from .redis_servers import RedisServer, cluster_of_three
from .test_faults import GROUPS, course, say_and_hear, until


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[RedisServer]]:
    with cluster_of_three(tmp_path) as servers:
        yield servers


def owner(servers: list[RedisServer], group: str) -> RedisServer:
    server: RedisServer = servers[min(key_slot(group.encode()) // 5461, 2)]
    return server


def move_slot(slot: int, source: RedisServer, target: RedisServer) -> None:
    """Move a slot by the steps of `redis-cli --cluster reshard`."""
    ids = {server: server.ask("CLUSTER", "MYID").decode() for server in (source, target)}
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    for server in (target, source):
        server.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


def url_of(servers: list[RedisServer]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)


def test_cluster_test_groups_are_on_different_servers() -> None:
    assert len({min(key_slot(group.encode()) // 5461, 2) for group in GROUPS}) > 1


async def test_user_without_the_right_to_ping_connects_to_a_cluster(cluster: list[RedisServer]) -> None:
    for server in cluster:
        server.ask("ACL", "SETUSER", "default", "-ping")
    # The option makes redis-py send PING before its first command, unless this command is AUTH.
    url = f"redis+cluster://127.0.0.1:{cluster[0].port}?health_check_interval=10"
    async with listening(url, *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"x")


async def test_restarted_cluster_server_leaves_gaps_only_in_its_own_groups(
    cluster: list[RedisServer],
) -> None:
    async with listening(url_of(cluster), *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"before")
        server = owner(cluster, "one")
        server.kill()
        await until(lambda: not backend.metrics.connected)
        with pytest.raises(BroadcastUnavailable):
            await backend.publish("one", b"lost")
        elsewhere = [group for group in GROUPS if owner(cluster, group) is not server]
        for group in elsewhere:
            await backend.publish(group, b"meanwhile")
        await asyncio.to_thread(server.start)
        await say_and_hear(backend, recorder, b"after")
        for group in GROUPS:
            between = b"meanwhile" if group in elsewhere else RECONNECT
            assert course(recorder, group) == [b"before", between, b"after"]


async def test_a_restarted_cluster_leaves_one_gap_in_each_group(cluster: list[RedisServer]) -> None:
    async with listening(url_of(cluster), *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"before")
        for server in cluster:
            server.kill()
        await until(lambda: not backend.metrics.connected)
        for server in cluster:
            await asyncio.to_thread(server.start)
        await say_and_hear(backend, recorder, b"after")
        assert [course(recorder, group) for group in GROUPS] == [[b"before", RECONNECT, b"after"]] * 3


async def test_group_is_resubscribed_with_one_gap_after_its_cluster_slot_moves(cluster: list[RedisServer]) -> None:
    async with listening(url_of(cluster), *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"before")
        source = owner(cluster, "one")
        target = cluster[cluster.index(source) - 1]
        move_slot(key_slot(b"one"), source, target)
        await recorder.until(lambda: len(recorder.gaps) == 1)
        await say_and_hear(backend, recorder, b"after")
        assert course(recorder, "one") == [b"before", RECONNECT, b"after"]
        assert len(recorder.gaps) == 1
        assert target.ask("PUBSUB", "SHARDNUMSUB", "one") == [b"one", 1]


async def test_publisher_follows_the_redirection_after_a_cluster_slot_moves(cluster: list[RedisServer]) -> None:
    async with listening(url_of(cluster)) as (backend, _):
        source = owner(cluster, "one")
        target = cluster[cluster.index(source) - 1]
        move_slot(key_slot(b"one"), source, target)
        await backend.publish("one", b"x")
        assert backend.metrics.published == 1


async def test_backend_finds_the_cluster_through_one_reachable_server(cluster: list[RedisServer]) -> None:
    for server in cluster:
        async with listening(url_of([server]), *GROUPS) as (backend, recorder):
            await say_and_hear(backend, recorder, b"x")


@pytest.mark.parametrize("endpoint", ["unknown-endpoint", "hostname"])
async def test_backend_reaches_a_cluster_server_that_announces_no_name(
    cluster: list[RedisServer], endpoint: str
) -> None:
    for server in cluster:
        server.ask("CONFIG", "SET", "cluster-preferred-endpoint-type", endpoint)
    async with listening(url_of(cluster[:1]), *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"x")


async def test_f6_a_cluster_user_with_minimal_rights_can_publish_and_subscribe(cluster: list[RedisServer]) -> None:
    rights = "resetchannels &one &two &three -@all +spublish +ssubscribe +sunsubscribe +ping +cluster|slots"
    for server in cluster:
        server.ask("ACL", "SETUSER", "narrow", "on", ">word", *rights.split())
    url = url_of(cluster).replace("//", "//narrow:word@")
    async with listening(url, *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"x")
        await backend.unsubscribe(GROUPS)


async def test_a_backend_that_is_started_while_the_cluster_is_down_connects_later(cluster: list[RedisServer]) -> None:
    for server in cluster:
        server.kill()
    async with listening(url_of(cluster), *GROUPS) as (backend, recorder):
        with pytest.raises(BroadcastUnavailable, match="the owner of slot .* is unknown"):
            await backend.publish("one", b"lost")
        for server in cluster:
            await asyncio.to_thread(server.start)
        await say_and_hear(backend, recorder, b"x")
        assert [course(recorder, group) for group in GROUPS] == [[RECONNECT, b"x"]] * 3


async def test_cluster_backend_that_stops_during_its_start_leaves_no_task(cluster: list[RedisServer]) -> None:
    backend, recorder = backend_from_url(url_of(cluster), connect_timeout=PATIENCE_SECONDS), Recorder()
    cluster[1].halt()
    try:
        starting = asyncio.create_task(backend.start(recorder.on_message, recorder.on_gap))
        await until(lambda: backend._servers)  # type: ignore[attr-defined]
        starting.cancel()
        await asyncio.wait([starting])
        # Nothing runs on when the test has ended.
        await backend.stop()
    finally:
        cluster[1].resume()


async def test_cluster_backend_logs_that_the_redis_server_is_not_a_cluster(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(url_of([own_redis])) as (backend, _):
        assert "This instance has cluster support disabled" in caplog.text
        assert not backend.metrics.connected
