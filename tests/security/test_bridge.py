"""Requirements C1 to C12, tested with whole requests."""

from __future__ import annotations

import ast
import signal
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from tests import wsgi_apps
from tests.corpus import POST, request
from tests.helpers import GET, Conversation, until
from uvicorn.adapters import ASGIAdapter, WSGIAdapter
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.fields import split_pairs
from uvicorn.interfaces.environ import build_environ, exchange_from_environ

Environ = dict[str, Any]


def environ_of(target: bytes, *headers: tuple[bytes, bytes], root_path: str = "") -> Environ:
    fields = [list(field) for field in headers]
    return build_environ(
        HTTPExchange(
            HTTPGateway(), Endpoint(root_path=root_path), "GET", target, "1.1", split_pairs(fields), has_content=False
        )
    )


def behind_two_bridges(environ: Environ) -> Environ:
    """The environ of an application behind `WSGIAdapter(ASGIAdapter(app))`."""
    seen: list[Environ] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        seen.append(environ)
        start_response("200 OK", [])
        return []

    adapter = ASGIAdapter(app)

    async def through_messages(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await adapter(message, channels)

    list(WSGIAdapter(through_messages)(environ, lambda status, headers: None))
    return seen[0]


async def served(stream: bytes, **settings: Any) -> Environ | None:
    """Return the environ of a request to our server, or None if the request was refused."""
    conversation = Conversation(wsgi_apps.show, **settings)
    conversation.send(stream)
    await until(lambda: conversation.received and not conversation.context.requests)
    (response,) = conversation.responses()
    await conversation.lose()
    await conversation.interface.shutdown(1)
    if response.status != 200:
        return None
    environ: Environ = ast.literal_eval(response.content.decode())
    return environ


@pytest.mark.any_loop
@pytest.mark.parametrize("name", [b"Content_Length", b"Content_Type", b"X_Forwarded_For", b"_Host", b"Host_"])
async def test_C1_a_field_name_with_an_underscore_is_dropped_from_environ(name: bytes) -> None:
    environ = await served(request(b"GET / HTTP/1.1", name + b": evil"))
    assert environ is not None
    assert "evil" not in repr(environ)


def test_C2_HTTP_PROXY_key_of_a_wsgi_host_is_dropped() -> None:
    assert "HTTP_PROXY" not in behind_two_bridges({"HTTP_PROXY": "evil:80"})


@pytest.mark.parametrize("key", ["HTTP_REMOTE_USER", "HTTP_WSGI_INPUT", "HTTP_SCRIPT_NAME", "HTTP_CONTENT_LENGTH"])
def test_C3_header_of_the_client_changes_only_its_HTTP_key_behind_two_adapters(key: str) -> None:
    bare = behind_two_bridges({})
    bridged = behind_two_bridges({key: "evil"})
    assert {name for name, value in bridged.items() if value == "evil"} <= {key}
    assert bare.keys() - {key} == bridged.keys() - {key}


def test_C4_every_two_byte_path_is_unchanged_behind_two_adapters() -> None:
    # The two conversions that the adapters use, one after the other, without threads and loops.
    for number in range(65536):
        path = b"/%c%c" % divmod(number, 256)
        target = b"/%%%02x%%%02X" % divmod(number, 256)
        environ = environ_of(target)
        assert environ["PATH_INFO"].encode("latin-1") == path
        assert environ["RAW_URI"].encode() == target
        bridged = build_environ(exchange_from_environ(environ, HTTPGateway(), None))
        assert (bridged["PATH_INFO"], bridged["RAW_URI"]) == (environ["PATH_INFO"], environ["RAW_URI"])
        del environ["RAW_URI"], environ["REQUEST_URI"]
        # A host without a raw target.
        assert build_environ(exchange_from_environ(environ, HTTPGateway(), None))["PATH_INFO"] == bridged["PATH_INFO"]


@pytest.mark.parametrize("target", [b"//evil.example/a", b"/a/../b", b"/a//b", b"/./a", b"/%2e%2e/a", b"/a%00b", b"/%"])
def test_C4_a_path_is_not_normalized_and_is_decoded_once(target: bytes) -> None:
    environ = environ_of(target)
    assert environ["PATH_INFO"].encode("latin-1") == unquote_to_bytes(target)
    assert behind_two_bridges(environ)["PATH_INFO"] == environ["PATH_INFO"]


@pytest.mark.any_loop
@pytest.mark.parametrize("target", [b"http://x/a%20b?c=d", b"HTTP://x:80/a%20b?c=d", b"/a%20b?c=d"])
async def test_C5_RAW_URI_and_PATH_INFO_in_environ_agree(target: bytes) -> None:
    host = b"host: x:80" if b":80" in target else b"host: x"
    environ = await served(request(b"GET " + target + b" HTTP/1.1", host=host))
    assert environ is not None
    path, _, query = environ["RAW_URI"].partition("?")
    assert unquote_to_bytes(path).decode("latin-1") == environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    assert query == environ["QUERY_STRING"]
    assert (environ["PATH_INFO"], environ["HTTP_HOST"]) == ("/a b", host[6:].decode())


@pytest.mark.any_loop
async def test_C5_HTTP_HOST_is_the_authority_of_an_absolute_target() -> None:
    environ = await served(request(b"GET http://evil.example/ HTTP/1.1", host=b"host: x"))
    assert environ is None or environ["HTTP_HOST"] == "evil.example"


ROOTS = ["/app", "/\xe9", "/a b", "/a%b", "/app/v1"]


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("rest", ["", "/", "/x", "le", "le/x", "/\xe9", "/%2F"])
def test_C6_root_path_matches_whole_path_segments(root: str, rest: str) -> None:
    path = root + rest
    target = b"".join(b"%%%02X" % octet if octet > 126 or octet in b" %" else b"%c" % octet for octet in path.encode())
    environ = environ_of(target, root_path=root)
    script = environ["SCRIPT_NAME"].encode("latin-1").decode()
    info = environ["PATH_INFO"].encode("latin-1").decode()
    assert script == root
    # /apple is below /app only if a proxy has cut /app off.
    assert info == (rest if rest[:1] in ("", "/") else path)
    assert environ_of(environ["RAW_URI"].encode(), root_path=root)["PATH_INFO"] == environ["PATH_INFO"]


@pytest.mark.parametrize("script", ["", "/app", "/\xff", "/\xc3\xa9", "/\xef\xbf\xbd", "/a/\xfe/b", "/a%2Fb"])
@pytest.mark.parametrize("info", ["", "/", "/x", "/\xff", "//x", "/app"])
def test_C6_two_adapters_do_not_change_SCRIPT_NAME_and_PATH_INFO(script: str, info: str) -> None:
    environ = behind_two_bridges({"SCRIPT_NAME": script, "PATH_INFO": info})
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, info or ("" if script else "/"))


