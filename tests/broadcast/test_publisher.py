"""Publishing without an event loop. The tests receive messages through redis-py."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from tests.broadcast.recorder import PATIENCE_SECONDS
from tests.broadcast.recorder import listening as listening_on
from tests.broadcast.redis_servers import RedisServer, cluster_of_three, fail_over, running, watched_pair
from tests.broadcast.scripted import Reply
from tests.forks import exit_code_in_child
from tests.helpers import settle, until
from uvicorn.broadcast import BroadcastMiddleware, Publisher, publish
from uvicorn.broadcast.groups import GroupsChannel
from uvicorn.broadcast.publisher import SendingGroups, _shared_publisher
from uvicorn.errors import BroadcastUnavailable, ConfigError, LocalProtocolError


class Listener:
    """Subscribes to a channel by redis-py, and parses its messages as JSON."""

    def __init__(self, server: RedisServer, *channels: str) -> None:
        self._client = redis.Redis(host="127.0.0.1", port=server.port, password=server.password or None, protocol=2)
        self._pubsub = self._client.pubsub()
        self._pubsub.subscribe(*channels)
        for _ in channels:
            assert self._next()["type"] == "subscribe"

    def receive(self) -> Any:
        return json.loads(self._next()["data"])

    def close(self) -> None:
        self._pubsub.close()
        self._client.close()

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] | None = self._pubsub.get_message(timeout=PATIENCE_SECONDS)
        assert message is not None
        return message


def patient_server() -> socket.socket:
    """A listening socket whose `accept` times out, so that its thread ends."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(PATIENCE_SECONDS)
    return server


def accept(server: socket.socket) -> socket.socket:
    connection, _ = server.accept()
    connection.settimeout(PATIENCE_SECONDS)
    return connection


@contextmanager
def listening(server: RedisServer, *channels: str) -> Iterator[Listener]:
    listener = Listener(server, *channels)
    try:
        yield listener
    finally:
        listener.close()


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UVICORN_BROADCAST_URL", raising=False)


def test_a_publisher_sends_plain_json(redis_server: RedisServer) -> None:
    with listening(redis_server, "chat") as listener, Publisher(redis_server.url) as publisher:
        publisher.publish("chat", {"text": "naïve"})
        message = listener.receive()
        sender, number = message.pop("_uvicorn")
        assert (message, number, len(sender)) == ({"text": "naïve"}, 1, 12)


def test_publisher_numbers_the_messages_of_each_group(redis_server: RedisServer) -> None:
    with listening(redis_server, "a", "b") as listener, Publisher(redis_server.url) as publisher:
        for group in ("a", "a", "b"):
            publisher.publish(group, {})
        assert [listener.receive()["_uvicorn"][1] for _ in range(3)] == [1, 2, 1]


def test_publisher_never_runs_a_group_name_as_a_redis_command(redis_server: RedisServer) -> None:
    name = "a b\r\nPUBLISH chat x\r\n"
    with listening(redis_server, name) as listener, Publisher(redis_server.url) as publisher:
        publisher.publish(name, {"text": "hi"})
        assert listener.receive()["text"] == "hi"


