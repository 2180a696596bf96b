"""Log lines that others can cause."""

from __future__ import annotations

from uvicorn.broadcast.log_limit import LogLimit


def test_the_first_line_is_written_at_once_and_the_next_after_a_minute_with_the_count() -> None:
    now = 100.0
    limit = LogLimit(clock=lambda: now)
    assert [limit.admits() for _ in range(5)] == [1, 0, 0, 0, 0]
    now += 60
    assert [limit.admits(), limit.admits()] == [5, 0]


def test_several_lines_a_minute_may_be_admitted() -> None:
    now = 100.0
    limit = LogLimit(2, clock=lambda: now)
    assert [limit.admits(count) for count in (7, 1, 1)] == [7, 1, 0]
    now += 60
    assert limit.admits() == 2
