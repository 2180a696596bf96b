"""`--metrics` adds up the requests of all workers, including workers that have ended; `report` under gunicorn."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.gunicorn_process import running_gunicorn
from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, run_command, running_server
from tests.server.test_metrics import samples

APP: Final = """
import os

from uvicorn import Route, Router

async def coroutine(message, channels):
    await channels["reply"].send({"status": 200, "content": str(os.getpid()).encode()})

def site(environ, start_response):
    start_response("404 Not Found", [])
    return [b""]

app = Router(Route("/async", coroutine), default=site)
"""
ASYNC: Final = "uvicorn_requests_total{entry=/async,kind=channels,status=2xx}"
SITE: Final = "uvicorn_requests_total{entry=*,kind=wsgi,status=4xx}"
DURATIONS: Final = "uvicorn_request_duration_seconds_count{entry=/async,kind=channels}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "app.py").write_text(APP)
    arguments = ("app:app", "--workers", "4", "--no-access-log", "--metrics", "127.0.0.1:0")
    with running_server(tmp_path, *arguments) as running:
        running.wait_for_line(" is ready", count=4)
        yield running


def scraped(server: ServerProcess) -> dict[str, float]:
    [url] = re.findall(r"Metrics are served on (\S+)", server.stderr)
    with urllib.request.urlopen(url, timeout=LONGEST_WAIT) as response:
        return samples(response.read())


def scraped_until(server: ServerProcess, condition: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """The first metrics that meet the condition."""
    last = time.monotonic() + LONGEST_WAIT
    while not condition(found := scraped(server)):
        assert time.monotonic() < last, found
    return found


def ask(server: ServerProcess, count: int) -> set[int]:
    """Send requests, each on a new connection. Return the processes that have answered."""
    return {int(server.get("/async")[1]) for _ in range(count)}


def test_metrics_count_the_requests_of_all_workers(server: ServerProcess) -> None:
    ask(server, 20)
    server.get("/other")
    found = scraped_until(server, lambda found: found[ASYNC] == 20 and found[SITE] == 1)
    assert found["uvicorn_processes"] == 4
    assert found[DURATIONS] == 20
    assert found["uvicorn_lane_threads{lane=*}"] == 64


def test_metrics_count_the_requests_of_a_killed_worker(server: ServerProcess) -> None:
    [victim, *_] = ask(server, 20)
    scraped_until(server, lambda found: found[ASYNC] == 20)
    os.kill(victim, signal.SIGKILL)
    server.wait_for_line(" is ready", count=5)
    assert scraped_until(server, lambda found: found["uvicorn_processes"] == 4)[ASYNC] == 20
    assert victim not in ask(server, 10)
    found = scraped_until(server, lambda found: found[ASYNC] == 30)
    assert (found[DURATIONS], found["uvicorn_processes_ended_total"]) == (30, 1)


def test_metrics_count_every_request_after_SIGHUP_replaces_all_workers(server: ServerProcess) -> None:
    ask(server, 20)
    # At once: the workers have not reported these requests yet.
    server.send_signal(signal.SIGHUP)
    server.wait_for_line(" is ready", count=8)
    ask(server, 10)
    found = scraped_until(server, lambda found: found[ASYNC] == 30 and found["uvicorn_processes"] == 4)
    assert found[DURATIONS] == 30


def test_metrics_include_requests_that_were_served_before_a_reload(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with running_server(tmp_path, "app:app", "--reload", "--metrics", "127.0.0.1:0") as server:
        ask(server, 5)
        (tmp_path / "app.py").write_text(APP + "\n# saved\n")
        server.wait_for_line(" is ready", count=2)
        ask(server, 5)
        found = scraped_until(server, lambda found: found[ASYNC] == 10 and found["uvicorn_processes"] == 1)
    assert found[DURATIONS] == 10


def test_metrics_are_answered_while_slow_clients_hold_connections(server: ServerProcess) -> None:
    [port] = re.findall(r"Metrics are served on http://127.0.0.1:(\d+)", server.stderr)
    clients = [socket.create_connection(("127.0.0.1", int(port))) for _ in range(50)]
    for client in clients[-10:]:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
    assert scraped(server)["uvicorn_processes"] == 4
    for client in clients:
        client.close()


def test_supervisor_exits_with_code_2_if_the_metrics_address_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run_command(tmp_path, "app:app", "--bind", "127.0.0.1:0", "--workers", "2", "--metrics", address)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == (
        f"uvicorn: cannot listen on {address}: the address is in use by another program; stop it, or choose another "
        "address with --metrics"
    )


def test_server_with_two_workers_and_a_metrics_route_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from uvicorn import Route, Router, metrics\n"
        "app = Router(Route('/metrics', metrics(token='0123456789abcdef')))\n"
    )
    ended = run_command(tmp_path, "app:app", "--bind", "127.0.0.1:0", "--workers", "2")
    assert ended.returncode == 2
    assert (
        "an application made by metrics(): expected one process, because each process counts only its own requests"
        in ended.stderr
    )


REPORTING: Final = """
from uvicorn import Route, Router, report
from uvicorn.workers import UvicornWorker

class Worker(UvicornWorker):
    CONFIG_KWARGS = {"metrics": "127.0.0.1:0"}

def site(environ, start_response):
    start_response("200 OK", [])
    return [b""]

app = Router(Route("/_status", report(token="0123456789abcdef")), default=site)
"""


@pytest.mark.parametrize("options", [(), ("--access-logfile", "-")], ids=["without access log", "with access log"])
def test_status_report_counts_the_requests_of_a_gunicorn_worker(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "app.py").write_text(REPORTING)
    with running_gunicorn(tmp_path, "app:app", *options) as server:
        for _ in range(3):
            server.get("/x")
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/_status",
            headers={"authorization": "Bearer 0123456789abcdef", "accept": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=LONGEST_WAIT) as response:
            entries = json.loads(response.read())["entries"]
    assert {entry["entry"]: entry["requests"] for entry in entries} == {"/_status": 0, "*": 3}


def test_gunicorn_worker_with_a_metrics_address_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(REPORTING)
    ended = run_command(tmp_path, "app:app", "-b", "127.0.0.1:0", "-k", "app.Worker", program=("-m", "gunicorn"))
    assert ended.returncode != 0
    assert "metrics: gunicorn's workers cannot share an address; use gunicorn's --statsd-host" in ended.stderr
