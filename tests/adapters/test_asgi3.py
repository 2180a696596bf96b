"""`ASGI3Adapter` with a simulated host, and applications of other kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.helpers import settle, until
from tests.waits import LONGEST_WAIT
from uvicorn.adapters import ASGI3Adapter
from uvicorn.adapters.asgi3_websocket import ASGI3WebSocketGateway
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.errors import ConfigError, LocalProtocolError, ResponseAborted, StartupError
from uvicorn.settings import Settings

Message = dict[str, Any]
Log = pytest.LogCaptureFixture

HTTP: Message = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "https",
    "path": "/a b",
    "raw_path": b"/a%20b",
    "query_string": b"c=d",
    "root_path": "",
    "headers": [(b"host", b"example.org")],
    "client": ("127.0.0.1", 51234),
    "server": ("127.0.0.1", 8000),
}
POST: Message = {**HTTP, "method": "POST", "headers": [(b"content-length", b"4")]}
WEBSOCKET: Message = {
    **{key: value for key, value in HTTP.items() if key != "method"},
    "type": "websocket",
    "scheme": "wss",
    "subprotocols": ["chat"],
    "extensions": {"websocket.http.response": {}},
}
CONNECT: Message = {"type": "websocket.connect"}


class Host:
    """Calls the adapter. The test supplies the events to `receive`, and decides by `takes` when sends return."""

    def __init__(self, app: Any, scope: Message, *events: Message, **options: Any) -> None:
        self.adapter = ASGI3Adapter(app, **options)
        self.sent: list[Message] = []
        self.events: asyncio.Queue[Message | Exception] = asyncio.Queue()
        self.takes = asyncio.Event()
        self.takes.set()
        self.gone = False
        for event in events:
            self.events.put_nowait(event)
        self.task = asyncio.ensure_future(self.adapter(scope, self.receive, self.send))

    async def receive(self) -> Message:
        event = await self.events.get()
        if isinstance(event, Exception):
            raise event
        return event

    async def send(self, event: Message) -> None:
        await self.takes.wait()
        if self.gone:
            raise BrokenPipeError
        self.sent.append(event)

    def put(self, *events: Message | Exception) -> None:
        for event in events:
            self.events.put_nowait(event)

    @property
    def types(self) -> list[str]:
        """The types of the sent events, without their common prefix."""
        return [event["type"].rpartition(".")[2] for event in self.sent]


class Recorder:
    """A channels application that records its messages, then sends the given replies."""

    def __init__(self, *replies: Message) -> None:
        self.replies = replies or ({"status": 200, "content": b"hello"},)
        self.messages: list[Message] = []
        self.channels: list[Message] = []
        self.errors: list[BaseException] = []

    async def __call__(self, message: Message, channels: Message) -> None:
        self.messages.append(message)
        self.channels.append(channels)
        if len(self.messages) == 1:
            for reply in self.replies:
                try:
                    await channels["reply"].send(reply)
                except BaseException as error:
                    self.errors.append(error)
                    raise


async def for_ever(message: Message, channels: Message) -> None:
    await asyncio.get_running_loop().create_future()


# Requests


async def test_asgi3_adapter_turns_a_scope_into_a_message() -> None:
    app = Recorder()
    host = Host(app, HTTP)
    await host.task
    assert app.messages == [
        {
            "channel": "http.request",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "https",
            "path": "/a b",
            "raw_path": b"/a%20b",
            "query_string": b"c=d",
            "root_path": "",
            "headers": [[b"host", b"example.org"]],
            "client": ("127.0.0.1", 51234),
            "server": ("127.0.0.1", 8000),
        }
    ]
    assert set(app.channels[0]) == {"reply"}


async def test_asgi3_adapter_accepts_a_scope_without_optional_keys() -> None:
    app = Recorder()
    host = Host(app, {**HTTP, "raw_path": None, "client": None, "server": ("/run/app.sock", None)})
    await host.task
    message = app.messages[0]
    assert (message["raw_path"], message["client"], message["server"]) == (b"/a%20b", None, None)


async def test_asgi3_adapter_sends_a_response_as_events() -> None:
    host = Host(
        Recorder({"status": 201, "headers": [[b"X-A", b"1"], [b"connection", b"close"]], "content": b"hi"}), HTTP
    )
    await host.task
    assert host.sent == [
        {"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"1"), (b"content-length", b"2")]},
        {"type": "http.response.body", "body": b"hi", "more_body": False},
    ]


async def test_asgi3_adapter_sends_the_start_of_a_streamed_response_at_once() -> None:
    async def app(message: Message, channels: Message) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        await for_ever(message, channels)

    host = Host(app, HTTP)
    await settle()
    assert host.types == ["start"]
    host.task.cancel()
    await settle()
    await host.adapter._interface.shutdown(0)


async def test_empty_piece_of_content_is_not_sent_to_the_asgi_host() -> None:
    host = Host(Recorder({"status": 200, "more_content": True}, {"content": b"", "more_content": True}, {}), HTTP)
    await host.task
    assert [event["more_body"] for event in host.sent[1:]] == [False]


@pytest.mark.parametrize(
    ("method", "status", "headers", "sent"),
    [
        ("HEAD", 200, [], [(b"content-length", b"5")]),
        ("HEAD", 200, [[b"content-length", b"9"]], [(b"content-length", b"9")]),
        ("GET", 204, [[b"content-length", b"0"]], []),
        ("GET", 304, [[b"content-length", b"9"]], [(b"content-length", b"9")]),
    ],
)
async def test_asgi3_adapter_sends_no_content_for_HEAD_or_status_204_or_304(
    method: str, status: int, headers: list[list[bytes]], sent: list[tuple[bytes, bytes]]
) -> None:
    app = Recorder({"status": status, "headers": headers, "content": b"hello"})
    host = Host(app, {**HTTP, "method": method})
    await host.task
    assert host.sent[0]["headers"] == sent
    assert host.sent[1] == {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.mark.parametrize("length", [b"4", b"6", b"x"])
async def test_application_and_host_get_the_same_error_for_a_wrong_content_length(length: bytes) -> None:
    app = Recorder({"status": 200, "headers": [[b"content-length", length]], "content": b"hello"})
    host = Host(app, HTTP)
    with pytest.raises(LocalProtocolError) as raised:
        await host.task
    assert host.sent == []
    assert app.errors == [raised.value]


@pytest.mark.parametrize("last", [b"", b"too much"])
async def test_content_longer_than_content_length_aborts_the_response(last: bytes, caplog: Log) -> None:
    start = {"status": 200, "headers": [[b"content-length", b"5"]], "content": b"hel", "more_content": True}
    host = Host(Recorder(start, {"content": last}), HTTP)
    with pytest.raises(LocalProtocolError, match="content-length is 5 but the app sent"):
        await host.task
    assert [event.get("more_body") for event in host.sent] == [None, True]
    # The host logs it.
    assert caplog.messages == []


async def test_exception_during_a_response_is_raised_to_the_asgi_host() -> None:
    async def app(message: Message, channels: Message) -> None:
        await channels["reply"].send({"status": 200, "content": b"x", "more_content": True})
        raise ValueError("boom")

    host = Host(app, HTTP)
    with pytest.raises(ValueError, match="boom"):
        await host.task
    assert host.types == ["start", "body"]


async def test_asgi3_adapter_passes_each_piece_of_content_as_it_arrives() -> None:
    received = []

    async def app(message: Message, channels: Message) -> None:
        while True:
            received.append(await channels["body"].receive())
            if not received[-1]["more_content"]:
                break
        await channels["reply"].send({"status": 200})

    host = Host(app, POST)
    host.put({"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "more_body": True})
    await settle()
    assert received == [{"content": b"ab", "more_content": True}]
    host.put({"type": "http.request", "body": b"cd"})
    await host.task
    assert received[1:] == [{"content": b"cd", "more_content": False}]


async def test_asgi3_adapter_receives_content_only_when_the_application_reads_it() -> None:
    host = Host(Recorder(), POST, {"type": "http.request", "body": b"abcd"})
    await host.task
    assert host.events.qsize() == 1


@pytest.mark.parametrize(
    ("version", "method", "headers", "has_content"),
    [
        ("1.1", "POST", [(b"Content-Length", b"0")], False),
        ("1.1", "POST", [(b"transfer-encoding", b"chunked")], True),
        ("1.1", "POST", [], False),
        ("2", "POST", [], True),
        ("2", "GET", [], False),
    ],
)
async def test_body_channel_exists_only_if_the_request_may_have_content(
    version: str, method: str, headers: list[tuple[bytes, bytes]], has_content: bool
) -> None:
    app = Recorder()
    host = Host(app, {**HTTP, "method": method, "http_version": version, "headers": headers})
    await host.task
    assert ("body" in app.channels[0]) == has_content


async def test_asgi3_adapter_reports_a_client_disconnect_during_an_upload() -> None:
    received = []

    async def app(message: Message, channels: Message) -> None:
        received.append(await channels["body"].receive())

    host = Host(app, POST, {"type": "http.disconnect"})
    await host.task
    assert received == [{"closed": True, "more_content": False}]
    assert host.sent == []


@pytest.mark.parametrize("end", [{"type": "http.disconnect"}, RuntimeError("a host's own failure")])
async def test_http_disconnect_ends_the_call_of_the_asgi3_adapter(end: Any) -> None:
    host = Host(for_ever, HTTP, {"type": "http.request", "body": b"", "more_body": False}, timeout_half_closed=0)
    await settle()
    host.put(end)
    await host.task
    await host.adapter._interface.shutdown(0)


async def test_http_disconnect_after_the_content_ends_the_asgi3_adapter_call() -> None:
    async def app(message: Message, channels: Message) -> None:
        await channels["body"].receive()
        await for_ever(message, channels)

    host = Host(app, POST, {"type": "http.request", "body": b"abcd"}, timeout_half_closed=0)
    await settle()
    host.put({"type": "http.disconnect"})
    await host.task
    await host.adapter._interface.shutdown(0)


async def test_timeout_half_closed_0_drops_a_response_sent_after_http_disconnect() -> None:
    closed = asyncio.Event()

    async def app(message: Message, channels: Message) -> None:
        channels["reply"].on_close(closed.set)
        await closed.wait()
        await settle()
        await channels["reply"].send({"status": 200, "content": b"late"})

    host = Host(app, HTTP, {"type": "http.request"}, {"type": "http.disconnect"}, timeout_half_closed=0)
    await host.task
    await host.adapter._interface.shutdown(1)
    assert host.sent == []


@pytest.mark.any_loop
@pytest.mark.parametrize("seconds", [-1, "5", None, True, float("nan")])
async def test_constructor_of_asgi3_adapter_rejects_an_invalid_half_closed_timeout(seconds: Any) -> None:
    with pytest.raises(ConfigError, match="ASGI3Adapter: timeout_half_closed: expected a number not below 0, got"):
        ASGI3Adapter(for_ever, timeout_half_closed=seconds)


async def test_host_receives_a_response_that_is_sent_after_http_disconnect() -> None:
    closed = asyncio.Event()

    async def app(message: Message, channels: Message) -> None:
        channels["reply"].on_close(closed.set)
        await closed.wait()
        await channels["reply"].send({"status": 200, "content": b"late"})

    host = Host(app, HTTP, {"type": "http.request"}, {"type": "http.disconnect"})
    await host.task
    assert [event.get("body") for event in host.sent] == [None, b"late"]


async def test_handler_without_a_response_sends_nothing_to_a_half_closed_client() -> None:
    async def app(message: Message, channels: Message) -> None:
        closed = asyncio.Event()
        channels["reply"].on_close(closed.set)
        await closed.wait()

    host = Host(app, HTTP, {"type": "http.request"}, {"type": "http.disconnect"})
    await host.task
    assert host.sent == []


async def test_asgi3_adapter_treats_os_error_from_send_as_a_disconnect() -> None:
    host = Host(Recorder(), HTTP)
    host.gone = True
    await host.task
    assert host.sent == []


async def test_sending_a_response_waits_for_a_slow_asgi_host() -> None:
    sent = []

    async def app(message: Message, channels: Message) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        for number in range(2):
            await channels["reply"].send({"content": bytes(70000), "more_content": True})
            sent.append(number)
        await channels["reply"].send({})

    host = Host(app, HTTP)
    host.takes.clear()
    await settle()
    assert sent == []
    host.takes.set()
    await host.task
    assert sent == [0, 1]


@pytest.mark.parametrize("scope", [HTTP, WEBSOCKET], ids=["http", "websocket"])
async def test_middleware_may_change_the_events_of_the_asgi3_adapter(scope: Message) -> None:
    async def app(message: Message, channels: Message) -> None:
        if message["channel"] == "http.request":
            await channels["reply"].send({"status": 200, "more_content": True})
            for _ in range(10):
                await channels["reply"].send({"content": bytes(70000), "more_content": True})
            await channels["reply"].send({})
        elif message["channel"] == "websocket.connect":
            for _ in range(10):
                await channels["reply"].send({"bytes": bytes(70000)})
            events.put_nowait({"type": "websocket.disconnect", "code": 1000})

    async def send(event: Message) -> None:
        for key in {"body", "bytes"} & event.keys():
            event[key] = b"compressed"

    events: asyncio.Queue[Message] = asyncio.Queue()
    events.put_nowait(CONNECT if scope is WEBSOCKET else {"type": "http.request"})
    async with asyncio.timeout(LONGEST_WAIT):
        await ASGI3Adapter(app)(scope, events.get, send)


async def test_response_to_a_slow_host_is_aborted_after_too_many_unawaited_sends() -> None:
    async def app(message: Message, channels: Message) -> None:
        channels["reply"].send({"status": 200, "more_content": True})
        for _ in range(5):
            channels["reply"].send({"content": bytes(1 << 20), "more_content": True})

    host = Host(app, HTTP)
    with pytest.raises(ResponseAborted, match="too much unsent"):
        await host.task


def wsgi(environ: Message, start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("content-type", "text/plain")])
    return [environ["wsgi.input"].read()]


async def test_asgi3_adapter_serves_a_wsgi_application() -> None:
    host = Host(wsgi, POST, {"type": "http.request", "body": b"abcd"})
    await host.task
    assert host.sent[1]["body"] == b"abcd"
    await host.adapter._interface.shutdown(0)


async def test_an_unknown_scope_type_raises() -> None:
    with pytest.raises(ValueError, match="expected type http, websocket or lifespan, got 'udp'"):
        await Host(Recorder(), {"type": "udp"}).task


# Startup and shutdown


class Living(Recorder):
    def __init__(self, failing: str = "") -> None:
        super().__init__()
        self.hooks: list[str] = []
        self.failing = failing

    async def __call__(self, message: Message, channels: Message) -> None:
        await channels["reply"].send({"status": 200})

    async def startup(self) -> None:
        self.hooks.append("startup")
        if self.failing == "startup":
            raise ValueError("no database")

    async def shutdown(self) -> None:
        self.hooks.append("shutdown")
        if self.failing == "shutdown":
            raise ValueError("no goodbye")


LIFESPAN: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]


@pytest.mark.parametrize(
    ("failing", "sent"),
    [
        ("", ["lifespan.startup.complete", "lifespan.shutdown.complete"]),
        ("startup", ["lifespan.startup.failed"]),
        ("shutdown", ["lifespan.startup.complete", "lifespan.shutdown.failed"]),
    ],
)
async def test_lifespan_of_the_host_runs_startup_and_shutdown(failing: str, sent: list[str]) -> None:
    app = Living(failing)
    host = Host(app, {"type": "lifespan"}, *LIFESPAN)
    await host.task
    assert [event["type"] for event in host.sent] == sent
    assert app.hooks == ["startup", "shutdown"][: len(sent)]


async def test_first_request_runs_startup_on_a_host_without_lifespan() -> None:
    app = Living()
    host = Host(app, HTTP)
    await asyncio.gather(host.task, *(host.adapter(HTTP, host.receive, host.send) for _ in range(3)))
    assert app.hooks == ["startup"]


async def test_failed_startup_is_retried_by_the_next_request() -> None:
    app = Living("startup")
    host = Host(app, HTTP)
    with pytest.raises(StartupError):
        await host.task
    app.failing = ""
    await host.adapter(HTTP, host.receive, host.send)
    assert app.hooks == ["startup", "startup"]


async def test_constructor_of_asgi3_adapter_rejects_an_ambiguous_application() -> None:
    with pytest.raises(Exception, match="cannot detect the interface"):
        ASGI3Adapter(lambda a, b, c, d: None)


# WebSockets


async def test_asgi3_adapter_turns_websocket_events_into_messages() -> None:
    app = Recorder({"accept": True, "text": "hi", "bytes": None})
    host = Host(app, WEBSOCKET, CONNECT, {"type": "websocket.receive", "text": "a"})
    host.put(
        {"type": "websocket.receive", "bytes": b"b"}, {"type": "websocket.disconnect", "code": 4000, "reason": "x"}
    )
    await host.task
    connect, text, data, disconnect = app.messages
    assert (connect["scheme"], connect["path"], connect["subprotocols"]) == ("wss", "/a b", ["chat"])
    assert (text["text"], data["bytes"]) == ("a", b"b")
    assert (disconnect["code"], disconnect["reason"]) == (4000, "x")
    assert host.sent == [
        {"type": "websocket.accept", "subprotocol": None, "headers": []},
        {"type": "websocket.send", "text": "hi"},
    ]


async def test_websocket_close_waits_for_the_disconnect_event_of_the_host() -> None:
    app = Recorder({"accept": True, "bytes": b"x", "close": 4001, "reason": "bye"})
    host = Host(app, WEBSOCKET, CONNECT)
    await settle()
    assert host.sent[1:] == [
        {"type": "websocket.send", "bytes": b"x"},
        {"type": "websocket.close", "code": 4001, "reason": "bye"},
    ]
    assert not host.task.done()
    host.put({"type": "websocket.disconnect", "code": 4001})
    await host.task
    assert app.messages[1]["code"] == 4001


async def test_missing_disconnect_event_closes_the_websocket_with_1006() -> None:
    app = Recorder({"accept": True, "close": True})
    events: asyncio.Queue[Message] = asyncio.Queue()
    events.put_nowait(CONNECT)
    sent: list[Message] = []

    async def send(event: Message) -> None:
        sent.append(event)

    gateway = ASGI3WebSocketGateway(WEBSOCKET, events.get, send, Settings(ws_close_seconds=0.0))
    await gateway.serve(ASGI3Adapter(app)._interface, ())
    assert app.messages[1]["code"] == 1006


async def test_asgi3_adapter_sends_websocket_close_without_a_pending_receive() -> None:
    """On granian a pending receive blocks all sends."""
    asked = asyncio.Lock()
    events: asyncio.Queue[Message] = asyncio.Queue()
    events.put_nowait(CONNECT)

    async def receive() -> Message:
        async with asked:
            return await events.get()

    async def send(event: Message) -> None:
        if event["type"] == "websocket.close":
            async with asked:
                events.put_nowait({"type": "websocket.disconnect", "code": event["code"]})

    async def app(message: Message, channels: Message) -> None:
        codes.append(message.get("code"))
        if message["channel"] == "websocket.connect":
            await channels["reply"].send({"accept": True})
            await settle()
            await channels["reply"].send({"close": 4001})

    codes: list[int | None] = []
    async with asyncio.timeout(LONGEST_WAIT):
        await ASGI3Adapter(app)(WEBSOCKET, receive, send)
    assert codes == [None, 4001]


@pytest.mark.parametrize(
    ("extensions", "types"), [({"websocket.http.response": {}}, ["start", "body"]), ({}, ["close"]), (None, ["close"])]
)
async def test_host_without_the_denial_response_extension_gets_a_close_event(
    extensions: Message | None, types: list[str]
) -> None:
    host = Host(Recorder({"status": 401, "content": b"who?"}), {**WEBSOCKET, "extensions": extensions}, CONNECT)
    await host.task
    assert host.types == types


@pytest.mark.parametrize("extensions", [{"websocket.http.response": {}}, {}])
async def test_denial_response_may_be_streamed(extensions: Message) -> None:
    app = Recorder({"status": 401, "content": b"wh", "more_content": True}, {"content": b"o?"})
    host = Host(app, {**WEBSOCKET, "extensions": extensions}, CONNECT)
    await host.task
    assert b"".join(event.get("body", b"") for event in host.sent) == (b"who?" if extensions else b"")


async def test_denial_response_with_a_wrong_content_length_is_aborted() -> None:
    start = {"status": 401, "headers": [[b"content-length", b"9"]], "content": b"wh", "more_content": True}
    host = Host(Recorder(start, {"content": b"o?"}), WEBSOCKET, CONNECT)
    with pytest.raises(ResponseAborted):
        await host.task


@pytest.mark.parametrize(
    ("accept", "sent"),
    [
        ({"accept": True, "subprotocol": "chat"}, ["accept"]),
        ({"accept": True, "subprotocol": "other"}, ["start", "body"]),
        ({"accept": True, "headers": [[b"a", b"b\r\n"]]}, ["start", "body"]),
    ],
)
async def test_uncaught_error_after_an_invalid_accept_message_gives_500(accept: Message, sent: list[str]) -> None:
    host = Host(Recorder(accept), WEBSOCKET, CONNECT)
    await settle()
    host.put({"type": "websocket.disconnect", "code": 1000})
    await host.task
    assert host.types == sent


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ({"subprotocol": "other"}, r"subprotocol: expected one of \['chat'\], got 'other'"),
        (
            {"headers": [[b"Sec-WebSocket-Protocol", b"chat"]]},
            "header b'sec-websocket-protocol': .*; expected the subprotocol in 'subprotocol'",
        ),
        (
            {"headers": [[b"sec-websocket-accept", b"x"]]},
            "header b'sec-websocket-accept': only the ASGI server may set this field in a handshake",
        ),
        (
            {"headers": [[b"content-length", b"5"]]},
            "header b'content-length': only the ASGI server may set this field in a handshake",
        ),
    ],
)
async def test_application_may_accept_a_websocket_after_an_invalid_accept_message(
    accept: Message, expected: str
) -> None:
    async def app(message: Message, channels: Message) -> None:
        if message["channel"] == "websocket.connect":
            with pytest.raises(LocalProtocolError, match=expected):
                await channels["reply"].send({"accept": True, **accept})
            await channels["reply"].send({"accept": True, "subprotocol": "chat"})

    host = Host(app, WEBSOCKET, CONNECT)
    await settle()
    host.put({"type": "websocket.disconnect", "code": 1000})
    await host.task
    assert host.sent == [{"type": "websocket.accept", "subprotocol": "chat", "headers": []}]


async def test_websocket_disconnect_during_the_handshake_ends_the_call() -> None:
    host = Host(for_ever, WEBSOCKET, CONNECT, {"type": "websocket.disconnect", "code": 1006})
    await host.task
    assert host.sent == []
    await host.adapter._interface.shutdown(0)


async def test_asgi3_adapter_serves_a_websocket_only_after_a_connect_event() -> None:
    host = Host(Recorder(), WEBSOCKET, {"type": "websocket.disconnect", "code": 1006})
    await host.task
    assert host.sent == []


async def test_websocket_closes_with_1006_if_receive_of_the_asgi_host_raises() -> None:
    app = Recorder({"accept": True})
    host = Host(app, WEBSOCKET, CONNECT)
    await settle()
    host.put(RuntimeError("a host's own failure"))
    await host.task
    assert app.messages[1]["code"] == 1006


async def test_asgi3_adapter_treats_os_error_from_websocket_send_as_a_disconnect() -> None:
    app = Recorder({"accept": True})
    host = Host(app, WEBSOCKET, CONNECT)
    host.gone = True
    await host.task
    assert app.messages[1]["code"] == 1006


async def test_asgi3_adapter_returns_if_a_websocket_rejection_fails() -> None:
    host = Host(wsgi, WEBSOCKET, CONNECT)
    host.gone = True
    await host.task
    assert host.sent == []
    await host.adapter._interface.shutdown(0)


ORIGIN: Message = {**WEBSOCKET, "headers": [(b"host", b"example.org"), (b"origin", b"https://evil.example")]}


@pytest.mark.parametrize(
    ("allowed", "types"), [((), ["start", "body"]), (("https://evil.example",), ["accept"]), (("*",), ["accept"])]
)
async def test_E1_websocket_from_a_foreign_origin_is_rejected_unless_allowed(
    allowed: tuple[str, ...], types: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(Recorder({"accept": True}), ORIGIN, CONNECT, allowed_origins=allowed)
    await settle()
    host.put({"type": "websocket.disconnect", "code": 1000})
    await host.task
    assert host.types == types
    assert ("allowed_origins=[...]" in caplog.text) == (not allowed)


async def test_websocket_to_an_application_without_websockets_is_denied() -> None:
    host = Host(wsgi, WEBSOCKET, CONNECT)
    await host.task
    assert host.sent[0]["status"] == 403
    await host.adapter._interface.shutdown(0)


async def test_asgi3_adapter_receives_no_websocket_messages_while_handlers_are_busy() -> None:
    go = asyncio.Event()

    async def app(message: Message, channels: Message) -> None:
        if message["channel"] == "websocket.receive":
            await go.wait()

    host = Host(app, WEBSOCKET, CONNECT)
    host.put(*({"type": "websocket.receive", "text": str(number)} for number in range(20)))
    await settle(100)
    assert host.events.qsize() > 0
    go.set()
    host.put({"type": "websocket.disconnect", "code": 1000})
    await host.task


async def test_sending_a_websocket_message_waits_for_a_slow_asgi_host() -> None:
    sent = []

    async def app(message: Message, channels: Message) -> None:
        if message["channel"] == "websocket.connect":
            for number in range(3):
                await channels["reply"].send({"bytes": bytes(70000)})
                sent.append(number)
            await channels["reply"].send({"close": True})

    host = Host(app, WEBSOCKET, CONNECT)
    host.takes.clear()
    await settle()
    assert sent == []
    host.takes.set()
    await until(lambda: len(sent) == 3)
    host.put({"type": "websocket.disconnect", "code": 1000})
    await host.task


async def test_websocket_client_that_does_not_read_is_closed_with_1013() -> None:
    async def app(message: Message, channels: Message) -> None:
        if message["channel"] == "websocket.connect":
            for _ in range(600):
                channels["reply"].send({"text": "x" * 300})

    host = Host(app, WEBSOCKET, CONNECT)
    host.takes.clear()
    await settle()
    host.takes.set()
    await host.task
    assert host.sent[-1] == {"type": "websocket.close", "code": 1013, "reason": ""}


async def test_websocket_with_300_unread_empty_messages_is_closed_with_1013() -> None:
    async def app(message: Message, channels: Message) -> None:
        if message["channel"] == "websocket.connect":
            channels["reply"].send({"bytes": bytes(70_000)})
            for _ in range(300):
                channels["reply"].send({"text": ""})

    host = Host(app, WEBSOCKET, CONNECT)
    host.takes.clear()
    await settle()
    host.takes.set()
    await settle()
    assert host.sent[-1] == {"type": "websocket.close", "code": 1013, "reason": ""}
    host.put({"type": "websocket.disconnect", "code": 1013})
    await host.task


# Responses without content


async def test_endless_handler_of_a_HEAD_request_is_cancelled_after_the_response(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised: list[type[BaseException]] = []

    async def app(message: Message, channels: Message) -> None:
        try:
            await channels["reply"].send({"status": 200, "more_content": True})
            while True:
                await channels["reply"].send({"content": b"x", "more_content": True})
        except BaseException as error:
            raised.append(type(error))
            raise

    host = Host(app, {**HTTP, "method": "HEAD"}, {"type": "http.request"})
    # As if the time for it were over.
    monkeypatch.setattr(HTTPGateway, "handler_continues", cancel_soon)
    await host.task
    assert [event.get("more_body") for event in host.sent] == [None, False]
    await until(lambda: raised)
    assert raised == [asyncio.CancelledError]


def cancel_soon(
    gateway: HTTPGateway, exchange: HTTPExchange, cancel: Callable[[], object], seconds: float
) -> Callable[[], object]:
    assert seconds == 10
    return asyncio.get_running_loop().call_soon(cancel).cancel
