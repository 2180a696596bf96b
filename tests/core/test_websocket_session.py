"""`WebSocketSession` by itself, with gateways and a listener that record their calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from enum import IntEnum
from typing import Any

import pytest

from tests.core.state_table import state_cases
from uvicorn.core import websocket_session as module
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import COMPLETE, HTTPExchange, HTTPGateway
from uvicorn.core.websocket_session import (
    CLOSED,
    CLOSING,
    CONNECTING,
    OPEN,
    SessionState,
    WebSocketGateway,
    WebSocketListener,
    WebSocketSession,
    check_close,
    check_message,
)
from uvicorn.errors import LocalProtocolError
from uvicorn.types import Headers


class RecordingGateway(HTTPGateway, WebSocketGateway):
    """Both halves of a server: the one that carries the handshake, and the one that carries the messages."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.write_paused = False

    def send_response(self, exchange: HTTPExchange, status: int, *response: Any) -> None:
        self.calls.append(status)

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        self.calls.append("abort")

    def send_accept(self, session: WebSocketSession, subprotocol: str | None, headers: Headers) -> None:
        if subprotocol == "bad":
            raise LocalProtocolError("bad subprotocol")
        if subprotocol == "gone":
            session.request.disconnect()
            return
        self.calls.append("accept" if subprotocol is None else (subprotocol, headers))
        session.request.switch_protocols()

    def hand_over(self, session: WebSocketSession) -> Any:
        self.calls.append("hand_over")
        session.request.switch_protocols()
        return None

    def send_text(self, text: str) -> None:
        self.calls.append(text)

    def send_bytes(self, data: bytes) -> None:
        self.calls.append(data)

    def send_close(self, code: int, reason: str) -> None:
        self.calls.append((code, reason))

    def pause_receiving(self) -> None:
        self.calls.append("pause")

    def resume_receiving(self) -> None:
        self.calls.append("resume")

    async def drain(self) -> None:
        self.calls.append("drain")


class RecordingListener(WebSocketListener):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_disconnect(self, code: int, reason: str) -> None:
        self.calls.append((code, reason))


class Made:
    """A session in `state`, its gateway and its listener, which have forgotten how it got there."""

    def __init__(self, state: SessionState = CONNECTING) -> None:
        self.gateway = RecordingGateway()
        self.listener = RecordingListener()
        self.request = HTTPExchange(self.gateway, Endpoint(), "GET", b"/chat", "1.1", ((), ()), has_content=False)
        self.session = WebSocketSession(self.gateway, self.request, ("a", "b"))
        self.session.listener = self.listener
        if state != CONNECTING:
            self.session.accept()
        if state == CLOSING:
            self.session.close()
        if state == CLOSED:
            self.session.disconnect(1006, "")
        self.gateway.calls.clear()
        self.listener.calls.clear()


#: The events of the table in the docstring of `websocket_session`, and what the gateway sends when they succeed.
EVENTS: dict[str, tuple[Callable[[Made], object], list[Any]]] = {
    "accept": (lambda made: made.session.accept(), ["accept"]),
    "accept, invalid": (lambda made: made.session.accept("bad"), []),
    "hand_over": (lambda made: made.session.hand_over(), ["hand_over"]),
    "send_text": (lambda made: made.session.send_text("x"), ["x"]),
    "send_bytes": (lambda made: made.session.send_bytes(b"x"), [b"x"]),
    "close": (lambda made: made.session.close(), [(1000, "")]),
    "close, invalid code": (lambda made: made.session.close(1006), []),
    "close_begun": (lambda made: made.session.close_begun(), []),
    "disconnect": (lambda made: made.session.disconnect(1001, "bye"), []),
    "handshake denied": (lambda made: made.request.respond(403), [403]),
    "client gone": (lambda made: made.request.disconnect(), []),
}


@pytest.mark.parametrize(("state", "event", "effects", "after"), state_cases(module, SessionState))
def test_session_follows_the_state_table_of_its_docstring(
    state: SessionState, event: str, effects: list[str], after: SessionState
) -> None:
    made = Made(state)
    act, sent = EVENTS[event]
    # An error names the state in which it was raised, unless it is about the argument itself.
    names_state = state.name if "invalid" not in event else None
    with pytest.raises(LocalProtocolError, match=names_state) if "error" in effects else nullcontext():
        act(made)
    assert made.session.state is after
    assert made.gateway.calls == ([] if effects else sent)
    assert made.listener.calls == ([(1001, "bye")] if "notify" in effects else [])


def test_state_table_of_the_session_has_every_event() -> None:
    assert {case.values[1] for case in state_cases(module, SessionState)} == EVENTS.keys()


@pytest.mark.parametrize("state", [OPEN, CLOSING])
def test_disconnect_of_a_completed_handshake_leaves_the_session_state_unchanged(state: SessionState) -> None:
    made = Made(state)
    assert (made.request.state, made.request.status) == (COMPLETE, 101)
    made.request.disconnect()
    assert made.session.state == state


def test_session_can_be_accepted_after_an_invalid_attempt() -> None:
    made = Made()
    with pytest.raises(LocalProtocolError, match="bad subprotocol"):
        made.session.accept("bad")
    assert made.session.state == CONNECTING
    made.session.accept("b", [[b"x", b"y"]])
    assert (made.session.state, made.gateway.calls) == (OPEN, [("b", [[b"x", b"y"]])])


def test_session_stays_closed_if_it_is_accepted_after_the_client_disconnects() -> None:
    made = Made()
    made.session.accept("gone")
    assert made.session.state == CLOSED


