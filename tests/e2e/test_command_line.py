"""The command `uvicorn module:attribute` in a process of its own, and the same from Python."""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import uvicorn
from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, run_command, running_server

HELLO = """
async def hello(message, channels):
    await channels["reply"].send({"status": 200, "content": b"hello"})
"""

# Answers when it has the whole of the content; says on stderr that it waits for it.
PATIENT = """
import sys


async def app(message, channels):
    print("waiting", file=sys.stderr, flush=True)
    content = b""
    more_content = True
    while more_content:
        piece = await channels["body"].receive()
        content += piece["content"]
        more_content = piece["more_content"]
    await channels["reply"].send({"status": 200, "content": content})
"""

HALF_A_REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345"


def has_ipv6() -> bool:
    """Return whether this machine has ::1."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with the application `app:hello`; its name is short enough for a Unix socket in it."""
    with tempfile.TemporaryDirectory(prefix="u") as name:
        path = Path(name).resolve()
        (path / "app.py").write_text(HELLO)
        yield path


@pytest.fixture
def patient(folder: Path) -> Path:
    """Return a folder whose `app` waits for the content of requests."""
    (folder / "app.py").write_text(PATIENT)
    return folder


def mistake(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Return the one line of the error for a mistake of the user."""
    ended = run_command(folder, *arguments, env=env)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("uvicorn: ")
    return ended.stderr.removeprefix("uvicorn: ").rstrip("\n")


def half_a_request(server: ServerProcess) -> socket.socket:
    """Open a connection on which the application waits for the second half of the content."""
    client = socket.create_connection(("127.0.0.1", server.port), timeout=LONGEST_WAIT)
    client.sendall(HALF_A_REQUEST)
    server.wait_for_line("waiting")
    return client


def read_all(client: socket.socket) -> bytes:
    """Read until the connection is closed."""
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def get_unix(path: Path) -> bytes:
    """Return the response of the server on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LONGEST_WAIT)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return read_all(client)


# Serving


def test_an_application_is_served(folder: Path) -> None:
    with running_server(folder, "app:hello") as server:
        assert server.get() == (200, "hello")


def test_installed_command_serves_an_application(folder: Path) -> None:
    script = Path(sys.executable).with_name("uvicorn")
    if not script.exists():
        pytest.skip("the package is not installed beside this interpreter")
    with running_server(folder, "app:hello", "--port", "0", program=(str(script),)) as server:
        assert server.get() == (200, "hello")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_application_is_served_on_each_event_loop(folder: Path, loop: str) -> None:
    with running_server(folder, "app:hello", "--loop", loop) as server:
        assert server.get() == (200, "hello")


@pytest.mark.parametrize("name", ["application", "app"])
def test_module_name_alone_serves_the_attribute_called_application_or_app(folder: Path, name: str) -> None:
    (folder / "shop.py").write_text(HELLO + f"\n{name} = hello\n")
    with running_server(folder, "shop") as server:
        assert server.get() == (200, "hello")


def test_app_dir_option_finds_an_application_in_another_folder(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "shop.py").write_text(HELLO)
    with running_server(folder, "shop:hello", "--app-dir", "deep") as server:
        assert server.get() == (200, "hello")


def test_root_path_option_reaches_the_application(folder: Path) -> None:
    (folder / "app.py").write_text(
        "async def app(message, channels):\n"
        "    content = f\"{message['root_path']} {message['path']}\".encode()\n"
        "    await channels['reply'].send({'status': 200, 'content': content})\n"
    )
    with running_server(folder, "app", "--root-path", "/shop") as server:
        assert server.get("/tea") == (200, "/shop /shop/tea")


# Where to listen


def test_uds_option_serves_a_unix_socket(folder: Path) -> None:
    with running_server(folder, "app:hello", "--uds", "web.sock") as server:
        assert server.addresses == ["unix:web.sock"]
        assert get_unix(folder / "web.sock").endswith(b"hello")


