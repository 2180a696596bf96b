"""Whatever an ASGI application sends, h11 reads what comes of it: whole responses, or none that looks whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.corpus import request
from tests.helpers import Conversation, settle
from uvicorn.server.loops import loop_factory

Event = dict[str, Any]

STATUSES = st.sampled_from([200, 204, 304, 404, 500, 299, 999])
NO_STATUSES = st.sampled_from([99, 100, 1000, "200", None, True])
FIELDS = st.sampled_from(
    [
        (b"content-type", b"text/plain"),
        (b"X-Upper", b""),
        (b"connection", b"close"),
        (b"connection", b"keep-alive"),
        (b"transfer-encoding", b"chunked"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ]
)
LENGTHS = st.integers(0, 9).map(lambda length: (b"content-length", str(length).encode()))
NO_FIELDS = st.sampled_from(
    [
        (b"x", b"a\r\nb: c"),
        (b"a b", b"c"),
        (b"", b""),
        (b"content-length", b"-1"),
        (b"content-length", b"1, 2"),
        ("x", "y"),
        (b"x",),
        3,
    ]
)
CONTENT = st.sampled_from([b"", b"a", b"bcd", b"0\r\n\r\n", b"efghijkl"])


def often(likely: Any, unlikely: Any) -> Any:
    """Legal most of the time: the illegal alone would get no further than the first event."""
    return st.one_of(likely, likely, likely, likely, likely, likely, unlikely)


@st.composite
def starts(draw: Any) -> Event:
    headers = draw(st.lists(often(FIELDS, NO_FIELDS), max_size=3)) + draw(st.lists(LENGTHS, max_size=1))
    event = {"type": "http.response.start", "status": draw(often(STATUSES, NO_STATUSES)), "headers": headers}
    if draw(st.integers(0, 4)) == 0:
        event["trailers"] = True
    return event


BODIES = st.fixed_dictionaries(
    {"type": st.just("http.response.body")},
    optional={"body": often(CONTENT, st.sampled_from(["text", None, 3])), "more_body": st.booleans()},
)
TRAILERS = st.fixed_dictionaries(
    {"type": st.just("http.response.trailers")},
    optional={
        "headers": st.lists(often(st.just((b"x-sum", b"1")), NO_FIELDS), max_size=2),
        "more_trailers": st.booleans(),
    },
)
OTHERS = st.sampled_from([{"type": "websocket.send", "text": "a"}, {"type": None}, {}, {"type": "http.response.push"}])
WAIT = st.none()


@st.composite
def scripts(draw: Any) -> list[Event | None]:
    """Mostly a start and then content."""
    first = [draw(starts())] if draw(st.integers(0, 9)) else []
    anything = often(st.one_of(BODIES, BODIES, BODIES, TRAILERS, WAIT), st.one_of(starts(), OTHERS))
    return [*draw(st.lists(WAIT, max_size=1)), *first, *draw(st.lists(anything, max_size=5))]


@dataclass
class Run:
    """One call of the application: the events that `send` took, and the one that it refused last."""

    taken: list[Event] = field(default_factory=list)
    refused: list[Event] = field(default_factory=list)

    @property
    def start(self) -> Event | None:
        """The one that counts: an earlier one has proved unfit."""
        return next((event for event in reversed(self.taken) if event["type"] == "http.response.start"), None)

    @property
    def content(self) -> bytes:
        return b"".join(event.get("body") or b"" for event in self.taken if event["type"] == "http.response.body")

    @property
    def refused_content(self) -> bytes:
        return b"".join(body for event in self.refused if isinstance(body := event.get("body"), bytes))

    @property
    def has_ended(self) -> bool:
        """Whether the application has said that this was all."""
        bodies = [event for event in self.taken if event["type"] == "http.response.body"]
        trailers = [event for event in self.taken if event["type"] == "http.response.trailers"]
        last = trailers[-1:] if self.start is not None and self.start.get("trailers") else bodies[-1:]
        return any(not event.get("more_body") and not event.get("more_trailers") for event in last)


class App:
    """Follows a script with each request; goes on after an error, or lets it pass; fails at the end, or returns."""

    def __init__(self, script: list[Event | None], swallows: bool, fails: bool) -> None:
        self.script = script
        self.swallows = swallows
        self.fails = fails
        self.runs: list[Run] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        run = Run()
        self.runs.append(run)
        for event in self.script:
            if event is None:
                await asyncio.sleep(0)
                continue
            try:
                await send(event)
            except Exception:
                run.refused.append(event)
                if not self.swallows:
                    raise
            else:
                run.taken.append(event)
        if self.fails:
            raise ValueError("the end")


@dataclass
class Response:
    """As h11 has read it."""

    status: int
    content: bytes = b""
    complete: bool = False


def read(data: bytes, method: str, closed: bool) -> Iterator[Response]:
    """The responses in `data`; h11.RemoteProtocolError if it is anything else."""
    while data:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        response, data = None, b""
        while (event := client.next_event()) is not h11.NEED_DATA and event is not h11.PAUSED:
            if isinstance(event, h11.Response):
                response = Response(event.status_code)
            elif isinstance(event, h11.Data):
                assert response is not None
                response.content += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert response is not None
                response.complete = True
                data = client.trailing_data[0]
                break
        assert response is not None
        if not response.complete and closed:
            client.receive_data(b"")
            try:
                response.complete = isinstance(client.next_event(), h11.EndOfMessage)
            except h11.RemoteProtocolError:
                pass
        yield response


async def converse(app: App, method: str, version: str) -> tuple[bytes, bool]:
    """What the server sends to two requests, and whether the connection was closed in order."""
    conversation = Conversation(app)
    conversation.send(request(f"{method} / HTTP/{version}".encode(), b"connection: keep-alive") * 2)
    await settle(40)
    transport = conversation.transport
    closed = transport.eof_written or (transport.closing and not transport.aborted)
    data = conversation.received
    await conversation.lose()
    return data, closed


def declared_length(start: Event) -> int | None:
    return next((int(value) for name, value in start["headers"] if name == b"content-length"), None)


@pytest.mark.parametrize("loop_name", ["asyncio"])
@settings(deadline=None, max_examples=300)
@given(
    script=scripts(),
    swallows=st.booleans(),
    fails=st.booleans(),
    method=st.sampled_from(["GET", "GET", "HEAD"]),
    version=st.sampled_from(["1.1", "1.1", "1.0"]),
)
@example(
    script=[
        {"type": "http.response.start", "status": 200, "headers": []},
        None,
        {"type": "http.response.body", "body": b"a", "more_body": True},
    ],
    swallows=False,
    fails=False,
    method="GET",
    version="1.0",
)
def test_h11_parses_the_response_to_every_sequence_of_asgi_events(
    loop_name: str, script: list[Event | None], swallows: bool, fails: bool, method: str, version: str
) -> None:
    app = App(script, swallows, fails)
    with asyncio.Runner(loop_factory=loop_factory(loop_name)) as runner:
        data, closed = runner.run(converse(app, method, version))
    responses = list(read(data, method, closed))
    assert len(responses) <= len(app.runs)
    for response, run in zip(responses, app.runs, strict=False):
        if response.complete:
            check_complete(response, run, method)
    assert all(response.complete for response in responses[:-1]), "something follows a response that is not whole"


def check_complete(response: Response, run: Run, method: str) -> None:
    """The application has meant this response to be whole, or it is the server's own."""
    if response.status == 500 and response.content == (b"" if method == "HEAD" else b"Internal Server Error\n"):
        return
    start = run.start
    assert start is not None
    assert response.status == start["status"]
    if method == "HEAD" or response.status in (204, 304):
        assert response.content == b""
        return
    length = declared_length(start)
    if length is None:
        assert run.has_ended
        assert response.content == run.content
    else:
        # Whole is what has the length that it was given, were it cut to it.
        assert len(response.content) == length
        assert (run.content + run.refused_content).startswith(response.content)
