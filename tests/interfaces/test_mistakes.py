"""Mistakes in the project's own interface: the log has the sentence first, then the application's own line."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

import pytest

import uvicorn
from tests.helpers import GET, Conversation, Recorder, settle, until
from tests.websocket_client import WebSocketConversation
from uvicorn.errors import InterfaceError, without_our_frames
from uvicorn.interfaces.detect import build_interface
from uvicorn.settings import Settings

Message = dict[str, Any]

OUR_FOLDER: Final = os.path.dirname(uvicorn.__file__) + os.sep

#: A response, and the sentence about it.
RESPONSES: Final = {
    "text in place of content": ({"status": 200, "content": "tea"}, "content: expected bytes, got str 'tea'"),
    "a dict in place of content": ({"status": 200, "content": {"a": 1}}, "content: expected bytes, got dict {'a': 1}"),
    "content under another name": (
        {"status": 200, "body": b"tea"},
        "reply.send: expected the content as bytes in 'content', got {'status', 'body'}",
    ),
    "a header of text": (
        {"status": 200, "headers": [["x-tea", "green"]]},
        "header name: expected bytes, got str 'x-tea'",
    ),
    "a header with a value of text": (
        {"status": 200, "headers": [[b"x-tea", "green"]]},
        "header b'x-tea': expected a value of bytes, got 'green'",
    ),
    "headers in a dict": (
        {"status": 200, "headers": {b"x-tea": b"green"}},
        "headers: expected [name, value] pairs of bytes, got {b'x-tea': b'green'}",
    ),
    "headers in one list": (
        {"status": 200, "headers": [b"x-tea", b"green"]},
        "headers: expected [name, value] pairs of bytes, got [b'x-tea', b'green']",
    ),
    "a status of text": ({"status": "200"}, "status: expected an int from 200 to 999, got '200'"),
    "a list in place of a status": ({"status": [200]}, "status: expected an int from 200 to 999, got [200]"),
    "a status out of range": ({"status": 99}, "status: expected an int from 200 to 999, got 99"),
    "a line feed in a header": (
        {"status": 200, "headers": [[b"x-tea", b"a\nb"]]},
        "header b'x-tea': expected a value without control characters",
    ),
    "no status": ({"content": b"tea"}, "expected a response with 'status', got {'content'} in state WAITING"),
    "bytes in place of a message": (b"tea", "expected a response with 'status', got bytes in state WAITING"),
}


def sending(message: Any) -> Callable[..., Any]:
    async def app(request: Message, channels: Message) -> None:
        await channels["reply"].send(message)  # the application's line

    return app


def consumer_sending(message: Any) -> Callable[..., Any]:
    def app(request: Message) -> None:
        request["reply_channel"].send(message)  # the application's line

    return app


async def logged(app: Callable[..., Any], caplog: pytest.LogCaptureFixture, stream: bytes = GET) -> tuple[str, str]:
    """Serve one request; return the only line of the log, and the traceback below it."""
    conversation = Conversation(app)
    conversation.send(stream)
    await until(lambda: bool(caplog.records))
    await conversation.lose()
    [record] = caplog.records
    return record.message, caplog.text


@pytest.mark.any_loop
@pytest.mark.parametrize("kind", [sending, consumer_sending], ids=["channels", "consumer on a thread"])
@pytest.mark.parametrize("mistake", RESPONSES)
async def test_log_line_for_an_invalid_response_ends_with_the_error_message(
    kind: Callable[[Any], Callable[..., Any]], mistake: str, caplog: pytest.LogCaptureFixture
) -> None:
    message, sentence = RESPONSES[mistake]
    line, _ = await logged(kind(message), caplog)
    assert line.startswith("<GET '/' WAITING>: ") and line.endswith(sentence)


@pytest.mark.any_loop
@pytest.mark.parametrize("kind", [sending, consumer_sending], ids=["channels", "consumer on a thread"])
@pytest.mark.parametrize("mistake", RESPONSES)
async def test_traceback_of_an_invalid_response_omits_the_frames_of_the_server(
    kind: Callable[[Any], Callable[..., Any]], mistake: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, text = await logged(kind(RESPONSES[mistake][0]), caplog)
    assert ("# the application's line" in text, OUR_FOLDER in text) == (True, False)


async def answering(request: Message, channels: Message) -> Message:
    return {"status": 200}


async def consumer_answering(request: Message) -> Message:
    return {"status": 200}


def threaded_consumer_answering(request: Message) -> Message:
    return {"status": 200}


@pytest.mark.any_loop
@pytest.mark.parametrize("app", [answering, consumer_answering, threaded_consumer_answering])
async def test_log_line_about_a_returned_dict_shows_the_keys_of_the_dict(
    app: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    line, _ = await logged(app, caplog)
    sentence = "the handler returned {'status'} and sent no reply; expected a response sent to the reply channel"
    assert line == f"<GET '/' WAITING>: {sentence}"


@pytest.mark.any_loop
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("groups", "channels['groups'] exists only in a BroadcastMiddleware: app = BroadcastMiddleware(app)"),
        ("body", "channels['body'] exists only if the request has content: use channels.get('body')"),
    ],
)
async def test_KeyError_for_a_missing_channel_is_logged_with_an_explanation(
    name: str, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(message: Message, channels: Message) -> None:
        channels[name]

    line, text = await logged(app, caplog)
    assert (line, "channels[name]" in text) == (f"<GET '/' WAITING>: {sentence}", True)


@pytest.mark.any_loop
async def test_KeyError_unrelated_to_channels_is_logged_without_an_explanation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(message: Message, channels: Message) -> None:
        users: Message = {}
        users["groups"]

    line, _ = await logged(app, caplog)
    assert line == "<GET '/' WAITING>: exception in the application"


@pytest.mark.any_loop
@pytest.mark.parametrize("arguments", [(), ([],), (1,)])
async def test_KeyError_without_a_string_argument_is_logged(arguments: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def app(message: Message, channels: Message) -> None:
        raise KeyError(*arguments)

    line, _ = await logged(app, caplog)
    assert line == "<GET '/' WAITING>: exception in the application"


@pytest.mark.any_loop
@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"text": b"tea"}, "websocket: expected 'text' as str, got bytes"),
        ({"bytes": "tea"}, "websocket: expected 'bytes' as bytes, got str"),
        ({"txt": "tea"}, "reply.send: expected 'accept', 'text', 'bytes' or 'close', got {'txt'}"),
        ("tea", "reply.send: expected a dict, got str"),
    ],
)
async def test_invalid_websocket_message_is_logged_with_the_text_of_the_error(
    message: Any, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(event: Message, channels: Message) -> None:
        if event["channel"] == "websocket.receive":
            await channels["reply"].send(message)  # the application's line

    conversation = WebSocketConversation(app)
    await conversation.open()
    await conversation.say("x")
    await settle()
    await conversation.lose()
    [record] = caplog.records
    assert record.message == f"<websocket '/chat' OPEN>: {sentence}"
    assert ("# the application's line" in caplog.text, OUR_FOLDER in caplog.text) == (True, False)


async def test_traceback_of_an_exception_raised_by_the_server_keeps_all_frames() -> None:
    try:
        build_interface(None, None)  # type: ignore[arg-type]
    except AttributeError as error:
        assert without_our_frames(error) is error.__traceback__


def three(message: Message, channels: Message, database: object) -> None: ...


async def async_three(message: Message, channels: Message, database: object) -> None: ...


async def keyword(message: Message, channels: Message, *, database: object) -> None: ...


@pytest.mark.parametrize(
    ("app", "found"),
    [
        (three, "a plain function that takes (message, channels, database)"),
        (async_three, "a coroutine function that takes (message, channels, database)"),
        (keyword, "a coroutine function that takes (message, channels, *, database)"),
    ],
)
def test_error_for_a_wrong_channels_signature_shows_the_parameters(app: Any, found: str) -> None:
    with pytest.raises(InterfaceError) as caught:
        build_interface(app, Settings(), "'shop:app'")
    assert str(caught.value) == (
        f"'shop:app' does not fit interface 'channels': it is {found}, expected (message, channels)"
    )


@pytest.mark.any_loop
@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n", ""),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12), "two empty lines before a request, or the "),
    ],
)
async def test_proxy_protocol_header_is_logged_with_a_remedy(
    header: bytes, found: str, caplog: pytest.LogCaptureFixture
) -> None:
    conversation = Conversation(Recorder(sending({"status": 200})))
    connection, _ = conversation.connect()
    connection.data_received(header + b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    await settle()
    await conversation.lose()
    assert caplog.messages == [
        f"127.0.0.1:51234 refused: {found}PROXY protocol, which is not supported: let the proxy send X-Forwarded-For "
        "instead (400)"
    ]


@pytest.mark.any_loop
@pytest.mark.parametrize("part", [1, 100], ids=["in parts", "at once"])
async def test_tls_handshake_on_a_plain_http_port_is_explained_in_the_log(
    part: int, caplog: pytest.LogCaptureFixture
) -> None:
    # The beginning of a ClientHello.
    hello = bytes.fromhex("16030100c8010000c40303") + bytes(30)
    conversation = Conversation(Recorder(sending({"status": 200})))
    connection, _ = conversation.connect()
    connection.data_received(hello[:part])
    await settle()
    await conversation.lose()
    assert caplog.messages == [
        "127.0.0.1:51234 refused: TLS on a port for plain HTTP: use http:// in the client, or pass --ssl-certfile (400)"
    ]
