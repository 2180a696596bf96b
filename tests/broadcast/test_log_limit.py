"""Log lines that others can cause."""

from __future__ import annotations

from uvicorn.broadcast.log_limit import LogLimit, shown


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


def test_text_of_others_is_shown_short_and_without_control_characters() -> None:
    assert shown("plain") == "plain"
    assert shown("a\n\x1b[31m") == r"a\n\x1b[31m"
    assert shown("\ud800") == r"\ud800"
    assert shown("x" * 600) == "x" * 500 + "..."
