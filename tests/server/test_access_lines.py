"""The access log has one line with the outcome for every response that has begun."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.corpus import POST, request
from tests.helpers import GET, Conversation, hello, settle


async def begun(message: dict[str, Any], channels: dict[str, Any]) -> None:
    await channels["reply"].send({"status": 200, "content": b"data", "more_content": True})
    if message["path"] == "/fail":
        raise ValueError("boom")
    await asyncio.sleep(3600)


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "uvicorn.access"]


async def test_access_log_record_of_a_complete_response_has_the_outcome_complete(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    conversation = Conversation(hello, access_log=True)
    conversation.send(GET)
    await settle()
    (record,) = lines(caplog)
    assert record.outcome == "complete"  # type: ignore[attr-defined]
    assert record.getMessage().endswith("ms")


async def test_client_disconnect_during_a_response_gives_one_access_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    conversation = Conversation(begun, access_log=True)
    conversation.send(GET)
    await settle()
    await conversation.lose()
    (record,) = lines(caplog)
    assert (record.args, record.size, record.outcome) == (  # type: ignore[attr-defined]
        ("127.0.0.1:51234", "GET", "/", "1.1", 200),
        4,
        "client disconnected",
    )
    assert record.getMessage().endswith("(client disconnected)")
    await conversation.interface.tasks.finish(0)


async def test_access_line_of_a_disconnected_stream_reports_the_disconnect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"data", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    caplog.set_level(logging.INFO)
    conversation = Conversation(app, access_log=True)
    conversation.send(GET)
    await settle()
    conversation.send_eof()
    await settle()
    (record,) = lines(caplog)
    assert record.outcome == "client disconnected"  # type: ignore[attr-defined]


async def test_access_log_record_reports_an_exception_in_the_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    conversation = Conversation(begun, access_log=True)
    conversation.send(request(b"GET /fail HTTP/1.1"))
    await settle()
    (record,) = lines(caplog)
    assert record.outcome == "exception in the application"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (b"de", "content-length is 10 but the app sent 5 bytes and stopped"),
        (b"de" * 9, "content-length is 10 but the app sent more"),
    ],
)
async def test_access_line_reports_content_that_does_not_match_content_length(
    caplog: pytest.LogCaptureFixture, last: bytes, outcome: str
) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        head = {"status": 200, "headers": [[b"content-length", b"10"]]}
        await channels["reply"].send({**head, "content": b"abc", "more_content": True})
        await channels["reply"].send({"content": last})

    caplog.set_level(logging.INFO)
    conversation = Conversation(app, access_log=True)
    conversation.send(GET)
    await settle()
    (record,) = lines(caplog)
    assert record.outcome == outcome  # type: ignore[attr-defined]


async def test_access_line_reports_an_invalid_trailer_field(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"data"})
        await send({"type": "http.response.trailers", "headers": [(b"a b", b"c")]})

    caplog.set_level(logging.INFO)
    conversation = Conversation(app, access_log=True)
    conversation.send(request(b"GET / HTTP/1.1", b"te: trailers"))
    await settle()
    (record,) = lines(caplog)
    assert "expected a token" in record.outcome  # type: ignore[attr-defined]


async def test_upload_that_is_rejected_midway_gives_one_access_line(caplog: pytest.LogCaptureFixture) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["body"].receive()
        await asyncio.sleep(3600)

    caplog.set_level(logging.INFO)
    conversation = Conversation(app, access_log=True)
    conversation.send(request(POST, b"content-length: 5", content=b"he"))
    await settle()
    conversation.clock.advance(30)
    (record,) = lines(caplog)
    assert (record.args[4], record.outcome) == (  # type: ignore[attr-defined, index]
        408,
        "refused: request content slower than 500 bytes per second",
    )
    await conversation.lose()
    await conversation.interface.tasks.finish(0)


async def test_access_log_omits_a_request_if_its_client_disconnects_before_the_response(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await asyncio.sleep(3600)

    caplog.set_level(logging.INFO)
    conversation = Conversation(app, access_log=True)
    conversation.send(GET)
    await settle()
    await conversation.lose()
    assert lines(caplog) == []
    await conversation.interface.tasks.finish(0)


async def test_percent_sign_in_the_outcome_is_unchanged_in_the_access_line(caplog: pytest.LogCaptureFixture) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        channels["reply"].break_off("50% of it\n")

    caplog.set_level(logging.INFO)
    conversation = Conversation(app, access_log=True)
    conversation.send(GET)
    await settle()
    (record,) = lines(caplog)
    assert record.getMessage().endswith("(50% of it\\x0a)")
    assert record.outcome == "50% of it\\x0a"  # type: ignore[attr-defined]
