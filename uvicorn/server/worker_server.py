"""A server as one of several processes: it tells its supervisor how it is, and is told by SIGTERM when to stop."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType

from uvicorn.server.server import Server, ServerConfig
from uvicorn.server.supervisor_watch import SupervisorWatch

logger = logging.getLogger("uvicorn.error")


class WorkerServer(Server):
    """Writes lines to `channel`: `ready`, `alive` once a second, `retiring REASON` until it is replaced."""

    def __init__(self, config: ServerConfig, channel: socket.socket, watch: SupervisorWatch) -> None:
        super().__init__(config)
        self._channel = channel
        self._watch = watch
        self._channel.setblocking(False)

    def install_signal_handlers(self) -> None:
        """SIGTERM stops. What a terminal sends to all of its processes is the supervisor's to act on."""
        assert self._loop is not None
        for number in (signal.SIGINT, signal.SIGHUP):
            # To ignore them would be inherited by what the application starts.
            signal.signal(number, do_nothing)
        # Not by the event loop, which would have the next one kill us as soon as it has closed.
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGQUIT, self._on_quit)
        self._loop.add_reader(self._channel.fileno(), self._hear)
        if sys.__stderr__ is not None:
            # The supervisor aborts a stuck worker, which then logs its stack traces.
            faulthandler.enable(sys.__stderr__)

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serve, and report it to the supervisor."""
        await super().startup(sockets)
        self._tell("ready")

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Finish what is in flight."""
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        await super().shutdown(sockets)

    def announce(self, sock: socket.socket) -> None:
        """Log nothing: the supervisor logs it once for all workers."""

    def retire(self, reason: str) -> None:
        """Ask for a successor, once a second, and serve until it is there."""
        self._tell(f"retiring {reason}")

    def tick(self) -> None:
        """A second has passed."""
        super().tick()
        self._tell("alive")

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        """Stop, however often it is said: systemd says it to all processes, and the supervisor then says it too."""
        self.should_exit = True

    def _on_quit(self, number: int, frame: FrameType | None) -> None:
        """Break off."""
        self.force_exit = True

    def _tell(self, line: str) -> None:
        try:
            self._channel.send(line.encode() + b"\n")
        except BlockingIOError:
            pass  # The supervisor is behind with reading; the unread reports carry the same news.
        except OSError:
            self._hear()

    def _hear(self) -> None:
        """Stop: the supervisor has died, so this worker would never be replaced or stopped."""
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self._watch.noticed.set()
        if not self.should_exit:
            logger.error("the supervisor has died; stopping")
            self.should_exit = True


def do_nothing(number: int, frame: FrameType | None) -> None:
    """Take a signal, and leave it to the supervisor."""
