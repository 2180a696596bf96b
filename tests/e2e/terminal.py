"""A program in a terminal of its own, where Ctrl-C can be pressed."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.waits import LONGEST_WAIT

# Makes the process the leader of a session whose terminal is its standard input; then runs the arguments.
_LAUNCHER: Final = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
_ESCAPE_SEQUENCE: Final = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07\x1b]*(\x07|\x1b\\)|[=>()][A-Z0-9]?)")


class Terminal:
    """A running program. Its session, with all processes that it starts, is its own."""

    def __init__(self, command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> None:
        self._screen, other_end = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER, *command],
            cwd=folder,
            env=environ,
            stdin=other_end,
            stdout=other_end,
            stderr=other_end,
        )
        os.close(other_end)
        self._printed = bytearray()
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """The output of the program so far, without colours."""
        with self._changed:
            printed = bytes(self._printed)
        return _ESCAPE_SEQUENCE.sub("", printed.decode(errors="replace")).replace("\r\n", "\n")

    def wait_until_it_listens(self, port: int, seconds: float = LONGEST_WAIT) -> None:
        """Return when a connection to `port` of 127.0.0.1 is accepted. Raise AssertionError if that does not happen."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), LONGEST_WAIT).close()
            except OSError:
                with self._changed:
                    self._changed.wait(0.05)
            else:
                return
        raise AssertionError(f"it does not listen, exit code {self.process.poll()}; it has printed:\n{self.text}")

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the foreground process group, as the terminal does."""
        os.write(self._screen, b"\x03")

    def wait(self, seconds: float = LONGEST_WAIT) -> int:
        """Wait for the end of the program. Return its exit code, which is negative after a fatal signal."""
        return self.process.wait(seconds)

    def has_left_processes(self) -> bool:
        """Return whether processes of its group still run after it has ended."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        """Kill all processes of the program that still run."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self._reader.join(LONGEST_WAIT)
        os.close(self._screen)

    def _read(self) -> None:
        # Linux reports the end of the last process that has the terminal open as an error.
        with suppress(OSError):
            while data := os.read(self._screen, 65536):
                with self._changed:
                    self._printed += data
                    self._changed.notify_all()


@contextmanager
def in_a_terminal(command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> Iterator[Terminal]:
    """Run the program at the path `command[0]`, and kill it at the end."""
    terminal = Terminal(command, folder, environ)
    try:
        yield terminal
    finally:
        terminal.close()
