"""A gunicorn worker that runs our server on gunicorn's sockets."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import ssl
import sys
import threading
import time
from dataclasses import dataclass
from socket import socket
from types import FrameType
from typing import Any, ClassVar, Final, Never

from gunicorn import sock
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from uvicorn import process_count
from uvicorn.config import Config
from uvicorn.errors import ConfigError, StartupError
from uvicorn.interfaces.detect import build_interface
from uvicorn.server.access_log import AccessLog, log_exchange
from uvicorn.server.clock import Clock
from uvicorn.server.context import ServedInterface
from uvicorn.server.loops import loop_factory, run
from uvicorn.server.process_end import STOPPING_SECONDS
from uvicorn.server.server import Server
from uvicorn.settings import Settings
from uvicorn.workers.gunicorn_settings import IGNORED, ignored_settings, keywords_of
from uvicorn.workers.request_log import ObservedInterface, Observer

_POLL_SECONDS: Final = 1.0


def end_with_arbiter(ppid: int, grace: float, noticed: threading.Event) -> None:
    """Kill this process `grace` seconds after the arbiter's death, or later."""
    while os.getppid() == ppid:
        time.sleep(_POLL_SECONDS)
    time.sleep(grace)
    if noticed.is_set():
        time.sleep(STOPPING_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


class UvicornWorker(Worker):  # type: ignore[misc]
    """A gunicorn worker class for applications of all kinds.

    Subclasses set keywords of `uvicorn.Config`: `CONFIG_KWARGS = {"timeout_header": 5.0}`.
    """

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {}

    def init_process(self) -> None:
        self._status = 0
        self._noticed = threading.Event()
        # Started before the application is imported, because the import may block too.
        arguments = self.ppid, self.cfg.graceful_timeout, self._noticed
        threading.Thread(target=end_with_arbiter, args=arguments, daemon=True).start()
        process_count.count = self.cfg.workers
        # The server logs to gunicorn's error log.
        error_log = self.log.error_log
        logger = logging.getLogger("uvicorn")
        logger.handlers, logger.propagate = error_log.handlers, error_log.propagate
        logger.setLevel(error_log.level)
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        source = getattr(self.app, "app_uri", None)
        try:
            self._server = self._build_server(repr(source) if source else "the application")
        except ConfigError as error:
            self.log.error("%s", error)
            # The arbiter then exits instead of starting another worker that would fail in the same way.
            sys.exit(Arbiter.APP_LOAD_ERROR)

    def run(self) -> None:
        if not self.alive:
            return
        # Loaded modules stay in memory: exempt them from garbage collection.
        gc.collect()
        gc.freeze()
        try:
            run(self._serve(), self._server.config.settings.loop)
        except (ConfigError, StartupError) as error:
            if self.alive:
                self.log.error("%s", error)
                sys.exit(Arbiter.WORKER_BOOT_ERROR)
            # Stopped during startup: WORKER_BOOT_ERROR would make the arbiter exit.
            self.log.info("%s", error)
        if self._status:
            sys.exit(self._status)

    def handle_abort(self, number: int, frame: FrameType | None) -> Never:
        # gunicorn sends SIGABRT if the event loop is blocked for longer than the timeout.
        # Not on the blocked loop: a plain signal handler, whose SystemExit interrupts the blocking call.
        self.alive = False
        self._status = 1
        self._server.force_exit = True
        self.cfg.worker_abort(self)
        sys.exit(1)

    def _build_server(self, source: str) -> Server:
        for name in ignored_settings(self.cfg):
            self.log.warning("gunicorn's setting %s is ignored: %s", name, IGNORED[name])
        observer = Observer(self)
        config = Config(
            self.wsgi,
            **{"log_config": None, **keywords_of(self.cfg), "access_log": observer.logs, **self.CONFIG_KWARGS},
        )
        config.configure_logging()
        if config.settings.metrics:
            raise ConfigError(
                "metrics: gunicorn's workers cannot share an address; use gunicorn's --statsd-host, or "
                "Route('/_status', report(token=...)), which shows the numbers of the worker that responds"
            )
        # Raise now if the configured event loop is not installed.
        loop_factory(config.settings.loop)
        interface: Any = config.load() if config.factory else build_interface(self.wsgi, config.settings, source)
        observer.root_path = config.settings.root_path
        if observer.logs or observer.pre_request or observer.post_request:
            interface = ObservedInterface(interface, observer)
        clock = Clock()
        clock.on_tick(self._tick)
        loaded = _Loaded(self.cfg, config.settings, interface)
        return _Server(self, loaded, clock, observer.log if observer.logs else log_exchange)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        # The reloader's thread writes to this pipe after it has set `alive` to false.
        loop.add_reader(self.PIPE[0], self._woken)
        try:
            await self._server.serve([listening.sock for listening in self.sockets])
        finally:
            loop.remove_reader(self.PIPE[0])

    def _tick(self) -> None:
        self.notify()
        if not self.alive:
            return
        self.nr = self._server.taken
        if self.ppid != os.getppid():
            self.log.info("Parent changed, shutting down: %s", self)
            self._noticed.set()
            self._stop()
        elif self.nr >= self.max_requests:
            self.log.info("Autorestarting worker after %d requests and messages", self.nr)
            self._stop()

    def _woken(self) -> None:
        os.read(self.PIPE[0], 4096)
        if not self.alive:
            self._stop()

    def _stop(self) -> None:
        self.alive = False
        self._server.should_exit = True

    def _quit(self) -> None:
        self.alive = False
        self._server.force_exit = True
        try:
            self.cfg.worker_int(self)
        except Exception:
            self.log.exception("Exception in worker_int hook")


class _Server(Server):
    def __init__(self, worker: UvicornWorker, config: _Loaded, clock: Clock, access_log: AccessLog) -> None:
        super().__init__(config, clock, access_log)
        self._worker = worker

    def install_signal_handlers(self) -> None:
        # The signals that the arbiter sends to a worker, except SIGABRT.
        loop, worker = asyncio.get_running_loop(), self._worker
        loop.add_signal_handler(signal.SIGTERM, worker._stop)
        for number in (signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, worker._quit)
        loop.add_signal_handler(signal.SIGUSR1, worker.log.reopen_files)
        loop.add_signal_handler(signal.SIGWINCH, worker.handle_winch, signal.SIGWINCH, None)


@dataclass
class _Loaded:
    #: gunicorn's configuration, for the TLS settings.
    cfg: Any
    settings: Settings
    interface: ServedInterface

    def load(self) -> ServedInterface:
        return self.interface

    def ssl_context(self) -> ssl.SSLContext | None:
        if not self.cfg.is_ssl:
            return None
        try:
            context: ssl.SSLContext = sock.ssl_context(self.cfg)
        except (OSError, ValueError) as error:
            raise ConfigError(f"the certificate is unusable: {error}; see --certfile, --keyfile, --ca-certs") from None
        # gunicorn may offer HTTP/2, which is not supported here.
        context.set_alpn_protocols(["http/1.1"])
        return context

    def open_sockets(self) -> list[socket]:
        return []
