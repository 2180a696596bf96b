"""WSGI applications on our server: PEP 3333 and the probes, over one connection without a socket."""

from __future__ import annotations

import ast
import logging
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

import pytest

from tests import wsgi_apps
from tests.corpus import request
from tests.helpers import GET, Conversation, until
from tests.interfaces.wsgi_conversations import WAYS, app_of, asking, over, response_of
from uvicorn.errors import LocalProtocolError
from uvicorn.interfaces.file_wrapper import FileWrapper
from uvicorn.interfaces.wsgi import ErrorLog


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
async def test_wsgi_response_arrives_complete_with_its_status_and_content(
    path: str, status: int, content: bytes, way: str
) -> None:
    response = await response_of(asking(path), way)
    assert (response.status, response.content, response.complete) == (status, content, True)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["twice", "silent", "text", "system_exit", "keyboard_interrupt"])
async def test_wsgi_application_that_raises_before_output_gives_500(path: str, way: str) -> None:
    assert (await response_of(asking(path), way)).status == 500


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["failing", "too_late"])
async def test_wsgi_application_that_raises_after_output_aborts_the_response(path: str, way: str) -> None:
    response = await response_of(asking(path), way)
    # Through messages it is found out before anything has been sent, so that a whole 500 can be.
    assert not response.complete or response.status == 500


async def environ_of(stream: bytes, **settings: Any) -> dict[str, Any]:
    response = await response_of(stream, **settings)
    environ: dict[str, Any] = ast.literal_eval(response.content.decode())
    return environ


async def test_environ_has_every_key_that_pep_3333_requires() -> None:
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


async def test_C1_field_with_an_underscore_in_its_name_never_reaches_the_environ() -> None:
    environ = await environ_of(asking("show", b"X_Forwarded_For: evil", b"X-Forwarded-For: good"))
    assert environ["HTTP_X_FORWARDED_FOR"] == "good"


async def test_C2_proxy_header_does_not_become_HTTP_PROXY() -> None:
    assert "HTTP_PROXY" not in await environ_of(asking("show", b"Proxy: evil:80"))


async def test_C3_client_can_set_only_environ_keys_with_the_HTTP_prefix() -> None:
    fields = (b"Content_Length: 5", b"wsgi.input: x", b"remote-user: admin", b"script-name: /x")
    environ = await environ_of(asking("show", *fields))
    assert "REMOTE_USER" not in environ
    assert (environ["SCRIPT_NAME"], environ.get("CONTENT_LENGTH")) == ("", None)


@pytest.mark.any_loop
@pytest.mark.parametrize("octets", [b"%ff", b"%E2%82%AC", b"%00", b"%25%34", b"%2F", b"a%zz", b"%c3"])
async def test_C4_PATH_INFO_has_the_percent_decoded_bytes_of_the_client(octets: bytes) -> None:
    environ = await environ_of(request(b"GET /" + octets + b"/show HTTP/1.1"))
    assert environ["PATH_INFO"].encode("latin-1") == unquote_to_bytes(b"/" + octets + b"/show")


@pytest.mark.any_loop
@pytest.mark.parametrize(
    ("target", "cut", "path_info"),
    [
        (b"/show", "yes", "/show"),
        # Of the public path /api/api/show the proxy has cut the first /api off.
        (b"/api/show", "yes", "/api/show"),
        (b"/api/show", "no", "/show"),
        (b"/show", "auto", "/show"),
        (b"/api/show", "auto", "/show"),
    ],
)
async def test_C6_SCRIPT_NAME_and_PATH_INFO_make_up_the_path(target: bytes, cut: str, path_info: str) -> None:
    environ = await environ_of(request(b"GET " + target + b" HTTP/1.1"), root_path="/api", root_path_cut=cut)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/api", path_info)


async def test_C8_cookie_fields_are_joined_with_semicolons() -> None:
    environ = await environ_of(asking("show", b"cookie: a=1", b"cookie: b=2"))
    assert environ["HTTP_COOKIE"] == "a=1; b=2"


