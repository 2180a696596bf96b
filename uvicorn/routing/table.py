"""Finds the most specific entry of a Router for a request.

The order of precedence is host, exact path, longer prefix, protocol, methods.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, final

from uvicorn.core.exchange import ERROR_HEADERS
from uvicorn.errors import ConfigError
from uvicorn.fields import Fields
from uvicorn.routing.entries import HTTP, WEBSOCKET, Entry
from uvicorn.types import Headers


class Answer(NamedTuple):
    """The response to a request that no entry takes."""

    status: int
    headers: Headers
    content: bytes


NOT_FOUND: Final = Answer(404, ERROR_HEADERS, b"Not Found\n")


@final
class Table:
    """The entries and the default of one Router."""

    def __init__(self, entries: Iterable[Entry], default: Entry | None = None) -> None:
        """Raise ConfigError if two equally specific entries take the same request."""
        self.entries = tuple(entries)
        self.default = default
        #: The entries and the default.
        self.all = self.entries if default is None else (*self.entries, default)
        by_host: dict[str | None, list[Entry]] = {None: []}
        for entry in self.entries:
            by_host.setdefault(entry.host, []).append(entry)
        #: The entries that have no host.
        self.any_host = Paths(by_host.pop(None), default)
        self._hosts = {host: Paths(entries) for host, entries in by_host.items()}
        #: Whether some entry has a host, or methods: otherwise those of a request do not matter.
        self.has_hosts = bool(by_host)
        self.has_methods = any(entry.methods is not None for entry in self.entries)

    def find(self, path: str, host: str, protocol: str, method: str) -> Entry | None:
        """Return the entry that takes a request, or None if no entry matches."""
        # `path` is decoded, and lacks the root path.
        entry = None
        if self.has_hosts and (paths := self._hosts.get(host)) is not None:
            entry = paths.find(path, protocol, method)
        return self.any_host.find(path, protocol, method) if entry is None else entry

    def find_by_fields(self, path: str, fields: Fields, protocol: str, method: str) -> Entry | None:
        """Return the entry for a request with these header fields, or None if no entry matches."""
        if method == "OPTIONS" and self.has_methods:
            method = intended_method(method, field_value(fields, b"access-control-request-method"))
        host = host_name(field_value(fields, b"host")) if self.has_hosts else ""
        return self.find(path, host, protocol, method)

    def allowed_methods(self, path: str, host: str) -> set[str]:
        """Return the methods that entries accept at `path`. Valid only after `find` returned None."""
        allowed: set[str] = set()
        for entry in self.entries:
            if entry.host in (None, host) and entry.protocol != WEBSOCKET:
                if path == entry.prefix or (not entry.is_exact and path.startswith(entry.prefix + "/")):
                    allowed |= entry.methods or set()
        return allowed

    def refusal(self, path: str, fields: Fields, protocol: str) -> Answer:
        """Return 405 if the path has entries for other HTTP methods, otherwise 404."""
        allowed = self.allowed_methods(path, host_name(field_value(fields, b"host"))) if protocol == HTTP else ()
        if not allowed:
            return NOT_FOUND
        allow = (b"allow", ", ".join(sorted(allowed)).encode())
        return Answer(405, (*ERROR_HEADERS, allow), b"Method Not Allowed\n")


def field_value(fields: Fields, name: bytes) -> str:
    """Return the first value of a field, or "" if the field is absent."""
    names, values = fields
    return values[names.index(name)].decode("latin-1") if name in names else ""


def intended_method(method: str, asked: str) -> str:
    """Return a CORS preflight's requested method, otherwise `method`."""
    return asked.strip() or method if method == "OPTIONS" else method


def host_name(field: str) -> str:
    """Return a Host field in lower case, without port and final dot."""
    text = field.lower()
    if text.startswith("["):
        return text[: text.find("]") + 1]
    return text.partition(":")[0].removesuffix(".")


@final
class Paths:
    """The entries for one host, or for all hosts."""

    __slots__ = ("bounds", "certain", "_candidates")

    def __init__(self, entries: Iterable[Entry], default: Entry | None = None) -> None:
        exact: dict[str, list[Entry]] = {}
        prefixes: dict[str, list[Entry]] = {}
        for entry in entries:
            _add(entry, (exact if entry.is_exact else prefixes).setdefault(entry.prefix, []))
        # Ranges of paths, sorted as text: all paths of a range match the same entries, so a lookup is a binary search.
        last = () if default is None else (default,)
        #: The first path of each range, without the range of the smallest paths.
        self.bounds: list[str] = []
        # For each range the entries in the order in which they are asked.
        self._candidates: list[tuple[Entry, ...]] = [last]
        for path in sorted({bound for prefix in (*exact, *prefixes) for bound in _bounds(prefix)}):
            found = [*exact.get(path, ())]
            for prefix in _prefixes(path):
                found += prefixes.get(prefix, ())
            candidates = (*found, *last)
            if candidates != self._candidates[-1]:
                self.bounds.append(path)
                self._candidates.append(candidates)
        #: For each range the entry that takes all HTTP requests. None if the method decides, or if there is no entry.
        self.certain: list[Entry | None] = [_certain(candidates) for candidates in self._candidates]

    def find(self, path: str, protocol: str, method: str) -> Entry | None:
        """Return the most specific entry that takes the request."""
        number = bisect(self.bounds, path)
        entry = self.certain[number]
        if entry is not None and protocol == HTTP:
            return entry
        for entry in self._candidates[number]:
            if entry.protocol is None or entry.protocol == protocol:
                if entry.methods is None or (protocol == HTTP and method in entry.methods):
                    return entry
        return None


def _add(entry: Entry, entries: list[Entry]) -> None:
    for other in entries:
        if _rank(other) == _rank(entry) and _overlap(other, entry):
            raise ConfigError(
                f"Router: {other!r} and {entry!r} take the same requests; expected different paths, hosts, "
                "protocols or methods"
            )
    entries.append(entry)
    entries.sort(key=_rank)


def _bounds(prefix: str) -> tuple[str, ...]:
    # The range with only `prefix`, then the range of all paths below it.
    return prefix, prefix + "\0", prefix + "/", prefix + chr(ord("/") + 1)


def _prefixes(path: str) -> Iterator[str]:
    yield path
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _certain(candidates: Iterable[Entry]) -> Entry | None:
    entry = next((entry for entry in candidates if entry.protocol != WEBSOCKET), None)
    return entry if entry is None or entry.methods is None else None


def _rank(entry: Entry) -> tuple[bool, bool]:
    return entry.protocol is None, entry.methods is None


def _overlap(one: Entry, other: Entry) -> bool:
    if one.protocol != other.protocol:
        return False
    return one.methods is None or other.methods is None or not one.methods.isdisjoint(other.methods)
