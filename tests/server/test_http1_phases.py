"""The table of phases in the docstring of `server/http1.py`, cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.core.state_table import state_cases
from tests.corpus import POST, chunked, request
from tests.helpers import GET, Conversation, ManualClock, echo, settle
from uvicorn.core.exchange import HTTPExchange
from uvicorn.server import http1
from uvicorn.server.http1_timeouts import BUSY, CLOSED, CLOSING, DRAINING, HEAD, IDLE, LINGERING, HTTP1Phase

pytestmark = pytest.mark.any_loop

UPLOAD = request(POST, b"content-length: 5", content=b"hel")
LONG_UPLOAD = request(POST, b"content-length: 1000", content=b"hel")
CHUNKED_UPLOAD = chunked(b"3\r\nhel\r\n")
CLOSE = request(b"GET / HTTP/1.1", b"connection: close")

#: What makes the connection BUSY, if not GET.
BUSY_WITH = {
    "malformed": CHUNKED_UPLOAD,
    "malformed, streaming": CHUNKED_UPLOAD,
    "end of content": UPLOAD,
    "too much content": CHUNKED_UPLOAD,
    "response before content": UPLOAD,
    "last response": CLOSE,
    "last before content": LONG_UPLOAD,
    "timeout mid-request": UPLOAD,
}


class Scene:
    """A connection in a given phase. Its application leaves the exchanges to the test."""

    def __init__(self, phase: HTTP1Phase, event: str) -> None:
        self.conversation = Conversation(echo, clock=ManualClock(), max_content_bytes=1000, max_drain_bytes=10)
        self.connection = self.conversation.connection
        self.transport = self.conversation.transport
        self.exchanges: list[HTTPExchange] = []
        self.conversation.context.interface.serve_http = self.exchanges.append  # type: ignore[assignment, method-assign]
        self._enter(phase, event)
        assert self.connection.phase is phase
        self.served = len(self.exchanges)
        self.written = len(self.transport.writes)
        self.was_aborted = self.transport.aborted

    def _enter(self, phase: HTTP1Phase, event: str) -> None:
        conversation = self.conversation
        if phase is IDLE:
            conversation.send(GET)
            self.exchanges[0].respond(200)
        elif phase is BUSY:
            conversation.send(BUSY_WITH.get(event, GET))
        elif phase is DRAINING:
            conversation.send(UPLOAD)
            self.exchanges[0].respond(200)
        elif phase is LINGERING:
            conversation.send(b"\0\r\n\r\n")
        elif phase is CLOSING:
            self.transport.client_takes = False
            conversation.send(CLOSE)
            self.exchanges[0].respond(200)
        elif phase is CLOSED:
            self.connection.reset()

    @property
    def refusals(self) -> list[str]:
        """Return the status codes of the error responses since the phase was entered."""
        written = b"".join(self.transport.writes[self.written :])
        return [written[9:12].decode()] if written.startswith(b"HTTP/1.1 4") else []


def start_stream(scene: Scene) -> None:
    scene.exchanges[0].respond(200, more_content=True)
    scene.written = len(scene.transport.writes)


def malformed_while_streaming(scene: Scene) -> None:
    start_stream(scene)
    scene.conversation.feed(b"zz\r\n")


def wait(scene: Scene) -> None:
    """Advance the clock until the phase changes."""
    phase = scene.connection.phase
    for _ in range(70):
        scene.conversation.clock.advance(1)
        if scene.connection.phase is not phase:
            break


def half_close_and_wait(scene: Scene) -> None:
    scene.conversation.send_eof()
    wait(scene)


def feed_part_and_wait(scene: Scene) -> None:
    scene.conversation.feed(b"x")
    wait(scene)


def wait_and_stop(scene: Scene) -> None:
    if scene.connection.phase in (HEAD, IDLE):
        # A request may be on its way to a connection that was made or answered a moment ago.
        scene.conversation.clock.advance(2)
    scene.connection.stop()


def take_nothing(scene: Scene) -> None:
    if scene.connection.phase is BUSY:
        start_stream(scene)
    scene.transport.client_takes = False
    scene.transport.unsent = 1
    wait(scene)


def malformed(scene: Scene) -> None:
    # In content a chunk size, else a request line.
    scene.conversation.feed(b"\0\r\n\r\n")


EVENTS: dict[str, Callable[[Scene], Any]] = {
    "part of a head": lambda scene: scene.conversation.feed(b"GET / HT"),
    "head": lambda scene: scene.conversation.feed(GET),
    "malformed": malformed,
    "malformed, streaming": malformed_while_streaming,
    "end of content": lambda scene: scene.conversation.feed(b"lo"),
    "too much content": lambda scene: scene.conversation.feed(b"5dc\r\n" + 1500 * b"x"),
    "response": lambda scene: scene.exchanges[0].respond(200),
    "response before content": lambda scene: scene.exchanges[0].respond(200),
    "last response": lambda scene: scene.exchanges[0].respond(200),
    "last before content": lambda scene: scene.exchanges[0].respond(200),
    "response aborted": lambda scene: scene.exchanges[0].abort("test"),
    "switch": lambda scene: scene.connection.switch(),
    "FIN": lambda scene: scene.conversation.send_eof(),
    "client gone": lambda scene: scene.connection.connection_lost(None),
    "timeout": wait,
    "timeout mid-request": feed_part_and_wait,
    "timeout, half-closed": half_close_and_wait,
    "write timeout": take_nothing,
    "stop": wait_and_stop,
    "reset": lambda scene: scene.connection.reset(),
}


@pytest.mark.parametrize(("phase", "event", "effects", "after"), state_cases(http1, HTTP1Phase))
async def test_connection_phase_after_each_event_matches_the_phase_table(
    phase: HTTP1Phase, event: str, effects: list[str], after: HTTP1Phase
) -> None:
    scene = Scene(phase, event)
    EVENTS[event](scene)
    assert scene.connection.phase is after
    assert len(scene.exchanges) - scene.served == effects.count("serve")
    assert scene.refusals == [effect for effect in effects if effect.isdigit()]
    is_reset = after is CLOSED is not phase and event not in ("switch", "client gone")
    assert scene.transport.aborted == (is_reset or scene.was_aborted)
    await settle()


def test_phase_table_has_a_row_for_every_event() -> None:
    rows = {case.values[1] for case in state_cases(http1, HTTP1Phase)}
    assert rows == set(EVENTS)
