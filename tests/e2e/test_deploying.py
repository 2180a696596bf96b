"""The files of docs/deploying.md: nginx runs with its file; the others are used as systemd, Docker, Kubernetes do."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server
from tests.e2e.test_nginx import UnixConnection
from tests.test_docs import DOCS, FENCE, ROOT

PAGE: Final = DOCS / "deploying.md"
#: File name to text: the first line of each is a comment with its path.
FILES: Final = {
    found[1]: text
    for _, text in FENCE.findall(PAGE.read_text(encoding="utf-8"))
    if (found := re.match(r"# (?:\S*/)?([\w.]+)\n", text))
}

# Does what systemd does with a socket, which has been inherited as the descriptor in argv.
ACTIVATE: Final = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "uvicorn", *sys.argv[2:]])
"""

SEEN: Final = """
async def app(message, channels):
    if message["channel"] == "http.request":
        seen = f"{message['scheme']} {message['client'][0]} {dict(map(tuple, message['headers']))[b'host'].decode()}"
        await channels["reply"].send({"status": 200, "content": seen.encode()})
    elif message["channel"] == "websocket.receive":
        await channels["reply"].send({"text": message["text"]})
"""


#: How a probe may ask.
KINDS: Final = {"httpGet", "tcpSocket"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(FILES["app.py"])
    return tmp_path


def unit(name: str) -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(FILES[name])
    return parser


@contextmanager
def activation_socket(folder: Path) -> Iterator[socket.socket]:
    """Open the socket of `app.socket`, which listens before and after every server."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "app.sock"))
        (folder / "app.sock").chmod(int(unit("app.socket")["Socket"]["SocketMode"], 8))
        listening.listen()
        yield listening


@contextmanager
def activated(folder: Path, listening: socket.socket) -> Iterator[ServerProcess]:
    """Start the server as `app.service` does."""
    program, *arguments = shlex.split(unit("app.service")["Service"]["ExecStart"])
    assert Path(program).name == "uvicorn"
    descriptor = listening.fileno()
    with running_server(folder, str(descriptor), *arguments, program=["-c", ACTIVATE], pass_fds=[descriptor]) as server:
        yield server


def ask(folder: Path, **headers: str) -> UnixConnection:
    connection = UnixConnection(folder / "app.sock")
    connection.request("GET", "/", headers=headers)
    return connection


def read(connection: http.client.HTTPConnection) -> tuple[int, bytes]:
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def test_systemd_socket_keeps_requests_that_arrive_during_a_server_restart(folder: Path) -> None:
    with activation_socket(folder) as listening:
        early = ask(folder)
        with activated(folder, listening) as server:
            assert read(early) == (200, b"Hello, world")
            assert server.stop() == 0
        between = ask(folder)
        with activated(folder, listening) as server:
            assert read(between) == (200, b"Hello, world")


def test_server_on_a_systemd_socket_trusts_the_forwarded_fields_of_its_proxy(folder: Path) -> None:
    with activation_socket(folder) as listening, activated(folder, listening) as server:
        read(ask(folder, **{"X-Forwarded-For": "203.0.113.9"}))
        server.wait_for_line("203.0.113.9", "stdout")


def test_reload_command_of_the_systemd_unit_replaces_the_workers(folder: Path) -> None:
    assert unit("app.service")["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"
    with activation_socket(folder) as listening, activated(folder, listening) as server:
        server.wait_for_line(" is ready", count=2)
        server.send_signal(signal.SIGHUP)
        server.wait_for_line(" is ready", count=4)
        assert read(ask(folder)) == (200, b"Hello, world")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_analyze_verify_accepts_the_unit_files(folder: Path) -> None:
    # It looks whether the program exists.
    program = Path(sys.executable).parent / "uvicorn"
    for name in ("app.socket", "app.service"):
        (folder / name).write_text(FILES[name].replace("/srv/app/.venv/bin/uvicorn", str(program)))
    units = [str(folder / "app.socket"), str(folder / "app.service")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=LONGEST_WAIT)
    about_ours = [line for line in done.stderr.splitlines() if "app.s" in line]
    assert (done.returncode, about_ours) == (0, []), done.stderr


def grace_seconds(arguments: list[str]) -> float:
    """Return the time a server may take to stop: requests, the application's shutdown, and threads."""
    named = re.search(r"--timeout-graceful-shutdown[= ](\d+)", " ".join(arguments))
    return (float(named[1]) if named else 30) + 3 + 5


def test_stop_timeouts_of_systemd_and_docker_exceed_the_grace_period() -> None:
    service = unit("app.service")["Service"]
    assert float(service["TimeoutStopSec"]) > grace_seconds(service["ExecStart"].split())
    (stop,) = re.findall(r"docker run .*--stop-timeout (\d+)", PAGE.read_text())
    assert float(stop) > grace_seconds(json.loads(dockerfile()["CMD"][0]))


@contextmanager
def nginx(folder: Path) -> Iterator[int]:
    """Start nginx with the file of the page; return its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        site = FILES["app.conf"].replace("/run/app.sock", str(folder / "app.sock"))
        site = site.replace("listen 80;", f"listen 127.0.0.1:{port};")
        paths = "".join(
            f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            # The socket of the server is for this user only.
            f"user {getpass.getuser()}; daemon off; pid {folder}/nginx.pid; error_log stderr warn;\n"
            f"events {{}}\nhttp {{ access_log off; {paths}\n{site}\n}}\n"
        )
        process = subprocess.Popen(
            ["/usr/sbin/nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")],
            # As nginx passes sockets on to a newer nginx; so the port is ours from the beginning.
            env={**os.environ, "NGINX": f"{listening.fileno()};"},
            pass_fds=[listening.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    try:
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=LONGEST_WAIT)


@contextmanager
def behind_nginx(folder: Path) -> Iterator[int]:
    (folder / "app.py").write_text(SEEN)
    with activation_socket(folder) as listening, activated(folder, listening), nginx(folder) as port:
        yield port


def test_nginx_forwards_the_client_address_the_scheme_and_the_host_field(folder: Path) -> None:
    with behind_nginx(folder) as port:
        for _ in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_WAIT)
            connection.request("GET", "/", headers={"host": "example.org:8080"})
            assert read(connection) == (200, b"http 127.0.0.1 example.org:8080")


def test_nginx_forwards_websockets_of_the_same_origin(folder: Path) -> None:
    with behind_nginx(folder) as port:
        with connect(f"ws://127.0.0.1:{port}/", origin=Origin(f"http://127.0.0.1:{port}")) as client:
            client.send("hello")
            assert client.recv(LONGEST_WAIT) == "hello"


def dockerfile() -> dict[str, list[str]]:
    """Return each instruction with its arguments."""
    instructions: dict[str, list[str]] = {}
    for line in FILES["Dockerfile"].splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            instructions.setdefault(name, []).append(rest)
    return instructions


def test_dockerfile_commands_install_and_serve_the_application(folder: Path) -> None:
    (folder / "requirements.txt").write_text("")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "tests", "bench", "*.egg-info"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    wheel = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--wheel-dir",
        str(folder / "wheels"),
        str(source),
    ]
    subprocess.run(wheel, check=True, env=clean)
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, env=clean)
    environ = {**clean, "PATH": f"{venv / 'bin'}:{os.environ['PATH']}"}
    instructions = dockerfile()
    assert [word for line in instructions["COPY"] for word in line.split()[:-1] if not (folder / word).exists()] == []
    for command in instructions["RUN"]:
        subprocess.run(command, shell=True, check=True, cwd=folder, env=environ, stdout=subprocess.DEVNULL)
    program, *arguments = json.loads(instructions["CMD"][0])
    assert program == "uvicorn" and arguments[-2:] == ["--port", "8000"] == ["--port", *instructions["EXPOSE"]]
    run = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
    with running_server(
        folder, str(venv / "bin" / program), *arguments[:-1], "0", program=["-c", run], env={"PYTHONPATH": ""}
    ) as server:
        assert server.get() == (200, "Hello, world")
        assert server.stop() == 0


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load(FILES["deployment.yaml"])["spec"]["template"]["spec"]
    return spec


def test_server_answers_the_kubernetes_probes(folder: Path) -> None:
    (container,) = pod()["containers"]
    program, *arguments = (word.replace("--port=8000", "--port=0") for word in container["args"])
    assert program == "uvicorn" and "--port=0" in arguments
    probes = [container["startupProbe"], container["readinessProbe"]]
    with running_server(folder, *arguments) as server:
        assert [server.get(probe["httpGet"]["path"]) for probe in probes] == [(200, "healthy")] * 2
        socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT).close()
        assert server.stop() == 0
    ports = {probe[kind]["port"] for probe in (*probes, container["livenessProbe"]) for kind in probe.keys() & KINDS}
    assert ports == {port["containerPort"] for port in container["ports"]} == {8000}


def test_kubernetes_grace_period_exceeds_the_server_shutdown_time() -> None:
    (container,) = pod()["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod()["terminationGracePeriodSeconds"] > pause + grace_seconds(container["args"])
