"""`threads_per_client`: a client's requests above its share wait, and let those of others pass."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.corpus import request
from tests.helpers import Conversation, FakeTransport, parse_responses, settle, until
from uvicorn import forks
from uvicorn.adapters import ASGIAdapter
from uvicorn.interfaces.client_shares import ClientShares, SharedJob
from uvicorn.interfaces.threaded import ThreadedInterface


class Blocking:
    """An application whose calls go on until their path is released."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._released: dict[str, threading.Event] = {}

    def wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        self._wait(environ["PATH_INFO"][1:])
        start_response("200 OK", [])
        return [b"done"]

    def consumer(self, message: Any) -> None:
        self._wait(message["path"][1:])
        message["reply_channel"].send({"status": 200, "content": b"done"})

    def release(self, *names: str) -> None:
        for name in names:
            self._event(name).set()

    def _wait(self, name: str) -> None:
        self.begun.append(name)
        assert self._event(name).wait(30)

    def _event(self, name: str) -> threading.Event:
        return self._released.setdefault(name, threading.Event())


class Clients:
    """Connections to one server, each of which asks once."""

    def __init__(self, app: Any, **settings: Any) -> None:
        self.conversation = Conversation(app, **{"threads": 8, "threads_per_client": 1, **settings})
        self.transports: dict[str, FakeTransport] = {}

    def ask(self, name: str, peer: tuple[str, int] | str | None = None, forwarded: str = "") -> None:
        """The first letter of a name is the client, unless `peer` is given."""
        connection, transport = self.conversation.connect((f"10.0.0.{ord(name[0])}", 50000) if peer is None else peer)
        self.transports[name] = transport
        fields = [b"x-forwarded-for: " + forwarded.encode()] if forwarded else []
        connection.data_received(request(b"GET /" + name.encode() + b" HTTP/1.1", *fields))

    def status(self, name: str) -> int:
        """0 before there is one."""
        responses = parse_responses(b"".join(self.transports[name].writes))
        return responses[0].status if responses else 0

    async def answered(self, *names: str) -> None:
        await until(lambda: all(self.status(name) for name in names))

    @property
    def shares(self) -> ClientShares:
        interface = self.conversation.interface
        assert isinstance(interface, ThreadedInterface)
        assert interface._shares is not None
        return interface._shares

    async def end(self) -> None:
        for transport in self.transports.values():
            if not transport.closing:
                transport.reset()
        await self.conversation.lose()
        await self.conversation.interface.shutdown(1)


@pytest.mark.parametrize("kind", ["wsgi", "consumer", "adapter", "executor"])
async def test_client_above_its_thread_limit_does_not_delay_another_client(kind: str) -> None:
    app = Blocking()
    with ThreadPoolExecutor(8) as executor:
        apps = {
            "wsgi": app.wsgi,
            "consumer": app.consumer,
            "adapter": ASGIAdapter(app.wsgi),
            "executor": ASGIAdapter(app.wsgi, executor=executor),
        }
        clients = Clients(apps[kind])
        for name in ("a1", "a2", "a3", "b1"):
            clients.ask(name)
        await until(lambda: len(app.begun) == 2)
        await settle()
        assert app.begun == ["a1", "b1"]
        app.release("a1")
        await clients.answered("a1")
        await until(lambda: len(app.begun) == 3)
        assert app.begun == ["a1", "b1", "a2"]
        app.release("a2", "a3", "b1")
        await clients.answered("a2", "a3", "b1")
        assert [clients.status(name) for name in ("a1", "a2", "a3", "b1")] == [200] * 4
        # The last one to give its share back is a worker, which may have yet to do it.
        await until(lambda: not clients.shares._taken)
        await clients.end()


async def test_client_uses_no_more_threads_than_its_limit() -> None:
    app = Blocking()
    clients = Clients(app.wsgi, threads_per_client=3)
    for name in ("a1", "a2", "a3", "a4"):
        clients.ask(name)
    await until(lambda: len(app.begun) == 3)
    await settle()
    assert sorted(app.begun) == ["a1", "a2", "a3"]
    app.release("a1", "a2", "a3", "a4")
    await clients.answered("a4")
    await clients.end()


async def test_one_client_may_use_every_thread_by_default() -> None:
    app = Blocking()
    clients = Clients(app.wsgi, threads_per_client=0)
    for name in ("a1", "a2", "a3"):
        clients.ask(name)
    await until(lambda: len(app.begun) == 3)
    app.release("a1", "a2", "a3")
    await clients.answered("a1", "a2", "a3")
    await clients.end()