def test_bind_option_serves_a_unix_socket(folder: Path) -> None:
    with running_server(folder, "app:hello", "--bind", "unix:web.sock"):
        assert get_unix(folder / "web.sock").endswith(b"hello")


def test_a_unix_socket_is_removed_when_the_server_stops(folder: Path) -> None:
    with running_server(folder, "app:hello", "--uds", "web.sock") as server:
        server.stop()
    assert not (folder / "web.sock").exists()


def test_unix_socket_of_a_killed_server_is_replaced(folder: Path) -> None:
    with running_server(folder, "app:hello", "--uds", "web.sock") as server:
        server.stop(signal.SIGKILL)
    with running_server(folder, "app:hello", "--uds", "web.sock"):
        assert get_unix(folder / "web.sock").endswith(b"hello")


@pytest.mark.parametrize("option", ["--fd", "--bind"])
def test_fd_option_serves_an_inherited_socket(folder: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        number = inherited.fileno()
        value = str(number) if option == "--fd" else f"fd://{number}"
        with running_server(folder, "app:hello", option, value, pass_fds=[number]) as server:
            assert server.get(port=inherited.getsockname()[1]) == (200, "hello")


def test_server_listens_on_each_address_of_several_bind_options(folder: Path) -> None:
    with running_server(
        folder, "app:hello", "--bind", "127.0.0.1:0", "--bind", "unix:web.sock", "-b", "127.0.0.1:0", addresses=3
    ) as server:
        ports = [int(address.rpartition(":")[2]) for address in server.addresses if "://" in address]
        answers = [server.get(port=port)[1] for port in ports]
        assert [*answers, get_unix(folder / "web.sock")[-5:].decode()] == ["hello"] * 3


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_bind_option_serves_an_ipv6_address(folder: Path) -> None:
    with running_server(folder, "app:hello", "--bind", "[::1]:0") as server:
        assert server.addresses == [f"http://[::1]:{server.port}"]
        assert server.get(host="::1") == (200, "hello")


def test_host_name_with_several_addresses_is_served_on_one_port(folder: Path) -> None:
    with running_server(folder, "app:hello", "--host", "localhost", "--port", "0") as server:
        assert server.get(host="localhost") == (200, "hello")


# The environment


def test_port_is_read_from_the_environment(folder: Path) -> None:
    with running_server(folder, "app:hello", env={"UVICORN_PORT": "0"}) as server:
        assert server.get() == (200, "hello")


def test_bind_addresses_are_read_from_the_environment(folder: Path) -> None:
    binds = {"UVICORN_BIND": "127.0.0.1:0 unix:web.sock"}
    with running_server(folder, "app:hello", env=binds, addresses=2) as server:
        assert server.get() == (200, "hello")
        assert get_unix(folder / "web.sock").endswith(b"hello")


def test_access_log_is_switched_off_by_the_environment(folder: Path) -> None:
    with running_server(folder, "app:hello", env={"UVICORN_ACCESS_LOG": "false"}) as server:
        server.get()
        server.stop()
        assert server.stdout == ""


# What is logged


def test_startup_log_contains_the_server_address(folder: Path) -> None:
    with running_server(folder, "app:hello") as server:
        assert re.search(
            r" INFO    Uvicorn running on http://127\.0\.0\.1:[0-9]+ \(Press CTRL\+C to quit\)\n$", server.stderr
        )


def test_startup_line_on_a_terminal_is_coloured(folder: Path) -> None:
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "app:hello", "--port", "0"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(uvicorn.__file__).parents[1])},
        stderr=follower,
    ) as process:
        os.close(follower)
        try:
            told = b""
            while b"to quit" not in told:
                told += os.read(leader, 4096)
        finally:
            process.terminate()
            os.close(leader)
    assert b"(Press CTRL+C to quit)" in told
    assert b"\x1b[32mINFO" in told


def test_access_log_has_a_line_for_each_response(folder: Path) -> None:
    with running_server(folder, "app:hello") as server:
        server.get("/tea?cups=2")
        server.stop()
        assert re.search(r' 127\.0\.0\.1:[0-9]+ - "GET /tea\?cups=2 HTTP/1\.1" 200 OK 5 [0-9.]+ms\n$', server.stdout)


