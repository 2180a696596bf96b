"""Real gunicorn with our worker: applications, addresses, settings, and errors at the start."""

from __future__ import annotations

import json
import os
import signal
import ssl
import threading
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.e2e.client import Client, content_of, status_of
from tests.e2e.gunicorn_process import covers, knows, running_gunicorn
from tests.e2e.server_process import LONGEST_WAIT, run_command

HOSTED = Path(__file__).parent / "hosted"
SEEDS = Path(__file__).parent / "seeds"


@pytest.fixture
def tls(certificates: Certificates) -> list[str]:
    """Return options for TLS."""
    return ["--certfile", str(certificates.chain), "--keyfile", str(certificates.key)]


def described(response: bytes) -> dict[str, Any]:
    """Return what the application reports about its process."""
    assert status_of(response) == 200, response
    description: dict[str, Any] = json.loads(content_of(response))
    return description


def refused_start(*arguments: str) -> tuple[int, str]:
    """Return the exit code and the stderr of a gunicorn that does not start."""
    quiet = ("--no-control-socket",) if knows("control_socket_disable") else ()
    ended = run_command(HOSTED, *arguments, "-b", "127.0.0.1:0", *quiet, program=("-m", "gunicorn"))
    return ended.returncode, ended.stderr


# The first README


@covers("wsgi_app", "worker_class", "workers", "bind")
@pytest.mark.parametrize("name", ["hello_world", "hello_world_after_a_second"])
@pytest.mark.parametrize("shape", ["plain", "two workers", "unix"])
def test_gunicorn_serves_the_consumer_examples_of_the_original_readme(name: str, shape: str, tmp_path: Path) -> None:
    arguments = ["-b", f"unix:{tmp_path}/socket"] if shape == "unix" else []
    with running_gunicorn(SEEDS, f"consumers:{name}", *arguments, workers=2 if shape == "two workers" else 1) as server:
        with Client(server, path=f"{tmp_path}/socket" if shape == "unix" else "") as client:
            assert content_of(client.get()) == b"<html><h1>Hello, world</h1></html>"


@covers("certfile", "keyfile")
@pytest.mark.parametrize("name", ["hello_world", "hello_world_after_a_second"])
def test_consumers_of_the_original_readme_run_under_gunicorn_with_tls(
    name: str, certificates: Certificates, tls: list[str]
) -> None:
    with running_gunicorn(SEEDS, f"consumers:{name}", *tls) as server:
        with Client(server, certificates.client()) as client:
            assert content_of(client.get()) == b"<html><h1>Hello, world</h1></html>"


@pytest.mark.parametrize(
    "worker_class",
    [
        "uvicorn.worker.UvicornWorker",
        "uvicorn.workers.ASGIWorker",
        "uvicorn.worker.ASGIWorker",
        "uvicorn.workers.UvicornH11Worker",
    ],
)
def test_each_alias_of_the_gunicorn_worker_class_serves_a_request(worker_class: str) -> None:
    with running_gunicorn(SEEDS, "consumers:hello_world", worker_class=worker_class) as server:
        assert server.get()[0] == 200


@pytest.mark.skipif(
    not entry_points(group="gunicorn.workers", name="uvicorn"), reason="this environment was made before it was one"
)
def test_gunicorn_finds_the_worker_by_its_entry_point() -> None:
    with running_gunicorn(SEEDS, "consumers:hello_world", worker_class="egg:uvicorn#uvicorn") as server:
        assert server.get()[0] == 200


@pytest.mark.parametrize("name", ["wsgi", "asgi3"])
def test_every_interface_is_served_under_gunicorn(name: str) -> None:
    with running_gunicorn(HOSTED, f"app:{name}") as server:
        assert server.get() == (200, name)


def test_GUNICORN_CMD_ARGS_is_applied() -> None:
    env = {"GUNICORN_CMD_ARGS": "-k uvicorn.workers.UvicornWorker -e SAID=so"}
    with running_gunicorn(HOSTED, "app:app", worker_class="", env=env) as server, Client(server) as client:
        assert described(client.get())["variable"] == "so"


def test_CONFIG_KWARGS_of_a_gunicorn_worker_subclass_are_applied() -> None:
    with running_gunicorn(HOSTED, "app:app", worker_class="workers.Mounted") as server, Client(server) as client:
        response = client.get()
    assert (described(response)["root_path"], described(response)["path"]) == ("/mounted", "/mounted/")
    assert described(response)["loop"].startswith("asyncio")
    assert b"\r\nserver:" not in response


