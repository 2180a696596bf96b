"""Waking a thread that waits."""

from __future__ import annotations

import os
import threading

import pytest

from uvicorn.concurrency import waker as module
from uvicorn.concurrency.waker import EventBell, QueueBell, Waker, WakerPool

pytestmark = pytest.mark.skipif(not module.HAS_EVENTFD, reason="one of the two is Linux's")

kinds = pytest.mark.parametrize("kind", [EventBell, QueueBell])


@kinds
def test_who_waits_is_woken(kind: type[EventBell | QueueBell]) -> None:
    bell = kind()
    waiting = threading.Thread(target=bell.wait)
    waiting.start()
    bell.ring()
    waiting.join(30)
    assert not waiting.is_alive()


@kinds
def test_a_ring_is_kept_for_who_comes_to_wait(kind: type[EventBell | QueueBell]) -> None:
    bell = kind()
    bell.ring()
    bell.wait()


def test_a_bell_that_was_given_back_is_taken_again() -> None:
    bells = WakerPool()
    bell = bells.take()
    bells.give_back(bell)
    assert bells.take() is bell
    assert bells.take() is not bell


def test_no_more_bells_are_kept_than_are_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_IDLE", 1)
    bells = WakerPool()
    taken = [bells.take(), bells.take()]
    for bell in taken:
        bells.give_back(bell)
    assert bells.take() is taken[0]
    assert bells.take() not in taken


def test_where_there_is_no_eventfd_bells_are_of_the_other_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAS_EVENTFD", False)
    bell: Waker = WakerPool().take()
    assert isinstance(bell, QueueBell)


def test_a_bell_that_could_not_be_had_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(value: int, flags: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "eventfd", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        WakerPool().take()


def test_the_descriptor_of_a_bell_goes_with_it() -> None:
    bell = EventBell()
    descriptor = bell._descriptor
    os.fstat(descriptor)
    del bell
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
