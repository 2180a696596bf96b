"""The server of a worker process."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Final

from uvicorn.server.context import ServerConfig, ServerContext
from uvicorn.server.metrics import MAX_LINE_BYTES, Snapshot, encoded
from uvicorn.server.process_end import SupervisorWatch
from uvicorn.server.server import Server

# The most time for the last numbers at the end of a worker.
_LAST_REPORT_SECONDS: Final = 1.0

logger = logging.getLogger("uvicorn.error")


class WorkerServer(Server):
    """A server that reports to the supervisor on `channel`."""

    def __init__(self, config: ServerConfig, channel: socket.socket, watch: SupervisorWatch) -> None:
        super().__init__(config)
        self._channel = channel
        self._watch = watch
        self._channel.setblocking(False)
        # The rest of a line that the supervisor had no room for.
        self._unsent = b""

    def install_signal_handlers(self) -> None:
        assert self._loop is not None
        # The supervisor handles the terminal's signals.
        for number in (signal.SIGINT, signal.SIGHUP):
            # Not SIG_IGN, which the application's own child processes would inherit.
            signal.signal(number, lambda *_: None)
        # Not `loop.add_signal_handler`: after the loop has closed, a further SIGTERM would kill the process.
        # Gracefully, however many SIGTERMs arrive: both systemd and the supervisor send one.
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        signal.signal(signal.SIGQUIT, self._on_quit)
        self._loop.add_reader(self._channel.fileno(), self._supervisor_has_died)
        if sys.__stderr__ is not None:
            # The supervisor aborts a stuck worker, which then logs its stack traces.
            faulthandler.enable(sys.__stderr__)

    def begin_metrics(self, context: ServerContext) -> None:
        if self.config.settings.metrics:
            context.publish = self.report_metrics

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.report("ready")

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        await super().shutdown(sockets)
        if self.config.settings.metrics and self._context is not None:
            # The last second counts too. The supervisor reads it, unless it has died.
            self._channel.settimeout(_LAST_REPORT_SECONDS)
            line = f"metrics {encoded(self._context.snapshot())}\n"
            with suppress(OSError):
                self._channel.sendall(self._unsent + line.encode())

    def announce(self, sock: socket.socket) -> None:
        pass  # The supervisor logs the addresses once for all workers.

    def retire(self, reason: str) -> None:
        # Once a second, until a successor is ready.
        self.report(f"retiring {reason}")

    def tick(self) -> None:
        super().tick()
        self.report("alive")

    def _on_quit(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = True

    def report_metrics(self, snapshot: Snapshot) -> None:
        line = f"metrics {encoded(snapshot)}"
        if len(line) <= MAX_LINE_BYTES:
            self.report(line)

    def report(self, line: str) -> None:
        """Send `line` without blocking. While an earlier line is unsent, drop `line` unless it is `ready`."""
        # Lines: ready, alive, retiring REASON, metrics NUMBERS.
        if not self._unsent or line == "ready":
            self._unsent += line.encode() + b"\n"
        try:
            self._unsent = self._unsent[self._channel.send(self._unsent) :]
        except BlockingIOError:
            pass  # The supervisor is slow to read; the unread lines report the same.
        except OSError:
            self._supervisor_has_died()

    def _supervisor_has_died(self) -> None:
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self._watch.noticed.set()
        if not self.should_exit:
            logger.error("the supervisor has died; stopping")
            self.should_exit = True
