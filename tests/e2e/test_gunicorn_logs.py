"""gunicorn's own logs and metrics with our worker: contents, destinations and formats."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.e2e.client import Client, content_of
from tests.e2e.gunicorn_process import covers, knows, running_gunicorn
from tests.waits import LONGEST_WAIT

HOSTED = Path(__file__).parent / "hosted"


@pytest.fixture
def collector() -> Iterator[socket.socket]:
    """Open a socket that receives datagrams, as statsd and syslog do."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(LONGEST_WAIT)
        yield sock


def heard(collector: socket.socket, *wanted: bytes) -> list[bytes]:
    """Receive datagrams until each of `wanted` has been in one; return them."""
    datagrams: list[bytes] = []
    while not all(any(part in datagram for datagram in datagrams) for part in wanted):
        datagrams.append(collector.recv(65536))
    return datagrams


def text_of(file: Path, wanted: str) -> str:
    """Wait until `file` contains `wanted`; return its text."""
    deadline = time.monotonic() + LONGEST_WAIT
    while not (file.exists() and wanted in file.read_text()):
        assert time.monotonic() < deadline, f"{wanted!r} did not appear in {file.name}"
        os.sched_yield()
    return file.read_text()


@covers("accesslog", "access_log_format")
def test_access_log_format_of_gunicorn_is_applied() -> None:
    atoms = "%(h)s|%(l)s|%(u)s|%(m)s|%(U)s|%(q)s|%(H)s|%(r)s|%(s)s|%(B)s|%(f)s|%(a)s|%(T)s|%(p)s"
    more = "|%({x-mine}i)s|%({transfer-encoding}o)s|%({content-type}o)s|%({wsgi.url_scheme}e)s|%(D)s|%(L)s|%(M)s"
    with (
        running_gunicorn(HOSTED, "app:wsgi", "--access-logfile", "-", "--access-logformat", atoms + more) as server,
        Client(server) as client,
    ):
        fields = ("x-mine: yes", "referer: /before", "user-agent: test", "authorization: Basic dXNlcjpzZWNyZXQ=")
        client.get("/a%20b?c=d", *fields)
        server.wait_for_line("|", "stdout")
        *known, micro, seconds, milli = server.stdout.strip().split("|")
        (pid,) = server.workers
    assert known == [
        "127.0.0.1", "-", "user", "GET", "/a b", "c=d", "HTTP/1.1", "GET /a%20b?c=d HTTP/1.1", "200", "4", "/before",
        "test", "0", f"<{pid}>", "yes", "-", "text/plain", "http",
    ]  # fmt: skip
    assert int(milli) <= int(micro) // 1000
    assert re.fullmatch(r"\d+\.\d{6}", seconds)


def test_path_cannot_forge_a_line_of_the_gunicorn_access_log() -> None:
    with (
        running_gunicorn(HOSTED, "app:wsgi", "--access-logfile", "-", "--access-logformat", "%(U)s|") as server,
        Client(server) as client,
    ):
        client.get("/a%0Aforged%1B[31m")
        server.wait_for_line("|", "stdout")
        assert server.stdout == r"/a\x0aforged\x1b[31m|" + "\n"


def test_gunicorn_access_log_counts_the_bytes_of_a_streamed_response() -> None:
    with (
        running_gunicorn(HOSTED, "app:app", "--access-logfile", "-", "--access-logformat", "%(s)s %(B)s") as server,
        Client(server) as client,
    ):
        client.send(b"POST /hold HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\n")
        client.receive_until(b" \r\n")
        client.send(b"x")
        client.receive()
        server.wait_for_line("200 ", "stdout")
        assert server.stdout.split() == ["200", str(len(f"{server.workers[0]} done"))]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_gunicorn_access_log_counts_the_bytes_of_a_file_response(scheme: str, tmp_path: Path) -> None:
    content, certificates = (HOSTED / "app.py").read_bytes(), Certificates(tmp_path)
    arguments = ["--access-logfile", "-", "--access-logformat", "%(s)s %(B)s"]
    if scheme == "https":
        arguments += ["--certfile", str(certificates.chain), "--keyfile", str(certificates.key)]
    with (
        running_gunicorn(HOSTED, "app:asgi3", *arguments, worker_class="workers.WithPathsend") as server,
        Client(server, certificates.client() if scheme == "https" else None) as client,
    ):
        assert content_of(client.get("/file")) == content
        server.wait_for_line("200 ", "stdout")
        assert server.stdout.split() == ["200", str(len(content))]