def test_option_no_access_log_switches_the_access_log_off(folder: Path) -> None:
    with running_server(folder, "app:hello", "--no-access-log") as server:
        server.get()
        server.stop()
        assert server.stdout == ""


def test_a_server_at_log_level_error_logs_nothing(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        number = inherited.fileno()
        with running_server(
            folder, "app:hello", "--log-level", "error", "--fd", str(number), addresses=0, pass_fds=[number]
        ) as server:
            assert server.get(port=inherited.getsockname()[1]) == (200, "hello")
            server.stop()
            assert (server.stdout, server.stderr) == ("", "")


# The end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_stopped_server_exits_with_0(folder: Path, number: int, loop: str) -> None:
    with running_server(folder, "app:hello", "--loop", loop) as server:
        server.get()
        assert server.stop(number) == 0


def test_stopped_server_logs_the_shutdown_without_a_traceback(folder: Path) -> None:
    with running_server(folder, "app:hello") as server:
        server.stop(signal.SIGINT)
        lines = [line.partition(" INFO    ")[2] for line in server.stderr.splitlines()]
        pid = server.process.pid
        assert lines == [
            f"Started server process [{pid}]",
            "Interface: channels",
            "Waiting for application startup.",
            "Application startup complete.",
            f"Uvicorn running on http://127.0.0.1:{server.port} (Press CTRL+C to quit)",
            "Shutting down",
            "Waiting for application shutdown.",
            "Application shutdown complete.",
            f"Finished server process [{pid}]",
        ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_stopped_server_finishes_requests_in_flight(patient: Path, number: int, loop: str) -> None:
    with running_server(patient, "app", "--loop", loop) as server, half_a_request(server) as client:
        server.send_signal(number)
        server.wait_for_line("Waiting for connections to close")
        client.sendall(b"67890")
        assert read_all(client).endswith(b"\r\n\r\n1234567890")
        assert server.wait() == 0


def is_refused(port: int) -> bool:
    """Wait until a connection to `port` is refused: the event loop may close the socket an iteration later."""
    for _ in range(1000):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=LONGEST_WAIT).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return True
    return False


def test_a_stopping_server_accepts_no_new_connections(patient: Path) -> None:
    with running_server(patient, "app") as server, half_a_request(server) as client:
        server.send_signal(signal.SIGTERM)
        server.wait_for_line("Shutting down")
        refused = is_refused(server.port)
        client.sendall(b"67890")
        # While the request was in flight: the server was still there.
        assert (refused, read_all(client)[-10:]) == (True, b"1234567890")


@pytest.fixture
def hangups_not_ignored() -> Iterator[None]:
    # A process inherits it from tests that run under nohup, and keeps to it.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups_not_ignored")
def test_repeated_terminal_hangup_lets_the_request_in_flight_finish(patient: Path) -> None:
    # A shell that ends passes the signal on, so that it may arrive twice.
    with running_server(patient, "app") as server, half_a_request(server) as client:
        server.send_signal(signal.SIGHUP)
        server.wait_for_line("Shutting down")
        server.send_signal(signal.SIGHUP)
        client.sendall(b"67890")
        assert read_all(client).endswith(b"1234567890")
        assert server.wait() == 0


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_second_signal_resets_requests_in_flight(patient: Path, numbers: tuple[int, int], loop: str) -> None:
    with running_server(patient, "app", "--loop", loop) as server, half_a_request(server):
        server.send_signal(numbers[0])
        server.wait_for_line("Shutting down")
        assert server.stop(numbers[1]) == 1


def test_response_aborted_by_a_second_signal_does_not_look_complete(patient: Path) -> None:
    with running_server(patient, "app") as server, half_a_request(server) as client:
        server.send_signal(signal.SIGTERM)
        server.wait_for_line("Shutting down")
        server.stop()
        with pytest.raises(ConnectionResetError):
            read_all(client)


def test_shutdown_log_has_the_number_of_aborted_requests(patient: Path) -> None:
    with running_server(patient, "app") as server, half_a_request(server):
        server.send_signal(signal.SIGTERM)
        server.wait_for_line("Shutting down")
        server.stop()
        assert "aborted 1 request after a second signal" in server.stderr


def test_requests_that_outlast_the_grace_period_are_reset(patient: Path) -> None:
    with running_server(patient, "app", "--timeout-graceful-shutdown", "0") as server, half_a_request(server):
        assert server.stop() == 1


def test_signal_during_the_startup_of_the_application_ends_the_server(folder: Path) -> None:
    (folder / "app.py").write_text(
        "import asyncio, sys\n\n\nclass Slow:\n"
        "    async def startup(self):\n"
        "        print('starting', file=sys.stderr, flush=True)\n"
        "        await asyncio.Event().wait()\n\n"
        "    async def __call__(self, message, channels): ...\n\n\napp = Slow()\n"
    )
    with running_server(folder, "app", addresses=0) as server:
        server.wait_for_line("starting")
        server.send_signal(signal.SIGINT)
        server.send_signal(signal.SIGTERM)
        assert server.wait() != 0


def test_signal_ends_a_server_that_is_importing_the_application(folder: Path) -> None:
    (folder / "app.py").write_text(
        "import sys, threading\n\nprint('importing', file=sys.stderr, flush=True)\nthreading.Event().wait()\n"
    )
    with running_server(folder, "app", addresses=0) as server:
        server.wait_for_line("importing")
        assert server.stop(signal.SIGINT) != 0


# Hooks


def test_failed_application_startup_gives_exit_code_3(folder: Path) -> None:
    (folder / "app.py").write_text(
        "class Failing:\n"
        "    async def startup(self):\n        raise RuntimeError('no database')\n\n"
        "    async def __call__(self, message, channels): ...\n\n\napp = Failing()\n"
    )
    ended = run_command(folder, "app", "--port", "0")
    *_, cause, line, last = ended.stderr.splitlines()
    assert (ended.returncode, cause, last) == (
        3,
        "RuntimeError: no database",
        "uvicorn: the application's startup failed, see above",
    )
    assert line.endswith("ERROR   Application startup failed. Exiting.")


def test_failed_application_shutdown_is_logged_as_an_error(folder: Path) -> None:
    (folder / "app.py").write_text(
        "class Failing:\n"
        "    async def shutdown(self):\n        raise RuntimeError('no database')\n\n"
        "    async def __call__(self, message, channels): ...\n\n\napp = Failing()\n"
    )
    with running_server(folder, "app") as server:
        server.stop()
        assert re.search(r" ERROR   .*shutdown failed", server.stderr)


def test_startup_and_shutdown_of_the_application_run_once(folder: Path) -> None:
    (folder / "app.py").write_text(
        "import sys\n\n\nclass Telling:\n"
        "    async def startup(self):\n        print('startup', file=sys.stderr)\n\n"
        "    async def shutdown(self):\n        print('shutdown', file=sys.stderr)\n\n"
        "    async def __call__(self, message, channels):\n"
        "        await channels['reply'].send({'status': 200})\n\n\napp = Telling()\n"
    )
    with running_server(folder, "app") as server:
        server.get()
        server.stop()
        words = re.findall("^startup$|running|Shutting down|^shutdown$|Finished", server.stderr, re.MULTILINE)
        assert words == ["startup", "running", "Shutting down", "shutdown", "Finished"]


# Mistakes


def test_error_for_a_misspelled_module_is_one_line_with_the_remedy(folder: Path) -> None:
    assert mistake(folder, "ap:hello") == (f"cannot import 'ap:hello': no module 'ap' in {folder}; did you mean 'app'?")


def test_the_error_for_a_missing_module_lists_the_modules_of_the_folder(folder: Path) -> None:
    assert mistake(folder, "warehouse:hello") == (
        f"cannot import 'warehouse:hello': no module 'warehouse' in {folder}; it has app"
    )


def test_error_for_a_misspelled_attribute_is_one_line_with_the_remedy(folder: Path) -> None:
    assert mistake(folder, "app:helo") == (
        "cannot import 'app:helo': module 'app' has no 'helo'; did you mean 'hello'?"
    )


def test_the_error_for_a_missing_attribute_lists_the_applications_of_the_module(folder: Path) -> None:
    assert mistake(folder, "app:zzz") == "cannot import 'app:zzz': module 'app' has no 'zzz'; it has hello"


def test_the_error_for_a_module_without_an_application_lists_the_defined_names(folder: Path) -> None:
    assert mistake(folder, "app") == (
        "cannot import 'app': module 'app' has no 'application' or 'app'; it has hello; choose one, as in 'app:hello'"
    )


def test_the_error_for_a_file_name_shows_the_module_name_to_use(folder: Path) -> None:
    assert "'app'" in mistake(folder, "app.py").partition(";")[2]


@pytest.mark.parametrize("port", ["http", "65536", "-1", "8000x"])
def test_error_for_an_invalid_port_is_one_line_with_the_remedy(folder: Path, port: str) -> None:
    assert re.search(rf"'--port'.*{re.escape(port)}", mistake(folder, "app:hello", "--port", port))


@pytest.mark.parametrize("bind", ["127.0.0.1:http", "::1:80", "unix:", "fd://x", "http://127.0.0.1:80"])
def test_error_for_an_invalid_bind_address_is_one_line_with_the_remedy(folder: Path, bind: str) -> None:
    assert re.search(rf"{re.escape(repr(bind))}.*; expected ", mistake(folder, "app:hello", "--bind", bind))


def test_error_for_a_port_in_use_is_one_line_with_the_remedy(folder: Path) -> None:
    with running_server(folder, "app:hello") as server:
        assert mistake(folder, "app:hello", "--port", str(server.port)) == (
            f"cannot listen on 127.0.0.1:{server.port}: the address is in use by another program; "
            "stop it, or choose another address with --bind"
        )


def test_second_server_on_the_same_port_does_not_affect_the_first(folder: Path) -> None:
    with running_server(folder, "app:hello") as server:
        mistake(folder, "app:hello", "--port", str(server.port))
        assert server.get() == (200, "hello")


def test_error_for_a_unix_socket_in_use_is_one_line_with_the_remedy(folder: Path) -> None:
    with running_server(folder, "app:hello", "--uds", "web.sock"):
        assert "unix:web.sock: the address is in use" in mistake(folder, "app:hello", "--uds", "web.sock")


def test_error_for_a_closed_descriptor_is_one_line_with_the_remedy(folder: Path) -> None:
    assert "fd://99" in mistake(folder, "app:hello", "--fd", "99")


def test_error_for_an_unknown_option_is_one_line_with_the_remedy(folder: Path) -> None:
    assert "--prt" in mistake(folder, "app:hello", "--prt", "80")


def test_error_for_a_missing_application_argument_is_one_line_with_the_remedy(folder: Path) -> None:
    assert mistake(folder) == "Missing argument 'APP'; see uvicorn --help"


def test_error_for_an_attribute_that_is_not_callable_is_one_line_with_the_remedy(folder: Path) -> None:
    (folder / "app.py").write_text("hello = 3\n")
    assert "'app:hello' is not callable" in mistake(folder, "app:hello")


def test_error_for_an_undetectable_interface_is_one_line_with_the_remedy(folder: Path) -> None:
    (folder / "app.py").write_text("def make_app(*arguments): ...\n")
    assert mistake(folder, "app:make_app") == (
        "cannot detect the interface of 'app:make_app': it takes (*arguments); "
        "pass --interface channels, consumer, wsgi, asgi3 or asgi2"
    )


def test_error_for_a_missing_folder_is_one_line_with_the_remedy(folder: Path) -> None:
    assert "nowhere" in mistake(folder, "app:hello", "--app-dir", "nowhere", "--uds", "missing/web.sock")


def test_error_for_an_uninstalled_event_loop_proposes_asyncio(folder: Path) -> None:
    (folder / "uvloop.py").write_text("raise ImportError('not for this machine')\n")
    assert "--loop asyncio" in mistake(folder, "app:hello", "--loop", "uvloop", "--bind", "127.0.0.1:0")


def test_module_that_raises_gives_a_traceback_and_one_error_line(folder: Path) -> None:
    (folder / "app.py").write_text("import settings\n")
    (folder / "settings.py").write_text("def load():\n    raise RuntimeError('no secret')\n\n\nload()\n")
    ended = run_command(folder, "app:hello")
    # Newer interpreters underline the part of a line that failed.
    lines = [line for line in ended.stderr.splitlines() if line.strip(" ~^")]
    assert (ended.returncode, lines) == (
        2,
        [
            "Traceback (most recent call last):",
            f'  File "{folder}/app.py", line 1, in <module>',
            "    import settings",
            f'  File "{folder}/settings.py", line 5, in <module>',
            "    load()",
            f'  File "{folder}/settings.py", line 2, in load',
            "    raise RuntimeError('no secret')",
            "RuntimeError: no secret",
            "uvicorn: cannot import 'app:hello': module 'app' fails with RuntimeError: no secret",
        ],
    )


def test_error_names_the_module_that_the_application_cannot_import(folder: Path) -> None:
    (folder / "app.py").write_text("import warehouse_that_is_missing\n")
    assert run_command(folder, "app:hello").stderr.splitlines()[-1] == (
        "uvicorn: cannot import 'app:hello': module 'app' needs 'warehouse_that_is_missing', which is not installed"
    )


# What the command says about itself


def test_version_option_prints_the_version(folder: Path) -> None:
    assert run_command(folder, "--version").stdout.startswith(f"Running uvicorn {uvicorn.__version__} with ")


def test_help_option_prints_the_usage(folder: Path) -> None:
    ended = run_command(folder, "--help")
    assert (ended.returncode, ended.stdout.splitlines()[0]) == (0, "Usage: uvicorn [OPTIONS] APP")


def test_help_option_prints_no_warning(folder: Path) -> None:
    assert run_command(folder, "--help").stderr == ""


# From Python


def test_uvicorn_run_serves_an_application(folder: Path) -> None:
    (folder / "start.py").write_text("import uvicorn\nfrom app import hello\n\nuvicorn.run(hello, port=0)\n")
    with running_server(folder, program=("start.py",)) as server:
        assert server.get() == (200, "hello")
        assert server.stop(signal.SIGINT) == 0


def test_uvicorn_run_serves_an_application_given_by_name(folder: Path) -> None:
    (folder / "start.py").write_text("import uvicorn\n\nuvicorn.run('app:hello', host='127.0.0.1', port=0)\n")
    with running_server(folder, program=("start.py",)) as server:
        assert server.get() == (200, "hello")


def test_program_continues_after_a_signal_has_stopped_uvicorn_run(folder: Path) -> None:
    (folder / "start.py").write_text("import uvicorn\n\nuvicorn.run('app:hello', port=0)\nprint('and after that')\n")
    with running_server(folder, program=("start.py",)) as server:
        server.stop()
        assert server.stdout == "and after that\n"


def test_uvicorn_run_prints_one_error_line_if_the_port_is_in_use(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(SystemExit) as caught:
        uvicorn.run(hello, port=other.getsockname()[1], log_config=None)
    error = capsys.readouterr().err
    assert (caught.value.code, error.count("\n"), "in use" in error) == (2, 1, True)


def test_uvicorn_run_exits_with_3_after_a_failed_startup(folder: Path) -> None:
    (folder / "start.py").write_text(
        "import uvicorn\n\nclass Failing:\n    async def startup(self):\n        raise RuntimeError('no database')\n\n"
        "    async def __call__(self, message, channels): ...\n\nuvicorn.run(Failing(), port=0)\n"
    )
    ended = run_command(folder, program=("start.py",))
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        3,
        "uvicorn: the application's startup failed, see above",
    )


async def hello(message: dict[str, Any], channels: dict[str, Any]) -> None:
    await channels["reply"].send({"status": 200, "content": b"hello"})


def listening(app: Callable[..., Any], **options: Any) -> tuple[uvicorn.Server, socket.socket]:
    """Return a server for `app`, and the socket to pass to it."""
    config = uvicorn.Config(app, port=0, log_config=None, **options)
    [sock] = config.open_sockets()
    return uvicorn.Server(config), sock


async def get(sock: socket.socket) -> bytes:
    """Return the response of the server behind a listening socket."""
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    try:
        return await asyncio.wait_for(reader.read(), LONGEST_WAIT)
    finally:
        writer.close()


def test_setting_should_exit_stops_a_server_that_runs_as_a_task() -> None:
    async def main() -> bytes:
        server, sock = listening(hello)
        serving = asyncio.create_task(server.serve([sock]))
        answer = await get(sock)
        server.should_exit = True
        await asyncio.wait_for(serving, LONGEST_WAIT)
        return answer

    assert asyncio.run(main()).endswith(b"hello")


def test_serve_method_opens_the_configured_unix_socket(folder: Path) -> None:
    path = folder / "web.sock"

    class Telling:
        """Stops the server as soon as it has started and its address is known."""

        async def startup(self) -> None:
            found.append(path.exists())
            server.should_exit = True

        async def __call__(self, message: Any, channels: Any) -> None: ...

    found: list[bool] = []
    server = uvicorn.Server(uvicorn.Config(Telling(), uds=str(path), log_config=None))
    server.run()
    assert found == [True]


def test_serve_method_returns_at_once_if_should_exit_is_already_set() -> None:
    server, sock = listening(hello)
    server.should_exit = True
    asyncio.run(asyncio.wait_for(server.serve([sock]), LONGEST_WAIT))
    assert sock.fileno() == -1


def test_started_attribute_remains_True_after_the_server_has_stopped() -> None:
    async def main() -> list[bool]:
        server, sock = listening(hello)
        told = [server.started]
        serving = asyncio.create_task(server.serve([sock]))
        await get(sock)
        told.append(server.started)
        server.should_exit = True
        await asyncio.wait_for(serving, LONGEST_WAIT)
        return [*told, server.started]

    assert asyncio.run(main()) == [False, True, True]


def test_server_may_run_on_one_thread_and_be_stopped_from_another() -> None:
    server, sock = listening(hello)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([sock])))
    thread.start()
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", sock.getsockname()[1], timeout=LONGEST_WAIT)) as client:
            client.request("GET", "/", headers={"connection": "close"})
            content = client.getresponse().read()
    finally:
        server.should_exit = True
        thread.join(LONGEST_WAIT)
    assert (content, thread.is_alive()) == (b"hello", False)


