"""Event loop factories, named as in the public `uvicorn` release."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable

from uvicorn.server.loops import loop_factory


def named_factory(name: str) -> Callable[..., Callable[[], AbstractEventLoop]]:
    def factory(use_subprocess: bool = False) -> Callable[[], AbstractEventLoop]:
        return loop_factory(name)

    return factory
