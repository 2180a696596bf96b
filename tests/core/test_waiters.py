"""`Waiters` by itself."""

from __future__ import annotations

import asyncio

import pytest

from uvicorn.core.waiters import Waiters

pytestmark = pytest.mark.any_loop


async def test_waking_waiters_wakes_every_waiting_coroutine() -> None:
    waiters = Waiters()
    waiting = [asyncio.ensure_future(waiters.wait(waiters.add())) for _ in range(2)]
    await asyncio.sleep(0)
    waiters.wake()
    await asyncio.gather(*waiting)
    assert not waiters


async def test_earlier_wake_does_not_wake_a_coroutine_that_waits_later() -> None:
    waiters = Waiters()
    waiters.wake()
    future = waiters.add()
    assert (bool(waiters), future.done()) == (True, False)


async def test_cancelled_wait_does_not_prevent_the_wake_of_another_waiter() -> None:
    waiters = Waiters()
    cancelled = asyncio.ensure_future(waiters.wait(waiters.add()))
    other = waiters.add()
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    waiters.wake()
    assert (cancelled.cancelled(), other.done(), bool(waiters)) == (True, True, False)


async def test_waiters_are_empty_after_the_only_wait_is_cancelled() -> None:
    waiters = Waiters()
    waiting = asyncio.ensure_future(waiters.wait(waiters.add()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not waiters


async def test_wake_ignores_a_cancelled_waiter() -> None:
    waiters = Waiters()
    waiters.add().cancel()
    waiters.wake()
    assert not waiters
