"""How one thread wakes another one that waits, while both want the interpreter.

A lock or a queue wakes the waiting thread while the waking one still has the interpreter: it runs into it, and sleeps
again. Writing to a descriptor lets go of the interpreter first. With both threads on one CPU that is two switches for
a question and its answer, instead of six.
"""

from __future__ import annotations

import os
import queue
from typing import Final, Protocol, final

_ONE: Final = (1).to_bytes(8, "little")


class Waker(Protocol):
    """For one thread to wait at. It may ring for nothing: look at what you wait for, and wait again."""

    def wake(self) -> None:
        """Wake who waits, or who will; from any thread."""

    def wait(self) -> None:
        """Return when it has rung since the last time. Signal handlers run meanwhile, and may raise."""


@final
class EventWaker:
    """A waker of Linux's. Its descriptor is closed when nobody can ring it any more."""

    __slots__ = ("_descriptor",)

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC)

    def wake(self) -> None:
        os.write(self._descriptor, _ONE)

    def wait(self) -> None:
        os.read(self._descriptor, 8)

    def __del__(self) -> None:
        # Not there if it could not be had.
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


@final
class QueueWaker:
    """A waker for other systems."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        self._queue.put(None)

    def wait(self) -> None:
        self._queue.get()


HAS_EVENTFD: Final = hasattr(os, "eventfd")

_MOST_IDLE: Final = 64


def new_waker() -> Waker:
    """A waker of the better kind."""
    return EventWaker() if HAS_EVENTFD else QueueWaker()


@final
class WakerPool:
    """WakerPool of one process, for use one after another.

    Not for those that it forks: they would share the descriptors, and take each other's rings.
    """

    def __init__(self) -> None:
        self._idle: list[Waker] = []

    def take(self) -> Waker:
        """A waker that nobody waits at."""
        try:
            return self._idle.pop()
        except IndexError:
            return new_waker()

    def give_back(self, waker: Waker) -> None:
        """Nobody will wait at `waker` any more; who still rings it rings for nothing."""
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(waker)
