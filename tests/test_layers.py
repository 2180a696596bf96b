"""Who may import whom. The table is the architecture; a file that breaks it, or stands outside of it, fails."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import pytest

import uvicorn

PACKAGE: Final = Path(uvicorn.__file__).parent

FOUNDATION: Final = frozenset({"errors", "escape", "types", "settings", "origins", "sending", "processes", "unsent"})
WAIST: Final = FOUNDATION | {"exchange", "session"}

#: Room to the rooms that it may import from; a room is a folder, or a file, right below `uvicorn/`.
ROOMS: Final[dict[str, frozenset[str]]] = {
    "errors": FOUNDATION,
    "escape": frozenset(),
    "types": FOUNDATION,
    "settings": FOUNDATION,
    "origins": FOUNDATION,
    "sending": FOUNDATION,
    "processes": FOUNDATION,
    "unsent": FOUNDATION,
    "protocol": FOUNDATION | {"protocol"},
    "exchange": FOUNDATION,
    # A websocket begins as an exchange.
    "session": FOUNDATION | {"exchange"},
    "interfaces": WAIST | {"interfaces"},
    "server": WAIST | {"protocol", "server"},
    "adapters": WAIST | {"interfaces", "adapters"},
    "broadcast": FOUNDATION | {"broadcast"},
    # It asks what kinds of application a module has, when a name was not given.
    "importer": frozenset({"errors", "interfaces"}),
}

#: Rooms that put the others together, and so may import any of them.
COMPOSITION: Final = frozenset(
    {"cli", "config", "familiar", "logging", "main", "workers", "worker", "utils", "__init__", "__main__"},
)

#: Protocol code is told what it needs to know of the world; nothing in it may look.
NOT_IN_PROTOCOL: Final = frozenset({"asyncio", "socket", "time", "random", "threading"})
THIRD_PARTY_IN_PROTOCOL: Final = frozenset({"httptools", "websockets"})


def room_of_file(file: PurePosixPath) -> str:
    """The room of a file whose path is given from within the package."""
    return file.parts[0].removesuffix(".py")


def room_of_module(module: str) -> str:
    """The room of `uvicorn.<room>...`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported_modules(file: PurePosixPath, source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of each module that `source` imports; `from uvicorn import x` counts as `uvicorn.x`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                package = ("uvicorn", *file.parts[:-1])
                module = ".".join((*package[: len(package) + 1 - node.level], *filter(None, [module])))
            if module != "uvicorn":
                yield node.lineno, module
                continue
            for alias in node.names:
                is_room = alias.name in ROOMS or alias.name in COMPOSITION
                yield node.lineno, f"uvicorn.{alias.name}" if is_room else "uvicorn"


def violations(file: PurePosixPath, source: str) -> list[str]:
    """What is wrong with a file's imports, one line for each."""
    room = room_of_file(file)
    if room in COMPOSITION:
        return []
    if room not in ROOMS:
        return [f"{file}: room {room!r} is not in the table of {Path(__file__).name}"]
    found: list[str] = []
    for line, module in imported_modules(file, source):
        top = module.partition(".")[0]
        if top == "uvicorn":
            if (other := room_of_module(module)) not in ROOMS[room]:
                found.append(f"{file}:{line}: {room} must not import {other}")
        elif room == "protocol":
            is_ours_to_use = top in sys.stdlib_module_names or top in THIRD_PARTY_IN_PROTOCOL
            if top in NOT_IN_PROTOCOL or not is_ours_to_use:
                found.append(f"{file}:{line}: protocol must not import {top}")
    return found


FILES: Final = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_what_its_room_may(name: str) -> None:
    assert violations(PurePosixPath(name), (PACKAGE / name).read_text(encoding="utf-8")) == []


def test_the_rooms_of_the_house_are_looked_at() -> None:
    assert {"protocol", "interfaces", "server", "exchange", "errors"} <= {
        room_of_file(PurePosixPath(name)) for name in FILES
    }


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("server/x.py", "from uvicorn.interfaces.base import Interface"),
        ("server/x.py", "import uvicorn.interfaces.base"),
        ("server/x.py", "from uvicorn import interfaces"),
        ("server/x.py", "from ..interfaces import base"),
        ("server/x.py", "from .. import interfaces"),
        ("server/deep/x.py", "from ...interfaces.base import Interface"),
        ("server/x.py", "def late():\n    from uvicorn.interfaces.base import Interface"),
        ("server/x.py", "if TYPE_CHECKING:\n    from uvicorn.interfaces.base import Interface"),
        ("interfaces/x.py", "from uvicorn.server.context import ServerContext"),
        ("interfaces/x.py", "from uvicorn.protocol.headers import is_token"),
        ("adapters/x.py", "from uvicorn.server import Server"),
        ("adapters/x.py", "import uvicorn.protocol.headers"),
        ("broadcast/x.py", "from uvicorn.exchange import HTTPExchange"),
        ("exchange.py", "from uvicorn.session import Session"),
        ("errors.py", "from uvicorn.exchange import WAITING"),
        ("importer.py", "from uvicorn.settings import Settings"),
        ("importer.py", "from uvicorn import __version__"),
        ("importer.py", "import uvicorn"),
        ("protocol/x.py", "from uvicorn.exchange import HTTPExchange"),
        ("protocol/x.py", "import asyncio"),
        ("protocol/x.py", "import asyncio.events"),
        ("protocol/x.py", "from time import monotonic"),
        ("protocol/x.py", "import os, random"),
        ("protocol/x.py", "import socket"),
        ("protocol/x.py", "from threading import Lock"),
        ("protocol/x.py", "import h11"),
    ],
)
def test_the_checker_catches(name: str, source: str) -> None:
    assert len(violations(PurePosixPath(name), source)) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("server/x.py", "from uvicorn.exchange import HTTPExchange\nimport asyncio, socket, uvicorn.protocol.headers"),
        ("server/x.py", "from . import clock\nfrom ..settings import Settings"),
        ("interfaces/x.py", "from uvicorn.interfaces.base import Interface\nimport uvicorn.session"),
        ("adapters/x.py", "from uvicorn.interfaces.detect import detect_interface"),
        ("protocol/x.py", "import re\nimport httptools\nfrom websockets.frames import Frame"),
        ("importer.py", "from uvicorn import errors"),
        ("cli.py", "from uvicorn.server.server import Server\nfrom uvicorn import __version__"),
    ],
)
def test_the_checker_allows(name: str, source: str) -> None:
    assert violations(PurePosixPath(name), source) == []


def test_the_checker_catches_a_room_that_is_not_in_the_table() -> None:
    assert violations(PurePosixPath("cellar/x.py"), "import re") == [
        "cellar/x.py: room 'cellar' is not in the table of test_layers.py"
    ]


def test_the_checker_says_which_line() -> None:
    source = "import re\n\nfrom uvicorn.server.clock import Clock\n"
    assert violations(PurePosixPath("protocol/x.py"), source) == ["protocol/x.py:3: protocol must not import server"]
