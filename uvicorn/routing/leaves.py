"""Lists the applications in a tree of Routers and Shifts."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

from uvicorn.interfaces.base import Interface
from uvicorn.interfaces.detect import build_interface
from uvicorn.routing.applications import OwningInterface
from uvicorn.routing.entries import Default, Entry, adapted
from uvicorn.routing.router import Router
from uvicorn.routing.shift import Shift, ShiftInterface
from uvicorn.settings import Settings


class Leaf(NamedTuple):
    """An application, and the Routers and Shifts above it."""

    places: tuple[tuple[Router, Entry], ...]
    app: Any
    #: The adapters and middleware objects around the application.
    wrappers: tuple[Any, ...]
    #: Entries share the interface if they have the same application and the same pool of threads.
    interface: Interface
    #: The Shifts above the application, each with the side that leads to it, `old` or `new`, and the number of places.
    sides: tuple[tuple[Shift, str, int], ...] = ()

    @property
    def entry(self) -> Entry | None:
        """The application's entry, or None if the application is the whole site."""
        return self.places[-1][1] if self.places else None

    @property
    def path(self) -> str:
        """The path from the site's root, or a pattern such as `/shop/*`."""
        moved, below = self.above
        if self.entry is None or isinstance(self.entry, Default):
            return f"{moved}{below}/*" if moved or below else "*"
        return "".join(entry.prefix for _, entry in self.places[:-1] if entry.moves_root) + self.entry.path

    @property
    def above(self) -> tuple[str, str]:
        """The joined prefixes of the Mounts, and the prefix of the Route."""
        moved, below = "", ""
        for _, entry in self.places:
            if entry.moves_root:
                moved, below = moved + entry.prefix, ""
            elif not isinstance(entry, Default):
                below = entry.prefix
        return moved, below

    @property
    def is_django(self) -> bool:
        return type(self.app).__module__.startswith("django.")

    @property
    def is_first(self) -> bool:
        """Whether the application is the first in its entry."""
        return all(side == "old" for _, side, depth in self.sides if depth == len(self.places))

    def __str__(self) -> str:
        where = repr(self.entry) if self.entry is not None else "the application"
        return " ".join((where, *(side for _, side, _ in self.sides)))


def leaves_of(app: Any, settings: Settings, source: str = "the application") -> list[Leaf]:
    """Return a site's applications in the order of the entries. Raises InterfaceError."""
    return list(_leaves(app, build_interface(app, settings, source), (), ()))


def _leaves(
    app: Any,
    interface: Interface,
    places: tuple[tuple[Router, Entry], ...],
    sides: tuple[tuple[Shift, str, int], ...],
) -> Iterator[Leaf]:
    inner: Any = interface.app
    if isinstance(interface, ShiftInterface):
        for side, below in interface.interfaces.items():
            yield from _leaves(side.app, below, places, (*sides, (inner, side.path, len(places))))
    elif isinstance(interface, OwningInterface):
        for entry, below in interface.interfaces.items():
            yield from _leaves(entry.app, below, (*places, (inner, entry)), sides)
    else:
        yield Leaf(places, *_inside(app), interface, sides)


def _inside(app: Any) -> tuple[Any, tuple[Any, ...]]:
    wrappers: list[Any] = []
    while True:
        inner = adapted(app)[0]
        if inner is app and not inspect.isroutine(app) and not inspect.isclass(app):
            inner = inspect.getattr_static(app, "__wrapped__", None) or app
        if inner is app:
            return app, tuple(wrappers)
        wrappers.append(app)
        app = inner