def test_gunicorn_with_an_access_log_sends_response_trailers() -> None:
    with running_gunicorn(HOSTED, "app:asgi3", "--access-logfile", "-") as server, Client(server) as client:
        assert client.get("/trailers", "te: trailers").endswith(b"\r\n0\r\nx-sum: 5\r\n\r\n")


def test_a_rejected_request_is_in_the_gunicorn_access_log() -> None:
    arguments = ("--access-logfile", "-", "--access-logformat", "%(s)s.", "--worker-connections", "1")
    with running_gunicorn(HOSTED, "app:app", *arguments) as server, Client(server) as first:
        first.send(b"POST /hold HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n")
        first.receive_until(b" \r\n")
        with Client(server) as second:
            second.get()
        server.wait_for_line("503.", "stdout")


def test_gunicorn_without_access_log_logs_no_requests() -> None:
    with running_gunicorn(HOSTED, "app:app") as server:
        assert server.get()[0] == 200
        server.stop()
        assert server.stdout == ""


# These servers log elsewhere than on stderr, so their address is chosen in advance.


def ask_nonsense(path: Path) -> None:
    """Send a malformed request, which is rejected with a warning."""
    with Client(None, path=str(path)) as client:
        client.send(b"GET / HTTP/9.9\r\n\r\n")
        client.receive()


@covers("errorlog", "loglevel")
def test_gunicorn_error_log_omits_worker_messages_below_the_log_level(tmp_path: Path) -> None:
    errors, address = tmp_path / "errors", tmp_path / "socket"
    arguments = ("-b", f"unix:{address}", "--log-file", str(errors), "--log-level", "warning")
    with running_gunicorn(HOSTED, "app:app", *arguments, said=False):
        ask_nonsense(address)
        text = text_of(errors, "refused: ")
    assert "[WARNING]" in text
    assert "Uvicorn running on" not in text


@covers("capture_output")
def test_capture_output_writes_application_output_to_the_gunicorn_error_log(tmp_path: Path) -> None:
    errors, address = tmp_path / "errors", tmp_path / "socket"
    arguments = ("-b", f"unix:{address}", "--log-file", str(errors), "--capture-output")
    with running_gunicorn(HOSTED, "app:lifespan", *arguments, said=False):
        text_of(errors, "lifespan began")


def test_SIGUSR1_reopens_the_logs_of_gunicorn(tmp_path: Path) -> None:
    errors, access, address = tmp_path / "errors", tmp_path / "access", tmp_path / "socket"
    arguments = ("-b", f"unix:{address}", "--log-file", str(errors), "--access-logfile", str(access))
    with running_gunicorn(HOSTED, "app:app", *arguments, said=False) as server:
        with Client(None, path=str(address)) as client:
            client.get("/before")
        text_of(access, "/before")
        errors.rename(tmp_path / "errors.1")
        access.rename(tmp_path / "access.1")
        server.send_signal(signal.SIGUSR1)
        text_of(access, "")
        deadline = time.monotonic() + LONGEST_WAIT
        # The arbiter reopens them first, and each worker when it hears of it.
        while "/after" not in access.read_text() and time.monotonic() < deadline:
            with Client(None, path=str(address)) as client:
                client.get("/after")
        assert "/after" in access.read_text()
        ask_nonsense(address)
        text_of(errors, "refused: ")


# Everywhere else that gunicorn can write to


@covers("statsd_host", "statsd_prefix", "dogstatsd_tags", "enable_backlog_metric")
def test_statsd_receives_each_request(collector: socket.socket) -> None:
    arguments = ["--statsd-host", f"127.0.0.1:{collector.getsockname()[1]}", "--statsd-prefix", "mine"]
    arguments += ["--dogstatsd-tags", "a:b"]
    if knows("enable_backlog_metric"):
        arguments.append("--enable-backlog-metric")
    with running_gunicorn(HOSTED, "app:app", *arguments) as server:
        assert server.get()[0] == 200
        wanted = [b"mine.gunicorn.requests:1|c", b"mine.gunicorn.request.status.200:1|c", b"|ms|#a:b"]
        heard(collector, *wanted, *([b"mine.gunicorn.backlog:"] if knows("enable_backlog_metric") else []))


