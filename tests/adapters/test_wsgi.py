"""Asynchronous applications as WSGI callables, inside wsgiref's validator."""

from __future__ import annotations

import asyncio
import gc
import io
import sys
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from tests import wsgi_apps
from tests.forks import exit_code_in_child
from tests.helpers import echo, hello, read_body
from uvicorn.adapters import ASGIAdapter, WSGIAdapter
from uvicorn.errors import ClientDisconnected, LocalProtocolError


class Answer:
    """The response that a host received."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []

    @property
    def content(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


def environ_of(path: str = "/", method: str = "GET", content: bytes | None = None, /, **more: Any) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "REMOTE_ADDR": "1.2.3.4",
    }
    environ["SCRIPT_NAME"] = ""
    setup_testing_defaults(environ)
    if content is not None:
        environ["CONTENT_LENGTH"] = str(len(content))
        environ["wsgi.input"] = io.BytesIO(content)
    environ.update(more)
    return environ


def call(app: Any, environ: dict[str, Any] | None = None, validate: bool = True) -> Answer:
    answer = Answer()

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        answer.status, answer.headers = status, headers
        return answer.chunks.append

    iterable: Iterable[bytes] = (validator(app) if validate else app)(environ or environ_of(), start_response)
    try:
        for chunk in iterable:
            answer.chunks.append(chunk)
    finally:
        close = getattr(iterable, "close", None)
        if close is not None:
            close()
    return answer


def test_wsgi_adapter_returns_a_complete_response() -> None:
    answer = call(WSGIAdapter(hello))
    assert (answer.status, answer.content) == ("200 OK", b"hello")
    assert answer.headers == [("content-type", "text/plain"), ("content-length", "5")]


@pytest.mark.parametrize("size", [0, 1, 200000])
def test_wsgi_adapter_passes_request_and_response_content(size: int) -> None:
    content = b"x" * size
    assert call(WSGIAdapter(echo), environ_of("/a", "POST", content), validate=False).content == b"POST /a " + content


def test_adapter_reads_all_content_when_wsgi_input_terminated_is_set() -> None:
    environ = environ_of("/", "POST", **{"wsgi.input": io.BytesIO(b"chunked"), "wsgi.input_terminated": True})
    assert call(WSGIAdapter(echo), environ, validate=False).content == b"POST / chunked"


def test_wsgi_adapter_reads_wsgi_input_only_when_the_application_asks() -> None:
    class Watched(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            Watched.reads += 1
            return super().read(size)

    environ = environ_of("/", "POST", b"x" * 1000, **{"wsgi.input": Watched(b"x" * 1000)})
    call(WSGIAdapter(hello), environ, validate=False)
    assert Watched.reads == 0


def test_wsgi_adapter_yields_the_pieces_of_a_streamed_response() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        for number in range(3):
            await channels["reply"].send({"content": b"%d" % number, "more_content": True})
        await channels["reply"].send({})

    assert call(WSGIAdapter(app), validate=False).chunks == [b"0", b"1", b"2"]


def test_slow_wsgi_host_slows_the_application() -> None:
    sent = 0

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        nonlocal sent
        await channels["reply"].send({"status": 200, "more_content": True})
        for _ in range(100):
            await channels["reply"].send({"content": b"x" * 65536, "more_content": True})
            sent += 1
        await channels["reply"].send({})

    iterable = iter(WSGIAdapter(app)(environ_of(), lambda status, headers: None))
    next(iterable)
    turns = threading.Event()
    _on_the_loop(turns.set)
    turns.wait(10)
    assert sent < 5
    assert len(list(iterable)) == 99
    assert sent == 100


def _on_the_loop(callback: Any) -> None:
    from uvicorn.concurrency.loop_thread import loop_thread

    loop_thread().loop.call_soon_threadsafe(callback)


def test_truncated_upload_never_looks_complete() -> None:
    raised = threading.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        try:
            await read_body(message, channels)
        except ClientDisconnected:
            raised.set()
        await channels["reply"].send({"status": 200})

    environ = environ_of("/", "POST", CONTENT_LENGTH="100", **{"wsgi.input": io.BytesIO(b"x" * 12)})
    call(WSGIAdapter(app), environ, validate=False)
    assert raised.is_set()


class Arriving(io.BufferedIOBase):
    """Content that `read1` returns piece by piece as it arrives, and `read` only as a whole."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def read(self, size: int | None = -1, /) -> bytes:
        content = b"".join(self.pieces)
        self.pieces.clear()
        return content

    def read1(self, size: int = -1, /) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


