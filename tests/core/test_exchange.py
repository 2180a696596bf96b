"""`HTTPExchange` by itself, with a gateway that records its calls."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from tests.core.state_table import state_cases
from uvicorn.core import exchange as module
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import (
    CLOSED,
    COMPLETE,
    STREAMING,
    WAITING,
    HTTPExchange,
    HTTPGateway,
)
from uvicorn.core.exchange_end import ExchangeState
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.fields import Fields

pytestmark = pytest.mark.any_loop


class RecordingGateway(HTTPGateway):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def send_response(
        self,
        exchange: HTTPExchange,
        status: int,
        headers: Iterable[Sequence[bytes]],
        content: bytes,
        more_content: bool,
        reason: bytes,
    ) -> None:
        if status == 0:
            raise LocalProtocolError("bad status")
        self.calls.append((status, content, more_content))

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        if content == b"bad":
            raise LocalProtocolError("bad content")
        self.calls.append((content, more_content))

    def want_content(self, exchange: HTTPExchange) -> None:
        self.calls.append("want")

    def content_taken(self, exchange: HTTPExchange) -> None:
        self.calls.append("taken")

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        self.calls.append("abort")

    def abandon(self, exchange: HTTPExchange, reason: str) -> None:
        self.calls.append("abandon")


#: Ends of the client's side or of the exchange, by name.
ENDS: dict[str, Callable[[HTTPExchange], object]] = {
    "feed_eof": lambda made: made.content.feed_eof(),
    "break_off": lambda made: made.content.break_off(),
    "half_close": lambda made: made.half_close(),
    "disconnect": lambda made: made.disconnect(),
    "respond": lambda made: made.respond(200),
}


def exchange(has_content: bool = False) -> tuple[HTTPExchange, RecordingGateway]:
    gateway = RecordingGateway()
    return HTTPExchange(gateway, Endpoint(), "GET", b"/a?b", "1.1", ((), ()), has_content), gateway


def test_exchange_returns_a_new_list_of_headers_each_time() -> None:
    fields = (b"host", b"a"), (b"x", b"1")
    made = HTTPExchange(RecordingGateway(), Endpoint(), "GET", b"/", "1.1", fields, False)
    made.headers[1][1] = b"changed"
    assert made.headers == [[b"host", b"x"], [b"a", b"1"]]


def in_state(state: ExchangeState) -> tuple[HTTPExchange, RecordingGateway]:
    made, gateway = exchange()
    if state == STREAMING:
        made.respond(200, more_content=True)
    elif state == COMPLETE:
        made.respond(200)
    elif state == CLOSED:
        made.disconnect()
    gateway.calls.clear()
    return made, gateway


def write_file(made: HTTPExchange, count: int) -> None:
    with FileIO(os.devnull) as file:
        asyncio.run(made.write_file(file, count))


#: The events of the table in the docstring of `exchange`, and what the gateway sends when they succeed.
EVENTS: dict[str, tuple[Callable[[HTTPExchange], object], list[Any]]] = {
    "respond, last": (lambda made: made.respond(200, (), b"x"), [(200, b"x", False)]),
    "respond, more": (lambda made: made.respond(200, (), b"x", more_content=True), [(200, b"x", True)]),
    "respond, invalid": (lambda made: made.respond(0), []),
    "write, more": (lambda made: made.write(b"x"), [(b"x", True)]),
    "write, last": (lambda made: made.write(b"x", more_content=False), [(b"x", False)]),
    "write, invalid": (lambda made: made.write(b"bad"), []),
    "write_trailers": (lambda made: made.write_trailers([[b"x", b"1"]]), [(b"", False)]),
    "write_file": (lambda made: write_file(made, 0), [(b"", False)]),
    "write_file, short": (lambda made: write_file(made, 1), []),
    "finish": (lambda made: made.finish(), [(b"", False)]),
    "app_failed": (lambda made: made.app_failed("reason"), []),
    "abort": (lambda made: made.abort("reason"), []),
    "break_off": (lambda made: made.break_off("reason"), []),
    "half_close": (lambda made: made.half_close(), []),
    "disconnect": (lambda made: made.disconnect(), []),
    "switch_protocols": (lambda made: made.switch_protocols(), []),
}
#: What the gateway does for the effects in the table.
EFFECTS: dict[str, list[Any]] = {
    "500": [(500, b"Internal Server Error\n", False)],
    "abort": ["abort"],
    "abandon": ["abandon"],
    "error": [],
    "warn": [],
    "drop": [],
    "ignore": [],
}


@pytest.mark.parametrize(("state", "event", "effects", "after"), state_cases(module, ExchangeState))
def test_exchange_follows_the_state_table_of_its_docstring(
    state: ExchangeState, event: str, effects: list[str], after: ExchangeState, caplog: pytest.LogCaptureFixture
) -> None:
    made, gateway = in_state(state)
    act, sent = EVENTS[event]
    # An error names the state in which it was raised, unless it is about the content itself.
    names_state = state.name if not event.endswith(("invalid", "short")) else None
    with pytest.raises(LocalProtocolError, match=names_state) if "error" in effects else nullcontext():
        act(made)
    assert made.state is after
    assert gateway.calls == ([call for effect in effects for call in EFFECTS[effect]] if effects else sent)
    assert bool(caplog.records) == ("warn" in effects)


def test_state_table_of_the_exchange_has_every_event() -> None:
    assert {case.values[1] for case in state_cases(module, ExchangeState)} == EVENTS.keys()


def test_request_target_is_split_into_path_and_query() -> None:
    made, gateway = exchange()
    assert (made.path, made.raw_path, made.query_string) == ("/a", b"/a", b"b")


def test_exchange_accepts_a_valid_response_after_an_invalid_response() -> None:
    made, gateway = exchange()
    with pytest.raises(LocalProtocolError):
        made.respond(0)
    made.respond(200)
    assert made.state == COMPLETE


def test_invalid_response_content_closes_the_exchange() -> None:
    made, gateway = in_state(STREAMING)
    with pytest.raises(LocalProtocolError):
        made.write(b"bad")
    assert made.state == CLOSED


@pytest.mark.parametrize("content", [bytearray(b"x"), memoryview(b"x")])
def test_exchange_accepts_response_content_of_any_bytes_type(content: Any) -> None:
    made, gateway = in_state(STREAMING)
    made.write(content)
    assert gateway.calls == [(b"x", True)]


def test_error_for_response_content_of_type_str_shows_its_value() -> None:
    made, gateway = in_state(STREAMING)
    with pytest.raises(LocalProtocolError, match="content: expected bytes, got str 'x'"):
        made.write("x")  # type: ignore[arg-type]


async def test_exchange_without_content_reports_the_end_of_content_at_once() -> None:
    made, gateway = exchange()
    assert await made.receive() == (b"", False)
    assert gateway.calls == []


class Taker:
    """Takes content, and reports each piece as above its high-water mark."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    def take_content(self, content: bytes) -> int:
        self.taken.append(content)
        return len(content)

    def end_content(self, whole: bool) -> None:
        self.taken.append(whole)


