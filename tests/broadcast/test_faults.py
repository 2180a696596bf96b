"""Failures of Redis (B1, B3 to B6, B14b, F4, F6), with servers that are killed, halted and reconfigured.

After each outage each group has one gap, no message arrives twice, and nothing reaches the loop's exception handler.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis

from uvicorn.broadcast.backend import OVERFLOW, RECONNECT, Backend
from uvicorn.broadcast.publisher import Publisher
from uvicorn.broadcast.redis import connection as connection
from uvicorn.broadcast.redis import reconnecting as supervised
from uvicorn.broadcast.redis.resp import MAX_PAYLOAD_BYTES
from uvicorn.errors import BroadcastUnavailable

from .recorder import PATIENCE_SECONDS, Gap, Message, Recorder, listening
from .redis_servers import RedisServer, running

GROUPS = ("one", "two", "three")


@pytest.fixture(params=["redis", "unix", "redis+py"])
def scheme(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def url_of(server: RedisServer, scheme: str, *, user: str = "", password: str = "", database: str = "") -> str:
    secret = f"{user}:{password or server.password}@" if user or password or server.password else ""
    if scheme == "unix":
        return f"unix://{secret}{server.path}{f'?db={database}' if database else ''}"
    return f"{scheme}://{secret}127.0.0.1:{server.port}/{database}"


async def until(condition: object) -> None:
    """Wait for a condition that timers or other processes cause."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def say_and_hear(backend: Backend, recorder: Recorder, text: bytes) -> None:
    """Publish to each group when the publisher is connected, and wait for the messages."""
    await until(lambda: backend.metrics.connected)
    for group in GROUPS:
        await backend.publish(group, text)
    await recorder.until(lambda: recorder.payloads.count(text) == len(GROUPS))


def course(recorder: Recorder, group: str) -> list[bytes | str]:
    """Return a group's received payloads and gap reasons, in order."""
    return [
        event.payload if isinstance(event, Message) else event.reason
        for event in recorder.events
        if event.group == group
    ]


async def go_through_an_outage(server: RedisServer, url: str) -> None:
    async with listening(url, *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"before")
        server.kill()
        await until(lambda: not backend.metrics.connected)
        with pytest.raises(BroadcastUnavailable):
            await backend.publish("one", b"lost")
        await asyncio.to_thread(server.start)
        await say_and_hear(backend, recorder, b"after")
        assert [course(recorder, group) for group in GROUPS] == [[b"before", RECONNECT, b"after"]] * 3
        assert (backend.metrics.reconnects, backend.metrics.gaps) == (1, 3)


async def test_a_restarted_redis_leaves_one_gap_in_each_group(own_redis: RedisServer, scheme: str) -> None:
    await go_through_an_outage(own_redis, url_of(own_redis, scheme))


async def test_restarted_redis_with_a_password_leaves_one_gap_per_group(tmp_path: Path, scheme: str) -> None:
    with running(RedisServer(tmp_path, password="se cret/1@")) as server:
        await go_through_an_outage(server, url_of(server, scheme, password="se%20cret%2F1%40", database="3"))


async def test_f6_restarted_redis_with_a_restricted_user_leaves_one_gap_per_group(tmp_path: Path, scheme: str) -> None:
    rights = "user narrow on >word resetchannels &one &two &three -@all +publish +subscribe +unsubscribe +ping"
    with running(RedisServer(tmp_path, "--user", *rights.split()[1:])) as server:
        await go_through_an_outage(server, url_of(server, scheme, user="narrow", password="word"))


async def test_two_outages_leave_two_gaps(own_redis: RedisServer, scheme: str) -> None:
    async with listening(url_of(own_redis, scheme), *GROUPS) as (backend, recorder):
        for number in range(2):
            await say_and_hear(backend, recorder, b"%d" % number)
            own_redis.kill()
            await until(lambda: not backend.metrics.connected)
            await asyncio.to_thread(own_redis.start)
        await say_and_hear(backend, recorder, b"2")
        assert course(recorder, "two") == [b"0", RECONNECT, b"1", RECONNECT, b"2"]


