"""Runs a server: startup, serving, graceful shutdown."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

from uvicorn.errors import StartupError, exc_info_of
from uvicorn.server.acceptor import Acceptor
from uvicorn.server.access_log import AccessLog, log_exchange
from uvicorn.server.clock import Clock
from uvicorn.server.context import ServedInterface, ServerConfig, ServerContext, ServerState
from uvicorn.server.listener import RUNNING, check_for_debug, close_sockets, describe, running_on
from uvicorn.server.loop_watch import watching
from uvicorn.server.loops import run
from uvicorn.server.notify import notifying
from uvicorn.server.tls import reload_certificates

logger = logging.getLogger("uvicorn.error")

# How often a stopping server looks whether its connections have closed.
_STOP_POLL_SECONDS: Final = 0.1

# The least time for the application's shutdown, after the grace period too; less than a supervisor waits.
_LEAST_SHUTDOWN_SECONDS: Final = 3.0


class Server:
    """Serves one application until `should_exit` is set or a signal arrives. Then shuts down gracefully."""

    def __init__(self, config: ServerConfig, clock: Clock | None = None, access_log: AccessLog = log_exchange) -> None:
        self.config = config
        #: Counts and connections, for programs that embed the server.
        self.server_state = ServerState()
        self.last_notified = 0.0
        #: Whether the startup has succeeded; still true after the server has stopped.
        self.started = False
        #: The number of responses aborted at the end, or 1 if only the application's shutdown was aborted.
        self.broken_off = 0
        self._clock = clock
        self._access_log = access_log
        self._should_exit = False
        self._force_exit = False
        #: The interface to the application. A program may set it before `startup`.
        self.lifespan: ServedInterface | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # Set to look at `should_exit` and `force_exit` again.
        self._changed = asyncio.Event()
        self._context: ServerContext | None = None
        self._application_runs = False
        self._tls: ssl.SSLContext | None = None
        settings = config.settings
        jitter = random.randint(0, settings.limit_max_requests_jitter)
        self.limit_max_requests = settings.limit_max_requests + jitter if settings.limit_max_requests else None
        self._sockets: list[socket.socket] = []
        #: The previous signal handlers, and the signals received since they were replaced.
        self._signals: dict[int, Any] = {}
        self._captured: list[int] = []
        self._is_alone = False
        #: Whether Ctrl-C has stopped `run`, which then raises KeyboardInterrupt.
        self.interrupted = False
        self._has_frozen = False
        #: One for each listening socket while connections are accepted, otherwise empty.
        self.servers: list[Acceptor] = []
        #: Called when the server has stopped, with the seconds that are left of the grace period.
        self.on_stopped: Callable[[float], object] | None = None

    @property
    def should_exit(self) -> bool:
        """Whether to stop. Any thread may set this attribute."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        self._wake()

    @property
    def force_exit(self) -> bool:
        """Whether to stop without waiting for open requests. Any thread may set this attribute."""
        return self._force_exit

    @force_exit.setter
    def force_exit(self, value: bool) -> None:
        self._force_exit = value
        self._should_exit = self._should_exit or value
        self._wake()

    @property
    def taken(self) -> int:
        """The number of requests and WebSocket messages received so far."""
        return self._context.begun + self._context.messages if self._context is not None else 0

    async def serve(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Serve until stopped. `sockets` replace the configured addresses. Raises ConfigError and StartupError."""
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        with self.capture_signals():
            try:
                await self.startup(sockets=sockets)
                await self.main_loop()
                await self.shutdown(sockets=sockets)
            except StartupError as error:
                if not self._should_exit or (self._is_alone and self._captured):
                    raise
                logger.info("%s", error)
            finally:
                self._close()
                # Does nothing after `shutdown`; `serve` may have been cancelled before.
                await self._shut_down(0)

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Start accepting connections."""
        self.started = False
        interface = self.lifespan = self.lifespan or self.config.load()
        settings = self.config.settings
        loop = self._loop = asyncio.get_running_loop()
        clock = self._clock = self._clock or Clock()
        tls = self._tls = self.config.ssl_context()
        context = self._context = ServerContext(interface, settings, clock, self._access_log)
        self.server_state.context = context
        self.begin_metrics(context)
        self._sockets = list(sockets) if sockets is not None else self.config.open_sockets()
        logger.info("Started server process [%d]", os.getpid())
        context.loop_handler = loop.get_exception_handler()
        loop.set_exception_handler(context.loop_exception)
        try:
            if interface.has_debugger:
                check_for_debug(sockets=self._sockets)
            # Before the application starts, to report to the supervisor during a long startup.
            clock.start()
            await self._start_up(interface)
            if self._is_alone and not gc.get_freeze_count():
                # Loaded modules stay in memory: full garbage collections need not examine them.
                gc.collect()
                gc.freeze()
                self._has_frozen = True
            clock.on_tick(context.tick)
            clock.on_tick(self.tick)
            clock.tick()
            for sock in self._sockets:
                acceptor = Acceptor(context, sock, tls)
                acceptor.start()
                self.servers.append(acceptor)
                self.announce(sock)
        except BaseException:
            self._close()
            raise
        self.started = True

    def begin_metrics(self, context: ServerContext) -> None:
        """If metrics are configured, serve the metrics of this process."""
        context.open_metrics()

    def announce(self, sock: socket.socket) -> None:
        """Log that the server accepts connections on `sock`."""
        logger.info(RUNNING, running_on(sock, "https" if self._tls else "http"))
        name = sock.getsockname()
        trusted = self._context.trusted if self._context is not None else None
        if isinstance(name, str) and trusted is not None and not trusted.trusts(None, name):
            logger.info(
                "X-Forwarded-For and X-Forwarded-Proto from %s are ignored; "
                "if only your proxy may open this socket, pass --forwarded-allow-ips 'unix:' or --uds-mode 660",
                describe(sock),
            )

    async def main_loop(self) -> None:
        """Wait until the server has to stop."""
        # Otherwise `should_exit` could not wake it.
        assert self._loop is not None, "main_loop comes after startup"
        settings = self.config.settings
        notify = self._notify if settings.callback_notify is not None else None
        ticks = type(self).on_tick is not Server.on_tick
        counter = 0
        async with watching(settings.watch_loop_seconds), notifying(notify, settings.timeout_notify, self._stop):
            while not (await self.on_tick(counter) or self._should_exit):
                counter += 1
                if ticks:
                    await self._pause()
                else:
                    await self._changed.wait()
                    self._changed.clear()

    async def on_tick(self, counter: int) -> bool:
        """Subclass hook, called ten times a second. Return whether to stop."""
        return self._should_exit

    async def _notify(self) -> None:
        callback = self.config.settings.callback_notify
        assert callback is not None
        self.last_notified = time.time()
        await callback()

    def _stop(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Let accepted requests finish in the grace period, then shut the application down."""
        context = self._context
        assert context is not None, "shutdown comes after startup"
        for acceptor in self.servers:
            acceptor.close()
        context.stop()
        clock = context.clock
        grace = context.settings.graceful_seconds
        logger.info("Shutting down")
        if context.requests:
            logger.info("Waiting for connections to close. (CTRL+C to force quit)")
        end = clock.monotonic() + grace
        while (context.connections or context.arriving) and clock.monotonic() < end and not self._force_exit:
            clock.tick()
            for connection in tuple(context.connections):
                connection.stop()
            if context.connections or context.arriving:
                await self._pause()
        self.broken_off = context.requests
        if self.broken_off:
            cause = "a second signal" if self._force_exit else f"{grace:g} seconds"
            noun = "request" if self.broken_off == 1 else "requests"
            logger.warning("aborted %d %s after %s", self.broken_off, noun, cause)
        for connection in tuple(context.connections):
            connection.reset("server shutdown")
        await self._shut_down(0 if self._force_exit else max(end - clock.monotonic(), 0))
        logger.info("Finished server process [%d]", os.getpid())
        if self.on_stopped is not None:
            self.on_stopped(0 if self._force_exit else end - clock.monotonic())
        self._close()

    def tick(self) -> None:
        """Stop after `limit_max_requests` requests and WebSocket messages. Called once a second."""
        if self.limit_max_requests is not None and self.taken >= self.limit_max_requests and not self._should_exit:
            self.retire(f"Maximum request limit of {self.limit_max_requests} exceeded")

    def retire(self, reason: str) -> None:
        """Stop, because this process has served enough requests."""
        logger.info("%s. Terminating process.", reason)
        self.should_exit = True

    def run(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Run `serve` on a new event loop. After Ctrl-C, raise KeyboardInterrupt."""
        self._is_alone, self.interrupted = True, False
        # Import before the event loop exists, because asyncio delays a Ctrl-C until the import has ended.
        self.lifespan = self.config.load()
        try:
            run(self.serve(sockets), self.config.settings.loop)
        finally:
            if self._has_frozen:
                gc.unfreeze()
        if self.interrupted:
            raise KeyboardInterrupt

    async def _start_up(self, interface: ServedInterface) -> None:
        if interface.name != "asgi3":
            logger.info("Interface: %s", interface.name)
        logger.info("Waiting for application startup.")
        starting = asyncio.ensure_future(interface.startup())
        # Set by a signal, which cancels the startup.
        stopped = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            is_complete = starting.done()
            if not is_complete:
                starting.cancel()
                await asyncio.wait((starting,), timeout=_STOP_POLL_SECONDS)
        if not is_complete:
            raise StartupError("stopped before the application's startup was complete")
        error = starting.exception()
        if error is not None:
            what = error if isinstance(error, StartupError) else "exception in the application's startup"
            logger.error("%s", what, exc_info=exc_info_of(error.__cause__ or error))
            logger.error("Application startup failed. Exiting.")
            raise StartupError("the application's startup failed, see above")
        self._application_runs = True
        logger.info("Application startup complete.")

    async def _shut_down(self, seconds: float) -> None:
        if not self._application_runs or self.lifespan is None:
            return
        self._application_runs = False
        logger.info("Waiting for application shutdown.")
        loop = asyncio.get_running_loop()
        was_forced = self._force_exit
        ending = asyncio.ensure_future(self.lifespan.shutdown(seconds))
        last = loop.time() + seconds + _LEAST_SHUTDOWN_SECONDS
        try:
            while not ending.done() and loop.time() < last and (was_forced or not self._force_exit):
                await asyncio.wait((ending,), timeout=_STOP_POLL_SECONDS)
        finally:
            if not ending.done():
                self.broken_off = self.broken_off or 1
                logger.error("the application's shutdown has not ended in time; cancelling it")
                ending.cancel()
                await asyncio.wait((ending,), timeout=_STOP_POLL_SECONDS)
        if not ending.done() or ending.cancelled():
            return
        error = ending.exception()
        if error is not None:
            logger.error("Application shutdown failed. Exiting.", exc_info=error)
        else:
            logger.info("Application shutdown complete.")

    async def _pause(self) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), _STOP_POLL_SECONDS)

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Context manager. Signals inside stop the server, and are raised again afterwards."""
        self.install_signal_handlers()
        try:
            yield
        finally:
            self._restore_signal_handlers()
        self._pass_signals_on()

    def install_signal_handlers(self) -> None:
        """Handle SIGINT, SIGTERM and SIGHUP, on the main thread only."""
        if threading.current_thread() is not threading.main_thread() or self._loop is None:
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            # Not `loop.add_signal_handler`, which would replace the handler of another server on the same loop.
            self._signals[number] = signal.signal(number, self.handle_exit)
        if self.config.settings.ssl_certfile:
            self._signals[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_hangup)
            return
        hangup = signal.getsignal(signal.SIGHUP)
        if hangup is signal.SIG_DFL or isinstance(getattr(hangup, "__self__", None), Server):
            # The default action kills the process in the middle of its requests. `nohup` sets SIG_IGN.
            self._signals[signal.SIGHUP] = signal.signal(signal.SIGHUP, self.handle_exit)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop gracefully, or abort the open requests if already stopping."""
        is_ignored = sig == signal.SIGHUP or (sig == signal.SIGTERM and self._captured == [signal.SIGINT])
        if self._should_exit and not is_ignored:
            # At a third signal, the application may be blocking the event loop.
            if self.force_exit and sig == signal.SIGINT:
                raise KeyboardInterrupt
            self.force_exit = True
        self.should_exit = True
        if sig not in self._captured:
            self._captured.append(sig)

    def _on_hangup(self, sig: int, frame: FrameType | None) -> None:
        if self._tls is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(reload_certificates, self._tls, self.config.settings)

    def _restore_signal_handlers(self) -> None:
        # Unless other code has replaced the handler since; an event loop that has removed its own leaves the default.
        replaceable = (self.handle_exit, self._on_hangup, signal.SIG_DFL, signal.default_int_handler)
        for number, previous in self._signals.items():
            if previous is not None and signal.getsignal(number) in replaceable:
                signal.signal(number, previous)

    def _pass_signals_on(self) -> None:
        captured, self._captured = self._captured, []
        signals, self._signals = self._signals, {}
        for number in captured:
            handler = signals.get(number)
            if self._is_alone and handler in (signal.SIG_DFL, signal.default_int_handler):
                self.interrupted = handler is signal.default_int_handler
            elif number in signals:
                # For the handlers of the embedding program.
                signal.raise_signal(number)

    def _close(self) -> None:
        servers, self.servers = self.servers, []
        for acceptor in servers:
            acceptor.abort()
        sockets, self._sockets = self._sockets, []
        close_sockets(sockets)
        if self._clock is not None:
            self._clock.stop()
        context = self._context
        if context is not None:
            context.close()