async def test_HEAD_request_to_an_endless_wsgi_generator_ends() -> None:
    response = await response_of(asking("endless", method=b"HEAD"))
    assert (response.status, response.content) == (200, b"")
    assert wsgi_apps.closed == ["endless"]


secret: ContextVar[str] = ContextVar("secret", default="fresh")


async def test_C12_context_variables_are_new_for_each_request_on_a_reused_thread() -> None:
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


async def test_wsgi_errors_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        print("something odd", file=environ["wsgi.errors"])
        start_response("200 OK", [])
        yield b"x"

    await response_of(GET, app=app)
    assert "wsgi.errors: something odd" in caplog.text


async def test_wsgi_generator_that_never_calls_start_response_gives_500() -> None:
    assert (await response_of(GET, app=lambda environ, start_response: iter([]), interface="wsgi")).status == 500


@pytest.mark.parametrize("empty", [[b""], [b"", b""]])
async def test_wsgi_application_may_yield_empty_bytes_before_start_response(empty: list[bytes]) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield from empty
        start_response("201 Created", [])
        yield b"x"

    assert (await response_of(GET, app=app)).status == 201


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("way", WAYS)
async def test_wsgi_responses_204_and_304_have_no_content(status: str, way: str) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response(status, [])
        yield b"never"

    conversation = Conversation(over(app, way))
    conversation.send(GET)
    await until(lambda: conversation.context.requests == 0)
    assert conversation.received.endswith(b"\r\n\r\n")
    assert b"never" not in conversation.received
    await conversation.lose()
    await conversation.interface.shutdown(1)


@pytest.mark.parametrize("way", WAYS)
async def test_B2_wsgi_list_shorter_than_its_content_length_gives_500(way: str) -> None:
    assert (await response_of(GET, way, app_of([b"ab"], [("Content-Length", "3")]))).status == 500


@pytest.mark.parametrize("way", WAYS)
async def test_B2_wsgi_stream_shorter_than_its_content_length_aborts_the_response(way: str) -> None:
    response = await response_of(GET, way, app_of(iter([b"ab"]), [("Content-Length", "3")]))
    assert not response.complete or response.status == 500


@pytest.mark.parametrize("way", WAYS)
async def test_B1_control_character_in_a_wsgi_header_raises_in_the_application(way: str) -> None:
    raised: list[BaseException] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        try:
            start_response("200 OK", [("X-A", "a\r\nevil: 1")])
        except LocalProtocolError as error:
            raised.append(error)
            raise
        return []

    assert (await response_of(GET, way, app)).status == 500
    assert raised


