"""How our workers react to gunicorn's arbiter: reload, change of number, recycling, stop, kill."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.certificates import Certificates
from tests.e2e.client import Client, status_of
from tests.e2e.gunicorn_process import Gunicorn, covers, knows, running_gunicorn
from tests.waits import LONGEST_WAIT

HOSTED = Path(__file__).parent / "hosted"


class Held(Client):
    """A request in flight in a worker until the test releases it; `worker` is that worker's process id."""

    def __init__(self, server: Gunicorn) -> None:
        super().__init__(server)
        self.send(b"POST /hold HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\n")
        begun = self.receive_until(b" \r\n")
        self.worker = int(begun.rpartition(b"\r\n")[0].rpartition(b"\r\n")[2])

    def let_go(self) -> bytes:
        """Send the rest of the request; return the response."""
        self.send(b"x")
        return self.receive()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_gunicorn_reload_under_load_loses_no_request(loop: str, tls: bool, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    lost: list[str] = []
    answered: dict[str, int] = {}
    over = threading.Event()

    def ask(new_connection_each_time: bool) -> None:
        connection = (
            http.client.HTTPSConnection("localhost", server.port, timeout=LONGEST_WAIT, context=certificates.client())
            if tls
            else http.client.HTTPConnection("127.0.0.1", server.port, timeout=LONGEST_WAIT)
        )
        while not over.is_set():
            try:
                connection.request("GET", "/pid", headers={"connection": "close"} if new_connection_each_time else {})
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                lost.append(repr(error))
                return
            if response.status != 200:
                lost.append(str(response.status))
            pid = response.headers["x-pid"]
            answered[pid] = answered.get(pid, 0) + 1
        connection.close()

    arguments = ("--certfile", str(certificates.chain), "--keyfile", str(certificates.key)) if tls else ()
    with running_gunicorn(HOSTED, "app:app", *arguments, workers=2, worker_class=f"workers.On{loop}") as server:
        load = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(6)]
        for thread in load:
            thread.start()
        for reloads in range(1, 4):
            server.send_signal(signal.SIGHUP)
            server.wait_for_workers(2 + 2 * reloads)
            server.wait_for_exits(2 * reloads)
        over.set()
        for thread in load:
            thread.join(LONGEST_WAIT)
        assert lost == []
        assert len(answered) > 2, "only the first workers were asked"


def test_gunicorn_reload_finishes_a_request_in_flight() -> None:
    with running_gunicorn(HOSTED, "app:app") as server, Held(server) as held:
        server.send_signal(signal.SIGHUP)
        server.wait_for_line("Waiting for connections to close")
        assert held.let_go().endswith(b"done\r\n0\r\n\r\n")
        server.wait_for_exits(1)


SLOW_TO_START = """
import asyncio, os

async def app(message, channels):
    await channels['reply'].send({{'status': 200, 'content': b'started'}})

async def startup():
    print('startup begins', flush=True)
    while os.path.exists({!r}):
        await asyncio.sleep(0.01)

app.startup = startup
"""


def is_child(parent: int, pid: int) -> bool:
    """Return whether the process exists, even if only as a zombie."""
    return str(pid) in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()


