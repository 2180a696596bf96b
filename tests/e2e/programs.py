"""Starts a program that runs this package in a terminal, uses it, presses Ctrl-C, and checks how it ends."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from tests.e2e.terminal import in_a_terminal
from tests.waits import LONGEST_WAIT

#: A program may compile, migrate a database or ask the network before it listens, and it may finish much at its end.
SLOWEST_START: Final = 4 * LONGEST_WAIT
SLOWEST_END: Final = 2 * LONGEST_WAIT


class Visitor:
    """A client of a running program. Its WebSockets stay open until the program has ended, as those of a browser do."""

    def __init__(self, port: int, folder: Path, open_websockets: ExitStack) -> None:
        self.folder = folder
        self._port = port
        self._open = open_websockets

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Return status and content."""
        return self._ask(urllib.request.Request(self._url("http", path), headers=headers))

    def post(self, path: str, content: Any, **headers: str) -> tuple[int, str]:
        """Send `content` as JSON; return status and content of the response."""
        headers = {"content-type": "application/json", **headers}
        return self._ask(urllib.request.Request(self._url("http", path), json.dumps(content).encode(), headers))

    def websocket(self, path: str, *subprotocols: str) -> ClientConnection:
        """Open a WebSocket, as a page of the program's own does."""
        connection = connect(
            self._url("ws", path),
            origin=Origin(self._url("http", "")),
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            open_timeout=LONGEST_WAIT,
            max_size=None,
            ping_interval=None,
        )
        return self._open.enter_context(connection)

    def _url(self, scheme: str, path: str) -> str:
        return f"{scheme}://127.0.0.1:{self._port}{path}"

    def _ask(self, request: urllib.request.Request) -> tuple[int, str]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=LONGEST_WAIT) as response:
                return response.status, response.read().decode(errors="replace")
        except HTTPError as error:
            with error:
                return error.code, error.read().decode(errors="replace")


@dataclass(frozen=True)
class Program:
    """A program, started as its documentation says.

    `files` is name to text of what the user has written; `prepare` makes what is not text. `{port}` in files and
    in `command` is a free port. `use` raises AssertionError if the program does not work.
    """

    name: str
    requirements: tuple[str, ...]
    command: tuple[str, ...]
    use: Callable[[Visitor], None]
    files: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The result of a run of a program. `fault` is empty if the program could be used."""

    fault: str
    exit_code: int
    left_processes: bool
    text: str

    def lines(self) -> list[str]:
        """Return the output of the program without the parts that differ between runs."""
        return [line.rstrip() for line in normal(self.text).splitlines() if line.strip()]


_DIFFERS: Final = (
    # The terminal's echo of Ctrl-C.
    (re.compile(r"\^C"), ""),
    # Our lines begin with the time, and the level is followed by spaces.
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d([.,]\d+)?( \+0000)?\b ?"), ""),
    (re.compile(r"\b\d\d:\d\d:\d\d([.,]\d+)?\b"), "TIME"),
    (re.compile(r"(?m)^(INFO|WARNING|ERROR):? +"), r"\1: "),
    (re.compile(r"(?m)^INFO: (?=127)"), ""),
    (re.compile(r"(?<=[\[( ])\d{2,7}(?=[\])])|(?<=process )\d+|(?<=worker )\d+|(?<=pid: )\d+|(?<=pid:)\d+"), "PID"),
    (re.compile(r"\b(127\.0\.0\.1|localhost|0\.0\.0\.0):\d+"), r"\1:PORT"),
    (re.compile(r"\b\d+(\.\d+)? ?m?s\b"), "DURATION"),
    (re.compile(r"x{100,}"), "LONG"),
    # Our access log has size and duration too.
    (re.compile(r'("[A-Z]+ \S+ HTTP/1\.1" \d{3}).*'), r"\1"),
    (re.compile(r"\b[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}\b"), "UUID"),
)


def normal(text: str) -> str:
    """Return `text` without times, process ids, ports and the like."""
    for pattern, replacement in _DIFFERS:
        text = pattern.sub(replacement, text)
    return text


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def try_program(program: Program, programs: Path, folder: Path, environ: Mapping[str, str]) -> Outcome:
    """Start the program in `folder`, use it, press Ctrl-C, and wait for its end."""
    port = free_port()
    for name, text in program.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("{port}", str(port)))
    words = [word.replace("{port}", str(port)) for word in program.command]
    environ = {
        **environ,
        # A user's own settings and caches are not to matter.
        "HOME": str(folder),
        "PATH": f"{programs}:/usr/bin:/bin",
        "COLUMNS": "200",
        "TERM": "xterm-256color",
        **{name: value.replace("{port}", str(port)) for name, value in program.environ.items()},
    }
    with in_a_terminal([str(programs / words[0]), *words[1:]], folder, environ) as terminal, ExitStack() as websockets:
        fault = ""
        try:
            terminal.wait_until_it_listens(port, SLOWEST_START)
            program.use(Visitor(port, folder, websockets))
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        terminal.press_ctrl_c()
        try:
            code = terminal.wait(SLOWEST_END)
        except Exception as error:
            fault = fault or f"does not end: {type(error).__name__}"
            code = -9
        left = terminal.has_left_processes()
    return Outcome(fault, code, left, terminal.text.replace(str(folder), "FOLDER").replace(str(port), "PORT"))


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without the variables that change the behaviour of a program."""
    foreign = ("PYTHON", "UVICORN_", "GUNICORN_", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "PYTEST_", "COV_")
    return {name: value for name, value in environ.items() if not name.startswith(foreign)}
