"""The server's clock: ticks, deadlines and jitter."""

from __future__ import annotations

import asyncio
import time

import pytest

from uvicorn.server import clock as clock_module
from uvicorn.server.clock import TICK_SECONDS, Clock


class HandClock(Clock):
    """A clock whose time the test sets."""

    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


def test_current_time_of_a_clock_does_not_change_between_ticks() -> None:
    clock = HandClock()
    clock.seconds = 1001.5
    assert clock.now == 1000.0


def test_tick_updates_the_current_time_of_a_clock() -> None:
    clock = HandClock()
    clock.seconds = 1001.5
    clock.tick()
    assert clock.now == 1001.5


def test_clock_measures_the_time_between_the_last_two_ticks() -> None:
    clock = HandClock()
    for clock.seconds in (1001.5, 1004.0):
        clock.tick()
    assert clock.elapsed == 2.5


def test_tick_callbacks_are_called_in_the_order_of_registration() -> None:
    clock = HandClock()
    told: list[str] = []
    clock.on_tick(lambda: told.append("first"))
    clock.on_tick(lambda: told.append("second"))
    clock.tick()
    assert told == ["first", "second"]


def test_a_tick_callback_sees_the_new_time() -> None:
    clock = HandClock()
    seen: list[float] = []
    clock.on_tick(lambda: seen.append(clock.now))
    clock.seconds = 1001.0
    clock.tick()
    assert seen == [1001.0]


@pytest.mark.parametrize(("later", "is_over"), [(0.0, False), (5.0, False), (5.9, False), (6.0, True), (20.0, True)])
def test_deadline_expires_up_to_one_second_late_and_never_early(later: float, is_over: bool) -> None:
    clock = HandClock()
    began = clock.now
    for clock.seconds in (*(began + second for second in range(1, int(later))), began + later):
        clock.tick()
    assert clock.is_over(began, 5.0) is is_over


def test_a_5_second_timeout_does_not_expire_when_a_clock_tick_is_10_seconds_late() -> None:
    clock = HandClock()
    began = clock.now
    clock.seconds += 10
    clock.tick()
    for _ in range(4):
        clock.seconds += 1
        clock.tick()
        assert not clock.is_over(began, 5.0)
    clock.seconds += 1
    clock.tick()
    assert clock.is_over(began, 5.0)


def test_timeout_that_starts_12_seconds_after_a_late_clock_tick_expires_on_time() -> None:
    clock = HandClock()
    clock.seconds += 10
    for _ in range(12):
        clock.tick()
        clock.seconds += 1
    began = clock.now
    for _ in range(6):
        clock.tick()
        clock.seconds += 1
    assert clock.is_over(began, 5.0)


def test_deadline_does_not_expire_before_its_time_has_passed() -> None:
    # Begun just before a tick, when `now` is nearly a tick old.
    clock = HandClock()
    clock.seconds += TICK_SECONDS - 0.001
    began, really_began = clock.now, clock.seconds
    while not clock.is_over(began, 5.0):
        clock.seconds += 0.001
        clock.tick()
    assert clock.seconds - really_began >= 5.0


def test_clock_reads_the_monotonic_time_of_the_system() -> None:
    before = time.monotonic()
    assert before <= Clock().monotonic() <= time.monotonic()


def test_clock_reads_the_unix_time_of_the_system() -> None:
    before = time.time()
    assert before <= Clock().unix_seconds() <= time.time()


def test_clock_uses_the_function_that_a_program_assigns_to_time_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 784111777.0)
    assert Clock().unix_seconds() == 784111777.0


def test_jitter_is_a_number_from_0_to_1() -> None:
    clock = Clock()
    assert all(0 <= clock.jitter() <= 1 for _ in range(1000))


def test_jitter_differs_between_calls() -> None:
    clock = Clock()
    assert len({clock.jitter() for _ in range(100)}) > 50


def test_started_clock_ticks_repeatedly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "TICK_SECONDS", 0.0)

    async def main() -> None:
        clock = Clock()
        ticks: list[float] = []
        third = asyncio.Event()

        def ticked() -> None:
            ticks.append(clock.now)
            if len(ticks) == 3:
                third.set()

        clock.on_tick(ticked)
        clock.start()
        await asyncio.wait_for(third.wait(), 30)
        clock.stop()

    asyncio.run(main())


def test_clock_continues_after_a_callback_has_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "TICK_SECONDS", 0.0)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, report: None)
        clock = Clock()
        second = asyncio.Event()
        calls: list[None] = []

        def fail() -> None:
            calls.append(None)
            if len(calls) == 2:
                second.set()
            raise RuntimeError("a bug")

        clock.on_tick(fail)
        clock.start()
        await asyncio.wait_for(second.wait(), 30)
        clock.stop()

    asyncio.run(main())


def test_a_stopped_clock_does_not_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "TICK_SECONDS", 0.0)
    ticks: list[None] = []

    async def main() -> None:
        clock = Clock()
        clock.on_tick(lambda: ticks.append(None))
        clock.start()
        clock.stop()
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert ticks == []


def test_stopped_clock_may_be_stopped_again() -> None:
    clock = HandClock()
    clock.stop()
    clock.tick()
    assert clock.elapsed == 0.0
