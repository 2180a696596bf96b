"""`FlowControl` by itself."""

from __future__ import annotations

import asyncio

import pytest

from tests.helpers import settle
from uvicorn.concurrency.flow_control import HIGH_WATER_BYTES, FlowControl

pytestmark = pytest.mark.any_loop


def never() -> bool:
    return False


async def test_producer_is_woken_below_the_high_water_mark() -> None:
    flow = FlowControl()
    flow.put = HIGH_WATER_BYTES + 11
    waiting = asyncio.create_task(flow.wait(never))
    await settle()
    assert not flow.consumed(10)
    assert flow.consumed(1)
    flow.wake()
    await waiting


async def test_flow_control_wakes_only_a_producer_that_waits() -> None:
    flow = FlowControl()
    flow.put = HIGH_WATER_BYTES + 11
    assert not flow.consumed(21)


async def test_producer_is_woken_after_another_producer_was_cancelled() -> None:
    flow = FlowControl()
    flow.put = HIGH_WATER_BYTES + 1
    given_up, waiting = (asyncio.create_task(flow.wait(never)) for _ in range(2))
    await settle()
    given_up.cancel()
    flow.consumed(1)
    flow.wake()
    await waiting
    await asyncio.gather(given_up, return_exceptions=True)
    assert given_up.cancelled()


async def test_producer_does_not_wait_if_bytes_are_consumed_just_before_the_wait() -> None:
    flow = FlowControl()
    flow.put = HIGH_WATER_BYTES + 1

    def taken_meanwhile() -> bool:
        # On another thread, which sees no waiter.
        assert not flow.consumed(1)
        return False

    await flow.wait(taken_meanwhile)


async def test_producer_does_not_wait_if_the_consumer_has_stopped() -> None:
    flow = FlowControl()
    flow.put = HIGH_WATER_BYTES + 1
    await flow.wait(lambda: True)
