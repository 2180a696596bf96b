"""Base classes of the placeholders."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn


class Placeholder:
    """Stands in for a class of the public `uvicorn` release. Calls raise NotImplementedError."""

    def __new__(cls, *arguments: Any, **options: Any) -> NoReturn:
        raise NotImplementedError(
            f"{cls.__module__}.{cls.__qualname__} can be imported, but not called; use uvicorn.Server"
        )


class RequestResponseCycle(Placeholder): ...


class ProtocolPlaceholder(Placeholder, asyncio.Protocol):
    """A placeholder that the options `http` and `ws` accept."""
