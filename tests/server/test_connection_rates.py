"""Detection of slow clients from byte counts and elapsed time."""

from __future__ import annotations

from uvicorn.server.connection import MinimumRate


def reasons(*steps: tuple[float, int], idle_seconds: float = 20.0, least_rate: int = 500) -> list[str]:
    """Return the result of each tick, given the seconds since the last one and the bytes received so far."""
    pace = MinimumRate()
    return [pace.check(elapsed, received, idle_seconds, least_rate) for elapsed, received in steps]


def seconds_steady(count: int, bytes_per_second: int) -> list[tuple[float, int]]:
    """Return ticks in which content arrives at a constant rate."""
    return [(1.0, bytes_per_second * second) for second in range(1, count + 1)]


def test_content_above_the_minimum_rate_is_accepted() -> None:
    assert set(reasons(*seconds_steady(1000, 500))) == {""}


def test_minimum_rate_does_not_apply_in_the_first_ten_seconds() -> None:
    assert set(reasons(*seconds_steady(10, 1))) == {""}


def test_content_below_the_minimum_rate_is_rejected_after_ten_seconds() -> None:
    assert reasons(*seconds_steady(11, 499))[-1] == "request content slower than 500 bytes per second"


def test_minimum_rate_applies_to_the_average_since_the_upload_began() -> None:
    fast_then_slow = [(1.0, 10_000 + second) for second in range(20)]
    assert set(reasons(*fast_then_slow)) == {""}


def test_minimum_rate_of_0_accepts_any_rate() -> None:
    assert set(reasons(*seconds_steady(1000, 1), least_rate=0)) == {""}


def test_upload_that_pauses_for_20_seconds_is_rejected() -> None:
    pause = [(1.0, 1_000_000)] * 21
    assert [bool(reason) for reason in reasons(*pause)] == [False] * 20 + [True]


def test_rejection_of_a_paused_upload_shows_the_idle_limit() -> None:
    assert reasons((1.0, 0), (2.5, 0), idle_seconds=2.5)[-1] == "no request content for 2.5 seconds"


def test_content_byte_from_the_client_restarts_the_idle_timeout() -> None:
    steps = [(19.0, 1_000_000 + second) for second in range(10)]
    assert set(reasons(*steps)) == {""}


def test_upload_idle_time_includes_the_delay_of_a_late_clock_tick() -> None:
    assert reasons((1.0, 0), (25.0, 0))[-1] == "no request content for 20 seconds"
