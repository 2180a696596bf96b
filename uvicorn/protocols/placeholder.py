"""Base classes of placeholders, which replace classes of the public release."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn


class Placeholder:
    """A class of the public release that can be imported, but not called."""

    def __new__(cls, *arguments: Any, **options: Any) -> NoReturn:
        raise NotImplementedError(
            f"{cls.__module__}.{cls.__qualname__} can be imported, but not called; use uvicorn.Server"
        )


class RequestResponseCycle(Placeholder):
    """A class that each HTTP protocol module of the public release has."""


class ProtocolPlaceholder(Placeholder, asyncio.Protocol):
    """A protocol class. As a value of the option `http` or `ws`, the class means the server's own implementation."""
