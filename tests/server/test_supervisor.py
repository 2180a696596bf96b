"""How a supervisor measures time; tests/e2e/test_workers.py has the rest."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from uvicorn.server.supervisor import Supervisor
from uvicorn.settings import Settings

# A worker that reports that it is ready, and then sends nothing more.
SILENT = "import os, sys; os.write(int(sys.argv[1]), b'ready\\n'); sys.stdin.read()"


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor([sys.executable, "-c", SILENT], b"", [], 1, Settings(healthcheck_seconds=5.0))
    [ours, theirs] = os.pipe()
    standard_input = os.dup(0)
    os.dup2(ours, 0)
    try:
        made._adjust_workers()
        [worker] = made._workers
        worker.channel.setblocking(True)
        made._read_reports(worker)
        yield made
    finally:
        os.dup2(standard_input, 0)
        for descriptor in (ours, theirs, standard_input):
            os.close(descriptor)
        for worker in made._workers:
            worker.process.kill()
            worker.process.wait()
            worker.channel.close()
        made._selector.close()
        made._wakeup.close()
        made._waking.close()


def test_supervisor_handles_a_waiting_signal_before_it_starts_more_workers(supervisor: Supervisor) -> None:
    supervisor._selector.register(supervisor._wakeup, selectors.EVENT_READ, None)
    supervisor._announced = True
    supervisor._count = 3
    supervisor.wake()
    supervisor._adjust_workers()
    assert len(supervisor._workers) == 1
    supervisor._take_signals()
    supervisor._adjust_workers()
    assert len(supervisor._workers) == 3


def test_worker_that_does_not_report_in_time_gets_sigabrt(supervisor: Supervisor) -> None:
    [worker] = supervisor._workers
    worker.last_report -= 10
    supervisor._check_workers()
    assert worker.process.wait(30) == -6


def test_worker_is_not_aborted_if_its_report_is_half_a_second_late(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    [worker] = supervisor._workers
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    # Workers report once a second, so this report may be half a second late.
    worker.last_report = now - supervisor._healthcheck_seconds - 0.5
    supervisor._check_workers()
    assert not worker.deadline


def test_suspension_of_the_supervisor_does_not_make_a_worker_overdue(supervisor: Supervisor) -> None:
    [worker] = supervisor._workers
    worker.last_report -= 10
    supervisor._last_check -= 10
    supervisor._check_workers()
    assert not worker.deadline


def test_grace_period_of_a_worker_does_not_include_a_suspension_of_the_supervisor(supervisor: Supervisor) -> None:
    [worker] = supervisor._workers
    worker.deadline = time.monotonic() - 5
    supervisor._last_check -= 10
    supervisor._check_workers()
    with pytest.raises(subprocess.TimeoutExpired):
        worker.process.wait(0)


def test_worker_that_does_not_stop_is_killed_once(supervisor: Supervisor, caplog: pytest.LogCaptureFixture) -> None:
    [worker] = supervisor._workers
    worker.deadline = time.monotonic() - 1
    for _ in range(3):
        supervisor._check_workers()
    assert caplog.text.count("does not stop; killing it") == 1
    assert worker.process.wait(30) == -9


def test_worker_that_has_closed_its_channel_gets_a_deadline_to_exit(supervisor: Supervisor) -> None:
    [worker] = supervisor._workers
    worker.process.kill()
    supervisor._read_reports(worker)
    assert worker.deadline
    assert worker.channel.fileno() == -1


def test_slow_start_of_a_worker_is_logged_once(supervisor: Supervisor, caplog: pytest.LogCaptureFixture) -> None:
    [worker] = supervisor._workers
    worker.ready = 0.0
    worker.last_report -= 10
    for _ in range(3):
        supervisor._check_workers()
    assert caplog.text.count("is still starting, after 10 seconds") == 1
