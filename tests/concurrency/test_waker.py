"""Waking a thread that waits."""

from __future__ import annotations

import os
import threading

import pytest

from uvicorn.concurrency import waker as module
from uvicorn.concurrency.waker import EventWaker, Waker, WakerPool

pytestmark = pytest.mark.skipif(not module.HAS_EVENTFD, reason="one of the two is Linux's")

kinds = pytest.mark.parametrize("kind", [EventWaker, Waker])


@kinds
def test_waker_wakes_the_thread_that_waits(kind: type[Waker]) -> None:
    waker = kind()
    waiting = threading.Thread(target=waker.wait)
    waiting.start()
    waker.wake()
    waiting.join(30)
    assert not waiting.is_alive()


@kinds
def test_waiting_returns_at_once_if_the_waker_was_woken_before(kind: type[Waker]) -> None:
    waker = kind()
    waker.wake()
    waker.wait()


def test_waker_pool_reuses_a_waker_that_was_given_back() -> None:
    wakers = WakerPool()
    waker = wakers.take()
    wakers.give_back(waker)
    assert wakers.take() is waker
    assert wakers.take() is not waker


def test_waker_pool_keeps_a_bounded_number_of_idle_wakers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_IDLE", 1)
    wakers = WakerPool()
    taken = [wakers.take(), wakers.take()]
    for waker in taken:
        wakers.give_back(waker)
    assert wakers.take() is taken[0]
    assert wakers.take() not in taken


def test_waker_uses_a_queue_on_systems_without_eventfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAS_EVENTFD", False)
    waker = WakerPool().take()
    assert type(waker) is Waker


def test_waker_pool_raises_OSError_if_eventfd_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(value: int, flags: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "eventfd", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        WakerPool().take()


def test_freeing_a_waker_closes_its_eventfd() -> None:
    waker = EventWaker()
    descriptor = waker._descriptor
    os.fstat(descriptor)
    del waker
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
