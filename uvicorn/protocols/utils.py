"""Helpers that programs and middleware import from here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from uvicorn.errors import ClientDisconnected

__all__ = [
    "ClientDisconnected", "get_client_addr", "get_local_addr", "get_path_with_query_string", "get_remote_addr",
    "is_ssl",
]  # fmt: skip


def get_remote_addr(transport: asyncio.BaseTransport) -> tuple[str, int] | None:
    """Return the peer's host and port. For a Unix socket or a disconnected peer, return None."""
    sock = transport.get_extra_info("socket")
    try:
        name = transport.get_extra_info("peername") if sock is None else sock.getpeername()
    except OSError:
        # The peer has disconnected.
        return None
    return _host_and_port(name)


def get_local_addr(transport: asyncio.BaseTransport) -> tuple[str, int | None] | None:
    """Return the server's host and port. For a Unix socket with a path, return `(path, None)`."""
    sock = transport.get_extra_info("socket")
    name = transport.get_extra_info("sockname") if sock is None else sock.getsockname()
    return (name, None) if isinstance(name, str) and name else _host_and_port(name)


def is_ssl(transport: asyncio.BaseTransport) -> bool:
    """Return whether TLS encrypts the connection."""
    return bool(transport.get_extra_info("sslcontext"))


def get_client_addr(scope: Mapping[str, Any]) -> str:
    """Return `host:port` of an ASGI scope's client, or '' without a client."""
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else ""


def get_path_with_query_string(scope: Mapping[str, Any]) -> str:
    """Return the percent-encoded path and the query string of an ASGI scope."""
    path, query = quote(scope["path"]), scope["query_string"].decode("ascii")
    return f"{path}?{query}" if query else path


def _host_and_port(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, (tuple, list)) and len(name) >= 2 else None
