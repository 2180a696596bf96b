"""The interface of a Router, which owns the interfaces of its applications.

It passes each exchange, unconverted, to the interface of the entry that takes the request.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, final

from uvicorn.core.exchange import HTTPExchange
from uvicorn.errors import StartupError
from uvicorn.interfaces.base import Interface
from uvicorn.routing.entries import Entry, adapted
from uvicorn.routing.matching import Answer, find_entry, refusal
from uvicorn.routing.table import HTTP, WEBSOCKET, Table
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.app")

# Beyond the grace period, for all applications together. The server cancels a shutdown a little later.
_SHUTDOWN_SECONDS: Final = 1.5


@final
class Refusal(Interface):
    """Answers a request that no entry takes."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def serve_http(self, exchange: HTTPExchange) -> None:
        """Respond at once."""
        exchange.respond(*self._answer)


@final
class RouterInterface(Interface):
    """Passes each exchange to the interface of the entry that takes the request."""

    name = "router"

    def __init__(self, router: Any, table: Table[Entry], settings: Settings) -> None:
        super().__init__(router, settings)
        self._table = table
        self._any_host = table.any_host
        # Then the path decides, besides the protocol.
        self._is_plain = not (table.has_hosts or table.has_methods)
        entries = table.entries if table.default is None else (*table.entries, table.default)
        self._interfaces = {entry: entry.build(settings) for entry in entries}
        self._applications = Applications()
        self._join(self._applications)
        self.serves_websockets = any(interface.serves_websockets for interface in self._interfaces.values())
        #: Whether entries depend on header fields: on the host, or on the method that a preflight asks for.
        self.reads_fields: bool = not self._is_plain or any(
            interface.reads_fields for interface in self._interfaces.values() if isinstance(interface, RouterInterface)
        )

    def _join(self, applications: Applications) -> None:
        """Share one interface between entries with equal applications, also across nested Routers."""
        for entry, interface in self._interfaces.items():
            if isinstance(interface, RouterInterface):
                interface._join(applications)
            else:
                self._interfaces[entry] = applications.shared(entry, interface)

    @property
    def parts(self) -> list[Interface]:
        """The interfaces of the applications, including the applications of nested Routers."""
        return list(dict.fromkeys(part for interface in self._interfaces.values() for part in interface.parts))

    async def startup(self) -> None:
        """Start each distinct application, in the order of the entries.

        If a startup fails, shuts the started applications down and raises StartupError, which names the entry.
        """
        await self._applications.startup(self.settings.graceful_seconds)

    async def shutdown(self, seconds: float) -> None:
        """Shut the applications down in reverse order, within `seconds` in total."""
        await self._applications.shutdown(seconds)

    def contain_exits(self) -> None:
        """Have SystemExit and KeyboardInterrupt of handlers end their request only; see `HandlerTasks`."""
        for interface in self._interfaces.values():
            interface.contain_exits()

    def serve_http(self, exchange: HTTPExchange) -> None:
        """Pass the request to the application of its entry. Without an entry, refuse the request."""
        self._place(exchange, HTTP).serve_http(exchange)

    def at(self, exchange: HTTPExchange) -> Interface:
        """Return the interface for a WebSocket handshake, and set the root path of the exchange."""
        return self._place(exchange, WEBSOCKET).at(exchange)

    def leaf(self, path: str, host: str, protocol: str, method: str) -> tuple[Interface, str] | None:
        """Return the interface for a request, and the prefixes of the Mounts above it. None for a refused request.

        For hosts that call some applications without us. `host` is the result of `host_name`, and `method` the result
        of `intended_method`. Both are ignored unless `reads_fields` is true.
        """
        entry = self._table.find(path, host, protocol, method)
        if entry is None:
            return None
        interface = self._interfaces[entry]
        prefix = entry.prefix if entry.moves_root else ""
        if not isinstance(interface, RouterInterface):
            return interface, prefix
        found = interface.leaf(path[len(prefix) :], host, protocol, method)
        return None if found is None else (found[0], prefix + found[1])

    def _place(self, exchange: HTTPExchange, protocol: str) -> Interface:
        """Give the exchange the endpoint of its entry. Return the interface of the entry."""
        endpoint = exchange.endpoint
        path = exchange.path
        root_path = ""
        if endpoint.root_path:
            root_path = exchange.root_path
            path = path[len(root_path) :]
        if self._is_plain:
            entry = self._any_host.find(path, protocol, "") or self._table.default
        else:
            entry = find_entry(self._table, path, exchange.fields, protocol, exchange.method)
        if entry is None:
            return Refusal(refusal(self._table, path, exchange.fields, protocol))
        exchange.endpoint = endpoint.seen_by(
            entry, root_path + entry.prefix if entry.moves_root else endpoint.root_path
        )
        return self._interfaces[entry]


