"""Which test modules `pytest --quick` runs, by what they import.

Left out are modules that start servers, modules that need a package beyond the extra `check`, and folders whose
conftest.py needs one. What other test modules import counts as their own, and so does an import within a function.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_START_SERVERS: Final = {"tests.e2e.server_process", "tests.adapters.hosts", "tests.broadcast.redis_servers"}
# It installs a package.
_MAKES_AN_ENVIRONMENT: Final = "tests.public_release.environment"
_INSTALLED: Final = {
    *("uvicorn", "uvitools", "asyncio_redis", "click", "httptools", "uvloop", "websockets", "werkzeug"),
    *(
        "cryptography",
        "dotenv",
        "h11",
        "httpx",
        "hypothesis",
        "packaging",
        "pytest",
        "_pytest",
        "redis",
        "trustme",
        "yaml",
    ),
}


def is_left_out(path: Path) -> bool:
    """Return whether `pytest --quick` leaves out the test module or folder at `path`."""
    if path.is_dir():
        return (path / "conftest.py").exists() and _needs_more_packages(path / "conftest.py")
    left_out = {*_START_SERVERS, _MAKES_AN_ENVIRONMENT}
    return path.match("test_*.py") and (_needs_more_packages(path) or not left_out.isdisjoint(_imported(path)))


def _needs_more_packages(path: Path) -> bool:
    packages = {module.partition(".")[0] for module in _imported(path)}
    return not packages <= {"tests", *_INSTALLED, *sys.stdlib_module_names}


@cache
def _imported(path: Path) -> frozenset[str]:
    """Return what the file imports, and what the files of `tests` import that it imports."""
    modules: set[str] = set()
    for module in _imports(path):
        modules.add(module)
        file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        if module.startswith("tests.") and file.exists() and file != path:
            modules |= _imported(file)
    return frozenset(modules)


def _imports(path: Path) -> Iterator[str]:
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*parents, *([node.module] if node.module else [])))
            yield module
            # A name that is imported from a package may be a module of it.
            yield from (f"{module}.{alias.name}" for alias in node.names)
