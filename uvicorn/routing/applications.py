"""Interfaces that contain several applications."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from typing import Any, Final, final

from uvicorn.core.counts import Counts, Place
from uvicorn.errors import StartupError
from uvicorn.interfaces.base import Interface
from uvicorn.routing.entries import Default, Entry, adapted
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.app")

# Beyond the grace period, for all applications together. The server cancels a shutdown a little later.
_SHUTDOWN_SECONDS: Final = 1.5


class OwningInterface(Interface):
    """An interface that contains the interfaces of several applications."""

    def __init__(self, app: Any, entries: Iterable[Entry], settings: Settings) -> None:
        super().__init__(app, settings)
        self.interfaces = {entry: entry.build(settings) for entry in entries}
        for entry, interface in self.interfaces.items():
            if isinstance(interface, OwningInterface):
                interface.place(entry)
        self._applications = Applications()
        self._join(self._applications)
        self.wants_counts = any(interface.wants_counts for interface in self.interfaces.values())
        self.serves_websockets = any(interface.serves_websockets for interface in self.interfaces.values())
        self.takes_over = any(interface.takes_over for interface in self.interfaces.values())

    def place(self, entry: Entry) -> None:
        """Receive the entry of this interface."""

    def _join(self, applications: Applications) -> None:
        for entry, interface in self.interfaces.items():
            if isinstance(interface, OwningInterface):
                interface._join(applications)
            else:
                self.interfaces[entry] = applications.shared(entry, interface)

    @property
    def parts(self) -> list[Interface]:
        return list(dict.fromkeys(part for interface in self.interfaces.values() for part in interface.parts))

    async def startup(self) -> None:
        await self._applications.startup(self.settings.graceful_seconds)
        for table in self._tables():
            table.begin()

    async def shutdown(self, seconds: float) -> None:
        for table in self._tables():
            table.end()
        await self._applications.shutdown(seconds)

    def counted_in(self, counts: Counts, place: Place) -> None:
        counts.add(place, self.name)
        for entry, interface in self.interfaces.items():
            interface.counted_in(counts, self._place_of(entry, place))

    def _place_of(self, entry: Entry, place: Place) -> Place:
        endpoint = place.endpoint.seen_by(entry, "")
        prefix = place.prefix + entry.prefix if entry.moves_root else place.prefix
        if isinstance(entry, Default):
            return place._replace(endpoint=endpoint)
        return place._replace(endpoint=endpoint, entry=entry.name or place.prefix + entry.label, prefix=prefix)

    def _tables(self) -> Iterator[OwningInterface]:
        yield self
        for interface in self.interfaces.values():
            if isinstance(interface, OwningInterface):
                yield from interface._tables()

    def begin(self) -> None:
        """Begin background work. Called after all applications have started."""

    def end(self) -> None:
        """End the background work."""

    def contain_exits(self) -> None:
        for interface in self.interfaces.values():
            interface.contain_exits()


@final
class Applications:
    """The distinct applications of a table, including nested tables."""

    def __init__(self) -> None:
        self._found: list[Application] = []
        self._started: list[Application] = []

    def shared(self, entry: Entry, interface: Interface) -> Interface:
        """Return one interface for equal applications with equal pools."""
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
        """Start all applications in order. After a failure, shut down the started ones, and raise StartupError."""
        for application in self._found:
            try:
                await application.startup()
            except Exception as error:
                await self.shutdown(seconds)
                raise StartupError(f"{application.entry!r}: the application's startup failed") from error
            except BaseException:
                await self.shutdown(0)
                raise
            self._started.append(application)

    async def shutdown(self, seconds: float) -> None:
        """Shut down the started applications in reverse order. Their handlers have `seconds` to end."""
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
    """One application, with one interface per pool of threads."""

    def __init__(self, entry: Entry, app: Any, pool: object, interface: Interface) -> None:
        #: The first entry that names it.
        self.entry = entry
        self.app = app
        self.name = interface.name
        self._interfaces: list[tuple[object, Interface]] = [(pool, interface)]

    def interface(self, pool: object, new: Interface) -> Interface:
        """Return the interface of `pool`. A new pool gets `new`."""
        for known, interface in self._interfaces:
            if known == pool:
                return interface
        new.runs_hooks = False
        self._interfaces.append((pool, new))
        return new

    async def startup(self) -> None:
        await self._interfaces[0][1].startup()

    async def shutdown(self, seconds: float) -> None:
        """End the handlers and pools, then run the application's shutdown."""
        last = asyncio.get_running_loop().time() + seconds
        for _, interface in reversed(self._interfaces):
            await interface.shutdown(max(last - asyncio.get_running_loop().time(), 0))
