"""Prints the surface of the `uvicorn` that is installed, as JSON: keywords, flags, names and log lines.

The environment of the public release runs this file by itself, so it imports nothing of the tests.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

import uvicorn

FOLDER: Final = Path(uvicorn.__file__).parent

_LEVELS: Final = {"debug", "info", "warning", "error", "critical", "exception", "log", "trace"}

#: Type of a click option, and the kind of its value. A flag that takes a number takes a whole one as well.
_KINDS: Final = (
    (click.Choice, "choice"),
    (click.types.BoolParamType, "boolean"),
    (click.types.IntParamType, "number"),
    (click.types.FloatParamType, "number"),
)


def keywords() -> dict[str, Any]:
    """Return each keyword of `Config`, and its value if it is left out, as the attribute of this name has it."""
    config = uvicorn.Config("shop:app", log_config=None)
    return {name: getattr(config, name, None) for name in list(inspect.signature(uvicorn.Config).parameters)}


def flags() -> dict[str, Any]:
    """Return each option of the command line: its spellings and the kind of its value."""
    described: dict[str, Any] = {}
    for option in uvicorn.main.params:
        if isinstance(option, click.Option):
            kinds = [kind for type_, kind in _KINDS if isinstance(option.type, type_)]
            described[option.name or ""] = {
                "spellings": sorted((*option.opts, *option.secondary_opts)),
                "kind": "flag" if option.is_flag else kinds[0] if kinds else "text",
                "choices": sorted(option.type.choices) if isinstance(option.type, click.Choice) else [],
                "multiple": option.multiple,
            }
    return described


def names() -> dict[str, list[str]]:
    """Return the names of each module that other programs may import: defined in it, or imported into it."""
    found: dict[str, list[str]] = {}
    for file in sorted(FOLDER.rglob("*.py")):
        module = ".".join(("uvicorn", *file.relative_to(FOLDER).with_suffix("").parts)).removesuffix(".__init__")
        found[module] = sorted(set(_names_of(ast.parse(file.read_text(encoding="utf-8")).body)))
    return found


def _names_of(statements: list[ast.stmt], imported: bool = False) -> Iterator[str]:
    for node in statements:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("uvicorn"):
            # Marked, because most of them are no part of the surface.
            yield from (f"import {alias.asname or alias.name}" for alias in node.names)
        elif isinstance(node, (ast.If, ast.Try)):
            yield from _names_of([*node.body, *node.orelse, *getattr(node, "finalbody", ())])
            for handler in getattr(node, "handlers", ()):
                yield from _names_of(handler.body)


def lines() -> list[str]:
    """Return the formats of all log lines, with a star in place of each value."""
    found: set[str] = set()
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.rglob("*.py"))]
    constants = _assigned([node for tree in trees for node in tree.body])
    for tree in trees:
        for function in ast.walk(tree):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found.update(_lines_of(function, constants))
    return sorted({re.sub(r"%\.?\d*[sdrgf]", "*", line).strip() for line in found} - {""})


def _lines_of(function: ast.AST, constants: dict[str, list[str]]) -> Iterator[str]:
    known = {**constants, **_assigned(list(ast.walk(function)))}
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LEVELS:
            if "logger" in ast.unparse(node.func.value).lower():
                yield from _formats(node.args[node.func.attr == "log"], known)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "trace":
            # Ours for events of connections: `uvicorn.server.access_log.trace`.
            yield from (f"%s - {event}" for event in _formats(node.args[1], known))


def _assigned(nodes: list[Any]) -> dict[str, list[str]]:
    """Return the texts that are assigned to each name."""
    texts: dict[str, list[str]] = {}
    for node in nodes:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(target, ast.Name) and node.value is not None:
            texts.setdefault(target.id, []).extend(_formats(node.value, texts))
    return texts


def _formats(node: ast.expr, known: dict[str, list[str]]) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "%s" for part in node.values)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return _formats(node.left, known)
    if isinstance(node, ast.BinOp):
        ends = _formats(node.right, known) or [""]
        return [start + end for start in _formats(node.left, known) for end in ends]
    if isinstance(node, ast.IfExp):
        return _formats(node.body, known) + _formats(node.orelse, known)
    return known.get(node.id, []) if isinstance(node, ast.Name) else []


if __name__ == "__main__":
    # The command, which the import of a module of the same name would hide.
    importlib.import_module("uvicorn.main")
    json.dump({"keywords": keywords(), "flags": flags(), "names": names(), "lines": lines()}, sys.stdout)
