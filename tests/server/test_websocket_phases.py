"""The table of states in the docstring of `server/websocket.py`, checked in random conversations."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.corpus import HANDSHAKE, request
from tests.helpers import Conversation, ManualClock, echo, settle
from tests.websocket_streams import PING, PONG, TEXT, close, frame
from uvicorn.core.websocket_session import OPEN, SessionState, WebSocketListener, WebSocketSession
from uvicorn.server import websocket
from uvicorn.server.websocket import WebSocketConnection
from uvicorn.server.websocket_timeouts import OPENING, WebSocketPhase
from uvicorn.wire.websocket.frames import CodecState

pytestmark = pytest.mark.any_loop


def allowed_states() -> dict[WebSocketPhase, tuple[set[SessionState], set[CodecState]]]:
    """Return the states of session and codec that the docstring allows in each phase."""
    (_, *columns), *rows = (
        re.split(r"\s{2,}", line.strip()) for line in (websocket.__doc__ or "").splitlines() if line[:4].isspace()
    )
    assert columns == ["session", "codec"]
    return {
        WebSocketPhase[phase]: (
            {SessionState[name] for name in session.split(", ")},
            {CodecState[name] for name in codec.split(", ") if name != "-"},
        )
        for phase, session, codec in rows
    }


class Scene(WebSocketListener):
    """A handshake whose application leaves the session to the test."""

    def __init__(self) -> None:
        self.conversation = Conversation(echo, clock=ManualClock(), write_buffer_bytes=10)
        sessions: list[WebSocketSession] = []
        self.conversation.context.interface.serve_websocket = sessions.append  # type: ignore[assignment, method-assign]
        self.conversation.send(request(b"GET / HTTP/1.1", *HANDSHAKE))
        self.session = sessions[0]
        assert isinstance(self.session.gateway, WebSocketConnection)
        self.connection = self.session.gateway
        self.session.listener = self

    def on_text(self, text: str) -> None:
        """Pause receiving until the test resumes it."""
        self.session.gateway.pause_receiving()

    def on_disconnect(self, code: int, reason: str) -> None:
        """Record the end of the session."""

    @property
    def states(self) -> tuple[WebSocketPhase, SessionState, CodecState | None]:
        phase = self.connection.phase
        return phase, self.session.state, None if phase is OPENING else self.connection._codec.state

    def feed(self, data: bytes) -> None:
        transport = self.conversation.transport
        if not transport.closing and transport.reading and self.connection.phase is not OPENING:
            self.conversation.feed(data)

    def end_input(self) -> None:
        transport = self.conversation.transport
        # A transport for TLS closes by itself what the connection has not closed.
        if not transport.closing and not transport.protocol.eof_received() and not transport.closing:
            transport.close()

    def deny(self) -> None:
        if self.session.state is SessionState.CONNECTING:
            self.session.request.respond(403)

    def send(self) -> None:
        if self.session.state is OPEN:
            self.session.send_text("hello")

    def close(self) -> None:
        if self.session.state is not SessionState.CONNECTING:
            self.session.close()


EVENTS: list[Callable[[Scene], Any]] = [
    Scene.send,
    Scene.close,
    Scene.deny,
    lambda scene: scene.session.accept() if scene.session.state is SessionState.CONNECTING else None,
    lambda scene: scene.feed(frame(TEXT, b"hello")),
    lambda scene: scene.feed(frame(TEXT, b"hello")[:3]),
    lambda scene: scene.feed(frame(PING) + frame(PONG)),
    lambda scene: scene.feed(close(1000)),
    lambda scene: scene.feed(b"\xff\xff"),
    lambda scene: scene.session.gateway.resume_receiving(),
    lambda scene: scene.conversation.clock.advance(12),
    Scene.end_input,
    lambda scene: scene.conversation.transport.reset(),
    lambda scene: scene.connection.stop(),
    lambda scene: scene.conversation.transport.take(1),
]


async def states_of(seed: int) -> set[tuple[WebSocketPhase, SessionState, CodecState | None]]:
    """Return all combinations of states in one conversation."""
    chance = random.Random(seed)
    scene = Scene()
    scene.conversation.transport.client_takes = chance.random() < 0.5
    scene.conversation.transport.half_closes = chance.random() < 0.7
    seen = {scene.states}
    if chance.random() < 0.9:
        scene.session.accept()
    for _ in range(12):
        seen.add(scene.states)
        chance.choice(EVENTS)(scene)
        seen.add(scene.states)
        await settle(chance.randrange(3))
    scene.conversation.transport.reset()
    await settle()
    return seen | {scene.states}


async def test_websocket_phases_match_the_table_of_session_and_codec_states() -> None:
    seen = set[tuple[WebSocketPhase, SessionState, CodecState | None]]().union(
        *[await states_of(n) for n in range(800)]
    )
    allowed = allowed_states()
    for phase, session, codec in seen:
        assert session in allowed[phase][0], (phase, session)
        assert codec is None or codec in allowed[phase][1], (phase, codec)
    # And the table promises nothing that does not happen.
    assert {(phase, session) for phase, session, _ in seen} == {
        (phase, state) for phase, (states, _) in allowed.items() for state in states
    }
    assert {(phase, codec) for phase, _, codec in seen if codec is not None} == {
        (phase, state) for phase, (_, states) in allowed.items() for state in states
    }