def test_gunicorn_reload_replaces_a_worker_during_its_startup(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    (tmp_path / "starting.py").write_text(SLOW_TO_START.format(str(hold)))
    with running_gunicorn(tmp_path, "starting:app") as server:
        hold.touch()
        for count in (2, 3):
            server.send_signal(signal.SIGHUP)
            server.wait_for_line("startup begins", "stdout", count)
        server.wait_for_line("stopped before the application's startup was complete")
        while is_child(server.process.pid, server.workers[1]):
            os.sched_yield()
        server.send_signal(signal.SIGHUP)
        server.wait_for_line("startup begins", "stdout", 4)
        hold.unlink()
        server.wait_for_workers(2)
        assert server.get() == (200, "started")


def test_second_gunicorn_worker_finishes_a_request_after_the_first_is_killed() -> None:
    with running_gunicorn(HOSTED, "app:app", workers=2) as server, Held(server) as first:
        # So that the other one takes the next.
        os.kill(first.worker, signal.SIGSTOP)
        with Held(server) as second:
            assert second.worker != first.worker
            os.kill(first.worker, signal.SIGKILL)
            assert first.receive() == b""
            server.wait_for_workers(3)
            assert second.let_go().endswith(b"done\r\n0\r\n\r\n")
            assert server.get()[0] == 200


def test_SIGTTIN_and_SIGTTOU_change_the_number_of_gunicorn_workers() -> None:
    with running_gunicorn(HOSTED, "app:app") as server:
        server.send_signal(signal.SIGTTIN)
        server.wait_for_workers(2)
        server.send_signal(signal.SIGTTOU)
        server.wait_for_exits(1)
        assert server.get()[0] == 200
        assert len(server.workers) == 2


# Recycling


def test_gunicorn_boots_a_new_worker_after_each_of_8_recycled_workers() -> None:
    # gunicorn looks once a second: 100 times take two minutes.
    recycled = 8
    with running_gunicorn(
        HOSTED, "app:app", "--max-requests", "1", worker_class="uvicorn_worker.UvicornWorker"
    ) as server:
        for count in range(1, recycled + 1):
            assert server.get("/pid")[0] == 200
            server.wait_for_exits(count)
            server.wait_for_workers(count + 1)
        assert server.stop() == 0
        assert "failed to boot" not in server.stderr


@covers("max_requests", "max_requests_jitter")
def test_a_recycled_worker_closes_its_websockets_with_1012() -> None:
    arguments = ("--max-requests", "3", "--max-requests-jitter", "1")
    with running_gunicorn(HOSTED, "app:app", *arguments) as server:
        with connect(f"ws://127.0.0.1:{server.port}/", open_timeout=LONGEST_WAIT) as client:
            for number in range(3):
                client.send(str(number))
                assert client.recv(LONGEST_WAIT) == str(number)
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(LONGEST_WAIT)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        server.wait_for_workers(2)
        assert server.get()[0] == 200


def test_gunicorn_worker_is_recycled_after_max_requests() -> None:
    with running_gunicorn(HOSTED, "app:app", "--max-requests", "1") as server:
        assert server.get()[0] == 200
        server.wait_for_workers(2)
        assert server.get()[0] == 200


@covers("reload", "reload_engine", "reload_extra_files", "worker_int")
@pytest.mark.parametrize("changed", ["module", "extra file"])
def test_gunicorn_reload_setting_reloads_changed_code(changed: str, tmp_path: Path) -> None:
    def write(content: bytes) -> None:
        (tmp_path / "fresh.py").write_text(
            f"def app(message):\n    message['reply_channel'].send({{'status': 200, 'content': {content!r}}})\n"
        )

    write(b"old")
    extra, conf = tmp_path / "extra", tmp_path / "conf.py"
    extra.touch()
    conf.write_text("def worker_int(worker):\n    worker.log.info('worker_int was called')\n")
    arguments = ("--reload", "--reload-engine", "poll", "--reload-extra-file", str(extra), "-c", str(conf))
    with running_gunicorn(tmp_path, "fresh:app", *arguments, env={"PYTHONDONTWRITEBYTECODE": "1"}) as server:
        assert server.get() == (200, "old")
        write(b"brand new")
        file = extra if changed == "extra file" else tmp_path / "fresh.py"
        deadline, when = time.monotonic() + LONGEST_WAIT, time.time()
        # Again and again, for what has changed before the reloader's first look has not changed.
        while "worker_int was called" not in server.stderr and time.monotonic() < deadline:
            when += 1
            os.utime(file, (when, when))
            os.sched_yield()
        server.wait_for_workers(2)
        assert server.get() == (200, "brand new")


# Stopping


def test_SIGTERM_finishes_requests_in_flight_under_gunicorn() -> None:
    with running_gunicorn(HOSTED, "app:app") as server, Held(server) as held:
        server.send_signal(signal.SIGTERM)
        server.wait_for_line("Waiting for connections to close")
        assert held.let_go().endswith(b"done\r\n0\r\n\r\n")
        assert server.wait() == 0


@covers("graceful_timeout")
def test_gunicorn_resets_a_request_that_outlasts_the_graceful_timeout() -> None:
    with running_gunicorn(HOSTED, "app:app", "--graceful-timeout", "1") as server, Held(server) as held:
        assert server.stop() == 0
        assert held.receive() == b""
        assert "aborted 1 request after 0.5 seconds" in server.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_SIGINT_and_SIGQUIT_make_gunicorn_reset_requests_at_once(number: int) -> None:
    with running_gunicorn(HOSTED, "app:app") as server, Held(server) as held:
        assert server.stop(number) == 0
        assert held.receive() == b""


def test_gunicorn_worker_stops_when_its_arbiter_has_died() -> None:
    with running_gunicorn(HOSTED, "app:app") as server:
        server.stop(signal.SIGKILL)
        server.wait_for_line("Parent changed, shutting down")


@covers("timeout", "worker_abort")
def test_gunicorn_worker_with_a_blocked_event_loop_is_replaced(tmp_path: Path) -> None:
    conf = tmp_path / "conf.py"
    conf.write_text("def worker_abort(worker):\n    worker.log.info('worker_abort was called')\n")
    with running_gunicorn(HOSTED, "app:app", "-t", "2", "-c", str(conf)) as server, Client(server) as client:
        client.send(b"GET /block HTTP/1.1\r\nhost: x\r\n\r\n")
        server.wait_for_line("worker_abort was called")
        server.wait_for_workers(2)
        assert server.get()[0] == 200


def test_SIGWINCH_does_not_stop_a_gunicorn_worker() -> None:
    with running_gunicorn(HOSTED, "app:app", "--log-level", "debug") as server:
        server.signal_worker(signal.SIGWINCH)
        server.wait_for_line("worker: SIGWINCH ignored.")
        assert server.get()[0] == 200


# Hooks


HOOKS: dict[str, str] = {
    "on_starting": "server",
    "on_reload": "server",
    "when_ready": "server",
    "nworkers_changed": "server, new, old",
    "pre_fork": "server, worker",
    "post_fork": "server, worker",
    "post_worker_init": "worker",
    "pre_request": "worker, req",
    "post_request": "worker, req, environ, resp",
    "worker_exit": "server, worker",
    "child_exit": "server, worker",
    "on_exit": "server",
}


@covers(*HOOKS)
def test_every_hook_of_gunicorn_is_called(tmp_path: Path) -> None:
    called, conf = tmp_path / "called", tmp_path / "conf.py"
    conf.write_text(
        "".join(
            f"def {name}({parameters}):\n    open({str(called)!r}, 'a').write('{name}\\n')\n"
            for name, parameters in HOOKS.items()
        )
    )
    with running_gunicorn(HOSTED, "app:app", "-c", str(conf)) as server:
        assert server.get()[0] == 200
        server.send_signal(signal.SIGHUP)
        server.wait_for_exits(1)
        server.stop()
    lines = called.read_text().split()
    assert set(lines) == set(HOOKS)
    assert (lines.count("pre_request"), lines.count("post_request")) == (1, 1)


def test_gunicorn_post_request_hook_gets_the_request_and_the_response(tmp_path: Path) -> None:
    conf = tmp_path / "conf.py"
    conf.write_text(
        "def post_request(worker, req, environ, resp):\n"
        "    worker.log.info('saw %s %s %s %s', req.method, req.path, environ['HTTP_HOST'], resp.status)\n"
    )
    with running_gunicorn(HOSTED, "app:app", "-c", str(conf)) as server, Client(server) as client:
        client.get("/path?query")
        server.wait_for_line("saw GET /path x 200 OK")


def test_gunicorn_client_gets_500_when_the_pre_request_hook_raises(tmp_path: Path) -> None:
    conf = tmp_path / "conf.py"
    conf.write_text("def pre_request(worker, req):\n    raise ValueError('the hook failed')\n")
    with running_gunicorn(HOSTED, "app:app", "-c", str(conf)) as server, Client(server) as client:
        assert status_of(client.get()) == 500
        server.wait_for_line("ValueError: the hook failed")


def test_gunicorn_logs_an_exception_of_the_post_request_hook(tmp_path: Path) -> None:
    conf = tmp_path / "conf.py"
    conf.write_text("def post_request(worker, req, environ, resp):\n    raise ValueError('the hook failed')\n")
    with running_gunicorn(HOSTED, "app:app", "-c", str(conf)) as server, Client(server) as client:
        assert status_of(client.get()) == 200
        server.wait_for_line("ValueError: the hook failed")


def test_worker_that_raises_in_the_worker_int_hook_is_replaced_by_gunicorn(tmp_path: Path) -> None:
    conf = tmp_path / "conf.py"
    conf.write_text("def worker_int(worker):\n    raise ValueError('the hook failed')\n")
    with running_gunicorn(HOSTED, "app:app", "-c", str(conf)) as server:
        server.signal_worker(signal.SIGQUIT)
        server.wait_for_line("ValueError: the hook failed")
        server.wait_for_workers(2)


@covers("websocket_max_message_size")
@pytest.mark.skipif(not knows("websocket_max_message_size"), reason="this gunicorn has no such setting")
def test_gunicorn_websocket_max_message_size_is_applied() -> None:
    with running_gunicorn(HOSTED, "app:app", "--websocket-max-message-size", "1000") as server:
        with connect(f"ws://127.0.0.1:{server.port}/", open_timeout=LONGEST_WAIT) as client:
            client.send(1000 * "x")
            assert client.recv(LONGEST_WAIT) == 1000 * "x"
            client.send(1001 * "x")
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(LONGEST_WAIT)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
