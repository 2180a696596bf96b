"""Requirements B1 to B5: responses and log lines contain nothing that a client can inject."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.corpus import request
from tests.helpers import GET, Conversation, settle


def replying(**reply: Any) -> Any:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, **reply})

    return app


async def response_to(app: Any, stream: bytes = GET, *methods: str, **settings: Any) -> Any:
    conversation = Conversation(app, **settings)
    conversation.send(stream)
    await settle()
    (response,) = conversation.responses(*methods)
    await conversation.lose()
    return response


@pytest.mark.any_loop
@pytest.mark.parametrize("control", [b"\r\n", b"\n", b"\r", b"\0", b"\x01", b"\x1b", b"\x7f"])
@pytest.mark.parametrize("where", ["name", "value", "status_text", "content-length"])
async def test_B1_control_character_in_a_response_head_gives_500(where: str, control: bytes) -> None:
    evil = b"a" + control + b"evil: 1"
    replies: dict[str, dict[str, Any]] = {
        "name": {"headers": [[evil, b"x"]]},
        "value": {"headers": [[b"x-a", evil]]},
        "status_text": {"status_text": evil},
        "content-length": {"headers": [[b"content-length", b"0" + control]]},
    }
    conversation = Conversation(replying(**replies[where]))
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [500]
    assert b"evil" not in conversation.received


@pytest.mark.any_loop
@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"caf\xe9", b"(a)"])
async def test_B1_a_field_name_that_is_not_a_token_gives_500(name: bytes) -> None:
    assert (await response_to(replying(headers=[[name, b"x"]]))).status == 500


async def test_B1_tab_and_non_ascii_bytes_in_a_header_value_are_sent() -> None:
    response = await response_to(replying(headers=[[b"x-a", b"a\tb \xe9"]]))
    assert response.header(b"x-a") == b"a\tb \xe9"


async def test_B1_the_log_names_the_invalid_part_of_a_response(caplog: pytest.LogCaptureFixture) -> None:
    await response_to(replying(headers=[[b"x-a", b"a\nb"]]))
    assert "expected a value without control characters" in caplog.text


async def test_B2_server_omits_transfer_encoding_if_the_application_sets_content_length() -> None:
    headers = [[b"transfer-encoding", b"chunked"], [b"content-length", b"2"]]
    response = await response_to(replying(headers=headers, content=b"ab"))
    assert (response.header(b"transfer-encoding"), response.header(b"content-length")) == (None, b"2")


async def test_B2_response_with_two_content_lengths_gives_500() -> None:
    headers = [[b"content-length", b"2"], [b"content-length", b"2"]]
    assert (await response_to(replying(headers=headers, content=b"ab"))).status == 500


@pytest.mark.any_loop
@pytest.mark.parametrize(("length", "content"), [(b"3", b"ab"), (b"1", b"ab")])
async def test_B2_a_complete_response_that_contradicts_its_content_length_gives_500(
    length: bytes, content: bytes
) -> None:
    assert (await response_to(replying(headers=[[b"content-length", length]], content=content))).status == 500


async def test_B2_a_streamed_response_that_is_too_short_is_reset() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        reply = channels["reply"]
        await reply.send(
            {"status": 200, "headers": [[b"content-length", b"5"]], "content": b"ab", "more_content": True}
        )
        await reply.send({"content": b"c"})

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.transport.aborted
    assert not conversation.responses()[0].complete


async def test_B2_streamed_content_is_truncated_at_content_length() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        reply = channels["reply"]
        await reply.send(
            {"status": 200, "headers": [[b"content-length", b"3"]], "content": b"ab", "more_content": True}
        )
        await reply.send({"content": b"cd"})

    conversation = Conversation(app)
    conversation.send(GET + GET)
    await settle()
    assert [response.content for response in conversation.responses()] == [b"abc"]
    assert conversation.transport.closing


@pytest.mark.any_loop
@pytest.mark.parametrize("status", [204, 304])
async def test_B2_content_of_a_response_with_status_204_or_304_is_dropped(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    response = await response_to(replying(status=status, content=b"abc"))
    assert (response.content, response.header(b"content-length"), response.complete) == (b"", None, True)
    assert f"content of a {status} response" in caplog.text


async def test_B2_response_to_HEAD_has_a_content_length_and_no_content() -> None:
    response = await response_to(replying(content=b"abc"), request(b"HEAD / HTTP/1.1"), "HEAD")
    assert (response.content, response.header(b"content-length"), response.complete) == (b"", b"3", True)


async def test_B2_a_response_with_an_interim_status_is_rejected() -> None:
    assert (await response_to(replying(status=101))).status == 500


async def test_B2_hop_by_hop_fields_are_dropped_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    conversation = Conversation(replying(headers=[[b"Keep-Alive", b"timeout=5"], [b"connection", b"keep-alive"]]))
    conversation.send(GET * 3)
    await settle()
    assert b"keep-alive" not in conversation.received.lower()
    assert conversation.statuses == [200] * 3
    assert caplog.text.count("keep-alive") == 1


async def test_B2_application_can_close_the_connection_with_a_header() -> None:
    conversation = Conversation(replying(headers=[[b"Connection", b"Close"]]))
    conversation.send(GET)
    await settle()
    assert conversation.responses()[0].header(b"connection") == b"close"
    assert conversation.transport.closing


async def test_B3_an_error_page_is_constant_plain_text() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        raise ValueError("<script>secret</script>")

    response = await response_to(app, request(b"GET /<script>alert(1)</script> HTTP/1.1"))
    assert (response.status, response.content) == (500, b"Internal Server Error\n")
    assert response.header(b"content-type") == b"text/plain; charset=utf-8"
    assert response.header(b"x-content-type-options") == b"nosniff"


async def test_B3_400_response_contains_nothing_from_the_request() -> None:
    conversation = Conversation(replying())
    conversation.send(b"<script> / HTTP/1.1\r\nhost: x\r\n\r\n")
    await settle()
    (response,) = conversation.responses()
    assert (response.content, response.header(b"x-content-type-options")) == (b"Bad Request\n", b"nosniff")
    await conversation.lose()


async def test_B4_access_log_line_contains_no_control_character(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.access")
    await response_to(replying(), request(b"GET /%0a%1b[31m?\\x HTTP/1.1"), access_log=True)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "uvicorn.access"]
    assert line == r'127.0.0.1:51234 - "GET /%0a%1b[31m?\x5cx HTTP/1.1" 200 0 0.0ms'


async def test_B4_log_line_of_a_failed_handler_escapes_the_path(caplog: pytest.LogCaptureFixture) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        raise ValueError("boom")

    await response_to(app, request(b"GET /%0aevil%1b HTTP/1.1"))
    assert r"<GET '/\nevil\x1b' WAITING>: exception in the application" in caplog.text


async def test_B4_many_invalid_requests_cause_a_bounded_number_of_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    conversation = Conversation(replying())
    for _ in range(1000):
        connection, transport = conversation.connect()
        connection.data_received(b"\n")
        transport.reset()
    await settle()
    conversation.clock.advance(1)
    assert len(caplog.records) == 11
    assert "suppressed 990 more warnings about clients" in caplog.text
    await conversation.lose()


@pytest.mark.any_loop
@pytest.mark.parametrize("name", [b"server", b"date", b"Server", b"DATE"])
async def test_B5_application_can_replace_the_server_or_date_field(name: bytes) -> None:
    response = await response_to(replying(headers=[[name, b"mine"]]))
    assert response.header(name.lower()) == b"mine"
    other = b"date" if name.lower() == b"server" else b"server"
    assert response.header(other) is not None


async def test_B5_application_can_replace_both_server_and_date_fields() -> None:
    response = await response_to(replying(headers=[[b"server", b"s"], [b"date", b"d"]]))
    assert (response.header(b"server"), response.header(b"date")) == (b"s", b"d")


async def test_B5_server_and_date_fields_are_not_sent_when_switched_off() -> None:
    response = await response_to(replying(), server_header=False, date_header=False)
    assert (response.header(b"server"), response.header(b"date")) == (None, None)
