"""Finds the entry for a request head, or the answer to a request that no entry takes."""

from __future__ import annotations

from typing import Final, NamedTuple

from uvicorn.core.exchange import ERROR_HEADERS
from uvicorn.fields import Fields
from uvicorn.routing.entries import HTTP, Entry
from uvicorn.routing.table import Table, host_name
from uvicorn.types import Headers


class Answer(NamedTuple):
    """The response to a request that no entry takes."""

    status: int
    headers: Headers
    content: bytes


NOT_FOUND: Final = Answer(404, ERROR_HEADERS, b"Not Found\n")


def find_entry(table: Table, path: str, fields: Fields, protocol: str, method: str) -> Entry | None:
    """Return the entry for a request. `path` is the part after the root path."""
    if method == "OPTIONS" and table.has_methods:
        method = intended_method(method, field_value(fields, b"access-control-request-method"))
    host = host_name(field_value(fields, b"host")) if table.has_hosts else ""
    return table.find(path, host, protocol, method)


def refusal(table: Table, path: str, fields: Fields, protocol: str) -> Answer:
    """Return 405 if the path has entries for other methods, otherwise 404."""
    allowed = table.allowed_methods(path, host_name(field_value(fields, b"host"))) if protocol == HTTP else ()
    if not allowed:
        return NOT_FOUND
    allow = (b"allow", ", ".join(sorted(allowed)).encode())
    return Answer(405, (*ERROR_HEADERS, allow), b"Method Not Allowed\n")


def intended_method(method: str, asked: str) -> str:
    """Return the method of a request, or the method that a CORS preflight asks for."""
    return asked.strip() or method if method == "OPTIONS" else method


def field_value(fields: Fields, name: bytes) -> str:
    """Return the value of the first field with this name, or an empty value."""
    names, values = fields
    return values[names.index(name)].decode("latin-1") if name in names else ""
