"""The interface of a Router."""

from __future__ import annotations

from bisect import bisect
from typing import Any, final

from uvicorn.core.exchange import HTTPExchange
from uvicorn.interfaces.base import Interface
from uvicorn.routing.applications import Applications, OwningInterface
from uvicorn.routing.entries import HTTP, WEBSOCKET, Entry
from uvicorn.routing.table import Answer, Table
from uvicorn.settings import Settings


@final
class Refusal(Interface):
    """Answers a request that no entry takes."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def serve_http(self, exchange: HTTPExchange) -> None:
        exchange.respond(*self._answer)


@final
class RouterInterface(OwningInterface):
    """Passes each request to the interface of the matching entry."""

    name = "router"

    def __init__(self, router: Any, table: Table, settings: Settings) -> None:
        self._table = table
        self._bounds = [] if table.has_hosts else table.any_host.bounds
        # For each range of paths the entry that takes all HTTP requests, and its interface. None if more than the path
        # decides.
        self._places: list[tuple[Entry, Interface] | None] = []
        super().__init__(router, table.all, settings)
        # If all applications get handshakes as GET requests, and no entry is for WebSockets only, entries for HTTP and
        # entries with methods take them.
        self._handshake_protocol = (
            WEBSOCKET if self.serves_websockets or any(entry.protocol == WEBSOCKET for entry in table.entries) else HTTP
        )
        #: Whether entries depend on header fields: on the host, or on the method that a preflight asks for.
        self.reads_fields = table.has_hosts or table.has_methods
        for interface in self.interfaces.values():
            if isinstance(interface, RouterInterface):
                self.reads_fields |= interface.reads_fields

    def _join(self, applications: Applications) -> None:
        super()._join(applications)
        certain = [None] if self._table.has_hosts else self._table.any_host.certain
        self._places = [None if entry is None else (entry, self.interfaces[entry]) for entry in certain]

    def serve_http(self, exchange: HTTPExchange) -> None:
        endpoint = exchange.endpoint
        place = None if endpoint.root_path else self._places[bisect(self._bounds, exchange.path)]
        if place is None:
            self._place(exchange, HTTP).serve_http(exchange)
            return
        # As `_place`, without its calls.
        entry, interface = place
        seen = endpoint.seen
        if seen is None or seen.entry is not entry:
            seen = endpoint.seen_by(entry, entry.prefix if entry.moves_root else "")
        exchange.endpoint = seen
        interface.serve_http(exchange)

    def at(self, exchange: HTTPExchange) -> Interface:
        return self._place(exchange, self._handshake_protocol).at(exchange)

    def leaf(self, path: str, host: str, protocol: str, method: str) -> tuple[Interface, str] | None:
        """Return the interface and Mount prefix for a request, or None if no entry matches."""
        # `host` is a result of `host_name`, and `method` a result of `intended_method`.
        entry = self._table.find(path, host, protocol, method)
        if entry is None:
            return None
        interface = self.interfaces[entry]
        prefix = entry.prefix if entry.moves_root else ""
        if not isinstance(interface, RouterInterface):
            return interface, prefix
        found = interface.leaf(path[len(prefix) :], host, protocol, method)
        return None if found is None else (found[0], prefix + found[1])

    def _place(self, exchange: HTTPExchange, protocol: str) -> Interface:
        endpoint = exchange.endpoint
        path = exchange.path
        root_path = ""
        if endpoint.root_path:
            root_path = exchange.root_path
            path = path[len(root_path) :]
        entry = self._table.find_by_fields(path, exchange.fields, protocol, exchange.method)
        if entry is None:
            return Refusal(self._table.refusal(path, exchange.fields, protocol))
        exchange.endpoint = endpoint.seen_by(
            entry, root_path + entry.prefix if entry.moves_root else endpoint.root_path
        )
        return self.interfaces[entry]
