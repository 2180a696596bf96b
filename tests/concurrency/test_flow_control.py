"""Content handed over, and who waits for it to be taken."""

from __future__ import annotations

import asyncio

from tests.helpers import settle
from uvicorn.concurrency.flow_control import FlowControl


def never() -> bool:
    return False


async def test_who_waits_is_woken_when_enough_has_been_taken() -> None:
    flow = FlowControl(10)
    flow.put += 21
    waiting = asyncio.create_task(flow.wait(never))
    await settle()
    assert not flow.consumed(10)
    assert flow.consumed(1)
    flow.wake()
    await waiting


async def test_nobody_is_to_be_woken_if_nobody_waits() -> None:
    flow = FlowControl(10)
    flow.put += 21
    assert not flow.consumed(21)


async def test_one_who_has_given_up_does_not_keep_another_from_being_woken() -> None:
    flow = FlowControl(0)
    flow.put += 1
    given_up, waiting = (asyncio.create_task(flow.wait(never)) for _ in range(2))
    await settle()
    given_up.cancel()
    flow.consumed(1)
    flow.wake()
    await waiting
    await asyncio.gather(given_up, return_exceptions=True)
    assert given_up.cancelled()


async def test_what_is_taken_while_one_is_about_to_wait_is_not_waited_for() -> None:
    flow = FlowControl(0)
    flow.put += 1

    def taken_meanwhile() -> bool:
        # By another thread, which sees nobody wait.
        assert not flow.consumed(1)
        return False

    await flow.wait(taken_meanwhile)


async def test_nobody_waits_for_what_will_not_be_taken() -> None:
    flow = FlowControl(0)
    flow.put += 1
    await flow.wait(lambda: True)
