"""How a worker ends when its supervisor has died, with a simulated wait."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from uvicorn.server.process_end import STOPPING_SECONDS, SupervisorWatch

LONGEST_WAIT = 30.0


class Watched:
    """A watch that records its waits and sets `killed`."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.waits: list[float] = []
        self.killed = threading.Event()
        self.watch = SupervisorWatch(theirs, 7.0, kill=self.killed.set, wait=self._wait)

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        return False


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    made.watch.start()
    yield made
    made.watch.finish()
    made.ours.close()


def test_worker_is_killed_after_a_grace_period_when_its_supervisor_has_ended(watched: Watched) -> None:
    watched.ours.close()
    assert watched.killed.wait(LONGEST_WAIT)
    assert watched.waits == [7.0]


def test_stopping_worker_gets_more_time_after_its_supervisor_has_ended(watched: Watched) -> None:
    watched.watch.noticed.set()
    watched.ours.close()
    assert watched.killed.wait(LONGEST_WAIT)
    assert watched.waits == [7.0, STOPPING_SECONDS]


def test_worker_that_has_finished_is_not_killed(watched: Watched) -> None:
    watched.watch.finish()
    watched.watch._thread.join(LONGEST_WAIT)
    assert not watched.killed.is_set()


def test_finished_worker_closes_its_channel_to_the_supervisor(watched: Watched) -> None:
    watched.ours.settimeout(LONGEST_WAIT)
    watched.watch.finish()
    assert watched.ours.recv(1) == b""