@pytest.mark.parametrize("data", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_session_sends_any_bytes_type_as_bytes(data: Any) -> None:
    made = Made(OPEN)
    made.session.send_bytes(data)
    assert [(type(sent), sent) for sent in made.gateway.calls] == [(bytes, b"x")]


@pytest.mark.parametrize(
    ("send", "expected"),
    [
        (lambda session: session.send_text(b"x"), "expected 'text' as str, got bytes"),
        (lambda session: session.send_bytes("x"), "expected 'bytes' as bytes, got str"),
    ],
)
def test_websocket_message_of_the_wrong_type_raises_and_is_not_sent(send: Any, expected: str) -> None:
    made = Made(OPEN)
    with pytest.raises(LocalProtocolError, match=expected):
        send(made.session)
    assert (made.session.state, made.gateway.calls) == (OPEN, [])


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        ("x", None, ""),
        (None, b"x", ""),
        (None, None, ""),
        (b"x", None, "expected 'text' as str, got bytes"),
        ("\ud800", None, "UTF-8"),
        (None, "x", "expected 'bytes' as bytes, got str"),
    ],
)
def test_websocket_message_can_be_checked_without_a_session(text: Any, data: Any, expected: str) -> None:
    if expected:
        with pytest.raises(LocalProtocolError, match=expected):
            check_message(text, data)
    else:
        check_message(text, data)


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1012, 1014, 3000, 4999])
def test_7_4_websocket_may_be_closed_with_standard_registered_or_private_codes(code: int) -> None:
    made = Made(OPEN)
    made.session.close(code, "é" * 61)
    assert made.gateway.calls == [(code, "é" * 61)]


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1, 1000.0, "1000", None, True])
def test_7_4_close_with_a_reserved_code_raises(code: Any) -> None:
    made = Made(OPEN)
    with pytest.raises(LocalProtocolError, match="close code"):
        made.session.close(code)
    assert (made.session.state, made.gateway.calls) == (OPEN, [])


@pytest.mark.parametrize("reason", ["é" * 62, "a" * 124, b"bye", None, "\ud800"])
def test_5_5_close_with_a_malformed_reason_raises(reason: Any) -> None:
    made = Made(OPEN)
    with pytest.raises(LocalProtocolError, match="expected a close reason"):
        made.session.close(1000, reason)
    with pytest.raises(LocalProtocolError, match="expected a close reason"):
        check_close(1000, reason)


class Code(IntEnum):
    NORMAL = 1000


def test_websocket_close_code_may_be_an_enum_member() -> None:
    made = Made(OPEN)
    made.session.close(Code.NORMAL)
    check_close(Code.NORMAL, "")
    assert made.gateway.calls == [(1000, "")]


@pytest.mark.parametrize("end", ["disconnect", "handshake denied", "client gone"])
def test_on_end_callbacks_of_a_session_are_called_once_and_in_order(end: str) -> None:
    made = Made()
    called: list[int] = []
    made.session.on_end(lambda: called.append(1))
    made.session.on_end(lambda: called.append(2))
    EVENTS[end][0](made)
    EVENTS["disconnect"][0](made)
    assert called == [1, 2]


def test_on_end_callback_of_a_closed_session_is_called_at_once() -> None:
    called: list[int] = []
    Made(CLOSED).session.on_end(lambda: called.append(1))
    assert called == [1]


def test_exception_in_a_session_callback_does_not_prevent_the_next_callback(caplog: pytest.LogCaptureFixture) -> None:
    made = Made(OPEN)
    called: list[int] = []
    made.session.on_end(lambda: 1 / 0)
    made.session.on_end(lambda: called.append(1))
    made.session.disconnect(1001, "bye")
    assert (called, made.listener.calls) == ([1], [(1001, "bye")])
    assert "on_close" in caplog.text


def test_session_runs_its_end_callbacks_before_it_notifies_the_listener() -> None:
    made = Made(OPEN)
    called: list[int] = []
    made.session.on_end(lambda: called.append(len(made.listener.calls)))
    made.session.disconnect(1001, "bye")
    assert called == [0]


def test_disconnect_closes_a_session_without_a_listener() -> None:
    made = Made(OPEN)
    made.session.listener = None
    made.session.disconnect(1001, "bye")
    assert made.session.state == CLOSED


def test_session_uses_the_flow_control_of_its_gateway() -> None:
    made = Made(OPEN)
    asyncio.run(made.session.drain())
    assert made.gateway.calls == ["drain"]
    assert not made.session.write_paused
    made.gateway.write_paused = True
    assert made.session.write_paused


def test_draining_a_closed_session_returns_at_once() -> None:
    made = Made(OPEN)
    made.gateway.write_paused = True
    made.session.disconnect(1006, "")
    assert not made.session.write_paused
    made.session.gateway.pause_receiving()
    made.session.gateway.resume_receiving()
    asyncio.run(made.session.drain())
    assert made.gateway.calls == []


def test_repr_of_a_session_shows_path_and_state() -> None:
    assert repr(Made(CLOSING).session) == "<websocket '/chat' CLOSING>"


def test_gateway_and_listener_methods_raise_NotImplementedError_by_default() -> None:
    session = Made().session
    calls: tuple[Callable[[], object], ...] = (
        lambda: WebSocketGateway().send_accept(session, None, ()),
        lambda: WebSocketGateway().send_text(""),
        lambda: WebSocketGateway().send_bytes(b""),
        lambda: WebSocketGateway().send_close(1000, ""),
        lambda: WebSocketListener().on_text(""),
        lambda: WebSocketListener().on_bytes(b""),
        lambda: WebSocketListener().on_disconnect(1000, ""),
    )
    for call in calls:
        with pytest.raises(NotImplementedError):
            call()
