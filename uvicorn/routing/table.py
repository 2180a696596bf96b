"""The table of a Router: finds the entry for a request. Pure: no I/O, and the work is bounded by the table.

The most specific entry wins, in whatever order they were written: an entry with a host before one without, an exact
path before a prefix, a longer prefix before a shorter one, then an entry with a protocol, then one with methods. An
entry that does not take the request's protocol or method is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Generic, Protocol, TypeVar, final

from uvicorn.errors import ConfigError

HTTP: Final = "http"
WEBSOCKET: Final = "websocket"


class TableEntry(Protocol):
    """The attributes of an entry that decide which requests it takes."""

    @property
    def prefix(self) -> str:
        """The path, without the `/*` of one that takes everything below it."""

    @property
    def is_exact(self) -> bool:
        """Whether it takes `prefix` alone, and nothing below it."""

    @property
    def host(self) -> str | None:
        """The host in lower case, without port and final dot; None for all."""

    @property
    def protocol(self) -> str | None:
        """`http` or `websocket`; None for both."""

    @property
    def methods(self) -> frozenset[str] | None:
        """The methods, with HEAD if there is GET; None for all. An entry with methods takes no WebSocket."""


E = TypeVar("E", bound=TableEntry)


@final
class Table(Generic[E]):
    """The entries of one Router, and the default, which takes whatever no entry takes."""

    def __init__(self, entries: Iterable[E], default: E | None = None) -> None:
        """Raise ConfigError for two entries of the same rank that would both take some request."""
        self.default = default
        self._any_host: _Paths[E] = _Paths()
        self._hosts: dict[str, _Paths[E]] = {}
        #: Whether some entry has a host, or methods: requests need not be asked for theirs otherwise.
        self.has_hosts = self.has_methods = False
        for entry in entries:
            paths = self._any_host
            if entry.host is not None:
                paths = self._hosts.setdefault(entry.host, _Paths())
                self.has_hosts = True
            paths.add(entry)
            self.has_methods = self.has_methods or entry.methods is not None

    def find(self, path: str, host: str, protocol: str, method: str) -> E | None:
        """Return the entry for a request, or None. `path` is decoded, and begins below the root path."""
        entry = None
        if self.has_hosts and (paths := self._hosts.get(host)) is not None:
            entry = paths.find(path, protocol, method)
        if entry is None:
            entry = self._any_host.find(path, protocol, method)
        return self.default if entry is None else entry

    def allowed_methods(self, path: str, host: str) -> frozenset[str]:
        """Return the methods of the HTTP entries for `path`. `find` has found none of them, so all have methods."""
        places = [self._any_host]
        if host in self._hosts:
            places.append(self._hosts[host])
        return frozenset().union(*(entry.methods or () for paths in places for entry in paths.http_entries(path)))


class _Node(Generic[E]):
    """One segment of the prefixes in the table."""

    def __init__(self) -> None:
        self.below: dict[str, _Node[E]] = {}
        self.entries: list[E] = []


class _Paths(Generic[E]):
    """The entries for one host, or for all hosts."""

    def __init__(self) -> None:
        self._exact: dict[str, list[E]] = {}
        self._longest_exact = 0
        self._root: _Node[E] = _Node()
        # Of the prefixes: the most segments, and the most characters.
        self._depth = 0
        self._longest = 0

    def add(self, entry: E) -> None:
        """Add an entry behind the more specific ones with the same path. Raise ConfigError if another equals it."""
        if entry.is_exact:
            self._longest_exact = max(self._longest_exact, len(entry.prefix))
            entries = self._exact.setdefault(entry.prefix, [])
        else:
            node = self._root
            segments = entry.prefix.split("/")[1:]
            for segment in segments:
                node = node.below.setdefault(segment, _Node())
            self._depth = max(self._depth, len(segments))
            self._longest = max(self._longest, len(entry.prefix))
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
        for entries in self._prefixes(path):
            for entry in entries:
                if _takes(entry, protocol, method):
                    return entry
        return None

    def http_entries(self, path: str) -> Iterator[E]:
        """Yield the entries that take `path` by HTTP."""
        for entries in (self._exact.get(path, []), *self._prefixes(path)):
            yield from (entry for entry in entries if entry.protocol != WEBSOCKET)

    def segments(self, path: str) -> list[str]:
        """Return the segments of `path` that are looked up: no more than a prefix of the table has.

        One character more than the longest prefix is enough to see that a segment goes on.
        """
        return path[: self._longest + 1].split("/", self._depth + 1)[1 : self._depth + 1]

    def _prefixes(self, path: str) -> list[list[E]]:
        """Return the entries of each prefix that `path` is or lies below, the longest prefix first."""
        if path and path[0] != "/":
            # `OPTIONS *`.
            return []
        node = self._root
        found = [node.entries] if node.entries else []
        if self._depth:
            for segment in self.segments(path):
                if segment not in node.below:
                    break
                node = node.below[segment]
                if node.entries:
                    found.append(node.entries)
            found.reverse()
        return found


def _rank(entry: TableEntry) -> tuple[bool, bool]:
    return entry.protocol is None, entry.methods is None


def _takes(entry: TableEntry, protocol: str, method: str) -> bool:
    return (entry.protocol is None or entry.protocol == protocol) and (
        entry.methods is None or (protocol == HTTP and method in entry.methods)
    )


def _overlap(one: TableEntry, other: TableEntry) -> bool:
    """Whether two entries of the same path, host and rank take some request both."""
    if one.protocol != other.protocol:
        return False
    return one.methods is None or other.methods is None or not one.methods.isdisjoint(other.methods)
