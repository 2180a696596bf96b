"""`manage.py runserver`, with this server in place of Django's."""

from __future__ import annotations

import atexit
import logging
import socket
import socketserver
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core.servers.basehttp import get_internal_wsgi_application
from django.core.signals import request_started
from django.template.autoreload import reset_loaders

from uvicorn import Config, Server
from uvicorn.django.site import application, with_static_files

# Without static files of its own, the command of Django's core.
if apps.is_installed("django.contrib.staticfiles"):
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.contrib.staticfiles.management.commands.runserver import Command as RunserverCommand
else:
    from django.core.management.commands.runserver import Command as RunserverCommand

# For handlers to finish when the command ends or restarts: people wait for it.
_GRACEFUL_SECONDS: Final = 1.0


class DevelopmentServer:
    """The server that `django.core.servers.basehttp.run` creates. The constructor binds the socket."""

    def __init__(self, address: tuple[str, int], handler_class: object, ipv6: bool = False) -> None:
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        self._socket = socket.create_server(address, family=family, backlog=2048)
        self.server_port: int = self._socket.getsockname()[1]
        self._app: Callable[..., Any] | None = None

    def set_app(self, app: Callable[..., Any]) -> None:
        self._app = app

    def serve_forever(self) -> None:
        """Serve until Ctrl-C or a reload."""
        assert self._app is not None
        # Django mixes this class in unless --nothreading is given.
        threads = None if isinstance(self, socketserver.ThreadingMixIn) else 1
        server = Server(Config(self._app, threads=threads, timeout_graceful_shutdown=_GRACEFUL_SECONDS))
        # The command has printed where the server runs.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        if threading.current_thread() is not threading.main_thread():
            # The reloader waits for changes in the main thread, which ends the process and this thread with it.
            atexit.register(_stop, server, threading.current_thread())
        server.run([self._socket])


def _stop(server: Server, thread: threading.Thread) -> None:
    server.should_exit = True
    thread.join(2 * _GRACEFUL_SECONDS)


def _forget_templates(**_: Any) -> None:
    # A render in another thread keeps its template. Django's Jinja2 backend compares the files itself with DEBUG.
    reset_loaders()


class Command(RunserverCommand):  # type: ignore[misc]
    help = "Starts a web server for development, which serves WebSockets and coroutines too."
    server_cls = DevelopmentServer

    def get_handler(self, *args: Any, **options: Any) -> Any:
        if options.get("use_reloader") and settings.DEBUG:
            # Django's reloader resets the loaders too, at its next scan: up to a second after the change.
            request_started.connect(_forget_templates)
        app = application()
        if options.get("use_static_handler") and (settings.DEBUG or options["insecure_serving"]):
            app = with_static_files(app, StaticFilesHandler(get_internal_wsgi_application()))
        return app

    def on_bind(self, server_port: int) -> None:
        host = f"[{self.addr}]" if self._raw_ipv6 else "0.0.0.0" if self.addr == "0" else self.addr
        self.stdout.write(
            f"{datetime.now():%B %d, %Y - %X}\n"
            f"Django version {self.get_version()}, using settings {settings.SETTINGS_MODULE!r}\n"
            f"Starting uvicorn for development at {self.protocol}://{host}:{server_port}/\n"
            "Quit the server with CONTROL-C."
        )