async def test_reconnect_to_thousands_of_groups_reports_one_gap_per_group(own_redis: RedisServer, scheme: str) -> None:
    names = [f"group {number}" for number in range(2000)]
    async with listening(url_of(own_redis, scheme), *names) as (backend, recorder):
        own_redis.kill()
        await until(lambda: not backend.metrics.connected)
        await asyncio.to_thread(own_redis.start)
        await until(lambda: backend.metrics.connected)
        for name in names[::100]:
            await backend.publish(name, b"x")
        await recorder.receive(20)
        assert sorted(gap.group for gap in recorder.gaps) == sorted(names)


async def test_gap_of_an_outage_begins_before_redis_restarts(own_redis: RedisServer, scheme: str) -> None:
    async with listening(url_of(own_redis, scheme), *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"before")
        own_redis.kill()
        await until(lambda: not backend.metrics.connected)
        await asyncio.to_thread(own_redis.start)
        returned = own_redis.ask("TIME")[0]
        await recorder.until(lambda: len(recorder.gaps) == 3)
        assert all(gap.since < returned + 1 for gap in recorder.gaps)
        assert recorder.gap_calls == 1


# A Redis that does not answer.


@pytest.fixture
def quick_liveness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the liveness check ten times as fast."""
    monkeypatch.setattr(connection, "_STEP_SECONDS", 0.05)


async def test_a_halted_redis_is_detected_and_leaves_one_gap(
    own_redis: RedisServer, scheme: str, quick_liveness: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(url_of(own_redis, scheme), *GROUPS, publish_timeout=1.0) as (backend, recorder):
        await say_and_hear(backend, recorder, b"before")
        own_redis.halt()
        with pytest.raises(BroadcastUnavailable):
            await backend.publish("one", b"lost, or late")
        await until(lambda: "no byte received for 0.3 s, not even a reply to PING" in caplog.text)
        own_redis.resume()
        await say_and_hear(backend, recorder, b"after")
        assert course(recorder, "two") == [b"before", RECONNECT, b"after"]
        assert recorder.payloads.count(b"lost, or late") <= 1


@pytest.mark.parametrize("driver", ["redis", "redis+py"])
async def test_long_message_that_arrives_slowly_keeps_the_connection_alive(
    redis_server: RedisServer, driver: str
) -> None:
    rest_may_come = asyncio.Event()
    serving: list[Any] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            half = len(data) // 2
            writer.write(data[:half])
            if b"x" * 100 in data:
                await rest_may_come.wait()
            writer.write(data[half:])
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", redis_server.port)
        await asyncio.gather(pass_on(reader, to_redis), pass_on(from_redis, writer))
        await writer.wait_closed()
        await to_redis.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"{driver}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with listening(url, "slow") as (backend, recorder):
            connection = backend._server.subscriber.current  # type: ignore[attr-defined]
            before = connection.last_byte_at
            await asyncio.to_thread(redis_server.ask, "PUBLISH", "slow", b"x" * 10_000)
            await until(lambda: connection.last_byte_at > before)
            assert recorder.events == []
            rest_may_come.set()
            await recorder.receive(1)
    finally:
        rest_may_come.set()
        server.close()
        await asyncio.wait(serving)


async def test_a_publish_without_a_reply_raises_within_its_timeout(own_redis: RedisServer, scheme: str) -> None:
    async with listening(url_of(own_redis, scheme), publish_timeout=0.1) as (backend, _):
        own_redis.halt()
        try:
            with pytest.raises(BroadcastUnavailable, match="no reply to a message within 0.1 s"):
                await backend.publish("one", b"x")
            assert backend.metrics.publish_failures == 1
        finally:
            own_redis.resume()


async def test_publishes_are_rejected_when_too_many_are_pending(
    own_redis: RedisServer, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvicorn.broadcast.redis.publisher.MAX_UNANSWERED", 10)
    async with listening(url_of(own_redis, scheme), publish_timeout=0.2) as (backend, _):
        own_redis.halt()
        try:
            outcomes = await asyncio.gather(*(backend.publish("one", b"x") for _ in range(15)), return_exceptions=True)
        finally:
            own_redis.resume()
        refused = [outcome for outcome in outcomes if "10 messages are waiting for Redis" in str(outcome)]
        assert len(refused) == 5
        assert all(isinstance(outcome, BroadcastUnavailable) for outcome in outcomes)
        assert backend.metrics.pending_high_water == 10


async def test_publishes_are_rejected_when_too_many_bytes_are_unsent(own_redis: RedisServer, scheme: str) -> None:
    async with listening(url_of(own_redis, scheme), publish_timeout=0.5) as (backend, _):
        own_redis.halt()
        try:
            outcomes = await asyncio.gather(
                *(backend.publish("one", b"x" * (1 << 20)) for _ in range(40)), return_exceptions=True
            )
        finally:
            own_redis.resume()
        assert any("bytes are unsent" in str(outcome) for outcome in outcomes)


async def test_subscribing_to_a_halted_redis_returns_and_takes_effect_later(
    own_redis: RedisServer, scheme: str, quick_liveness: None
) -> None:
    async with listening(url_of(own_redis, scheme), *GROUPS) as (backend, recorder):
        own_redis.halt()
        await backend.subscribe(["late"])
        own_redis.resume()
        await say_and_hear(backend, recorder, b"x")
        await backend.publish("late", b"y")
        await recorder.until(lambda: b"y" in recorder.payloads)
        assert course(recorder, "late") == [RECONNECT, b"y"]


async def test_pending_subscribe_call_returns_when_the_backend_stops(own_redis: RedisServer, scheme: str) -> None:
    async with listening(url_of(own_redis, scheme), *GROUPS) as (backend, _):
        own_redis.halt()
        try:
            subscribing = asyncio.create_task(backend.subscribe(["late"]))
            await asyncio.sleep(0)
            await backend.stop()
            await asyncio.wait([subscribing], timeout=PATIENCE_SECONDS)
            assert subscribing.done()
        finally:
            own_redis.resume()


async def test_stopping_the_backend_while_redis_is_halted_returns_in_time(own_redis: RedisServer, scheme: str) -> None:
    async with listening(url_of(own_redis, scheme), *GROUPS, publish_timeout=0.1) as (backend, _):
        own_redis.halt()
        try:
            task = asyncio.create_task(backend.publish("one", b"x"))
            await asyncio.sleep(0)
            await backend.stop()
            with pytest.raises(BroadcastUnavailable):
                await task
        finally:
            own_redis.resume()


# Redis throws us out.


async def test_killed_subscriber_connection_causes_one_gap_per_group(own_redis: RedisServer, scheme: str) -> None:
    async with listening(url_of(own_redis, scheme), *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"before")
        assert own_redis.ask("CLIENT", "KILL", "TYPE", "pubsub") == 1
        await backend.publish("one", b"lost, or not")
        await recorder.until(lambda: len(recorder.gaps) == 3)
        await say_and_hear(backend, recorder, b"after")
        assert course(recorder, "two") == [b"before", RECONNECT, b"after"]
        assert backend.metrics.publish_failures == 0


async def test_killed_publisher_connection_leaves_no_gap(own_redis: RedisServer, scheme: str) -> None:
    async with listening(url_of(own_redis, scheme), *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"before")
        # The asker is spared.
        assert own_redis.ask("CLIENT", "KILL", "TYPE", "normal") == 1
        await until(lambda: not backend.metrics.connected)
        await say_and_hear(backend, recorder, b"after")
        assert course(recorder, "two") == [b"before", b"after"]


async def test_slow_subscriber_gets_a_gap_after_redis_disconnects_it(tmp_path: Path, scheme: str) -> None:
    limit = ("--client-output-buffer-limit", "pubsub", "1mb", "0", "0")
    with running(RedisServer(tmp_path, *limit)) as server:
        async with listening(url_of(server, scheme), *GROUPS) as (backend, recorder):
            await say_and_hear(backend, recorder, b"before")
            # Our loop does not turn meanwhile, as under an application that blocks it.
            client = redis.Redis(port=server.port, protocol=2)
            for number in range(400):
                client.publish("one", b"%d:" % number + b"x" * 65536)
            client.close()
            await recorder.until(lambda: len(recorder.gaps) == 3)
            await say_and_hear(backend, recorder, b"after")
        numbers = [int(payload.partition(b":")[0]) for payload in recorder.payloads if b":" in payload]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) < 400
        assert isinstance(recorder.events[3 + len(numbers)], Gap)
        assert course(recorder, "two") == [b"before", RECONNECT, b"after"]


async def test_f5_oversized_message_causes_a_gap_only_in_its_group(own_redis: RedisServer, scheme: str) -> None:
    async with listening(url_of(own_redis, scheme), *GROUPS) as (backend, recorder):
        await asyncio.to_thread(own_redis.ask, "PUBLISH", "one", b"x" * (MAX_PAYLOAD_BYTES + 1))
        await say_and_hear(backend, recorder, b"after")
        assert [course(recorder, group) for group in GROUPS] == [[OVERFLOW, b"after"], [b"after"], [b"after"]]
        assert backend.metrics.reconnects == 0


# Groups come and go while there is no Redis.


async def test_a_backend_that_is_started_while_redis_is_down_connects_later(
    own_redis: RedisServer, scheme: str
) -> None:
    own_redis.kill()
    async with listening(url_of(own_redis, scheme), *GROUPS) as (backend, recorder):
        assert not backend.metrics.connected
        with pytest.raises(BroadcastUnavailable, match="no connection"):
            await backend.publish("one", b"lost")
        await asyncio.to_thread(own_redis.start)
        await say_and_hear(backend, recorder, b"after")
        assert course(recorder, "two") == [RECONNECT, b"after"]
        assert backend.metrics.reconnects == 0


async def test_subscribe_and_unsubscribe_during_an_outage_take_effect_afterwards(
    own_redis: RedisServer, scheme: str
) -> None:
    async with listening(url_of(own_redis, scheme), *GROUPS, "leaving") as (backend, recorder):
        own_redis.kill()
        await until(lambda: not backend.metrics.connected)
        await backend.unsubscribe(["leaving"])
        await backend.subscribe(["coming"])
        await asyncio.to_thread(own_redis.start)
        await say_and_hear(backend, recorder, b"x")
        await backend.publish("leaving", b"no")
        await backend.publish("coming", b"yes")
        await recorder.until(lambda: b"yes" in recorder.payloads)
        assert course(recorder, "leaving") == []
        assert course(recorder, "coming") == [RECONNECT, b"yes"]


async def test_stopping_the_backend_while_redis_is_down_returns_at_once(own_redis: RedisServer, scheme: str) -> None:
    async with listening(url_of(own_redis, scheme), *GROUPS) as (backend, _):
        own_redis.kill()
        await until(lambda: not backend.metrics.connected)


# Passwords and rights.


async def test_f4_login_with_a_wrong_password_is_logged_without_the_password(
    own_redis: RedisServer, scheme: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "DENIED_SECONDS", 0.1)
    own_redis.ask("CONFIG", "SET", "requirepass", "right")
    url = url_of(own_redis, scheme, password="WRONG")
    async with listening(url, *GROUPS) as (backend, recorder):
        with pytest.raises(BroadcastUnavailable, match="WRONGPASS") as caught:
            await backend.publish("one", b"x")
        own_redis.password = "right"
        own_redis.ask("CONFIG", "SET", "requirepass", "WRONG")
        await say_and_hear(backend, recorder, b"x")
        assert "WRONG@" not in str(caught.value) + repr(backend) + caplog.text
        assert ":WRONG" not in str(caught.value) + repr(backend) + caplog.text
        assert "WRONGPASS" in caplog.text


async def test_f6_backend_and_publisher_log_in_with_a_user_name_and_no_password(
    own_redis: RedisServer, scheme: str
) -> None:
    own_redis.ask("ACL", "SETUSER", "guest", "on", "nopass", "allchannels", "+publish", "+subscribe", "+ping")
    url = url_of(own_redis, scheme, user="guest").replace("guest:@", "guest@")
    async with listening(url, *GROUPS) as (backend, recorder):
        await say_and_hear(backend, recorder, b"x")
        with Publisher(url) as publisher:
            await asyncio.to_thread(publisher.publish, "one", {})
            users = own_redis.ask("CLIENT", "LIST").decode()
        assert (users.count("user=guest "), users.count("user=default ")) == (3, 1)


async def test_a_missing_password_is_logged(tmp_path: Path, scheme: str) -> None:
    with running(RedisServer(tmp_path, password="secret")) as server:
        url = url_of(server, scheme).replace(":secret@", "")
        async with listening(url) as (backend, _):
            with pytest.raises(BroadcastUnavailable, match="NOAUTH"):
                await backend.publish("one", b"x")


async def test_missing_redis_database_is_logged(own_redis: RedisServer, scheme: str) -> None:
    async with listening(url_of(own_redis, scheme, database="99")) as (backend, _):
        with pytest.raises(BroadcastUnavailable, match="DB index is out of range"):
            await backend.publish("one", b"x")


async def test_a_denied_group_is_logged_and_other_groups_are_subscribed(
    tmp_path: Path, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    rights = "user narrow on >word resetchannels &one &two &three -@all +publish +subscribe +unsubscribe +ping"
    with running(RedisServer(tmp_path, "--user", *rights.split()[1:])) as server:
        async with listening(url_of(server, scheme, user="narrow", password="word"), *GROUPS) as (backend, recorder):
            await backend.subscribe(["forbidden"])
            assert "group 'forbidden' is not subscribed: Redis refuses SUBSCRIBE: NOPERM" in caplog.text
            with pytest.raises(BroadcastUnavailable, match="Redis refuses: NOPERM"):
                await backend.publish("forbidden", b"x")
            await say_and_hear(backend, recorder, b"x")


async def test_other_groups_get_messages_when_redis_denies_one_group_on_reconnect(tmp_path: Path, scheme: str) -> None:
    rights = "user narrow on >word resetchannels &one &two &three &odd -@all +publish +subscribe +unsubscribe +ping"
    with running(RedisServer(tmp_path, "--user", *rights.split()[1:])) as server:
        url = url_of(server, scheme, user="narrow", password="word")
        async with listening(url, *GROUPS, "odd") as (backend, recorder):
            # Ends the connections of users that lose a channel.
            server.ask("ACL", "SETUSER", "narrow", "resetchannels", "&one", "&two", "&three")
            await recorder.until(lambda: len(recorder.gaps) == 3)
            await say_and_hear(backend, recorder, b"x")
            assert course(recorder, "odd") == []


async def test_a_redis_with_too_many_clients_is_logged_and_retried(
    own_redis: RedisServer, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.ask("CONFIG", "SET", "maxclients", "1")
    client = redis.Redis(port=own_redis.port, protocol=2)
    client.ping()
    async with listening(url_of(own_redis, scheme), *GROUPS) as (backend, recorder):
        # At some attempt: Redis may have closed before we wrote, and then its words are not read.
        await until(lambda: "max number of clients reached" in caplog.text)
        client.execute_command("CONFIG", "SET", "maxclients", "100")
        client.close()
        await say_and_hear(backend, recorder, b"x")


# What is no Redis.


async def test_server_that_does_not_speak_the_redis_protocol_is_logged() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with listening(f"redis://127.0.0.1:{port}") as (backend, _):
        with pytest.raises(BroadcastUnavailable, match="does not speak Redis' protocol"):
            await backend.publish("one", b"x")
    server.close()
    await server.wait_closed()


async def test_a_refused_connection_is_logged(tmp_path: Path) -> None:
    async with listening(f"unix://{tmp_path}/missing") as (backend, _):
        with pytest.raises(BroadcastUnavailable, match="No such file|not connected"):
            await backend.publish("one", b"x")
