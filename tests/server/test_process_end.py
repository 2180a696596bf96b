"""The end of the command's process; see also tests/e2e/test_process_end.py."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Iterator

import pytest

from uvicorn.server import process_end
from uvicorn.server.process_end import ProcessEnd, foreign_threads, places


@pytest.fixture
def thread() -> Iterator[threading.Thread]:
    over = threading.Event()
    made = threading.Thread(target=over.wait, args=(30,), name="line\nfeed")
    made.start()
    yield made
    over.set()
    made.join(30)


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of exit codes that the process would have ended with; `atexit` callbacks are not run."""
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: None)
    return []


def test_running_non_daemon_thread_is_found_at_the_end_of_the_process(thread: threading.Thread) -> None:
    assert thread in foreign_threads()


def test_thread_name_with_a_line_break_is_shown_on_one_line(thread: threading.Thread) -> None:
    assert places([thread]).startswith("line\\nfeed at ")


def test_list_of_running_threads_has_at_most_twenty_entries(thread: threading.Thread) -> None:
    assert places([thread] * 23).endswith("; and 3 more")


def test_process_with_a_running_thread_is_ended_by_force_with_its_exit_code(
    thread: threading.Thread, statuses: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    end = ProcessEnd(statuses.append)
    end.status = 3
    with caplog.at_level(logging.WARNING, "uvicorn.error"):
        assert end.look()
    assert statuses == [3]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_process_is_ended_by_force_only_if_a_thread_still_runs(
    statuses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_end, "foreign_threads", lambda: [])
    end = ProcessEnd(statuses.append)
    end._main_has_returned = True
    assert not end.look()
    assert statuses == []


def test_process_is_not_ended_by_force_after_its_threads_have_ended(
    thread: threading.Thread, statuses: list[int]
) -> None:
    end = ProcessEnd(statuses.append)
    end._threads_have_ended()
    assert not end.look()
    assert statuses == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SystemExit(), 0),
        (SystemExit(3), 3),
        (SystemExit("text"), 1),
        (SystemExit(-1), 255),
        (KeyboardInterrupt(), 130),
        (ValueError(), 1),
    ],
)
def test_exit_code_after_an_exception_is_the_same_as_in_plain_Python(error: BaseException, status: int) -> None:
    assert process_end._status_of(error) == status