async def test_thread_limit_behind_a_trusted_proxy_applies_to_the_forwarded_client() -> None:
    app = Blocking()
    clients = Clients(app.wsgi)
    for name, client in (("a1", "192.0.2.1"), ("a2", "192.0.2.1"), ("b1", "192.0.2.2")):
        clients.ask(name, ("127.0.0.1", 50000), client)
    await until(lambda: len(app.begun) == 2)
    await settle()
    assert app.begun == ["a1", "b1"]
    app.release("a1", "a2", "b1")
    await clients.answered("a2")
    await clients.end()


async def test_thread_limit_per_client_does_not_apply_to_a_unix_socket() -> None:
    app = Blocking()
    clients = Clients(app.wsgi)
    for name in ("a1", "a2"):
        clients.ask(name, "")
    await until(lambda: len(app.begun) == 2)
    app.release("a1", "a2")
    await clients.answered("a1", "a2")
    await clients.end()


async def test_client_with_too_many_waiting_requests_gets_503() -> None:
    app = Blocking()
    clients = Clients(app.wsgi, thread_queue=1)
    for name in ("a1", "a2", "a3", "b1", "b2"):
        clients.ask(name)
    assert [clients.status(name) for name in ("a1", "a2", "a3", "b1", "b2")] == [0, 0, 503, 0, 0]
    app.release("a1", "a2", "b1", "b2")
    await clients.answered("a2", "b2")
    await clients.end()


async def test_rejected_request_does_not_count_towards_the_thread_limit() -> None:
    app = Blocking()
    clients = Clients(app.wsgi, threads=1, thread_queue=0)
    clients.ask("a1")
    await until(lambda: app.begun)
    clients.ask("b1")
    assert clients.status("b1") == 503
    app.release("a1", "b2")
    await clients.answered("a1")
    await until(lambda: not clients.shares._taken)
    clients.ask("b2")
    await clients.answered("b2")
    assert clients.status("b2") == 200
    await clients.end()


async def test_disconnect_drops_a_request_that_waits_for_a_thread() -> None:
    app = Blocking()
    clients = Clients(app.wsgi)
    for name in ("a1", "a2", "a3"):
        clients.ask(name)
    await until(lambda: app.begun)
    clients.transports["a2"].reset()
    await settle()
    app.release("a1", "a3")
    await clients.answered("a3")
    assert app.begun == ["a1", "a3"]
    await clients.end()


async def test_shutdown_answers_503_to_a_request_that_waits_for_a_thread() -> None:
    app = Blocking()
    clients = Clients(app.wsgi)
    for name in ("a1", "a2"):
        clients.ask(name)
    await until(lambda: app.begun)
    shutdown = asyncio.create_task(clients.conversation.interface.shutdown(5))
    await clients.answered("a2")
    assert clients.status("a2") == 503
    app.release("a1")
    await shutdown
    await clients.end()


class Job:
    def run(self) -> None:
        pass

    def cancel(self) -> None:
        pass


def test_fork_resets_the_thread_count_of_each_client(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = ClientShares(1, 10)
    assert shares.take(SharedJob(Job(), "a", shares, lambda job: True))
    monkeypatch.setattr(forks, "forks", forks.forks + 1)
    assert shares.take(SharedJob(Job(), "a", shares, lambda job: True))


@pytest.mark.parametrize("end", ["run", "cancel"])
def test_thread_limit_forgets_a_client_after_its_last_call(end: str) -> None:
    shares = ClientShares(2, 10)
    posted: list[SharedJob] = []

    def post(job: SharedJob) -> bool:
        posted.append(job)
        return True

    jobs = [SharedJob(Job(), "a", shares, post) for _ in range(4)]
    assert [shares.take(job) for job in jobs] == [True, True, False, False]
    shares.forget(jobs[3])
    for job in (jobs[0], jobs[1], jobs[2]):
        getattr(job, end)()
    assert (posted, shares._taken, shares._waiting) == ([jobs[2]], {}, {})


def test_queued_call_of_a_closed_event_loop_does_not_block_the_next_queued_call() -> None:
    shares = ClientShares(1, 2000)
    posted: list[SharedJob] = []

    def post(job: SharedJob) -> bool:
        posted.append(job)
        return job is jobs[-1]

    jobs = [SharedJob(Job(), "a", shares, post) for _ in range(1500)]
    for job in jobs:
        shares.take(job)
    jobs[0].run()
    assert posted == jobs[1:]