@covers("syslog", "syslog_addr", "syslog_prefix", "syslog_facility")
def test_syslog_receives_errors_and_requests(collector: socket.socket) -> None:
    address = f"udp://127.0.0.1:{collector.getsockname()[1]}"
    arguments = ("--log-syslog", "--log-syslog-to", address, "--log-syslog-prefix", "mine")
    with running_gunicorn(HOSTED, "app:app", *arguments, "--log-syslog-facility", "local3") as server:
        assert server.get("/path")[0] == 200
        datagrams = heard(collector, b"gunicorn.mine.error: ", b"gunicorn.mine.access: ", b"/path")
        assert any(b"Uvicorn running on" in datagram for datagram in datagrams)
        # Facility 19, severity 6 (RFC 5424, section 6.2.1).
        assert all(datagram.startswith(b"<158>") for datagram in datagrams if b".access: " in datagram)


@covers("disable_redirect_access_to_syslog")
def test_disable_redirect_access_to_syslog_keeps_requests_out_of_syslog(collector: socket.socket) -> None:
    address = f"udp://127.0.0.1:{collector.getsockname()[1]}"
    arguments = ("--log-syslog", "--log-syslog-to", address, "--disable-redirect-access-to-syslog")
    with running_gunicorn(HOSTED, "app:app", *arguments) as server:
        assert server.get("/path")[0] == 200
        server.stop()
        assert not any(b"/path" in datagram for datagram in heard(collector, b"Shutting down"))


LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"mine": {"format": "MINE %(message)s"}},
    "handlers": {"mine": {"class": "logging.StreamHandler", "formatter": "mine", "stream": "ext://sys.stderr"}},
    "root": {"handlers": [], "level": "INFO"},
    "loggers": {
        name: {"handlers": ["mine"], "level": "INFO", "propagate": False}
        for name in ("gunicorn.error", "gunicorn.access")
    },
}


def as_dict(folder: Path) -> list[str]:
    conf = folder / "conf.py"
    conf.write_text(f"logconfig_dict = {LOGGING!r}\n")
    return ["-c", str(conf)]


def as_json(folder: Path) -> list[str]:
    file = folder / "logging.json"
    file.write_text(json.dumps(LOGGING))
    return ["--log-config-json", str(file)]


def as_ini(folder: Path) -> list[str]:
    file = folder / "logging.ini"
    file.write_text(
        "[loggers]\nkeys = root, error, access\n[handlers]\nkeys = mine\n[formatters]\nkeys = mine\n"
        "[logger_root]\nlevel = INFO\nhandlers =\n"
        "[logger_error]\nlevel = INFO\nhandlers = mine\nqualname = gunicorn.error\npropagate = 0\n"
        "[logger_access]\nlevel = INFO\nhandlers = mine\nqualname = gunicorn.access\npropagate = 0\n"
        "[handler_mine]\nclass = StreamHandler\nformatter = mine\nargs = (sys.stderr,)\n"
        "[formatter_mine]\nformat = MINE %(message)s\n"
    )
    return ["--log-config", str(file)]


@covers("logconfig", "logconfig_dict", "logconfig_json")
@pytest.mark.parametrize("form", [as_dict, as_json, as_ini])
def test_logging_configuration_of_gunicorn_is_applied(form: Callable[[Path], list[str]], tmp_path: Path) -> None:
    with running_gunicorn(HOSTED, "app:app", *form(tmp_path)) as server:
        assert server.get("/path")[0] == 200
        server.wait_for_line('"GET /path HTTP/1.1" 200')
        ours, theirs = re.compile("^MINE Uvicorn running on", re.M), re.compile("^MINE .*GET /path", re.M)
        assert ours.search(server.stderr)
        assert theirs.search(server.stderr)


@covers("logger_class")
def test_custom_gunicorn_logger_class_receives_each_request(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from gunicorn.glogging import Logger\n"
        "class Mine(Logger):\n"
        "    def access(self, resp, req, environ, request_time):\n"
        "        self.info('mine: %s %s', resp.status, environ['PATH_INFO'])\n"
    )
    arguments = ("--pythonpath", str(tmp_path), "--logger-class", "mine.Mine", "--access-logfile", "-")
    with running_gunicorn(HOSTED, "app:app", *arguments) as server:
        assert server.get("/path")[0] == 200
        server.wait_for_line("mine: 200 OK /path")