async def test_wsgi_errors_joins_the_parts_of_a_line(caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        errors = environ["wsgi.errors"]
        print("one", "line", file=errors)
        errors.writelines(["two\nthree\n", "\n"])
        errors.write("unfinished")
        start_response("200 OK", [])
        return []

    await response_of(GET, app=app)
    assert [record.getMessage() for record in caplog.records] == [
        "wsgi.errors: one line",
        "wsgi.errors: two\nthree",
        "wsgi.errors: unfinished",
    ]


def test_one_write_to_wsgi_errors_makes_one_log_record(caplog: pytest.LogCaptureFixture) -> None:
    errors = ErrorLog()
    errors.write("Traceback (most recent call last):\n  File 'a.py', line 1\n\nValueError: boom\n")
    assert [record.getMessage() for record in caplog.records] == [
        "wsgi.errors: Traceback (most recent call last):\n  File 'a.py', line 1\n\nValueError: boom"
    ]


def test_wsgi_errors_buffers_an_unfinished_line_until_its_newline(caplog: pytest.LogCaptureFixture) -> None:
    errors = ErrorLog()
    for text in ("one ", "record\nof two lines\nand", " another", "\n", "\n \n"):
        errors.write(text)
    assert [record.getMessage() for record in caplog.records] == [
        "wsgi.errors: one record\nof two lines",
        "wsgi.errors: and another",
    ]


@pytest.fixture
def app_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("uvicorn.app")
    handlers, propagate = logger.handlers[:], logger.propagate
    logger.propagate = False
    yield logger
    logger.handlers[:], logger.propagate, logger.disabled = handlers, propagate, False


def test_wsgi_errors_does_not_recurse_if_a_log_handler_writes_to_it(
    app_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    # As the root logger does in Flask's documentation, through `flask.logging.wsgi_errors_stream`.
    errors = ErrorLog()
    app_logger.addHandler(logging.StreamHandler(errors))
    errors.write("something odd\n")
    errors.write("another\n")
    assert capsys.readouterr().err == "wsgi.errors: something odd\nwsgi.errors: another\n"


def test_wsgi_errors_goes_to_stderr_if_the_uvicorn_logger_is_disabled(
    app_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    # As `logging.config.dictConfig` does to all existing loggers by default.
    app_logger.disabled = True
    ErrorLog().write("something odd\n")
    assert capsys.readouterr().err == "something odd\n"


def test_text_in_wsgi_errors_is_discarded_if_logger_and_stderr_are_unusable(
    app_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    app_logger.disabled = True
    monkeypatch.setattr(sys, "stderr", None)
    assert ErrorLog().write("something odd\n") == 14


def test_file_wrapper_accepts_an_object_without_close() -> None:
    class Source:
        blocks: ClassVar[list[bytes]] = [b"a", b"b", b""]

        def read(self, size: int) -> bytes:
            return self.blocks.pop(0)

    wrapper = FileWrapper(Source(), 1)
    assert list(wrapper) == [b"a", b"b"]
    wrapper.close()


@pytest.mark.parametrize("content", ["text", bytearray(b"x"), None])
async def test_wsgi_application_that_writes_text_gives_500(content: Any) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(content)
        return []

    assert (await response_of(GET, app=app)).status == 500


class Indexed:
    """An iterable of the oldest kind."""

    def __getitem__(self, index: int) -> bytes:
        return [b"a", b"b"][index]


async def test_wsgi_iterable_without_an_iter_method_is_served() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Indexed()

    assert (await response_of(GET, app=app)).content == b"ab"


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([b"a", "b"], "content: expected bytes, got str 'b'"),
        ("text", "the application returned str 'text', expected an iterable of bytes (PEP 3333)"),
        (b"text", "the application returned bytes b'text', expected an iterable of bytes (PEP 3333), such as [b'...']"),
        (None, "the application returned NoneType None, expected an iterable of bytes (PEP 3333)"),
    ],
)
async def test_wsgi_application_that_does_not_return_an_iterable_gives_500(
    returned: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return returned

    assert (await response_of(GET, app=app)).status == 500
    assert said in caplog.text


@pytest.mark.parametrize("nothing", [b"", ""])
async def test_wsgi_application_without_content_may_return_an_empty_string(nothing: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("304 Not Modified", [])
        return nothing

    assert (await response_of(GET, app=app)).status == 304


async def test_connection_is_kept_if_the_client_does_not_wait_for_100_continue() -> None:
    conversation = Conversation(wsgi_apps.app)
    conversation.send(asking("echo", b"content-length: 2", b"expect: 100-continue", method=b"POST", content=b"ab"))
    await until(lambda: conversation.received)
    assert not conversation.transport.closing
    conversation.send(asking("hello"))
    await until(lambda: len(conversation.responses("POST", "GET")) == 2)
    assert [response.status for response in conversation.responses("POST", "GET")] == [200, 200]
    await conversation.lose()
    await conversation.interface.shutdown(1)


@pytest.mark.parametrize("way", ["direct", "adapter"])
@pytest.mark.parametrize("target", ["/a?", "/a??", "/a?b", "/a"])
async def test_RAW_URI_and_REQUEST_URI_are_the_unchanged_request_target(target: str, way: str) -> None:
    seen: list[tuple[str, str, str]] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append((environ["REQUEST_URI"], environ["RAW_URI"], environ["QUERY_STRING"]))
        start_response("200 OK", [])
        return []

    await response_of(asking(target[1:]), way, app)
    assert seen == [(target, target, target.partition("?")[2])]
