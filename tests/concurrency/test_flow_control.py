"""Content handed over, and who waits for it to be taken."""

from __future__ import annotations

import asyncio

from tests.helpers import settle
from uvicorn.concurrency.flow_control import FlowControl


def never() -> bool:
    return False


async def test_who_waits_is_woken_when_enough_has_been_taken() -> None:
    backlog = FlowControl(10)
    backlog.put += 21
    waiting = asyncio.create_task(backlog.wait(never))
    await settle()
    assert not backlog.take(10)
    assert backlog.take(1)
    backlog.wake()
    await waiting


async def test_nobody_is_to_be_woken_if_nobody_waits() -> None:
    backlog = FlowControl(10)
    backlog.put += 21
    assert not backlog.take(21)


async def test_one_who_has_given_up_does_not_keep_another_from_being_woken() -> None:
    backlog = FlowControl(0)
    backlog.put += 1
    given_up, waiting = (asyncio.create_task(backlog.wait(never)) for _ in range(2))
    await settle()
    given_up.cancel()
    backlog.take(1)
    backlog.wake()
    await waiting
    await asyncio.gather(given_up, return_exceptions=True)
    assert given_up.cancelled()


async def test_what_is_taken_while_one_is_about_to_wait_is_not_waited_for() -> None:
    backlog = FlowControl(0)
    backlog.put += 1

    def taken_meanwhile() -> bool:
        # By another thread, which sees nobody wait.
        assert not backlog.take(1)
        return False

    await backlog.wait(taken_meanwhile)


async def test_nobody_waits_for_what_will_not_be_taken() -> None:
    backlog = FlowControl(0)
    backlog.put += 1
    await backlog.wait(lambda: True)