@pytest.mark.parametrize(("end", "whole"), [("feed_eof", True), ("half_close", False), ("disconnect", False)])
@pytest.mark.parametrize("passed_after", [0, 1, 2, 3])
def test_exchange_passes_all_content_to_a_taker_added_at_any_time(passed_after: int, end: str, whole: bool) -> None:
    made, _ = exchange(has_content=True)
    taker = Taker()
    steps: list[Callable[[], object]] = [
        lambda: made.content.feed(b"a"),
        lambda: made.content.feed(b"b"),
        lambda: ENDS[end](made),
    ]
    for number in range(4):
        if number == passed_after:
            made.pass_content(taker)
        if number < 3:
            steps[number]()
    assert taker.taken == [b"a", b"b", whole]


def test_content_counts_as_buffered_until_the_taker_has_handled_it() -> None:
    made, gateway = exchange(has_content=True)
    made.pass_content(Taker())
    made.content.feed(b"1234")
    assert made.content.buffered_bytes == 4
    gateway.calls.clear()
    made.content_wanted(1)
    assert (made.content.buffered_bytes, gateway.calls) == (1, ["taken"])
    made.content_wanted(0)
    assert (made.content.buffered_bytes, gateway.calls) == (0, ["taken", "taken", "want"])


def test_exchange_asks_the_gateway_for_content_when_a_taker_is_added_late() -> None:
    made, gateway = exchange(has_content=True)
    made.content.feed(b"all")
    made.content.feed_eof()
    made.pass_content(Taker())
    assert gateway.calls == ["want", "taken"]


async def test_receiving_from_an_exchange_returns_when_content_arrives() -> None:
    made, gateway = exchange(has_content=True)
    receiving = asyncio.ensure_future(made.receive())
    await asyncio.sleep(0)
    assert gateway.calls == ["want", "want"]
    made.content.feed(b"a")
    assert await receiving == (b"a", True)


@pytest.mark.parametrize("end", ["disconnect", "half_close", "break_off", "respond"])
async def test_exchange_raises_after_the_last_piece_of_incomplete_content(end: str) -> None:
    made, gateway = exchange(has_content=True)
    made.content.feed(b"a")
    ENDS[end](made)
    assert await made.receive() == (b"a", True)
    with pytest.raises(ClientDisconnected):
        await made.receive()


@pytest.mark.parametrize("wait", [HTTPExchange.wait_disconnect, HTTPExchange.receive])
async def test_cancelled_receive_or_wait_leaves_no_waiter_in_the_exchange(wait: Any) -> None:
    made, gateway = exchange(has_content=True)
    for _ in range(3):
        looking = asyncio.ensure_future(wait(made))
        await asyncio.sleep(0)
        looking.cancel()
        await asyncio.wait((looking,))
    assert not made.content.receivers()
    assert not made._watchers