async def echo_pieces(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        event = await receive()
        more = event["more_body"]
        await send({"type": "http.response.body", "body": event["body"], "more_body": more})


@pytest.mark.parametrize("known", [True, False])
def test_adapter_passes_each_arriving_piece_if_wsgi_input_supports_read1(known: bool) -> None:
    more = {"CONTENT_LENGTH": "19"} if known else {"wsgi.input_terminated": True}
    environ = environ_of("/", "POST", **{"wsgi.input": Arriving(b"first,", b"second,", b"third.")}, **more)
    answer = call(WSGIAdapter(echo_pieces, interface="asgi3"), environ, validate=False)
    assert [chunk for chunk in answer.chunks if chunk] == [b"first,", b"second,", b"third."]


def test_wsgi_adapter_calls_read_if_wsgi_input_does_not_support_read1() -> None:
    class ReadOnly(Arriving):
        read1 = io.BufferedIOBase.read1

    environ = environ_of("/", "POST", CONTENT_LENGTH="5", **{"wsgi.input": ReadOnly(b"fi", b"rst")})
    assert call(WSGIAdapter(echo), environ, validate=False).content == b"POST / first"


def test_adapter_stops_calling_read1_at_the_end_of_the_content() -> None:
    source = io.BytesIO(b"mine, next request")
    call(WSGIAdapter(echo), environ_of("/", "POST", CONTENT_LENGTH="5", **{"wsgi.input": source}), validate=False)
    assert source.read() == b" next request"


def test_os_error_from_wsgi_input_gives_400() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("gone")

    environ = environ_of("/", "POST", b"x", **{"wsgi.input": Broken()})
    assert call(WSGIAdapter(echo), environ, validate=False).status == "400 Bad Request"


def test_wsgi_iterable_raises_when_the_application_fails_midway() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "content": b"half", "more_content": True})
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        call(WSGIAdapter(app), validate=False)


def test_wsgi_iterable_raises_if_content_is_shorter_than_content_length() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        headers = [[b"content-length", b"5"]]
        await channels["reply"].send({"status": 200, "headers": headers, "content": b"ab", "more_content": True})
        await channels["reply"].send({"content": b"c"})

    with pytest.raises(Exception, match="content-length is 5 but the app sent 3 bytes"):
        call(WSGIAdapter(app), validate=False)


def test_B1_control_character_in_a_header_never_reaches_the_host() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "headers": [[b"x-a", b"a\r\nevil: 1"]]})

    with pytest.raises(LocalProtocolError, match="expected a value without control characters"):
        call(WSGIAdapter(app))


def test_application_behind_wsgi_adapter_is_notified_of_a_disconnect() -> None:
    ended = threading.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        try:
            await channels["reply"].send({"status": 200, "more_content": True})
            while True:
                await channels["reply"].send({"content": b"x" * 1000, "more_content": True})
        finally:
            ended.set()

    iterable = WSGIAdapter(app)(environ_of(), lambda status, headers: None)
    next(iter(iterable))
    iterable.close()  # type: ignore[attr-defined]
    assert ended.wait(10)


def test_wsgi_adapter_awaits_startup_once_before_the_first_request() -> None:
    calls: list[str] = []

    class App:
        async def startup(self) -> None:
            calls.append("startup")

        async def __call__(self, message: Any, channels: Any) -> None:
            calls.append("request")
            await channels["reply"].send({"status": 200})

    adapter = WSGIAdapter(App())
    call(adapter, validate=False)
    call(adapter, validate=False)
    assert calls == ["startup", "request", "request"]