def test_C6_an_OPTIONS_request_for_the_whole_server_is_outside_every_mount() -> None:
    environ = environ_of(b"*", root_path="/app")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "*")


def test_C8_repeated_fields_are_joined_in_order() -> None:
    environ = environ_of(b"/", (b"x-a", b"1"), (b"cookie", b"a=1"), (b"x-a", b""), (b"x-a", b"3"), (b"cookie", b"b=2"))
    assert (environ["HTTP_X_A"], environ["HTTP_COOKIE"]) == ("1,,3", "a=1; b=2")


@pytest.mark.any_loop
@pytest.mark.parametrize("name", [b"host", b"content-length", b"content-type", b"authorization"])
async def test_C8_request_that_repeats_a_single_value_header_is_refused(name: bytes) -> None:
    environ = await served(
        request(b"GET / HTTP/1.1", name + b": 0", name + b": 0", host=None if name == b"host" else b"host: x")
    )
    assert environ is None


class Transport:
    """Records the thread of each call to a transport."""

    def __init__(self, transport: Any, threads: set[int]) -> None:
        self._transport = transport
        self._threads = threads

    def __getattr__(self, name: str) -> Any:
        self._threads.add(threading.get_ident())
        return getattr(self._transport, name)


@pytest.mark.parametrize("path", [b"generator", b"failing", b"closed", b"system_exit", b"big"])
async def test_C10_a_worker_thread_never_calls_a_transport(path: bytes) -> None:
    threads: set[int] = set()
    conversation = Conversation(wsgi_apps.app)
    conversation.connection._transport = Transport(conversation.transport, threads)  # type: ignore[assignment]
    conversation.send(request(b"GET /" + path + b" HTTP/1.1"))
    await until(lambda: conversation.context.requests == 0)
    await conversation.interface.shutdown(1)
    assert threads == {threading.get_ident()}
    await conversation.lose()


async def test_C10_disconnect_releases_a_worker_thread_that_waits_for_the_client() -> None:
    raised: list[BaseException] = []

    def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", [])
        try:
            while True:
                write(b"x" * 65536)
        except OSError as error:
            raised.append(error)
            raise
        yield b""

    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await until(lambda: conversation.transport.unsent > 65536)
    await conversation.lose()
    await until(lambda: raised)
    await conversation.interface.shutdown(1)


async def test_C11_buffered_content_is_bounded_while_a_wsgi_application_blocks() -> None:
    begun, release = threading.Event(), threading.Event()

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        begun.set()
        release.wait()
        start_response("200 OK", [])
        return [b"%d" % len(environ["wsgi.input"].read())]

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 1000000"))
    await until(begun.is_set)
    sent = 0
    while conversation.transport.reading:
        conversation.send(b"x" * 10000)
        sent += 10000
    assert sent < 262144
    release.set()
    while sent < 1000000:
        await until(lambda: conversation.transport.reading)
        conversation.send(b"x" * 10000)
        sent += 10000
    await until(lambda: conversation.received)
    assert conversation.responses()[0].content == b"1000000"
    await conversation.lose()
    await conversation.interface.shutdown(1)


def test_C12_adapters_do_not_change_signal_handlers() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    behind_two_bridges({})
    assert [signal.getsignal(number) for number in numbers] == before
