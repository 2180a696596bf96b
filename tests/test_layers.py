"""Who may import whom: the layers of docs/architecture.md, no import cycles, and a test file for each source file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

import pytest

import uvicorn

PACKAGE: Final = Path(uvicorn.__file__).parent
TESTS: Final = Path(__file__).parent

GROUND: Final = frozenset(
    {
        "cancellation",
        "channel",
        "errors",
        "escape",
        "fields",
        "forks",
        "log_limit",
        "loop_calls",
        "measurements",
        "process_count",
        "settings",
        "types",
        "websocket_origin",
    }
)
CORE: Final = GROUND | {"core"}

#: Layer to the layers that it may import from; a layer is a folder, or a file, right below `uvicorn/`.
LAYERS: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(GROUND, GROUND),
    "wire": GROUND | {"wire"},
    "core": CORE,
    "concurrency": CORE | {"concurrency"},
    "interfaces": CORE | {"concurrency", "interfaces"},
    # An interface that owns interfaces.
    "routing": CORE | {"interfaces", "routing"},
    "server": CORE | {"wire", "server"},
    "adapters": CORE | {"concurrency", "interfaces", "routing", "adapters"},
    "broadcast": GROUND | {"broadcast"},
    # No layer imports it, and nothing else imports Django. `runserver` and `LiveServerTestCase` start servers.
    "django": CORE | {"__init__", "interfaces", "routing", "broadcast", "django"},
    # It asks what kinds of application a module has, when a name was not given.
    "importer": frozenset({"errors", "escape", "interfaces"}),
}

#: Layers that put the others together, and so may import any of them.
COMPOSITION: Final = frozenset(
    {
        "__init__", "__main__", "check", "cli", "config", "debugger", "keywords", "logging", "main", "message_logger",
        "other_servers", "serving", "supervisors", "utils", "worker", "workers",
    },
)  # fmt: skip

#: Thin modules under the public release's names, for other programs: they may import any layer, and no layer may import
#: them, so that nothing of the server depends on these names.
PUBLIC_NAMES: Final = frozenset({"_compat", "_subprocess", "_types", "lifespan", "loops", "middleware", "protocols"})

#: Protocol code is given what it needs to know of the world; nothing in it may look.
NOT_IN_WIRE: Final = frozenset({"asyncio", "socket", "time", "random", "threading"})
THIRD_PARTY_IN_WIRE: Final = frozenset({"httptools", "websockets"})

FILES: Final = {path.relative_to(PACKAGE): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def layer_of_file(file: PurePosixPath | Path) -> str:
    """The layer of a file whose path is given from within the package."""
    return file.parts[0].removesuffix(".py")


def layer_of_module(module: str) -> str:
    """The layer of `uvicorn.<layer>...`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported_modules(file: PurePosixPath | Path, source: str) -> Iterator[tuple[int, str]]:
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
                is_layer = alias.name in LAYERS or alias.name in COMPOSITION | PUBLIC_NAMES
                yield node.lineno, f"uvicorn.{alias.name}" if is_layer else "uvicorn"


def violations(file: PurePosixPath | Path, source: str) -> list[str]:
    """What is wrong with a file's imports, one line for each."""
    layer = layer_of_file(file)
    if layer in PUBLIC_NAMES:
        return []
    if layer in COMPOSITION:
        return [
            f"{file}:{line}: {layer} must not import {layer_of_module(module)}"
            for line, module in imported_modules(file, source)
            if module.startswith("uvicorn.") and layer_of_module(module) in PUBLIC_NAMES
        ]
    if layer not in LAYERS:
        return [f"{file}: layer {layer!r} is not in the table of {Path(__file__).name}"]
    found: list[str] = []
    for line, module in imported_modules(file, source):
        top = module.partition(".")[0]
        if top == "uvicorn":
            if (other := layer_of_module(module)) not in LAYERS[layer]:
                found.append(f"{file}:{line}: {layer} must not import {other}")
        elif top in ("django", "asgiref") and layer != "django":
            found.append(f"{file}:{line}: {layer} must not import {top}")
        elif layer == "wire":
            is_ours_to_use = top in sys.stdlib_module_names or top in THIRD_PARTY_IN_WIRE
            if top in NOT_IN_WIRE or not is_ours_to_use:
                found.append(f"{file}:{line}: wire must not import {top}")
    return found


