"""Whether a client is too slow: told by what has come, and how long it took."""

from __future__ import annotations

from uvicorn.server.slow_clients import MinimumRate, WriteTimeout


def reasons(*steps: tuple[float, int], idle_seconds: float = 20.0, least_rate: int = 500) -> list[str]:
    """What is said on each tick, given what has elapsed since the last one and the bytes that have come so far."""
    pace = MinimumRate()
    return [pace.check(elapsed, received, idle_seconds, least_rate) for elapsed, received in steps]


def seconds_steady(count: int, bytes_per_second: int) -> list[tuple[float, int]]:
    """Ticks in which content comes at the same rate."""
    return [(1.0, bytes_per_second * second) for second in range(1, count + 1)]


# Request content


def test_content_at_a_good_rate_is_never_too_slow() -> None:
    assert set(reasons(*seconds_steady(1000, 500))) == {""}


def test_a_slow_start_is_forgiven_for_ten_seconds() -> None:
    assert set(reasons(*seconds_steady(10, 1))) == {""}


def test_content_below_the_least_rate_is_too_slow_after_ten_seconds() -> None:
    assert reasons(*seconds_steady(11, 499))[-1] == "request content slower than 500 bytes per second"


def test_the_rate_is_that_of_the_whole_time() -> None:
    fast_then_slow = [(1.0, 10_000 + second) for second in range(20)]
    assert set(reasons(*fast_then_slow)) == {""}


def test_a_least_rate_of_0_forgives_any_rate() -> None:
    assert set(reasons(*seconds_steady(1000, 1), least_rate=0)) == {""}


def test_a_pause_is_too_long_when_its_time_is_up() -> None:
    pause = [(1.0, 1_000_000)] * 21
    assert [bool(reason) for reason in reasons(*pause)] == [False] * 20 + [True]


def test_a_pause_that_is_too_long_is_reported_with_its_length() -> None:
    assert reasons((1.0, 0), (2.5, 0), idle_seconds=2.5)[-1] == "no request content for 2.5 seconds"


def test_a_byte_ends_a_pause() -> None:
    steps = [(19.0, 1_000_000 + second) for second in range(10)]
    assert set(reasons(*steps)) == {""}


def test_a_tick_that_came_late_counts_for_its_whole_length() -> None:
    assert reasons((1.0, 0), (25.0, 0))[-1] == "no request content for 20 seconds"


# Responses


def stalls(*steps: tuple[float, int, int]) -> list[float]:
    """Seconds without progress as of each tick: what has elapsed, how many bytes are unsent of how many written."""
    stall = WriteTimeout()
    return [stall.check(elapsed, unsent, written) for elapsed, unsent, written in steps]


def test_a_stall_begins_with_the_first_look() -> None:
    assert stalls((1.0, 500, 900)) == [0.0]


def test_a_client_that_takes_nothing_stalls() -> None:
    assert stalls((1.0, 500, 900), (1.0, 500, 900), (2.0, 500, 900)) == [0.0, 1.0, 3.0]


def test_a_client_that_takes_a_byte_does_not_stall() -> None:
    assert stalls((1.0, 500, 900), (1.0, 499, 900), (1.0, 498, 900)) == [0.0, 0.0, 0.0]


def test_a_byte_ends_a_stall() -> None:
    assert stalls((1.0, 500, 900), (50.0, 500, 900), (1.0, 499, 900), (1.0, 499, 900)) == [0.0, 50.0, 0.0, 1.0]


def test_more_to_send_does_not_end_a_stall() -> None:
    assert stalls((1.0, 500, 900), (1.0, 700, 1100), (1.0, 900, 1300)) == [0.0, 1.0, 2.0]


def test_a_client_that_takes_less_than_is_written_does_not_stall() -> None:
    assert stalls((1.0, 500, 900), (1.0, 600, 1100), (1.0, 700, 1300)) == [0.0, 0.0, 0.0]
