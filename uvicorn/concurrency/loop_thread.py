"""The event loop that all WSGIAdapters of a process share."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, final

from uvicorn.concurrency.waker import HAS_EVENTFD, WakerPool
from uvicorn.errors import ConfigError
from uvicorn.forks import end_fork
from uvicorn.loop_calls import LoopCalls

logger = logging.getLogger("uvicorn.app")

# Time for the loop to finish when the process exits.
_STOP_SECONDS: Final = 3.0


@final
class LoopThread:
    """A running event loop, and the thread that runs it."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.loop = _new_loop()
        self.loop.set_exception_handler(_on_loop_exception)
        self._hooks: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._locks: dict[object, threading.Lock] = {}
        self.is_stopped = False
        self.calls = LoopCalls.of(self.loop)
        if HAS_EVENTFD:
            self.calls.use_eventfd()
        self.wakers = WakerPool()
        self._thread = threading.Thread(target=self._run, name="uvicorn-loop", daemon=True)
        self._thread.start()
        self._ident = self._thread.ident

    @property
    def is_current(self) -> bool:
        """Whether the caller is on this loop's thread."""
        return threading.get_ident() == self._ident

    def post(self, callback: Callable[[], object]) -> None:
        """Call `callback` on the event loop, after earlier callbacks. Thread-safe. Raises RuntimeError after `stop`."""
        calls = self.calls
        if not self.is_stopped:
            calls.posted.append(callback)
        # Checked again: a loop that stops sets the flag, then runs the calls posted so far, and then cancels the tasks.
        if self.is_stopped:
            # The callback may still run.
            raise RuntimeError("the event loop has stopped")
        if not calls.is_woken:
            calls.wake()

    def lock_of(self, owner: object) -> threading.Lock:
        """Return the lock for `owner`. A forked process has new locks."""
        return self._locks.setdefault(owner, threading.Lock())

    def at_stop(self, hook: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._hooks.append(hook)

    def stop(self) -> None:
        """Run the hooks added by `at_stop`, then stop the loop."""
        if self.process == os.getpid() and not self.is_stopped:
            stopping = self.calls.start(self._finish)
            try:
                stopping.result(_STOP_SECONDS)
            except TimeoutError:
                logger.warning(
                    "event loop thread: the application's shutdown was cancelled after %g seconds", _STOP_SECONDS
                )
            self.loop.call_soon_threadsafe(self._end)
            self._thread.join(_STOP_SECONDS)

    async def _finish(self) -> None:
        outcomes = await asyncio.gather(*(hook() for hook in self._hooks), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                logger.error("event loop thread: exception in the application's shutdown", exc_info=outcome)

    def _end(self) -> None:
        self.is_stopped = True
        self.loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self.is_stopped:
            try:
                self.loop.run_forever()
            except BaseException as error:
                if self.process != os.getpid():
                    # The application has forked this process; the loop belongs to the parent process.
                    end_fork(error)
                # SystemExit and KeyboardInterrupt of an application end its request, not the loop, which others share.
                logger.warning("event loop thread: the application raised %.200r; the loop continues", error)
        self.loop.run_until_complete(self._cancel_what_is_left())
        self.loop.close()

    async def _cancel_what_is_left(self) -> None:
        self.calls.flush()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            # A thread that waits for the task's result gets CancelledError.
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _on_loop_exception(loop: asyncio.AbstractEventLoop, report: dict[str, Any]) -> None:
    # SystemExit and KeyboardInterrupt are reported by the task's caller, or logged by `_run`.
    if not isinstance(report.get("exception"), (SystemExit, KeyboardInterrupt)):
        loop.default_exception_handler(report)


#: Libraries that monkey-patch threads: the module and the function that report it, and the argument for the function.
PATCHERS: Final = {
    "gevent": ("gevent.monkey", "is_module_patched", "threading"),
    "eventlet": ("eventlet.patcher", "is_monkey_patched", "thread"),
}


def _check_threads() -> None:
    for name, (module, question, about) in PATCHERS.items():
        if getattr(sys.modules.get(module), question, lambda module: False)(about):
            raise ConfigError(
                f"{name} has replaced the threads of this process, but the event loop of the adapters needs a real "
                "thread; use a server with real threads, such as gunicorn -k gthread"
            )


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


_lock = threading.Lock()
# Started at the first use: a pre-forking server has forked by then.
_current: LoopThread | None = None


def loop_thread() -> LoopThread:
    global _current
    current = _current
    if current is None or current.process != os.getpid() or current.is_stopped:
        with _lock:
            current = _current
            if current is None or current.process != os.getpid() or current.is_stopped:
                _check_threads()
                current = _current = LoopThread()
                atexit.register(current.stop)
    return current


def _after_fork() -> None:
    # The lock may have been held by a thread that does not exist in the child.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