def test_all_wsgi_adapters_of_a_process_share_one_event_loop() -> None:
    loops: set[Any] = set()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        loops.add(asyncio.get_running_loop())
        await channels["reply"].send({"status": 200})

    for _ in range(3):
        call(WSGIAdapter(app), validate=False)
    assert len(loops) == 1


def test_C12_forked_process_uses_a_new_event_loop() -> None:
    adapter = WSGIAdapter(hello)
    call(adapter)

    def in_child() -> None:
        assert call(adapter).content == b"hello"

    assert exit_code_in_child(in_child) == 0


def test_constructor_of_wsgi_adapter_rejects_an_ambiguous_application() -> None:
    with pytest.raises(Exception, match="not callable"):
        WSGIAdapter(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/hello", "/generator", "/write", "/empty", "/replaced", "/closed", "/big"])
def test_P3_application_behaves_the_same_behind_two_adapters(path: str) -> None:
    bare = call(wsgi_apps.app, environ_of(path), validate=False)
    bridged = call(WSGIAdapter(ASGIAdapter(wsgi_apps.app)), environ_of(path), validate=False)
    assert bridged.status == bare.status
    assert bridged.content == bare.content
    wanted = [(name.lower(), value) for name, value in bare.headers]
    assert [field for field in bridged.headers if field in wanted] == wanted


def test_P3_two_adapters_pass_on_the_environ_keys_of_the_host() -> None:
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", [])
        return []

    own = object()
    environ = environ_of("/a%ff", REMOTE_USER="me", SSL_CLIENT_S_DN="cn", **{"test.own": own})
    call(WSGIAdapter(ASGIAdapter(app)), environ, validate=False)
    assert (seen["REMOTE_USER"], seen["SSL_CLIENT_S_DN"], seen["test.own"]) == ("me", "cn", own)


@pytest.mark.parametrize("octets", [b"/\xff", b"/\xe2\x82\xac", b"/%41", b"//a/../b", b"/a;b?c", b"/\0"])
def test_C4_two_nested_adapters_keep_every_byte_of_the_path(octets: bytes) -> None:
    seen: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ["SCRIPT_NAME"] + environ["PATH_INFO"])
        start_response("200 OK", [])
        return []

    call(WSGIAdapter(ASGIAdapter(app)), environ_of(octets.decode("latin-1")), validate=False)
    assert seen == [octets.decode("latin-1")]


def test_exception_in_start_response_disconnects_the_application() -> None:
    ended = threading.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        try:
            await channels["reply"].send({"status": 200, "more_content": True})
            while True:
                await channels["reply"].send({"content": b"x" * 1000, "more_content": True})
        finally:
            ended.set()

    def refusing(status: str, headers: list[tuple[str, str]]) -> None:
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        WSGIAdapter(app)(environ_of(), refusing)
    assert ended.wait(10)


trace: ContextVar[str] = ContextVar("trace", default="none")


def test_application_sees_context_variables_that_a_wsgi_middleware_has_set() -> None:
    seen: list[str] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        seen.append(trace.get())
        trace.set("the application's")
        await channels["reply"].send({"status": 200})

    adapter = WSGIAdapter(app)
    token = trace.set("the middleware's")
    call(adapter, validate=False)
    assert trace.get() == "the middleware's"
    trace.reset(token)
    call(adapter, validate=False)
    assert seen == ["the middleware's", "none"]


def test_synchronous_consumer_sees_context_variables_that_a_wsgi_middleware_has_set() -> None:
    seen: list[str] = []

    def app(message: dict[str, Any]) -> None:
        seen.append(trace.get())
        trace.set("the application's")
        message["reply_channel"].send({"status": 200})

    adapter = WSGIAdapter(app)
    token = trace.set("the middleware's")
    call(adapter, validate=False)
    assert trace.get() == "the middleware's"
    trace.reset(token)
    call(adapter, validate=False)
    assert seen == ["the middleware's", "none"]


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="handlers start an iteration later, and keep their context for it"
)
def test_call_of_the_wsgi_adapter_leaves_no_reference_cycles() -> None:
    app = WSGIAdapter(hello)
    call(app, validate=False)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            call(app, validate=False)
        assert gc.collect() < 20
    finally:
        gc.enable()
