"""Content that is longer than its content-length: transmission ends there (PEP 3333)."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.corpus import request
from tests.helpers import GET, Conversation, until
from tests.interfaces.wsgi_conversations import WAYS, Kept, app_of, over, response_of
from uvicorn.adapters import ASGI3Adapter, ASGIAdapter, WSGIAdapter
from uvicorn.errors import LocalProtocolError

LENGTH = [("Content-Length", "10")]

ALL_WAYS = [*WAYS, "WSGIAdapter(ASGIAdapter)", "ASGI3Adapter"]


def served(app: Any, way: str) -> Any:
    if way == "WSGIAdapter(ASGIAdapter)":
        return WSGIAdapter(ASGIAdapter(app))
    return ASGI3Adapter(app) if way == "ASGI3Adapter" else over(app, way)


def file_of(content: bytes, block_bytes: int) -> Callable[..., Any]:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", LENGTH)
        return environ["wsgi.file_wrapper"](io.BytesIO(content), block_bytes)

    return app


def endless() -> Iterator[bytes]:
    while True:
        yield b"0123456789"


TOO_LONG: dict[str, Callable[[], Any]] = {
    "a list of one": lambda: app_of([b"0123456789 and more"], LENGTH),
    "a list of many": lambda: app_of([b"01234", b"56789", b" and more"], LENGTH),
    "a tuple": lambda: app_of((b"0123456789", b" and more"), LENGTH),
    "a generator across its length": lambda: app_of((piece for piece in (b"0123", b"456789 and", b" more")), LENGTH),
    "a generator at its length": lambda: app_of((piece for piece in (b"01234", b"56789", b" and more")), LENGTH),
    "an endless generator": lambda: app_of(endless(), LENGTH),
    "an object": lambda: app_of(Kept([b"0123456789", b"", b" and more"]), LENGTH),
    "a file": lambda: file_of(b"0123456789 and more", 65536),
    "a file in blocks": lambda: file_of(b"0123456789 and more", 4),
    "a file in blocks of its length": lambda: file_of(b"0123456789 and more", 10),
}


@pytest.mark.parametrize("way", ALL_WAYS)
@pytest.mark.parametrize("kind", TOO_LONG)
async def test_wsgi_content_is_truncated_at_content_length(kind: str, way: str) -> None:
    conversation = Conversation(served(TOO_LONG[kind](), way))
    conversation.send(GET)
    await until(lambda: conversation.received and not conversation.context.requests)
    response = conversation.responses()[0]
    assert (response.status, response.content, response.complete) == (200, b"0123456789", True)
    assert not conversation.transport.closing
    await conversation.lose()
    await conversation.interface.shutdown(1)


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_wsgi_iterable_is_closed_when_it_exceeds_content_length(way: str) -> None:
    taken: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(100):
            taken.append(number)
            yield b"0123"

    kept = Kept(pieces())
    conversation = Conversation(served(app_of(kept, LENGTH), way))
    conversation.send(GET)
    await until(lambda: kept.closed and conversation.received)
    assert len(taken) == 3
    await conversation.lose()
    await conversation.interface.shutdown(1)


@pytest.mark.parametrize("way", ALL_WAYS)
async def test_wsgi_content_beyond_content_length_logs_one_warning_per_application(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    conversation = Conversation(served(app_of([b"0123456789 and more"], LENGTH), way))
    for count in range(1, 4):
        conversation.send(GET)
        await until(lambda count=count: len(conversation.responses()) == count)  # type: ignore[misc]
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage().partition(": ")[2] for record in warnings] == [
        "the application sends more content than its content-length; the rest is dropped "
        "(logged once: later responses are cut without a warning)"
    ]
    await conversation.lose()
    await conversation.interface.shutdown(1)


@pytest.mark.parametrize("way", WAYS)
async def test_wsgi_generator_runs_to_its_end_after_sending_content_length_bytes(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    committed: list[bool] = []

    def pieces() -> Iterator[bytes]:
        yield b"01234"
        yield b"56789"
        committed.append(True)

    response = await response_of(GET, way, app_of(pieces(), LENGTH))
    assert (response.content, committed, caplog.records) == (b"0123456789", [True], [])


@pytest.mark.parametrize("way", WAYS)
async def test_wsgi_write_beyond_content_length_raises(way: str) -> None:
    raised: list[Exception] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", LENGTH)
        for piece in (b"01234", b"56789 and", b" more"):
            try:
                write(piece)
            except LocalProtocolError as error:
                raised.append(error)
        return [b" and more"]

    response = await response_of(GET, way, app)
    assert (response.status, response.content, response.complete) == (200, b"0123456789", True)
    assert len(raised) == 2


@pytest.mark.parametrize("content", [[b"more"], (b"more" for _ in range(1))])
async def test_wsgi_content_length_of_0_is_sent(content: Any) -> None:
    response = await response_of(GET, app=app_of(content, [("content-length", "0")]))
    assert (response.status, response.content, response.complete) == (200, b"", True)


async def test_wsgi_HEAD_response_with_excess_content_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    head = request(b"HEAD / HTTP/1.1")
    response = await response_of(head, app=app_of([b"0123456789 and more"], LENGTH))
    assert (response.header(b"content-length"), response.content, caplog.records) == (b"10", b"", [])


async def test_content_length_of_the_last_start_response_call_applies() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "3")])
        try:
            raise ValueError("before output")
        except ValueError as error:
            start_response("500 Oops", LENGTH, (type(error), error, None))
        return [b"0123456789 and more"]

    response = await response_of(GET, app=app)
    assert (response.status, response.content) == (500, b"0123456789")


@pytest.mark.parametrize("way", WAYS)
async def test_wsgi_content_below_its_content_length_aborts_the_response(way: str) -> None:
    response = await response_of(GET, way, app_of(iter([b"0123", b"45"]), LENGTH))
    assert not response.complete or response.status == 500
