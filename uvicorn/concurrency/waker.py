"""Wakers, which let one thread wake another."""

from __future__ import annotations

import os
import queue
from typing import Final, final

_ONE: Final = (1).to_bytes(8, "little")


class Waker:
    """Lets one thread wait until another calls `wake`. Wake-ups may be spurious."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        """Wake the waiting thread, or let the next `wait` return immediately. Thread-safe."""
        self._queue.put(None)

    def wait(self) -> None:
        """Wait for a call of `wake`."""
        # Signal handlers may raise here.
        self._queue.get()


@final
class EventWaker(Waker):
    """A waker that uses a Linux eventfd."""

    __slots__ = ("_descriptor",)

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC)

    def wake(self) -> None:
        # The write releases the GIL: fewer thread switches than with a lock or a queue.
        os.write(self._descriptor, _ONE)

    def wait(self) -> None:
        os.read(self._descriptor, 8)

    def __del__(self) -> None:
        # The attribute is missing if `eventfd` failed.
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


HAS_EVENTFD: Final = hasattr(os, "eventfd")

_MOST_IDLE: Final = 64


def new_waker() -> Waker:
    return EventWaker() if HAS_EVENTFD else Waker()


@final
class WakerPool:
    def __init__(self) -> None:
        self._idle: list[Waker] = []

    def take(self) -> Waker:
        try:
            return self._idle.pop()
        except IndexError:
            return new_waker()

    def give_back(self, waker: Waker) -> None:
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(waker)
