"""WSGI applications on our server: PEP 3333 and the probes, over one connection without a socket."""

from __future__ import annotations

import ast
import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from tests import wsgi_apps
from tests.corpus import POST, chunked, request
from tests.helpers import GET, Conversation, Response, until
from uvicorn.adapters import ASGIAdapter


def asking(path: str, *fields: bytes, method: bytes = b"GET", content: bytes = b"") -> bytes:
    return request(method + b" /" + path.encode() + b" HTTP/1.1", *fields, content=content)


def over(app: Any, way: str) -> Any:
    """`app` served directly, as an adapter whose interface the server takes, or through messages."""
    if way == "direct":
        return app
    adapter = ASGIAdapter(app, threads=4)
    if way == "adapter":
        return adapter

    async def through_messages(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await adapter(message, channels)

    through_messages.shutdown = adapter.shutdown  # type: ignore[attr-defined]
    return through_messages


WAYS = ["direct", "adapter", "messages"]


async def response_of(stream: bytes, way: str = "direct", app: Any = wsgi_apps.app, **settings: Any) -> Response:
    conversation = Conversation(over(app, way), **settings)
    conversation.send(stream, piece=1 << 30)
    method = stream.split(b" ", 1)[0].decode()
    await until(lambda: conversation.context.requests == 0)
    response = conversation.responses(method)[-1] if conversation.received else Response(0, [])
    await conversation.lose()
    await conversation.interface.shutdown(1)
    return response


@pytest.fixture(autouse=True)
def fresh() -> None:
    wsgi_apps.closed.clear()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "status", "content"),
    [
        ("hello", 200, b"Hello"),
        ("generator", 201, b"0\n1\n2\n3\n4\n"),
        ("write", 200, b"written, returned"),
        ("empty", 204, b""),
        ("replaced", 503, b"busy"),
        ("no_reason", 200, b"x"),
        ("closed", 200, b"ab"),
        ("big", 200, b"x" * 1000000),
        ("file", 200, Path(wsgi_apps.__file__).read_bytes()),
    ],
)
async def test_what_an_application_says_arrives(path: str, status: int, content: bytes, way: str) -> None:
    response = await response_of(asking(path), way)
    assert (response.status, response.content, response.complete) == (status, content, True)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["twice", "silent", "text", "system_exit", "keyboard_interrupt"])
async def test_an_application_that_fails_before_output_is_500(path: str, way: str) -> None:
    assert (await response_of(asking(path), way)).status == 500


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["failing", "too_late"])
async def test_an_application_that_fails_after_output_never_looks_complete(path: str, way: str) -> None:
    response = await response_of(asking(path), way)
    # Through messages it is found out before anything has been sent, so that a whole 500 can be.
    assert not response.complete or response.status == 500


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["closed", "failing", "big"])
async def test_C10_close_is_called_once_however_it_ends(path: str, way: str) -> None:
    await response_of(asking(path), way)
    assert wsgi_apps.closed == [path]


@pytest.mark.parametrize("way", WAYS)
async def test_C10_a_client_that_leaves_stops_an_endless_generator_and_closes_it(way: str) -> None:
    conversation = Conversation(over(wsgi_apps.app, way))
    conversation.transport.client_takes = False
    conversation.send(asking("endless"))
    await until(lambda: conversation.transport.unsent > 65536)
    await conversation.lose()
    await until(lambda: wsgi_apps.closed)
    assert wsgi_apps.closed == ["endless"]
    await conversation.interface.shutdown(1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 1, 100000, 300000])
async def test_C11_content_is_read_whole(size: int, way: str) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    stream = asking("echo", b"content-length: %d" % size, method=b"POST", content=content[:size])
    assert (await response_of(stream, way)).content == b"POST " + content[:size]


