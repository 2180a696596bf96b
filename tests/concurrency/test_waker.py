"""Waking a thread that waits."""

from __future__ import annotations

import os
import threading

import pytest

from uvicorn.concurrency import waker as module
from uvicorn.concurrency.waker import EventWaker, QueueWaker, Waker, WakerPool

pytestmark = pytest.mark.skipif(not module.HAS_EVENTFD, reason="one of the two is Linux's")

kinds = pytest.mark.parametrize("kind", [EventWaker, QueueWaker])


@kinds
def test_wake_wakes_the_waiting_thread(kind: type[EventWaker | QueueWaker]) -> None:
    waker = kind()
    waiting = threading.Thread(target=waker.wait)
    waiting.start()
    waker.wake()
    waiting.join(30)
    assert not waiting.is_alive()


@kinds
def test_wake_before_wait_is_kept(kind: type[EventWaker | QueueWaker]) -> None:
    waker = kind()
    waker.wake()
    waker.wait()


def test_a_bell_that_was_given_back_is_taken_again() -> None:
    wakers = WakerPool()
    waker = wakers.take()
    wakers.give_back(waker)
    assert wakers.take() is waker
    assert wakers.take() is not waker


def test_no_more_bells_are_kept_than_are_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_IDLE", 1)
    wakers = WakerPool()
    taken = [wakers.take(), wakers.take()]
    for waker in taken:
        wakers.give_back(waker)
    assert wakers.take() is taken[0]
    assert wakers.take() not in taken


def test_where_there_is_no_eventfd_bells_are_of_the_other_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAS_EVENTFD", False)
    waker: Waker = WakerPool().take()
    assert isinstance(waker, QueueWaker)


def test_a_bell_that_could_not_be_had_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(value: int, flags: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "eventfd", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        WakerPool().take()


def test_the_descriptor_of_a_bell_goes_with_it() -> None:
    waker = EventWaker()
    descriptor = waker._descriptor
    os.fstat(descriptor)
    del waker
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
