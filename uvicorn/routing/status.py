"""Applications that show statistics to clients with a token."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Any, ClassVar, Final

from uvicorn import process_count
from uvicorn.core.counts import Counts, Place
from uvicorn.core.exchange import ERROR_HEADERS, HTTPExchange
from uvicorn.errors import ConfigError
from uvicorn.interfaces.base import Interface
from uvicorn.routing.entries import Unservable
from uvicorn.routing.table import NOT_FOUND, field_value
from uvicorn.settings import Settings

# The characters of a bearer token (RFC 6750, section 2.1). 16 of them are too many to guess.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")

_NOT_COUNTED: Final = b"Requests are counted only by uvicorn and by its gunicorn worker.\n"


class StatusEntry(Unservable):
    """Base class of `Metrics` and `Report`."""

    __uvicorn_no_kind__ = (
        "report(...) and metrics(...) are applications for an entry of a Router, such as "
        "Route('/metrics', metrics(token=...))"
    )
    #: The name of the function that makes it.
    name: ClassVar[str]

    def __init__(self, token: str) -> None:
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            # Not the token itself, which is a secret.
            raise ConfigError(
                f"{self.name}: token: expected at least 16 letters, digits or characters of '._~+/-'; "
                "make one by: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        self._expected = token.encode()

    def __uvicorn_interface__(self, settings: Settings) -> StatusInterface:
        return StatusInterface(self, settings)

    def mapped(self, wrap: Callable[[Any], Any]) -> StatusEntry:
        return self

    def __repr__(self) -> str:
        return f"{self.name}(token=...)"

    def permits(self, authorization: str) -> bool:
        """Return whether an Authorization field contains the token."""
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._expected)

    def check(self) -> None:
        """Raise ConfigError if the number of processes is unsupported."""

    def response(self, counts: Counts, accept: str) -> tuple[bytes, bytes]:
        """Return the content type and the content. `accept` is the request's Accept field."""
        raise NotImplementedError


class Metrics(StatusEntry):
    """The metrics of this process."""

    name = "metrics"

    def check(self) -> None:
        if process_count.are_several():
            raise ConfigError(
                "an application made by metrics(): expected one process, because each process counts only its own "
                "requests; the command's option --metrics 127.0.0.1:9100 shows the requests of all workers"
            )

    def response(self, counts: Counts, accept: str) -> tuple[bytes, bytes]:
        return counts.metrics()


def metrics(*, token: str) -> Metrics:
    """Return an application that shows metrics to Prometheus.

    Example: `Route("/metrics", metrics(token=...))`. Requests without `Authorization: Bearer <token>` get 404. With
    several worker processes, startup fails. Use `--metrics` there.

    Raises ConfigError for a token that is too short or malformed.
    """
    return Metrics(token)


class StatusInterface(Interface):
    wants_counts = True

    def __init__(self, app: StatusEntry, settings: Settings) -> None:
        super().__init__(app, settings)
        self.name = app.name
        self._entry = app
        self._counts: Counts | None = None

    def counted_in(self, counts: Counts, place: Place) -> None:
        self._entry.check()
        super().counted_in(counts, place)
        self._counts = counts

    def serve_http(self, exchange: HTTPExchange) -> None:
        if not self._entry.permits(field_value(exchange.fields, b"authorization")):
            exchange.respond(*NOT_FOUND)
        elif exchange.method not in ("GET", "HEAD"):
            exchange.respond(405, (*ERROR_HEADERS, (b"allow", b"GET, HEAD")), b"Method Not Allowed\n")
        elif self._counts is None:
            exchange.respond(503, ERROR_HEADERS, _NOT_COUNTED)
        else:
            kind, content = self._entry.response(self._counts, field_value(exchange.fields, b"accept"))
            headers = (b"content-type", kind), (b"cache-control", b"no-store"), ERROR_HEADERS[1]
            exchange.respond(200, headers, content)
