"""`LiveServerTestCase` serves the site's own application and WebSockets on a real port."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.test import LiveServerTestCase as DjangoLiveServerTestCase
from django.test.testcases import LiveServerThread

from uvicorn import Config, Server
from uvicorn.django.site import application, with_static_files
from uvicorn.errors import InterfaceError
from uvicorn.interfaces.detect import detect_interface

__all__ = ["LiveServerTestCase"]


class _ServerThread(LiveServerThread):  # type: ignore[misc]
    port: int

    def run(self) -> None:
        try:
            with socket.create_server((self.host, self.port), backlog=2048) as sock:
                self.port = sock.getsockname()[1]
                app = with_static_files(application(), self.static_handler(WSGIHandler()))
                app = app.mapped(self._with_connections)
                self.server = Server(Config(app, log_config=None, access_log=False))
                self.is_ready.set()
                self.server.run([sock])
        except BaseException as error:
            self.error = error
        finally:
            self.is_ready.set()
            connections.close_all()

    def terminate(self) -> None:
        if hasattr(self, "server"):
            self.server.should_exit = True
        self.join()

    def _with_connections(self, app: Any) -> Any:
        try:
            is_wsgi = detect_interface(app) == "wsgi"
        except InterfaceError:
            is_wsgi = False
        return _WithConnections(app, self.connections_override or {}) if is_wsgi else app


class _WithConnections:
    def __init__(self, app: Callable[..., Iterable[bytes]], override: dict[str, Any]) -> None:
        self._app = app
        self._override = override

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        for alias, connection in self._override.items():
            connections[alias] = connection
        content = self._app(environ, start_response)
        try:
            yield from content
        finally:
            if hasattr(content, "close"):
                content.close()
            for connection in connections.all(initialized_only=True):
                if connection is not self._override.get(connection.alias):
                    connection.close()


class LiveServerTestCase(DjangoLiveServerTestCase):  # type: ignore[misc]
    """Serves the site's application at `self.live_server_url` during the tests.

    With sqlite in memory, WSGI applications use the test's database connections. Static files need no `collectstatic`.
    """

    server_thread_class = _ServerThread
    static_handler = StaticFilesHandler
