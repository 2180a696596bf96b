"""The table of a Router, which finds the most specific entry for a request.

An entry with a host comes first, then an exact path, then a longer prefix, then an entry with a protocol, then an entry
with methods. The order in which the entries were written does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, Protocol, TypeVar, final

from uvicorn.errors import ConfigError

HTTP: Final = "http"
WEBSOCKET: Final = "websocket"


class TableEntry(Protocol):
    """The attributes of an entry that decide which requests it takes."""

    @property
    def prefix(self) -> str:
        """The path without a final `/*`."""

    @property
    def is_exact(self) -> bool:
        """Whether the entry takes `prefix` only, and no path below it."""

    @property
    def host(self) -> str | None:
        """The host in lower case, without port and final dot. None for all hosts."""

    @property
    def protocol(self) -> str | None:
        """`http` or `websocket`. None for both."""

    @property
    def methods(self) -> frozenset[str] | None:
        """The methods, with HEAD if there is GET. None for all methods. An entry with methods takes no WebSocket."""


E = TypeVar("E", bound=TableEntry)


@final
class Table(Generic[E]):
    """The entries of one Router, and its default."""

    def __init__(self, entries: Iterable[E], default: E | None = None) -> None:
        """Raise ConfigError if two entries of the same rank would take the same request."""
        self.entries = tuple(entries)
        self.default = default
        #: The entries that have no host.
        self.any_host: Paths[E] = Paths()
        self._hosts: dict[str, Paths[E]] = {}
        #: Whether some entry has a host, or methods: otherwise those of a request do not matter.
        self.has_hosts = self.has_methods = False
        for entry in self.entries:
            paths = self.any_host
            if entry.host is not None:
                paths = self._hosts.setdefault(entry.host, Paths())
                self.has_hosts = True
            paths.add(entry)
            self.has_methods = self.has_methods or entry.methods is not None
        for paths in (self.any_host, *self._hosts.values()):
            paths.root.complete()

    def find(self, path: str, host: str, protocol: str, method: str) -> E | None:
        """Return the entry for a request, or None. `path` is decoded, without the root path."""
        entry = None
        if self.has_hosts and (paths := self._hosts.get(host)) is not None:
            entry = paths.find(path, protocol, method)
        if entry is None:
            entry = self.any_host.find(path, protocol, method)
        return self.default if entry is None else entry

    def allowed_methods(self, path: str, host: str) -> frozenset[str]:
        """Return the methods of the HTTP entries for `path`. For use after `find` has returned None."""
        return frozenset().union(
            *(
                entry.methods or ()
                for entry in self.entries
                if entry.host in (None, host)
                and entry.protocol != WEBSOCKET
                and (path == entry.prefix or (not entry.is_exact and path.startswith(entry.prefix + "/")))
            )
        )


def host_name(field: str) -> str:
    """Return the host of a `host` field in lower case, without port and final dot."""
    text = field.lower()
    if text.startswith("["):
        return text[: text.find("]") + 1]
    return text.partition(":")[0].removesuffix(".")


class _Node(Generic[E]):
    """A node of the tree of prefixes, for one path segment."""

    __slots__ = ("below", "candidates", "certain", "entries")

    def __init__(self) -> None:
        self.below: dict[str, _Node[E]] = {}
        #: The entries whose prefix ends here.
        self.entries: list[E] = []
        #: These, and behind them those of shorter prefixes: in the order in which they are asked.
        self.candidates: tuple[E, ...] = ()
        #: The first of them if it takes every request.
        self.certain: E | None = None

    def complete(self, shorter: tuple[E, ...] = ()) -> None:
        """Set the candidates of this node and of all nodes below."""
        self.candidates = (*self.entries, *shorter)
        if self.candidates and self.candidates[0].protocol is None and self.candidates[0].methods is None:
            self.certain = self.candidates[0]
        for node in self.below.values():
            node.complete(self.candidates)


class Paths(Generic[E]):
    """The entries for one host, or for all hosts."""

    __slots__ = ("_cut", "_depth", "_exact", "_longest_exact", "root")

    def __init__(self) -> None:
        self.root: _Node[E] = _Node()
        self._exact: dict[str, list[E]] = {}
        self._longest_exact = 0
        # A path is cut to this before it is looked up: to one segment more than the longest prefix has, and to one
        # character more, which is enough to see that a segment goes on.
        self._depth = 0
        self._cut = 1

    def add(self, entry: E) -> None:
        """Add an entry after the more specific entries with the same path. Raise ConfigError for an equal entry."""
        if entry.is_exact:
            self._longest_exact = max(self._longest_exact, len(entry.prefix))
            entries = self._exact.setdefault(entry.prefix, [])
        else:
            node = self.root
            segments = entry.prefix.split("/")[1:]
            for segment in segments:
                node = node.below.setdefault(segment, _Node())
            self._depth = max(self._depth, len(segments))
            self._cut = max(self._cut, len(entry.prefix) + 1)
            entries = node.entries
        for other in entries:
            if _rank(other) == _rank(entry) and _overlap(other, entry):
                raise ConfigError(
                    f"Router: {other!r} and {entry!r} take the same requests; expected different paths, hosts, "
                    "protocols or methods"
                )
        entries.append(entry)
        entries.sort(key=_rank)

    def find(self, path: str, protocol: str, method: str) -> E | None:
        """Return the most specific entry that takes the request."""
        if len(path) <= self._longest_exact and path in self._exact:
            for entry in self._exact[path]:
                if _takes(entry, protocol, method):
                    return entry
        node = self.root
        if path[:1] == "/":
            for segment in path[1 : self._cut].split("/", self._depth):
                below = node.below.get(segment)
                if below is None:
                    break
                node = below
        elif path:
            # `OPTIONS *`.
            return None
        certain = node.certain
        if certain is not None:
            return certain
        for entry in node.candidates:
            if _takes(entry, protocol, method):
                return entry
        return None


def _rank(entry: TableEntry) -> tuple[bool, bool]:
    return entry.protocol is None, entry.methods is None


def _takes(entry: TableEntry, protocol: str, method: str) -> bool:
    return (entry.protocol is None or entry.protocol == protocol) and (
        entry.methods is None or (protocol == HTTP and method in entry.methods)
    )


def _overlap(one: TableEntry, other: TableEntry) -> bool:
    """Whether two entries of the same path, host and rank would take the same request."""
    if one.protocol != other.protocol:
        return False
    return one.methods is None or other.methods is None or not one.methods.isdisjoint(other.methods)
