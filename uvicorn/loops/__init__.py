"""Event loop factories under the names that the public `uvicorn` release gives them."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable

from uvicorn.server.loops import loop_factory


def named_factory(name: str) -> Callable[..., Callable[[], AbstractEventLoop]]:
    """Return a function that returns `loop_factory(name)`, whatever its argument `use_subprocess`."""

    def factory(use_subprocess: bool = False) -> Callable[[], AbstractEventLoop]:
        return loop_factory(name)

    return factory
