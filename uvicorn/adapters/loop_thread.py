"""One event loop in a thread of its own, for a process that has none: shared by all adapters in it.

Started when it is first needed, so that it comes after the forks of a pre-forking host; and anew after a fork.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, final

# How long a process that ends waits for the loop to finish what it is about.
_STOP_SECONDS: Final = 2.0


@final
class LoopThread:
    """A running event loop, and the thread that runs it."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.loop = _new_loop()
        self._hooks: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._thread = threading.Thread(target=self._run, name="uvicorn-loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run `coroutine` on the loop, and wait for its result; from any other thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def at_stop(self, hook: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have `hook` awaited before the loop stops."""
        self._hooks.append(hook)

    def stop(self) -> None:
        """Await the hooks, then stop the loop; called when the process ends."""
        if self.process == os.getpid() and self._thread.is_alive():
            try:
                asyncio.run_coroutine_threadsafe(self._stop(), self.loop).result(_STOP_SECONDS)
            except TimeoutError:
                pass
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(_STOP_SECONDS)

    async def _stop(self) -> None:
        for hook in self._hooks:
            await hook()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


_lock = threading.Lock()
_current: LoopThread | None = None


def loop_thread() -> LoopThread:
    """The loop of this process."""
    global _current
    current = _current
    if current is None or current.process != os.getpid():
        with _lock:
            current = _current
            if current is None or current.process != os.getpid():
                current = _current = LoopThread()
                atexit.register(current.stop)
    return current


def _after_fork() -> None:
    # The lock may have been held by a thread that does not exist in the child.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