CONTENT = bytes(range(256)) * 300


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FileIO]:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with FileIO(path) as opened:
        yield opened


async def test_exchange_sends_a_file_as_content_and_ends_the_response(file: FileIO) -> None:
    made, gateway = in_state(STREAMING)
    await made.write_file(file, 70000)
    assert b"".join(content for content, _ in gateway.calls) == CONTENT[:70000]
    assert [more for _, more in gateway.calls] == [True, True, False]
    assert made.state == COMPLETE


async def test_exchange_aborts_the_response_if_the_file_has_become_shorter(file: FileIO) -> None:
    made, gateway = in_state(STREAMING)
    with pytest.raises(LocalProtocolError, match="the file is 1 bytes shorter than when it was opened"):
        await made.write_file(file, len(CONTENT) + 1)
    assert (made.state, gateway.calls[-1]) == (CLOSED, "abort")


async def test_exchange_does_not_read_a_file_after_the_client_has_disconnected(file: FileIO) -> None:
    made, gateway = in_state(CLOSED)
    await made.write_file(file, 10)
    assert (gateway.calls, file.tell()) == ([], 0)


async def test_sending_a_file_before_the_response_head_raises(file: FileIO) -> None:
    made, gateway = in_state(WAITING)
    with pytest.raises(LocalProtocolError, match="WAITING"):
        await made.write_file(file, 10)


def test_invalid_trailers_close_the_exchange() -> None:
    class Strict(RecordingGateway):
        def send_trailers(self, exchange: HTTPExchange, headers: Iterable[Sequence[bytes]]) -> None:
            raise LocalProtocolError("bad trailers")

    made = HTTPExchange(Strict(), Endpoint(), "GET", b"/", "1.1", ((), ()), False)
    made.respond(200, more_content=True)
    with pytest.raises(LocalProtocolError, match="bad trailers"):
        made.write_trailers([])
    assert made.state == CLOSED


async def test_drain_returns_at_once_if_the_gateway_has_no_flow_control() -> None:
    made, gateway = exchange()
    assert not made.write_paused
    await made.drain()


def test_aborting_after_a_complete_response_does_nothing() -> None:
    made, gateway = in_state(COMPLETE)
    made.abort("reason")
    assert gateway.calls == []


async def test_content_reaches_the_second_receiver_if_the_first_is_cancelled() -> None:
    made, _ = exchange(has_content=True)
    cancelled, waiting = (asyncio.create_task(made.receive()) for _ in range(2))
    await asyncio.sleep(0)
    cancelled.cancel()
    made.content.feed(b"x")
    assert await waiting == (b"x", True)
    assert cancelled.cancelled()


def test_exchange_ends_once_if_the_client_disconnects_during_the_trailers() -> None:
    class Gone(RecordingGateway):
        def send_trailers(self, exchange: HTTPExchange, headers: Iterable[Sequence[bytes]]) -> None:
            exchange.disconnect()

    ended: list[int] = []
    made = HTTPExchange(Gone(), Endpoint(), "GET", b"/", "1.1", ((), ()), has_content=False)
    made.on_end(lambda exchange: ended.append(exchange.state))
    made.respond(200, more_content=True)
    made.write_trailers([])
    assert (made.state, ended) == (CLOSED, [CLOSED])


def head(endpoint: Endpoint, target: bytes = b"/", fields: Fields = ((), ())) -> HTTPExchange:
    return HTTPExchange(HTTPGateway(), endpoint, "GET", target, "1.1", fields, has_content=False)


def test_request_returns_a_new_list_of_headers_each_time() -> None:
    made = head(Endpoint(), fields=((b"host", b"accept"), (b"x.example", b"*/*")))
    made.headers.clear()
    assert made.headers == [[b"host", b"x.example"], [b"accept", b"*/*"]]


def test_direct_request_gets_client_and_scheme_from_the_connection() -> None:
    made = head(Endpoint(scheme="https", client=("192.0.2.1", 5)))
    assert (made.client, made.scheme) == (("192.0.2.1", 5), "https")


def test_forwarded_request_gets_client_and_scheme_from_the_proxy() -> None:
    made = head(Endpoint(client=("192.0.2.1", 5)))
    made.forwarded = (("198.51.100.7", 0), "https")
    assert (made.client, made.scheme) == (("198.51.100.7", 0), "https")


@pytest.mark.parametrize(("target", "root_path"), [(b"/app/x", "/app"), (b"/other", ""), (b"*", "")])
def test_request_outside_the_root_path_has_an_empty_root_path(target: bytes, root_path: str) -> None:
    assert head(Endpoint(root_path="/app", root_path_cut="no"), target).root_path == root_path
