"""The import path of the project's first documents: adapters, and what the early module had beside them."""

from __future__ import annotations

from typing import Any

from uvicorn.adapters import ASGIAdapter, WSGIAdapter
from uvicorn.types import Message

__all__ = ["ASGIAdapter", "WSGIAdapter", "read_body"]


async def read_body(message: Message, channels: dict[str, Any]) -> bytes:
    """All of a request's content, whether it is in the message, in the body channel, or begins in one and ends in
    the other. Raises ClientDisconnected if the client leaves before it is whole."""
    content: bytes = message.get("body", b"")
    if "body" in channels:
        pieces = [content]
        while True:
            chunk = await channels["body"].receive()
            pieces.append(chunk["content"])
            if not chunk.get("more_content", False):
                break
        content = b"".join(pieces)
    return content