def cycle(imports: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, in order; empty if there is no circle."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(imports.get(module, ())):
            if found := visit(other, [*path, module]):
                return found
        done.add(module)
        return []

    for module in sorted(imports):
        if found := visit(module, []):
            return found
    return []


def module_of(file: Path) -> str:
    return ".".join(("uvicorn", *file.with_suffix("").parts)).removesuffix(".__init__")


def imports_of_the_package() -> dict[str, set[str]]:
    """Module to the modules of ours that it imports, also those imported late or for type checkers only."""
    modules = {module_of(file) for file in FILES}
    imports: dict[str, set[str]] = {module: set() for module in modules}
    for file, source in FILES.items():
        # The package's own module fetches its public names when they are asked for.
        if file == Path("__init__.py"):
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                imports[module_of(file)] |= {alias.name for alias in node.names} & modules
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                # A package is imported for its modules, not for what it imports itself.
                own = {node.module} if node.module in modules and not names <= modules else set()
                imports[module_of(file)] |= (names & modules) | own
    return imports


def test_each_file_imports_only_from_layers_that_its_layer_may_use() -> None:
    assert [line for file, source in FILES.items() for line in violations(file, source)] == []


def test_imports_between_modules_contain_no_cycle() -> None:
    assert cycle(imports_of_the_package()) == []


def test_cycle_checker_finds_an_import_cycle() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_every_layer_in_the_table_exists() -> None:
    assert {*LAYERS, *COMPOSITION, *PUBLIC_NAMES} == {layer_of_file(file) for file in FILES}


#: Source files whose tests stand elsewhere, and where; each is tested through what uses it.
TESTED_ELSEWHERE: Final = {
    "adapters/asgi3_websocket.py": "adapters/test_asgi3.py",
    "adapters/response_checks.py": "adapters/test_asgi3.py",
    "adapters/startup_once.py": "adapters/test_asgi.py",
    "broadcast/redis/cluster.py": "broadcast/test_cluster.py",
    "broadcast/redis/sentinel.py": "broadcast/test_sentinel.py",
    "broadcast/redis/subscription.py": "broadcast/redis/test_subscriber.py",
    "broadcast/redis/sync.py": "broadcast/test_publisher.py",
    "cancellation.py": "test_channel.py",
    "core/gateway.py": "core/test_exchange.py",
    "django/apps.py": "django/test_checks.py",
    "django/pytest_plugin.py": "django/test_publishing.py",
    "forks.py": "adapters/test_fork.py",
    "interfaces/base.py": "interfaces/test_channels.py",
    "interfaces/client_shares.py": "interfaces/test_threads_per_client.py",
    "interfaces/handlers.py": "interfaces/test_channels.py",
    "interfaces/http_reply.py": "interfaces/test_channels.py",
    "keywords.py": "test_config.py",
    "main.py": "test_public_names.py",
    "django/cleaning.py": "django/test_lanes.py",
    "django/management/commands/runserver.py": "django/test_runserver.py",
    "django/site.py": "django/test_runserver.py",
    "django/test.py": "django/test_live_server.py",
    "measurements.py": "server/test_metrics.py",
    "process_count.py": "interfaces/test_wsgi_flags.py",
    "routing/applications.py": "routing/test_interface.py",
    "routing/leaves.py": "test_check.py",
    "server/http1_gateway.py": "server/test_http1.py",
    "server/http1_timeouts.py": "security/test_resources.py",
    "server/websocket_timeouts.py": "server/test_websocket_ends.py",
    "server/worker_server.py": "e2e/test_workers.py",
    "serving.py": "e2e/test_command_line.py",
    "settings.py": "test_cli.py",
    **{
        f"supervisors/{name}.py": "e2e/test_supervisors.py"
        for name in ("basereload", "multiprocess", "statreload", "watchfilesreload")
    },
    "wire/http1/chunked.py": "wire/http1/test_parser.py",
    "worker.py": "e2e/test_gunicorn.py",
    "workers/request_log.py": "e2e/test_gunicorn_logs.py",
    "workers/worker.py": "e2e/test_gunicorn.py",
}


def test_every_source_file_has_a_test_file_or_is_listed_as_tested_elsewhere() -> None:
    without = {
        str(file)
        for file in FILES
        if file.name not in ("__init__.py", "__main__.py")
        # tests/test_public_names.py tests these together.
        and layer_of_file(file) not in PUBLIC_NAMES
        and not (TESTS / file.parent / f"test_{file.name}").exists()
        and not any((TESTS / file.parent).glob(f"test_{file.stem}_*.py"))
    }
    assert without == set(TESTED_ELSEWHERE)


def test_every_test_file_listed_for_a_source_file_exists() -> None:
    assert [path for path in TESTED_ELSEWHERE.values() if not (TESTS / path).exists()] == []


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
        ("interfaces/x.py", "from uvicorn.wire.http1.parser import METHODS"),
        ("adapters/x.py", "from uvicorn.server import Server"),
        ("adapters/x.py", "import uvicorn.wire.http1.encoder"),
        ("broadcast/x.py", "from uvicorn.core.exchange import HTTPExchange"),
        ("concurrency/x.py", "from uvicorn.interfaces.base import Interface"),
        ("core/x.py", "from uvicorn.concurrency.waker import Waker"),
        ("errors.py", "from uvicorn.core.exchange import WAITING"),
        ("importer.py", "from uvicorn.settings import Settings"),
        ("importer.py", "from uvicorn import __version__"),
        ("importer.py", "import uvicorn"),
        ("wire/x.py", "from uvicorn.core.exchange import HTTPExchange"),
        ("wire/x.py", "import asyncio"),
        ("wire/x.py", "import asyncio.events"),
        ("wire/x.py", "from time import monotonic"),
        ("wire/x.py", "import os, random"),
        ("wire/x.py", "import socket"),
        ("wire/x.py", "from threading import Lock"),
        ("wire/x.py", "import h11"),
        ("interfaces/x.py", "from django.db import connections"),
        ("interfaces/x.py", "from asgiref.sync import sync_to_async"),
        ("interfaces/x.py", "from uvicorn.django import DjangoThreads"),
        ("server/x.py", "from uvicorn._types import Scope"),
        ("config.py", "from uvicorn.protocols.utils import is_ssl"),
        ("main.py", "from uvicorn import middleware"),
    ],
)
def test_layer_checker_reports_each_violation(name: str, source: str) -> None:
    assert len(violations(PurePosixPath(name), source)) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("server/x.py", "from uvicorn.core.exchange import HTTPExchange\nimport asyncio, socket, uvicorn.wire.http1"),
        ("server/x.py", "from . import clock\nfrom ..settings import Settings"),
        ("interfaces/x.py", "from uvicorn.interfaces.base import Interface\nimport uvicorn.core.websocket_session"),
        ("adapters/x.py", "from uvicorn.interfaces.detect import detect_interface"),
        ("wire/x.py", "import re\nimport httptools\nfrom websockets.frames import Frame"),
        ("importer.py", "from uvicorn import errors"),
        ("middleware/x.py", "from uvicorn.adapters import ASGI3Adapter"),
        ("cli.py", "from uvicorn.server.server import Server\nfrom uvicorn import __version__"),
    ],
)
def test_layer_checker_allows_correct_imports(name: str, source: str) -> None:
    assert violations(PurePosixPath(name), source) == []


def test_layer_checker_reports_a_layer_that_is_not_in_the_table() -> None:
    assert violations(PurePosixPath("new/x.py"), "import re") == [
        "new/x.py: layer 'new' is not in the table of test_layers.py"
    ]


def test_layer_checker_reports_the_line_of_a_violation() -> None:
    source = "import re\n\nfrom uvicorn.server.clock import Clock\n"
    assert violations(PurePosixPath("wire/x.py"), source) == ["wire/x.py:3: wire must not import server"]
