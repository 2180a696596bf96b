"""The limit of log lines that clients and publishers can cause."""

from __future__ import annotations

from uvicorn.log_limit import LogLimit


def test_log_limit_admits_one_line_a_minute_by_default() -> None:
    now = 100.0
    limit = LogLimit(clock=lambda: now)
    assert [limit.admits() for _ in range(5)] == [1, 0, 0, 0, 0]
    now += 60
    assert [limit.admits(), limit.admits()] == [5, 0]


def test_a_log_limit_admits_the_configured_number_of_lines_a_minute() -> None:
    now = 100.0
    limit = LogLimit(2, clock=lambda: now)
    assert [limit.admits(count) for count in (7, 1, 1)] == [7, 1, 0]
    now += 60
    assert limit.admits() == 2
