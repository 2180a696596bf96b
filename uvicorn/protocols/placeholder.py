"""Classes that exist for imports, annotations and options; each stands for an implementation of the public release."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn


class Placeholder:
    """A class of the public release that can be imported and named, and has no instances."""

    def __new__(cls, *arguments: Any, **options: Any) -> NoReturn:
        """Raise NotImplementedError."""
        raise NotImplementedError(
            f"{cls.__module__}.{cls.__qualname__} exists for imports only; this server has one implementation, "
            "which uvicorn.Server runs"
        )


class ProtocolPlaceholder(Placeholder, asyncio.Protocol):
    """A protocol class; as `http` or `ws` it stands for the server's own implementation."""