@pytest.mark.parametrize("way", WAYS)
async def test_C11_chunked_content_is_read_whole(way: str) -> None:
    stream = chunked(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n").replace(b"POST /", b"POST /echo")
    assert (await response_of(stream, way)).content == b"POST hello world"


async def test_C11_content_can_be_read_by_lines() -> None:
    stream = asking("lines", b"content-length: 6", method=b"POST", content=b"a\nbc\nd")
    assert (await response_of(stream)).content == b"2:a\n3:bc\n1:d"


@pytest.mark.parametrize("way", WAYS)
async def test_C11_a_truncated_upload_raises_in_the_application(way: str) -> None:
    raised: list[BaseException] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            raised.append(error)
        start_response("200 OK", [])
        return []

    conversation = Conversation(over(app, way))
    conversation.send(request(POST, b"content-length: 100", content=b"x" * 12))
    await asyncio.sleep(0)
    conversation.send_eof()
    await until(lambda: raised and not conversation.context.requests)
    await conversation.lose()
    await conversation.interface.shutdown(1)


@pytest.mark.parametrize("way", WAYS)
async def test_C11_the_application_sees_the_first_bytes_before_the_upload_ends(way: str) -> None:
    seen: list[bytes] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ["wsgi.input"].read(5))
        seen.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return []

    conversation = Conversation(over(app, way))
    conversation.send(request(POST, b"content-length: 10", content=b"hello"))
    await until(lambda: seen)
    assert seen == [b"hello"]
    conversation.send(b"world")
    await until(lambda: conversation.received)
    assert seen == [b"hello", b"world"]
    await conversation.lose()
    await conversation.interface.shutdown(1)


async def environ_of(stream: bytes, **settings: Any) -> dict[str, Any]:
    response = await response_of(stream, **settings)
    environ: dict[str, Any] = ast.literal_eval(response.content.decode())
    return environ


async def test_environ_has_what_pep_3333_asks_for() -> None:
    environ = await environ_of(asking("a%20b/show?q=%20", b"content-type: text/x", b"X-Two: 1", b"x-two: 2"))
    assert environ == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b/show",
        "QUERY_STRING": "q=%20",
        "REQUEST_URI": "/a%20b/show?q=%20",
        "RAW_URI": "/a%20b/show?q=%20",
        "CONTENT_TYPE": "text/x",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "51234",
        "HTTP_HOST": "x",
        "HTTP_X_TWO": "1,2",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }


async def test_C1_a_field_with_an_underscore_never_reaches_environ() -> None:
    environ = await environ_of(asking("show", b"X_Forwarded_For: evil", b"X-Forwarded-For: good"))
    assert environ["HTTP_X_FORWARDED_FOR"] == "good"


async def test_C2_proxy_never_becomes_http_proxy() -> None:
    assert "HTTP_PROXY" not in await environ_of(asking("show", b"Proxy: evil:80"))


async def test_C3_a_client_cannot_set_a_key_without_its_prefix() -> None:
    fields = (b"Content_Length: 5", b"wsgi.input: x", b"remote-user: admin", b"script-name: /x")
    environ = await environ_of(asking("show", *fields))
    assert "REMOTE_USER" not in environ
    assert (environ["SCRIPT_NAME"], environ.get("CONTENT_LENGTH")) == ("", None)


@pytest.mark.any_loop
@pytest.mark.parametrize("octets", [b"%ff", b"%E2%82%AC", b"%00", b"%25%34", b"%2F", b"a%zz", b"%c3"])
async def test_C4_path_info_is_byte_for_byte_what_was_sent(octets: bytes) -> None:
    from urllib.parse import unquote_to_bytes

    environ = await environ_of(request(b"GET /" + octets + b"/show HTTP/1.1"))
    assert environ["PATH_INFO"].encode("latin-1") == unquote_to_bytes(b"/" + octets + b"/show")


@pytest.mark.any_loop
@pytest.mark.parametrize("target", [b"/api/show", b"/show"])
async def test_C6_script_name_and_path_info_make_up_the_path(target: bytes) -> None:
    environ = await environ_of(request(b"GET " + target + b" HTTP/1.1"), root_path="/api")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/api", "/show")


