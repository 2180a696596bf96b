"""From listening sockets to the last response: start, serve, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import select
import signal
import socket
import threading
from collections.abc import Sequence
from typing import Any, Final, Protocol

from uvicorn.errors import StartupError
from uvicorn.server.clock import Clock
from uvicorn.server.context import ServedInterface, ServerContext
from uvicorn.server.http1 import HTTP1Connection
from uvicorn.server.listener import close_sockets, describe
from uvicorn.server.loops import run
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.server")

# How often a stopping server looks whether its connections have closed.
_STOP_POLL_SECONDS: Final = 0.1

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

# Rounds of the event loop, at most, in which connections that wait in the kernel's queue are still accepted.
_ACCEPT_ROUNDS: Final = 1000


class ServerConfig(Protocol):
    """What a server asks of its configuration; `uvicorn.Config` is one."""

    @property
    def settings(self) -> Settings: ...

    def load(self) -> ServedInterface: ...

    def open_sockets(self) -> list[socket.socket]: ...


class Server:
    """Serves one application until `should_exit` is set, or SIGINT or SIGTERM arrives.

    What is in flight then is finished, for up to `graceful_seconds`; a second signal, or `force_exit`, breaks it off.
    """

    def __init__(self, config: ServerConfig, clock: Clock | None = None) -> None:
        self.config = config
        #: Whether connections are being accepted.
        self.started = False
        #: Whether responses were broken off at the end.
        self.broken_off = 0
        self._clock = clock
        self._should_exit = False
        self._force_exit = False
        self._interface: ServedInterface | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: asyncio.Event | None = None

    @property
    def should_exit(self) -> bool:
        """Set it to stop the server; from any thread."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        self._wake()

    @property
    def force_exit(self) -> bool:
        """Set it to stop the server without waiting for what is in flight; from any thread."""
        return self._force_exit

    @force_exit.setter
    def force_exit(self, value: bool) -> None:
        self._force_exit = value
        self._should_exit = self._should_exit or value
        self._wake()

    async def serve(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Load the application, listen, serve, drain. `sockets` are listening ones to use instead of the config's.

        Raises ConfigError before anything is served, and StartupError if the application's own startup fails.
        """
        interface = self._interface = self._interface or self.config.load()
        settings = self.config.settings
        loop = self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        clock = self._clock or Clock()
        context = ServerContext(interface, settings, clock)
        listening = list(sockets) if sockets is not None else self.config.open_sockets()
        listeners: list[asyncio.Server] = []
        signals = self._catch_signals(loop)
        loop.set_exception_handler(context.loop_exception)
        try:
            await self._start_up(interface)
            clock.on_tick(context.tick)
            clock.tick()
            clock.start()
            for sock in listening:
                listeners.append(
                    await loop.create_server(lambda: HTTP1Connection(context), sock=sock, backlog=settings.backlog)
                )
                logger.info("listening on %s (%s)", describe(sock), interface.name)
            self.started = True
            while not self._should_exit:
                await self._changed.wait()
                self._changed.clear()
            await _accept_the_queue(listening)
            for listener in listeners:
                listener.close()
            await self._drain(context)
        finally:
            self.started = False
            for listener in listeners:
                listener.close()
            close_sockets(listening)
            clock.stop()
            # None are left, unless this was cancelled or failed.
            for connection in tuple(context.connections):
                connection.reset()
            for number, previous in signals.items():
                loop.remove_signal_handler(number)
                if previous is not None:
                    signal.signal(number, previous)

    def run(self) -> None:
        """`serve`, on an event loop of its own."""
        # Before there is a loop, which would hold a Ctrl-C back until the import is over.
        self._interface = self.config.load()
        run(self.serve(), self.config.settings.loop)

    async def _start_up(self, interface: ServedInterface) -> None:
        """The application's own startup; a signal ends it, for there is nothing yet that could be lost."""
        assert self._changed is not None
        starting = asyncio.ensure_future(interface.startup())
        stopped = asyncio.ensure_future(self._changed.wait())
        await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,), timeout=_STOP_POLL_SECONDS)
            raise StartupError("told to stop before the application's startup had finished")
        error = starting.exception()
        if error is not None:
            logger.error("the application's startup failed", exc_info=error)
            raise StartupError("the application's startup failed, see above")

    async def _drain(self, context: ServerContext) -> None:
        """Finish what is in flight: nothing that was accepted is lost while it can be answered in time."""
        context.stopping = True
        clock = context.clock
        grace = context.settings.graceful_seconds
        logger.info("stopping; requests in flight: %d", context.requests)
        started = clock.monotonic()
        left = grace
        while context.connections and left > 0 and not self._force_exit:
            clock.tick()
            for connection in tuple(context.connections):
                connection.stop()
            if context.connections:
                await self._pause()
            left = grace - (clock.monotonic() - started)
        self.broken_off = context.requests
        if self.broken_off:
            cause = "a second signal" if self._force_exit else f"{grace:g} seconds"
            logger.warning("requests broken off after %s: %d", cause, self.broken_off)
        for connection in tuple(context.connections):
            connection.reset()
        try:
            await context.interface.shutdown(0 if self._force_exit else max(left, 0))
        except Exception as error:
            logger.error("the application's shutdown failed", exc_info=error)
        logger.info("stopped")

    async def _pause(self) -> None:
        """A moment for clients, cut short by a second signal."""
        assert self._changed is not None
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), _STOP_POLL_SECONDS)
        except TimeoutError:
            pass

    def _wake(self) -> None:
        if self._loop is not None and self._changed is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    def _catch_signals(self, loop: asyncio.AbstractEventLoop) -> dict[int, Any]:
        """Handle the signals that stop a server; return who handled them before."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        previous: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled)
        return previous

    def _signalled(self) -> None:
        if self._should_exit:
            self.force_exit = True
        else:
            self.should_exit = True


async def _accept_the_queue(sockets: Sequence[socket.socket]) -> None:
    """Let the loop accept what already waits in the kernel's queue: closing the socket would reset those clients."""
    poll = select.poll()
    for sock in sockets:
        poll.register(sock.fileno(), select.POLLIN)
    for _ in range(_ACCEPT_ROUNDS):
        if not poll.poll(0):
            break
        await asyncio.sleep(0)
