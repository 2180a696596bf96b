"""Random tables and requests, and a naive model of a table: it tries every entry, and sorts those that fit."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import Any, Final

from uvicorn.errors import ConfigError
from uvicorn.routing.entries import Entry, Mount, Route
from uvicorn.routing.table import Table

SEGMENTS: Final = ("a", "b", "shop", "shopping", "shop0", "shop-", "", "é", "x y", ".a")
# Characters before, at and after the slash, in the order of characters.
LAST: Final = ("\0", "\1", ".", "/", "0", "\U0010ffff")
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "OPTIONS", "get", "")
HOSTS: Final = ("one.example", "two.example", "[::1]")
PROTOCOLS: Final = ("http", "websocket")


def application(environ: Any, start_response: Any) -> list[bytes]:
    raise AssertionError("never called")


def random_path(chance: random.Random, most: int) -> str:
    return "".join("/" + chance.choice(SEGMENTS) for _ in range(chance.randint(0, most)))


def random_entry(chance: random.Random) -> Entry:
    host = chance.choice((None, None, *HOSTS))
    protocol = chance.choice((None, None, *PROTOCOLS))
    methods = None
    if protocol != "websocket" and chance.random() < 0.3:
        methods = tuple(chance.sample(METHODS[:4], chance.randint(1, 3)))
    path = random_path(chance, 3)
    if chance.random() < 0.3 and path and not path.endswith("/"):
        return Mount(path, application, host=host, protocol=protocol, methods=methods)
    path = chance.choice((path or "/", f"{path}/*"))
    return Route(path, application, host=host, protocol=protocol, methods=methods)


def random_table(chance: random.Random) -> tuple[list[Entry], Table, Entry | None]:
    """Entries that make a table: those that take the same requests as an earlier one are left out."""
    entries: list[Entry] = []
    for _ in range(chance.randint(1, 30)):
        entry = random_entry(chance)
        try:
            Table([*entries, entry])
        except ConfigError:
            continue
        entries.append(entry)
    default = Route("/*", application) if chance.random() < 0.5 else None
    chance.shuffle(entries)
    return entries, Table(entries, default), default


def random_request(chance: random.Random) -> tuple[str, str, str, str]:
    path = random_path(chance, 5)
    if chance.random() < 0.05:
        path = chance.choice(("*", "/" * 40, "a", "/a/\ufffd", "\x00", "/shop/" + "/" * 40))
    elif chance.random() < 0.2:
        path += chance.choice(LAST)
    return path, chance.choice((*HOSTS, "", "other")), chance.choice(PROTOCOLS), chance.choice(METHODS)


def naive_find(
    entries: Sequence[Entry], default: Entry | None, path: str, host: str, protocol: str, method: str
) -> Entry | None:
    fitting = []
    for entry in entries:
        below = path == entry.prefix or path.startswith(entry.prefix + "/")
        if not (path == entry.prefix if entry.is_exact else below):
            continue
        if entry.host not in (None, host) or entry.protocol not in (None, protocol):
            continue
        if entry.methods is not None and (protocol == "websocket" or method not in entry.methods):
            continue
        fitting.append(entry)
    fitting.sort(
        key=lambda entry: (
            entry.host is None,
            not entry.is_exact,
            -len(entry.prefix),
            entry.protocol is None,
            entry.methods is None,
        )
    )
    return fitting[0] if fitting else default


def compare(seed: int, tables: int, requests: int) -> int:
    """Compare a table with the model; return how many requests some entry took."""
    chance = random.Random(seed)
    taken = 0
    for _ in range(tables):
        entries, table, default = random_table(chance)
        for _ in range(requests):
            request = random_request(chance)
            found = table.find(*request)
            assert found is naive_find(entries, default, *request), (entries, request)
            taken += found is not None
    return taken


if __name__ == "__main__":
    wanted = int(sys.argv[1])
    compare(seed=int(sys.argv[2]) if len(sys.argv) > 2 else 1, tables=-(-wanted // 500), requests=500)
