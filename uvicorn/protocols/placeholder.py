"""Base classes of the placeholders for classes that only the public `uvicorn` release has."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn


class Placeholder:
    """A placeholder for a class of the public `uvicorn` release. Programs can import it, but not call it."""

    def __new__(cls, *arguments: Any, **options: Any) -> NoReturn:
        raise NotImplementedError(
            f"{cls.__module__}.{cls.__qualname__} can be imported, but not called; use uvicorn.Server"
        )


class RequestResponseCycle(Placeholder):
    """A placeholder for the class of this name in the HTTP modules of the public `uvicorn` release."""


class ProtocolPlaceholder(Placeholder, asyncio.Protocol):
    """A placeholder for a protocol class. As the option `http` or `ws`, it selects the server's own implementation."""