@final
class Applications:
    """The distinct applications of a Router and of its nested Routers, in the order of their entries."""

    def __init__(self) -> None:
        self._found: list[Application] = []
        self._started: list[Application] = []

    def shared(self, entry: Entry, interface: Interface) -> Interface:
        """Return the interface that equal applications with the same pool share: `interface`, if this is the first."""
        app, pool = adapted(entry.app)
        if entry.threads is not None:
            pool = entry
        for application in self._found:
            if application.name == interface.name and (application.app is app or application.app == app):
                return application.interface(pool, interface)
        application = Application(entry, app, pool, interface)
        self._found.append(application)
        return interface

    async def startup(self, seconds: float) -> None:
        """Start all applications in order. If one fails, shut down the started ones within `seconds`."""
        for application in self._found:
            try:
                await application.startup()
            except BaseException as error:
                failed = isinstance(error, Exception)
                await self.shutdown(seconds if failed else 0)
                if failed:
                    raise StartupError(f"{application.entry!r}: the application's startup failed") from error
                raise
            self._started.append(application)

    async def shutdown(self, seconds: float) -> None:
        """Shut down the started applications in reverse order, within `seconds`. Log each that fails or hangs."""
        loop = asyncio.get_running_loop()
        last = loop.time() + seconds
        ending: list[tuple[Entry, asyncio.Task[None]]] = []
        while self._started:
            application = self._started.pop()
            left = last - loop.time()
            task = loop.create_task(application.shutdown(max(left, 0)))
            ending.append((application.entry, task))
            # One that hangs leaves the others their share of the time.
            await asyncio.wait((task,), timeout=max(left + _SHUTDOWN_SECONDS, 0) / (len(self._started) + 1))
        for entry, task in ending:
            if not task.done():
                await asyncio.wait((task,), timeout=max(last + _SHUTDOWN_SECONDS - loop.time(), 0))
            if not task.done():
                logger.error("%r: the application's shutdown has not ended in time; cancelling it", entry)
                task.cancel()
                await asyncio.wait((task,), timeout=0.1)
            elif not task.cancelled() and (error := task.exception()) is not None:
                logger.error("%r: the application's shutdown failed", entry, exc_info=error)


@final
class Application:
    """One application, with an interface for each pool of threads."""

    def __init__(self, entry: Entry, app: Any, pool: object, interface: Interface) -> None:
        #: The first entry that names it.
        self.entry = entry
        self.app = app
        self.name = interface.name
        self._interfaces: list[tuple[object, Interface]] = [(pool, interface)]

    def interface(self, pool: object, new: Interface) -> Interface:
        """Return the interface that uses `pool`. If there is none yet, add `new`."""
        for known, interface in self._interfaces:
            if known == pool:
                return interface
        new.runs_hooks = False
        self._interfaces.append((pool, new))
        return new

    async def startup(self) -> None:
        """Run the application's startup, once."""
        await self._interfaces[0][1].startup()

    async def shutdown(self, seconds: float) -> None:
        """End the handlers and pools, then run the application's shutdown."""
        last = asyncio.get_running_loop().time() + seconds
        for _, interface in reversed(self._interfaces):
            await interface.shutdown(max(last - asyncio.get_running_loop().time(), 0))