def test_gunicorn_serves_an_application_factory() -> None:
    with running_gunicorn(HOSTED, "app:make", worker_class="workers.Making") as server:
        assert server.get() == (200, "wsgi")


# What cannot be served


def test_gunicorn_exits_with_4_if_the_application_interface_is_unknown() -> None:
    code, said = refused_start("-k", "uvicorn.workers.UvicornWorker", "app:neither")
    assert code == 4
    assert "cannot detect the interface of 'app:neither': it takes (settings, database, cache)" in said
    assert "Traceback" not in said


def test_gunicorn_exits_with_4_if_CONFIG_KWARGS_are_invalid() -> None:
    code, said = refused_start("-k", "workers.Mistaken", "app:app")
    assert code == 4
    assert "unknown setting 'root_pth'; did you mean 'root_path'?" in said


def test_failed_application_startup_stops_gunicorn() -> None:
    code, said = refused_start("-k", "uvicorn.workers.UvicornWorker", "app:failing")
    assert code == 3
    assert "RuntimeError: the database is down" in said


def test_gunicorn_exits_with_3_if_the_certificate_is_unusable(certificates: Certificates) -> None:
    without_a_key = ("--certfile", str(certificates.authority))
    code, said = refused_start("-k", "uvicorn.workers.UvicornWorker", "app:app", *without_a_key)
    assert code == 3
    assert "the certificate is unusable: " in said


# TLS


@covers("ca_certs", "cert_reqs")
def test_gunicorn_rejects_a_client_without_the_required_certificate(certificates: Certificates, tls: list[str]) -> None:
    asking = ("--ca-certs", str(certificates.authority), "--cert-reqs", "2")
    with running_gunicorn(HOSTED, "app:app", *tls, *asking) as server:
        with Client(server, certificates.client(with_certificate=True)) as client:
            assert status_of(client.get()) == 200
        with Client(server, certificates.client()) as client:
            try:
                client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                answer = client.socket.recv(1)
            except OSError:
                answer = b""
        assert answer == b""


@covers("ciphers")
def test_ciphers_setting_of_gunicorn_is_applied(certificates: Certificates, tls: list[str]) -> None:
    chosen = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
    trusting = certificates.client()
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    with running_gunicorn(HOSTED, "app:app", *tls, "--ciphers", chosen) as server, Client(server, trusting) as client:
        assert client.socket.cipher()[0].endswith("CHACHA20-POLY1305")  # type: ignore[attr-defined]


@covers("ssl_context")
def test_ssl_context_hook_of_gunicorn_can_set_tls_version_and_cannot_set_alpn(
    certificates: Certificates, tmp_path: Path
) -> None:
    conf = tmp_path / "conf.py"
    conf.write_text(
        f"certfile = '{certificates.both}'\n"
        "def ssl_context(config, default):\n"
        "    context = default()\n"
        "    context.maximum_version = __import__('ssl').TLSVersion.TLSv1_2\n"
        "    context.set_alpn_protocols(['h2', 'http/1.1'])\n"
        "    return context\n"
    )
    offering = certificates.client()
    offering.set_alpn_protocols(["h2", "http/1.1"])
    with running_gunicorn(HOSTED, "app:app", "-c", str(conf)) as server, Client(server, offering) as client:
        assert client.socket.version() == "TLSv1.2"  # type: ignore[attr-defined]
        assert client.socket.selected_alpn_protocol() == "http/1.1"  # type: ignore[attr-defined]
        assert described(client.get())["scheme"] == "https"


# Settings that the worker takes from gunicorn


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return tmp_path / "gunicorn.conf.py"


@covers("backlog", "keepalive", "limit_request_line", "limit_request_fields", "worker_connections", "config")
def test_gunicorn_settings_for_backlog_keepalive_and_limits_are_applied(conf: Path) -> None:
    conf.write_text(
        "backlog = 7\nkeepalive = 0\nlimit_request_line = 200\nlimit_request_fields = 5\nworker_connections = 2\n"
    )
    with running_gunicorn(HOSTED, "app:app", "-c", str(conf)) as server:
        with Client(server) as client:
            assert described(client.get())["backlogs"] == [7]
        with Client(server) as client:
            assert status_of(client.get("/" + 300 * "x")) == 414
        with Client(server) as client:
            assert status_of(client.get("/", *(f"x-{number}: 1" for number in range(6)))) == 431
        with Client(server) as client:
            client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            # Closed without having been asked to, once it has been idle.
            assert status_of(client.receive()) == 200
        with Client(server) as first, Client(server) as second:
            for client in (first, second):
                client.send(b"POST /hold HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n")
                client.receive_until(b" \r\n")
            with Client(server) as third:
                response = third.get()
                assert status_of(response) == 503
                assert b"\r\nretry-after: 1\r\n" in response