def test_server_outside_the_main_thread_installs_no_signal_handlers() -> None:
    server, sock = listening(hello)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    server.should_exit = True
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([sock])))
    thread.start()
    thread.join(LONGEST_WAIT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_stopped_server_restores_signal_handlers() -> None:
    server, sock = listening(hello)
    server.should_exit = True
    own = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        kept = signal.getsignal(signal.SIGTERM)
        asyncio.run(server.serve([sock]))
        assert signal.getsignal(signal.SIGTERM) is kept
    finally:
        signal.signal(signal.SIGTERM, own)


def test_setting_force_exit_resets_requests_in_flight() -> None:
    async def main() -> int:
        arrived = asyncio.Event()

        async def endless(message: Any, channels: Any) -> None:
            arrived.set()
            await asyncio.Event().wait()

        server, sock = listening(endless)
        serving = asyncio.create_task(server.serve([sock]))
        asking = asyncio.create_task(get(sock))
        await asyncio.wait_for(arrived.wait(), LONGEST_WAIT)
        server.force_exit = True
        await asyncio.wait_for(serving, LONGEST_WAIT)
        await asyncio.gather(asking, return_exceptions=True)
        return server.broken_off

    assert asyncio.run(main()) == 1


class OnStopping(logging.Handler):
    """Calls a function when the server logs that it is stopping."""

    def __init__(self, callback: Callable[[], None]) -> None:
        super().__init__()
        self._callback = callback

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("Shutting down"):
            self._callback()


def test_setting_the_exit_flag_again_does_not_reset_open_requests(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.error")

    async def main() -> tuple[bytes, int]:
        arrived, released = asyncio.Event(), asyncio.Event()

        async def patient(message: Any, channels: Any) -> None:
            arrived.set()
            await released.wait()
            await channels["reply"].send({"status": 200, "content": b"hello"})

        # Of use only when the test fails: the request is broken off then.
        server, sock = listening(patient, timeout_graceful_shutdown=2)

        def tell_again() -> None:
            server.should_exit = True
            # In a later iteration of the event loop: there has to be one.
            loop.call_soon(loop.call_soon, released.set)

        loop = asyncio.get_running_loop()
        handler = OnStopping(tell_again)
        logging.getLogger("uvicorn.error").addHandler(handler)
        try:
            serving = asyncio.create_task(server.serve([sock]))
            asking = asyncio.create_task(get(sock))
            await asyncio.wait_for(arrived.wait(), LONGEST_WAIT)
            server.should_exit = True
            await asyncio.wait_for(serving, LONGEST_WAIT)
            [answer] = await asyncio.gather(asking, return_exceptions=True)
            return answer if isinstance(answer, bytes) else b"", server.broken_off
        finally:
            logging.getLogger("uvicorn.error").removeHandler(handler)

    answer, broken_off = asyncio.run(main())
    assert (answer[-5:], broken_off) == (b"hello", 0)


# Out of descriptors


@pytest.fixture
def few_descriptors(folder: Path) -> Path:
    """Return a folder whose application may open 40 descriptors."""
    (folder / "app.py").write_text(
        "import resource\n\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n" + HELLO
    )
    return folder


def exhaust(server: ServerProcess) -> None:
    """Open more connections than the server has descriptors, get a response on the first, and close all of them."""
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=LONGEST_WAIT) for _ in range(80)]
    try:
        clients[0].sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert read_all(clients[0]).endswith(b"hello")
    finally:
        for client in clients:
            client.close()


