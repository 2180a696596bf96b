"""Passes requests to gunicorn's access log, statsd and hooks."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import cached_property
from io import FileIO
from typing import Any, cast, final

from gunicorn import config

from uvicorn.core.endpoint import is_below
from uvicorn.core.exchange import STREAMING, HTTPExchange, HTTPGateway
from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.interfaces.environ import build_environ
from uvicorn.interfaces.handlers import answer_failure
from uvicorn.server.access_log import printable
from uvicorn.server.context import ServedInterface
from uvicorn.types import Headers
from uvicorn.wire.http1.encoder import PHRASES


@final
class Request:
    """A request with the attributes of gunicorn's Request."""

    def __init__(self, exchange: HTTPExchange) -> None:
        self.method = exchange.method
        self.path = exchange.raw_path.decode("latin-1")
        self.query = exchange.query_string.decode("latin-1")
        self.uri = f"{self.path}?{self.query}" if self.query else self.path
        self.version = tuple(map(int, exchange.http_version.split(".")))
        self.headers = [
            (name.decode("latin-1").upper(), value.decode("latin-1"))
            for name, value in zip(*exchange.fields, strict=True)
        ]
        self.scheme = exchange.scheme
        self.remote_addr = exchange.client


@final
class Response:
    """A response with the attributes of gunicorn's Response."""

    def __init__(self, status: int, headers: Headers, sent: int) -> None:
        self.status_code = status
        self.status = f"{status} {PHRASES.get(status, '')}".rstrip()
        self.headers = [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in headers]
        self.sent = self.response_length = sent


class Observer:
    """Passes request data to gunicorn's access log, statsd, `pre_request` and `post_request`."""

    def __init__(self, worker: Any) -> None:
        cfg = worker.cfg
        self.worker = worker
        #: Of the server. A Router gives its applications longer ones.
        self.root_path = ""
        # The first five make gunicorn's logger write access lines.
        self.logs = bool(
            cfg.accesslog
            or cfg.logconfig
            or cfg.logconfig_dict
            or getattr(cfg, "logconfig_json", None)
            or (cfg.syslog and not cfg.disable_redirect_access_to_syslog)
            or cfg.statsd_host
        )
        self.pre_request = cfg.pre_request if cfg.pre_request is not config.PreRequest.pre_request else None
        self.post_request = cfg.post_request if cfg.post_request is not config.PostRequest.post_request else None

    def log(self, exchange: HTTPExchange, sent: int, seconds: float, outcome: str) -> None:
        """Log a complete or aborted exchange to gunicorn's access log."""
        gateway = exchange.gateway
        # Requests that never reached the application, such as a 503 of an overloaded server, have no recorded duration.
        observed = gateway if isinstance(gateway, ObservedGateway) else ObservedGateway(gateway, exchange, self)
        try:
            self.worker.log.access(observed.response, observed.request, observed.environ, observed.took)
        except Exception:
            self.worker.log.exception("%s: gunicorn's access log failed", exchange)


@final
class ObservedInterface:
    """Forwards all calls to an interface, and observes each exchange."""

    def __init__(self, interface: ServedInterface, observer: Observer) -> None:
        self._interface = interface
        self._observer = observer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._interface, name)

    def at(self, exchange: HTTPExchange) -> Any:
        interface = self._interface.at(exchange)
        return self if interface is self._interface else ObservedInterface(interface, self._observer)

    def serve_http(self, exchange: HTTPExchange) -> None:
        if self._begin(exchange):
            self._interface.serve_http(exchange)

    def serve_handshake(self, session: WebSocketSession) -> None:
        if self._begin(session.request):
            self._interface.serve_handshake(session)

    def _begin(self, exchange: HTTPExchange) -> bool:
        gateway = ObservedGateway(exchange.gateway, exchange, self._observer)
        exchange.gateway = cast(HTTPGateway, gateway)
        if self._observer.pre_request is not None:
            try:
                self._observer.pre_request(self._observer.worker, gateway.request)
            except Exception as error:
                answer_failure(exchange, error)
                return False
        return True


@final
class ObservedGateway:
    """Forwards calls to a gateway, and records data for gunicorn's log."""

    def __init__(self, gateway: HTTPGateway, exchange: HTTPExchange, observer: Observer) -> None:
        self._gateway = gateway
        self._exchange = exchange
        self._observer = observer
        self._began = time.monotonic()
        self._headers: Headers = ()
        self._sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    @cached_property
    def request(self) -> Request:
        return Request(self._exchange)

    @cached_property
    def environ(self) -> dict[str, Any]:
        """The environ for gunicorn's access log and `post_request`. PATH_INFO is escaped."""
        endpoint = self._exchange.endpoint
        # Restored below, because the interface may have added keys to it.
        template = endpoint.environ_template
        environ = build_environ(self._exchange)
        if template is not None:
            endpoint.environ_template = template
        if endpoint.via:
            # The paths as if there were no Mount.
            path, root_path = environ["SCRIPT_NAME"] + environ["PATH_INFO"], self._observer.root_path
            script_name = root_path.encode().decode("latin-1") if is_below(self._exchange.path, root_path) else ""
            environ["SCRIPT_NAME"], environ["PATH_INFO"] = script_name, path[len(script_name) :]
        environ["PATH_INFO"] = printable(environ["PATH_INFO"].encode("latin-1"))
        return environ

    @property
    def response(self) -> Response:
        exchange = self._exchange
        is_empty = exchange.method == "HEAD" or exchange.status in (101, 204, 304)
        return Response(exchange.status, self._headers, 0 if is_empty else self._sent)

    @property
    def took(self) -> timedelta:
        return timedelta(seconds=time.monotonic() - self._began)

    # What the exchange calls

    def send_response(
        self, exchange: HTTPExchange, status: int, headers: Headers, content: bytes, more_content: bool, reason: bytes
    ) -> None:
        headers = list(headers)
        self._gateway.send_response(exchange, status, headers, content, more_content, reason)
        self._headers = headers
        self._sent = len(content)

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        self._gateway.send_content(exchange, content, more_content)
        self._sent += len(content)

    async def send_file(self, exchange: HTTPExchange, file: FileIO, count: int, start: int = 0) -> None:
        before = self._sent
        await self._gateway.send_file(exchange, file, count, start)
        if exchange.state is STREAMING:
            # With TLS, `send_content` has counted the file already.
            self._sent = before + count

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        self._gateway.exchange_ended(exchange)
        if self._observer.post_request is not None:
            try:
                self._observer.post_request(self._observer.worker, self.request, self.environ, self.response)
            except Exception:
                self._observer.worker.log.exception("Exception in post_request hook")
