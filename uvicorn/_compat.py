"""`asyncio_run`, for programs written for the public `uvicorn` release."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def asyncio_run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool = False,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Run a coroutine on a new event loop. Return the coroutine's result."""
    with asyncio.Runner(debug=debug or None, loop_factory=loop_factory) as runner:
        return runner.run(main)