async def test_C8_cookies_are_joined_as_cookies_are() -> None:
    environ = await environ_of(asking("show", b"cookie: a=1", b"cookie: b=2"))
    assert environ["HTTP_COOKIE"] == "a=1; b=2"


async def test_HEAD_of_an_endless_generator_ends() -> None:
    response = await response_of(asking("endless", method=b"HEAD"))
    assert (response.status, response.content) == (200, b"")
    assert wsgi_apps.closed == ["endless"]


secret: ContextVar[str] = ContextVar("secret", default="fresh")


async def test_C12_context_variables_are_fresh_for_each_request_although_threads_are_not() -> None:
    seen: list[tuple[str, int]] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append((secret.get(), threading.get_ident()))
        secret.set("used")
        start_response("200 OK", [])
        return []

    conversation = Conversation(app, threads=1)
    conversation.send(GET * 3)
    await until(lambda: len(conversation.responses()) == 3)
    assert [variable for variable, thread in seen] == ["fresh"] * 3
    assert len({thread for variable, thread in seen}) == 1
    await conversation.interface.shutdown(1)


async def test_C9_beyond_the_queue_requests_are_503_with_retry_after() -> None:
    release = threading.Event()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        release.wait()
        start_response("200 OK", [])
        return []

    conversation = Conversation(app, threads=1, thread_queue=1)
    others = [conversation.connect() for _ in range(2)]
    conversation.send(GET)
    for connection, _ in others:
        connection.data_received(GET)
    await until(lambda: others[1][1].writes)
    assert others[1][1].writes[0].startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in others[1][1].writes[0]
    release.set()
    await until(lambda: conversation.received and others[0][1].writes)
    await conversation.interface.shutdown(1)


async def test_the_users_own_executor_is_used() -> None:
    names: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        names.append(threading.current_thread().name)
        start_response("200 OK", [])
        return []

    with ThreadPoolExecutor(thread_name_prefix="mine") as executor:
        conversation = Conversation(ASGIAdapter(app, executor=executor))
        conversation.send(GET)
        await until(lambda: conversation.received)
        await conversation.interface.shutdown(1)
    assert names[0].startswith("mine")


async def test_wsgi_errors_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        print("something odd", file=environ["wsgi.errors"])
        start_response("200 OK", [])
        yield b"x"

    await response_of(GET, app=app)
    assert "wsgi.errors: something odd" in caplog.text


async def test_a_slow_client_slows_the_application() -> None:
    made = 0

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        nonlocal made
        start_response("200 OK", [])
        for _ in range(100):
            made += 1
            yield b"x" * 65536

    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await until(lambda: conversation.transport.unsent > 65536)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert made < 10
    conversation.transport.client_takes = True
    conversation.transport.take(1 << 30)
    await until(lambda: conversation.context.requests == 0)
    assert made == 100
    await conversation.interface.shutdown(1)


async def test_ASGIAdapter_refuses_a_websocket() -> None:
    sent: list[dict[str, Any]] = []

    class Reply:
        async def send(self, message: dict[str, Any]) -> None:
            sent.append(message)

    await ASGIAdapter(wsgi_apps.app)({"channel": "websocket.connect"}, {"reply": Reply()})
    assert sent == [{"accept": False}]


async def test_ASGIAdapter_takes_inline_content_and_little_else() -> None:
    sent: list[dict[str, Any]] = []

    class Reply:
        async def send(self, message: dict[str, Any]) -> None:
            sent.append(message)

    adapter = ASGIAdapter(wsgi_apps.app)
    await adapter({"method": "POST", "path": "/echo", "headers": [], "body": b"inline"}, {"reply": Reply()})
    await adapter.shutdown()
    assert sent[0]["status"] == 200
    assert b"".join(message["content"] for message in sent) == b"POST inline"