def get_at_last(server: ServerProcess) -> tuple[int, str]:
    """Return a response as soon as the server has noticed that the earlier clients have disconnected."""
    for _ in range(1000):
        try:
            return server.get()
        except (ConnectionError, http.client.HTTPException):
            continue
    raise AssertionError("no response in a thousand attempts")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_D10_server_recovers_after_running_out_of_file_descriptors(few_descriptors: Path, loop: str) -> None:
    with running_server(few_descriptors, "app:hello", "--loop", loop) as server:
        exhaust(server)
        assert get_at_last(server) == (200, "hello")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_D10_server_without_free_descriptors_logs_few_lines(few_descriptors: Path, loop: str) -> None:
    with running_server(few_descriptors, "app:hello", "--loop", loop) as server:
        exhaust(server)
        get_at_last(server)
        server.stop()
        assert len(server.stderr.splitlines()) < 20


def test_stopped_server_leaves_no_descriptor_open(patient: Path) -> None:
    # Warnings are on in the process: what it leaves behind would be told on stderr.
    with running_server(patient, "app", "--uds", "web.sock") as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LONGEST_WAIT)
            client.connect(str(patient / "web.sock"))
            client.sendall(HALF_A_REQUEST + b"67890")
            assert client.recv(65536)
        server.stop()
        assert "Warning" not in server.stderr


def test_server_does_not_change_the_working_directory(folder: Path) -> None:
    (folder / "app.py").write_text(
        "import os\n\n\nasync def app(message, channels):\n"
        "    await channels['reply'].send({'status': 200, 'content': os.getcwd().encode()})\n"
    )
    with running_server(folder, "app") as server:
        assert server.get() == (200, os.path.realpath(folder))
