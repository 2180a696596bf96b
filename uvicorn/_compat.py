"""Has `asyncio_run` for programs that were written for the public `uvicorn` release."""

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
    """Run `main` on an event loop that `loop_factory` makes. Return the result of `main`."""
    with asyncio.Runner(debug=debug or None, loop_factory=loop_factory) as runner:
        return runner.run(main)