def test_a_publisher_uses_the_url_in_the_environment(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UVICORN_BROADCAST_URL", redis_server.url)
    with listening(redis_server, "chat") as listener:
        publish("chat", {"text": "hi"})
        assert listener.receive()["text"] == "hi"


@pytest.mark.parametrize("kind", ["redis+py", "unix", "database"])
def test_a_publisher_reaches_redis_by_every_kind_of_url(kind: str, redis_server: RedisServer) -> None:
    url = {
        "redis+py": redis_server.url.replace("redis:", "redis+py:"),
        "unix": redis_server.unix_url,
        "database": redis_server.url + "/3",
    }[kind]
    with listening(redis_server, "chat") as listener, Publisher(url, prefix="ch") as publisher:
        publisher.publish("at", {"text": "hi"})
        assert listener.receive()["text"] == "hi"


def test_a_publisher_authenticates_with_a_password(tmp_path: Path) -> None:
    with running(RedisServer(tmp_path, password="s3cr:t/")) as server:
        url = f"redis://:s3cr%3At%2F@127.0.0.1:{server.port}"
        with listening(server, "chat") as listener:
            publish("chat", {"text": "hi"}, url=url)
            assert listener.receive()["text"] == "hi"
        with pytest.raises(BroadcastUnavailable, match="WRONGPASS") as refused:
            publish("chat", {}, url=url.replace("s3cr", "guess"))
        assert "guess" not in str(refused.value)
        with pytest.raises(BroadcastUnavailable, match="NOAUTH"):
            publish("chat", {}, url=f"redis://127.0.0.1:{server.port}")


def test_a_publisher_raises_when_the_server_sends_endless_bytes() -> None:
    with patient_server() as server:

        def answer() -> None:
            connection = accept(server)
            with connection, suppress(OSError):
                connection.recv(100)
                while True:
                    connection.sendall(b"x" * 10_000)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(BroadcastUnavailable, match="does not speak Redis' protocol"):
            publish("chat", {}, url=f"redis://127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_publisher_raises_BroadcastUnavailable_for_a_missing_unix_socket(tmp_path: Path) -> None:
    with pytest.raises(BroadcastUnavailable, match="No such file"):
        publish("chat", {}, url=f"unix://{tmp_path}/redis.sock")


def test_publisher_with_zero_timeout_raises_BroadcastUnavailable(redis_server: RedisServer) -> None:
    with pytest.raises(BroadcastUnavailable, match="no reply from Redis in time"):
        Publisher(redis_server.url, timeout=0.0).publish("chat", {})


def test_publisher_stores_sequence_numbers_for_a_limited_number_of_groups(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvicorn.broadcast.sequences._MAX_GROUPS", 2)
    with Publisher(redis_server.url) as publisher:
        for group in "abc":
            publisher.publish(group, {})
        assert len(publisher._sequences._last) == 2


def test_the_number_of_shared_publishers_is_limited(redis_server: RedisServer) -> None:
    for database in range(16):
        publish("chat", {}, url=f"{redis_server.url}/{database}")
    publish("chat", {}, url=f"{redis_server.url}?db=1")
    assert 0 < _shared_publisher.cache_info().currsize <= 16


def cluster_url(servers: list[RedisServer]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)


async def test_a_publisher_finds_the_server_of_each_group_in_a_cluster(tmp_path: Path) -> None:
    groups = ("one", "two", "three", "four")
    with cluster_of_three(tmp_path) as servers:
        async with listening_on(cluster_url(servers), *groups) as (_, recorder):
            # The first one is asked, and sends us to the right one.
            with Publisher(cluster_url(servers[:1])) as publisher:
                for number in (1, 2):
                    for group in groups:
                        publisher.publish(group, {"number": number})
            heard = [json.loads(payload)["_uvicorn"][1] for payload in await recorder.receive(8)]
            assert sorted(heard) == [1] * 4 + [2] * 4
            servers[0].kill()
            with Publisher(cluster_url(servers)) as publisher:
                carried = [group for group in groups if key_slot(group.encode()) > 5460]
                for group in carried:
                    publisher.publish(group, {})
            await recorder.receive(8 + len(carried))


def test_a_publisher_raises_when_no_cluster_server_responds() -> None:
    with pytest.raises(BroadcastUnavailable, match="127.0.0.1:1/0: .*refused.*; .*127.0.0.1:2/0: .*refused"):
        publish("chat", {}, url="redis+cluster://127.0.0.1:1,127.0.0.1:2")


def test_a_publisher_follows_the_sentinels_to_the_master(tmp_path: Path) -> None:
    with watched_pair(tmp_path) as (master, replica, sentinel):
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/chat"
        with Publisher(url) as publisher:
            with listening(master, "news") as listener:
                for text in ("before", "and again"):
                    publisher.publish("news", {"text": text})
                    assert listener.receive()["text"] == text
            master.kill()
            fail_over(sentinel)
            sentinel.await_answer(str(replica.port), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "chat")
            with listening(replica, "news") as listener:
                publisher.publish("news", {"text": "after"})
                assert listener.receive()["text"] == "after"
        with pytest.raises(BroadcastUnavailable, match="does not know the service 'other'"):
            publish("news", {}, url=f"redis+sentinel://127.0.0.1:{sentinel.port}/other")


def test_publisher_asks_a_second_sentinel_when_the_first_hangs(tmp_path: Path) -> None:
    with watched_pair(tmp_path) as (master, _, sentinel), patient_server() as hanging:
        url = f"redis+sentinel://127.0.0.1:{hanging.getsockname()[1]},127.0.0.1:{sentinel.port}/chat"
        with listening(master, "news") as listener, Publisher(url, timeout=2) as publisher:
            publisher.publish("news", {"text": "hi"})
            assert listener.receive()["text"] == "hi"


def test_publisher_tries_another_cluster_server_after_a_timeout(tmp_path: Path) -> None:
    with cluster_of_three(tmp_path) as servers:
        group = next(name for name in "abcdefgh" if key_slot(name.encode()) > 5460)
        servers[0].halt()
        with Publisher(cluster_url(servers), timeout=1) as publisher:
            with pytest.raises(BroadcastUnavailable, match="timed out|no reply from Redis in time"):
                publisher.publish(group, {})
            publisher._timeout = PATIENCE_SECONDS
            publisher.publish(group, {})
        servers[0].resume()


def scripted_redis(*answers: bytes) -> tuple[socket.socket, threading.Thread]:
    """Start a server that replies to the commands of one client with `answers`. Return its socket and its thread."""
    server = patient_server()

    def serve() -> None:
        connection = accept(server)
        with connection:
            for answer in answers:
                connection.recv(10_000)
                connection.sendall(answer)
            connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    return server, thread


def test_publisher_rejects_a_replica_that_a_sentinel_reports_as_the_master() -> None:
    master, its_thread = scripted_redis(b"*1\r\n$5\r\nslave\r\n")
    port = b"%d" % master.getsockname()[1]
    answer = b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%b\r\n" % (len(port), port)
    sentinel, thread = scripted_redis(answer)
    with master, sentinel:
        with pytest.raises(BroadcastUnavailable, match="is not the master"):
            publish("chat", {}, url=f"redis+sentinel://127.0.0.1:{sentinel.getsockname()[1]}/chat")
        thread.join()
        its_thread.join()


class RoundAndRound:
    """A cluster server that gives each command the same reply. `%d` in the reply is the server's own port."""

    def __init__(self, answer: bytes) -> None:
        self.asked: list[bytes] = []
        self._server = patient_server()
        self.port = int(self._server.getsockname()[1])
        self._answer = answer.replace(b"%d", b"%d" % self.port)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection = accept(self._server)
        with connection:
            while question := connection.recv(10_000):
                self.asked.append(question.split(b"\r\n")[2])
                connection.sendall(self._answer)

    def close(self) -> None:
        self._server.close()
        self._thread.join()


@pytest.mark.parametrize(
    ("answer", "said", "asked"),
    [
        (b"-MOVED 1 :%d\r\n", "disagree on the owner of the group", [b"SPUBLISH"] * 5),
        (b"-NOPERM no\r\n", "NOPERM no", [b"SPUBLISH"]),
        (b"-ASK 1 127.0.0.1:%d\r\n", "ASK 1 127.0.0.1", [b"SPUBLISH", b"ASKING"]),
    ],
)
def test_the_number_of_cluster_redirections_is_limited(answer: bytes, said: str, asked: list[bytes]) -> None:
    server = RoundAndRound(answer)
    with pytest.raises(BroadcastUnavailable, match=said):
        publish("chat", {}, url=f"redis+cluster://127.0.0.1:{server.port}")
    server.close()
    assert server.asked == asked


def test_a_sentinel_url_without_a_service_is_rejected() -> None:
    with pytest.raises(ConfigError, match="host:port/service"):
        Publisher("redis+sentinel://127.0.0.1:1")


def test_a_publisher_whose_connection_is_refused_raises_an_error_with_the_address() -> None:
    with pytest.raises(BroadcastUnavailable, match="redis://127.0.0.1:1/0: .*refused"):
        publish("chat", {}, url="redis://127.0.0.1:1")


def test_first_successful_publish_gets_sequence_number_1_after_failures(own_redis: RedisServer) -> None:
    own_redis.kill()
    with Publisher(own_redis.url) as publisher:
        for _ in range(3):
            with pytest.raises(BroadcastUnavailable):
                publisher.publish("chat", {})
        own_redis.start()
        with listening(own_redis, "chat") as listener:
            publisher.publish("chat", {})
            assert listener.receive()["_uvicorn"][1] == 1


def test_publishing_to_a_hanging_redis_raises_within_the_timeout(own_redis: RedisServer) -> None:
    with Publisher(own_redis.url, timeout=PATIENCE_SECONDS) as publisher:
        publisher.publish("chat", {})
        publisher._timeout = 0.05
        own_redis.halt()
        with pytest.raises(BroadcastUnavailable, match="timed out|no reply from Redis in time"):
            publisher.publish("chat", {})
        own_redis.resume()


def test_next_publish_does_not_get_a_late_reply_from_redis(own_redis: RedisServer) -> None:
    with listening(own_redis, "chat") as listener, Publisher(own_redis.url, timeout=0.05) as publisher:
        own_redis.halt()
        with pytest.raises(BroadcastUnavailable):
            publisher.publish("chat", {"text": "late"})
        own_redis.resume()
        publisher = Publisher(own_redis.url)
        publisher.publish("chat", {"text": "next"})
        while listener.receive().get("text") != "next":
            pass
        publisher.close()


def test_a_publisher_replaces_a_closed_connection(own_redis: RedisServer) -> None:
    with Publisher(own_redis.url) as publisher:
        publisher.publish("chat", {})
        own_redis.kill()
        own_redis.start()
        with listening(own_redis, "chat") as listener:
            publisher.publish("chat", {"text": "again"})
            assert listener.receive()["text"] == "again"


def test_a_publisher_rejects_a_server_that_does_not_speak_redis_protocol() -> None:
    with patient_server() as server:

        def answer() -> None:
            connection = accept(server)
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(BroadcastUnavailable, match="does not speak Redis' protocol"):
            publish("chat", {}, url=f"redis://127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_ten_threads_share_one_connection(redis_server: RedisServer) -> None:
    with listening(redis_server, "chat") as listener, Publisher(redis_server.url) as publisher:
        with ThreadPoolExecutor(10) as threads:
            list(threads.map(lambda number: publisher.publish("chat", {"number": number}), range(200)))
        heard = [listener.receive() for _ in range(200)]
        assert sorted(message["number"] for message in heard) == list(range(200))
        assert [message["_uvicorn"][1] for message in heard] == list(range(1, 201))


def test_publish_raises_if_other_threads_hold_the_connection_past_the_timeout(own_redis: RedisServer) -> None:
    with Publisher(own_redis.url, timeout=0.05) as publisher, publisher._lock:
        with pytest.raises(BroadcastUnavailable, match="other threads were publishing"):
            publisher.publish("chat", {})


def test_forked_process_publishes_on_a_new_connection(redis_server: RedisServer) -> None:
    with listening(redis_server, "chat") as listener, Publisher(redis_server.url) as publisher:
        publisher.publish("chat", {"of": "parent"})
        # Held during the fork by a thread that does not exist in the child.
        with publisher._lock:
            assert exit_code_in_child(lambda: publisher.publish("chat", {"of": "child"})) == 0
        publisher.publish("chat", {"of": "parent"})
        heard = [listener.receive() for _ in range(3)]
        assert [message["of"] for message in heard] == ["parent", "child", "parent"]
        assert heard[0]["_uvicorn"][0] == heard[2]["_uvicorn"][0] != heard[1]["_uvicorn"][0]


@pytest.mark.parametrize(
    ("url", "said"), [("carrier-pigeon://x", "scheme 'carrier-pigeon'"), ("redis://x:port", "broadcast URL")]
)
def test_a_publisher_with_an_unusable_url_raises_at_construction(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Publisher(url)


@pytest.mark.parametrize(
    ("group", "message", "said"),
    [("", {}, "name of a group"), ("chat", [], "a dict, got list"), ("chat", {"a": "x" * 200}, "of 100 bytes at most")],
)
def test_publishing_an_invalid_message_without_an_event_loop_raises(group: str, message: Any, said: str) -> None:
    with pytest.raises(LocalProtocolError, match=said):
        Publisher("redis://127.0.0.1:1", max_message_bytes=100).publish(group, message)


async def started(url: str) -> tuple[BroadcastMiddleware, Reply]:
    """Start a middleware on this event loop, with a member of `chat`."""

    async def app(message: Any, channels: Any) -> None: ...

    middleware, reply = BroadcastMiddleware(app, url=url), Reply()
    await middleware.startup()
    hub = next(iter(middleware._hubs.values()))
    await GroupsChannel(hub, reply).send({"group": "chat", "add": reply.name})
    return middleware, reply


@pytest.mark.parametrize("named", [False, True])
async def test_publish_uses_the_running_middleware_of_the_process(named: bool) -> None:
    middleware, reply = await started("memory://here")
    url = "memory://here" if named else None
    await asyncio.to_thread(publish, "chat", {"text": "from a thread"}, url=url)
    publish("chat", {"text": "from the loop's own"}, url=url)
    await settle()
    assert reply.sent == ["from a thread", "from the loop's own"]
    await middleware.shutdown()


async def test_publisher_with_a_memory_url_uses_the_running_middleware() -> None:
    middleware, reply = await started("memory://here")
    await asyncio.to_thread(Publisher("memory://here").publish, "chat", {"text": "hi"})
    await until(lambda: reply.sent)
    await middleware.shutdown()


async def test_publishing_an_invalid_message_through_a_middleware_raises() -> None:
    middleware, _ = await started("memory://here")
    with pytest.raises(LocalProtocolError, match="a dict, got str"):
        await asyncio.to_thread(publish, "chat", "text")  # type: ignore[arg-type]
    await middleware.shutdown()


async def test_publish_on_the_event_loop_thread_uses_a_separate_connection(redis_server: RedisServer) -> None:
    middleware, reply = await started(redis_server.url)
    publish("chat", {"text": "hi"})
    await until(lambda: reply.sent)
    assert reply.sent == ["hi"]
    await middleware.shutdown()


async def test_publish_without_a_url_uses_the_middleware_that_started_first() -> None:
    started_first = [await started(f"memory://{number}") for number in range(10)]
    publish("chat", {"text": "hi"})
    await settle()
    assert [reply.sent for _, reply in started_first] == [["hi"]] + [[]] * 9
    for middleware, _ in started_first:
        await middleware.shutdown()


async def test_publish_in_a_thread_raises_if_the_event_loop_is_blocked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("uvicorn.broadcast.publisher._LOOP_SECONDS", -0.9)
    middleware, _ = await started("memory://here")
    with ThreadPoolExecutor(1) as thread, pytest.raises(BroadcastUnavailable, match="did not respond for 0.1 s"):
        thread.submit(publish, "chat", {}).result(PATIENCE_SECONDS)
    await settle()
    await middleware.shutdown()


async def test_publish_raises_if_the_server_stops_before_the_message_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    middleware, _ = await started("memory://here")
    hub = next(iter(middleware._hubs.values()))

    async def last_thing(*arguments: Any) -> None:
        # As when the loop's runner cancels all that is left.
        for task in asyncio.all_tasks():
            if "LoopCalls" in repr(task):
                task.cancel()
        await asyncio.Event().wait()

    monkeypatch.setattr(type(hub), "publish", lambda self, *arguments: self.start_task(last_thing()))
    with pytest.raises(BroadcastUnavailable, match="the server has stopped"):
        await asyncio.to_thread(publish, "chat", {})
    await middleware.shutdown()


def test_publishing_to_memory_without_a_middleware_raises() -> None:
    with pytest.raises(BroadcastUnavailable, match="no BroadcastMiddleware is running in this process"):
        publish("chat", {}, url="memory://")


def test_wsgi_application_can_send_to_groups_without_an_event_loop(redis_server: RedisServer) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["uvicorn.groups"].send({"group": "chat", "send": {"text": "hi"}})
        return []

    with listening(redis_server, "chat") as listener:
        middleware = BroadcastMiddleware(app, url=redis_server.url)
        assert middleware({}, lambda *arguments: None) == []
        assert listener.receive()["text"] == "hi"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"group": "chat"}, "expected the keys 'group' and 'send', got {'group'}"),
        ("chat", "got str"),
        ({"group": "chat", "send": {}, "add": "reply.0.1"}, "need a server with an event loop"),
    ],
)
def test_groups_without_an_event_loop_reject_new_members_and_malformed_messages(message: Any, said: str) -> None:
    with pytest.raises(LocalProtocolError, match=said):
        SendingGroups(Publisher("redis://127.0.0.1:1")).send(message)


def test_wsgi_call_with_a_custom_backend_raises_if_no_event_loop_runs() -> None:
    from tests.broadcast.scripted import ScriptedBackend

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        return []

    with pytest.raises(BroadcastUnavailable, match="needs a server with an event loop"):
        BroadcastMiddleware(app, backend=ScriptedBackend())({}, lambda *arguments: None)


def test_python_process_exits_without_warnings_after_publish(redis_server: RedisServer) -> None:
    script = f"from uvicorn.broadcast import publish; publish('chat', {{}}, url='{redis_server.url}')"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_publish_without_an_event_loop_imports_no_redis_driver(redis_server: RedisServer) -> None:
    script = f"""
import sys
from uvicorn.broadcast import publish
publish('chat', {{}}, url='{redis_server.url}')
print([driver for driver in ('asyncio_redis', 'redis') if driver in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert (done.stdout, done.stderr) == ("[]\n", "")
