"""Sockets and time: everything between the kernel and the waist."""

from __future__ import annotations

from uvicorn.server.server import Server

__all__ = ["Server"]