@covers("threads")
def test_threads_setting_of_gunicorn_is_applied_to_consumers() -> None:
    contents: list[bytes] = []

    def ask() -> None:
        with Client(server) as client:
            contents.append(content_of(client.get()))

    with running_gunicorn(HOSTED, "app:consumer", "--threads", "2") as server:
        asking = [threading.Thread(target=ask) for _ in range(2)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    assert contents == [b"consumer"] * 2


@covers("asgi_loop", "root_path")
@pytest.mark.skipif(not knows("asgi_loop"), reason="this gunicorn has no such settings")
def test_gunicorn_asgi_loop_and_root_path_settings_are_applied() -> None:
    arguments = ("--asgi-loop", "asyncio", "--root-path", "/mounted")
    with running_gunicorn(HOSTED, "app:app", *arguments) as server, Client(server) as client:
        description = described(client.get("/x"))
        assert description["loop"].startswith("asyncio")
        assert (description["root_path"], description["path"]) == ("/mounted", "/mounted/x")


@covers("asgi_lifespan")
@pytest.mark.skipif(not knows("asgi_lifespan"), reason="this gunicorn has no such setting")
@pytest.mark.parametrize(("mode", "began"), [("on", 1), ("off", 0)])
def test_gunicorn_asgi_lifespan_setting_is_applied(mode: str, began: int) -> None:
    with running_gunicorn(HOSTED, "app:lifespan", "--asgi-lifespan", mode) as server:
        assert server.get() == (200, "asgi3")
        server.stop()
        assert server.stdout.count("lifespan began") == began


def test_gunicorn_mounts_the_application_at_SCRIPT_NAME_from_the_environment() -> None:
    arguments = ("-e", "SCRIPT_NAME=/mounted")
    with running_gunicorn(HOSTED, "app:app", *arguments) as server, Client(server) as client:
        description = described(client.get("/mounted/x"))
        assert (description["root_path"], description["path"]) == ("/mounted", "/mounted/x")


@covers("forwarded_allow_ips")
@pytest.mark.parametrize(
    ("trusted", "scheme", "client"), [("127.0.0.1", "https", "192.0.2.1"), ("192.0.2.9", "http", "127.0.0.1")]
)
def test_gunicorn_applies_forwarded_headers_of_a_trusted_proxy(trusted: str, scheme: str, client: str) -> None:
    fields = ("x-forwarded-proto: https", "x-forwarded-for: 192.0.2.1")
    with running_gunicorn(HOSTED, "app:app", "--forwarded-allow-ips", trusted) as server, Client(server) as asking:
        description = described(asking.get("/", *fields))
        assert (description["scheme"], description["client"][0]) == (scheme, client)


def test_gunicorn_applies_forwarded_headers_of_a_proxy_on_a_unix_socket(tmp_path: Path) -> None:
    path = f"{tmp_path}/socket"
    with running_gunicorn(HOSTED, "app:app", "-b", f"unix:{path}") as server, Client(server, path=path) as client:
        assert described(client.get("/", "x-forwarded-proto: https"))["scheme"] == "https"


@covers("asgi_disconnect_grace_period")
@pytest.mark.skipif(not knows("asgi_disconnect_grace_period"), reason="this gunicorn has no such setting")
def test_handler_ends_after_the_gunicorn_disconnect_grace_period() -> None:
    with running_gunicorn(HOSTED, "app:app", "--asgi-disconnect-grace-period", "0") as server:
        with Client(server) as client:
            client.send(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
            client.receive_until(b"waiting\r\n")
            client.reset()
        server.wait_for_line("the handler was ended", "stdout")


def test_changing_an_ignored_gunicorn_setting_logs_a_warning() -> None:
    with running_gunicorn(HOSTED, "app:app", "--limit-request-field_size", "100") as server:
        server.wait_for_line("gunicorn's setting limit_request_field_size is ignored: the header section is limited")


def test_unchanged_gunicorn_settings_log_no_warning() -> None:
    with running_gunicorn(HOSTED, "app:app") as server:
        assert "is ignored" not in server.stderr


# What gunicorn does by itself, with our worker as with any


@covers("raw_env", "chdir", "pidfile", "worker_tmp_dir", "pythonpath", "user", "group")
def test_gunicorn_options_env_chdir_pid_user_and_group_are_applied(tmp_path: Path) -> None:
    arguments = ["-e", "SAID=so", "--chdir", str(tmp_path), "-p", f"{tmp_path}/pid"]
    arguments += ["--worker-tmp-dir", str(tmp_path), "--pythonpath", str(HOSTED)]
    # The same user: another one may not be able to read the interpreter.
    group = 65534 if os.getuid() == 0 else os.getgid()
    arguments += ["-u", str(os.getuid()), "-g", str(group)]
    with running_gunicorn(SEEDS, "app:app", *arguments) as server, Client(server) as client:
        description = described(client.get())
        assert (tmp_path / "pid").read_text().strip() == str(server.process.pid)
    assert description["variable"] == "so"
    assert description["folder"] == str(tmp_path)
    assert (description["user"], description["group"]) == (os.getuid(), group)


@covers("umask")
def test_gunicorn_umask_sets_the_unix_socket_permissions(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with running_gunicorn(HOSTED, "app:app", "-b", f"unix:{path}", "-m", "0o27") as server:
        assert path.stat().st_mode & 0o777 == 0o750
        with Client(server, path=str(path)) as client:
            assert status_of(client.get()) == 200


@covers("preload_app")
def test_gunicorn_serves_a_preloaded_application() -> None:
    with running_gunicorn(HOSTED, "app:app", "--preload", workers=2) as server:
        assert server.get()[0] == 200


@covers("reuse_port")
def test_gunicorn_worker_serves_with_the_reuse_port_setting() -> None:
    with running_gunicorn(HOSTED, "app:app", "--reuse-port") as server:
        assert server.get()[0] == 200


@covers("check_config")
def test_gunicorn_check_config_option_accepts_a_valid_application() -> None:
    assert refused_start("-k", "uvicorn.workers.UvicornWorker", "app:app", "--check-config")[0] == 0


@covers("print_config")
def test_gunicorn_print_config_prints_the_settings() -> None:
    ended = run_command(
        HOSTED, "-k", "uvicorn.workers.UvicornWorker", "app:app", "--print-config", program=("-m", "gunicorn")
    )
    assert "uvicorn.workers" in ended.stdout


@covers("daemon")
def test_gunicorn_daemon_setting_is_applied(tmp_path: Path) -> None:
    pid, errors = tmp_path / "pid", tmp_path / "errors"
    errors.touch()
    refused_start("-k", "uvicorn.workers.UvicornWorker", "app:app", "-D", "-p", str(pid), "--log-file", str(errors))
    deadline = time.monotonic() + LONGEST_WAIT
    while "Uvicorn running on" not in errors.read_text() and time.monotonic() < deadline:
        os.sched_yield()
    os.kill(int(pid.read_text()), signal.SIGTERM)
    assert "Uvicorn running on" in errors.read_text()


@covers("workers", "threads")
@pytest.mark.parametrize("workers", [1, 2])
def test_wsgi_multiprocess_is_true_with_several_gunicorn_workers(tmp_path: Path, workers: int) -> None:
    (tmp_path / "app.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [repr((environ['wsgi.multiprocess'], environ['wsgi.multithread'])).encode()]\n"
    )
    with running_gunicorn(tmp_path, "app:app", "--threads", "2", workers=workers) as server, Client(server) as client:
        assert content_of(client.get()) == repr((workers > 1, True)).encode()


def test_wsgi_file_response_is_truncated_to_its_content_length(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '70000')])\n"
        f"    return environ['wsgi.file_wrapper'](open({str(tmp_path / 'content')!r}, 'rb'))\n"
    )
    (tmp_path / "content").write_bytes(b"x" * 100000)
    with running_gunicorn(tmp_path, "app:app", "--access-logfile", "-") as server, Client(server) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        received = client.get()
        assert (received.count(b"HTTP/1.1 200 OK"), received.count(b"x" * 70000)) == (2, 2)
