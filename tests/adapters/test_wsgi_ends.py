"""The end of a request behind `WSGIAdapter`: applications and hosts that fail, exit, close twice, or never reply."""

from __future__ import annotations

import asyncio
import gc
import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests import wsgi_apps
from tests.adapters import test_wsgi as hosting
from tests.adapters.test_wsgi import Answer, environ_of
from tests.helpers import hello, read_body
from uvicorn.adapters import ASGIAdapter, WSGIAdapter
from uvicorn.concurrency.loop_thread import LoopThread, loop_thread
from uvicorn.errors import ApplicationError, ChannelClosed, LocalProtocolError, ResponseAborted, StartupError

Channels = dict[str, Any]
Message = dict[str, Any]


def ignore(status: str, headers: list[tuple[str, str]]) -> None:
    """A start_response that ignores its arguments."""


def call(app: Callable[..., Any], environ: dict[str, Any] | None = None) -> Answer:
    """Call without the validator, which requires a content-type."""
    return hosting.call(app, environ, validate=False)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_system_exit_of_an_application_is_raised_to_the_host_and_not_logged(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(message: Message, channels: Channels) -> None:
        raise error

    with pytest.raises(ApplicationError):
        call(WSGIAdapter(app))
    # The last of it is let go of, and may be logged then.
    call(WSGIAdapter(hello))
    gc.collect()
    assert caplog.messages == []


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_system_exit_in_one_application_does_not_end_another_application(error: BaseException, late: bool) -> None:
    async def app(message: Message, channels: Channels) -> None:
        if late:
            await asyncio.sleep(0)
        raise error

    others: list[bytes] = []
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(call, WSGIAdapter(app)) for _ in range(2)]
        others = [threads.submit(call, WSGIAdapter(hello)).result(30).content for _ in range(2)]
        raised = [answer.exception(30) for answer in answers]
    assert [type(failure) for failure in raised] == [ApplicationError] * 2
    assert [failure.__cause__ for failure in raised if failure] == [error] * 2
    assert others == [b"hello"] * 2


@pytest.mark.parametrize("late", [False, True])
def test_cancelling_an_application_before_its_response_gives_500(late: bool) -> None:
    async def app(message: Message, channels: Channels) -> None:
        if late:
            await asyncio.sleep(0)
        raise asyncio.CancelledError

    assert call(WSGIAdapter(app)).status == "500 Internal Server Error"


def test_wsgi_iterable_raises_ApplicationError_after_SystemExit_midway() -> None:
    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"status": 200, "content": b"half", "more_content": True})
        await asyncio.sleep(0)
        raise SystemExit

    with pytest.raises(ApplicationError):
        call(WSGIAdapter(app))


def test_application_that_stops_the_event_loop_does_not_affect_other_requests() -> None:
    async def app(message: Message, channels: Channels) -> None:
        asyncio.get_running_loop().stop()
        await channels["reply"].send({"status": 200})

    for _ in range(2):
        assert call(WSGIAdapter(app)).status == "200 OK"


def test_application_may_send_a_valid_response_after_an_invalid_response() -> None:
    async def app(message: Message, channels: Channels) -> None:
        try:
            await channels["reply"].send({"status": 200, "headers": [[b"content-length", b"5"]], "content": b"abc"})
        except LocalProtocolError:
            await channels["reply"].send({"status": 503})

    assert call(WSGIAdapter(app)).status == "503 Service Unavailable"


@pytest.mark.parametrize("headers", [[[b"content-length", b"x"]], [[b"content-length", b"0"]] * 2])
def test_B2_malformed_response_content_length_raises_in_the_wsgi_host(
    headers: list[list[bytes]],
) -> None:
    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"status": 200, "headers": headers})

    with pytest.raises(LocalProtocolError, match="expected one field of digits"):
        call(WSGIAdapter(app))


async def endless(message: Message, channels: Channels) -> None:
    """A stream that ends only at the disconnect."""
    status = int(message["query_string"] or b"200")
    await channels["reply"].send({"status": status, "more_content": True})
    while True:
        await channels["reply"].send({"content": b"x", "more_content": True})
        await asyncio.sleep(0)


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200"), ("GET", "204"), ("GET", "304")])
def test_response_without_content_ends_while_the_application_continues(method: str, status: str) -> None:
    app = Watched()
    adapter = WSGIAdapter(app)
    adapter._settings = replace(adapter._settings, disconnect_seconds=0.05)
    answer = call(adapter, environ_of("/", method, QUERY_STRING=status))
    assert (answer.status[:3], answer.content) == (status, b"")
    assert app.ended.wait(30)


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200"), ("GET", "204"), ("GET", "304")])
def test_sending_content_for_HEAD_or_status_204_or_304_raises_no_error(method: str, status: str) -> None:
    ended: list[BaseException | None] = []
    done = threading.Event()

    async def app(message: Message, channels: Channels) -> None:
        try:
            await channels["reply"].send({"status": int(status), "more_content": True})
            for _ in range(3):
                await asyncio.sleep(0.01)
                await channels["reply"].send({"content": b"x", "more_content": True})
            await channels["reply"].send({})
            ended.append(None)
        except BaseException as error:
            ended.append(error)
        finally:
            done.set()

    call(WSGIAdapter(app), environ_of("/", method))
    assert done.wait(30)
    assert ended == [None]


def test_content_length_is_dropped_from_204_and_kept_in_a_response_to_HEAD() -> None:
    async def app(message: Message, channels: Channels) -> None:
        status = int(message["query_string"])
        await channels["reply"].send({"status": status, "headers": [[b"content-length", b"3"]], "content": b"abc"})

    assert call(WSGIAdapter(app), environ_of(QUERY_STRING="204")).headers == []
    answer = call(WSGIAdapter(app), environ_of("/", "HEAD", QUERY_STRING="200"))
    assert (answer.headers, answer.content) == ([("content-length", "3")], b"")


def test_streamed_response_to_HEAD_has_no_content() -> None:
    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        await channels["reply"].send({"content": b"abc"})

    assert call(WSGIAdapter(app), environ_of("/", "HEAD")).content == b""


class Watched:
    """An endless application that reports its end."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.error: BaseException | None = None

    async def __call__(self, message: Message, channels: Channels) -> None:
        try:
            await endless(message, channels)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()


@pytest.mark.parametrize("times", [1, 2])
def test_C10_closing_an_iterable_without_iteration_disconnects_the_application(times: int) -> None:
    app = Watched()
    iterable: Any = WSGIAdapter(app)(environ_of(), ignore)
    for _ in range(times):
        iterable.close()
    assert app.ended.wait(30)
    assert isinstance(app.error, ChannelClosed)


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_C10_garbage_collection_of_an_unclosed_iterable_disconnects_the_application(taken: int) -> None:
    app = Watched()

    def middleware(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        yield b""
        yield from WSGIAdapter(app)(environ, start_response)

    pieces = middleware(environ_of(), ignore)
    for _ in range(1 + taken):
        next(pieces)
    if taken == 0:
        # One that begins a response, and looks at none of it.
        WSGIAdapter(app)(environ_of(), ignore)
    pieces.close()  # type: ignore[attr-defined]
    del pieces
    gc.collect()
    assert app.ended.wait(30)
    assert isinstance(app.error, ChannelClosed)


def test_wsgi_host_may_iterate_a_response_on_a_second_thread() -> None:
    iterable = WSGIAdapter(ASGIAdapter(wsgi_apps.app))(environ_of("/generator"), ignore)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(lambda: b"".join(iterable)).result(30) == b"0\n1\n2\n3\n4\n"


def test_closing_the_iterable_wakes_the_thread_that_waits_for_content() -> None:
    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"status": 200, "content": b"first", "more_content": True})
        await asyncio.Event().wait()

    waiting = threading.Event()

    def iterate() -> None:
        assert next(iterator) == b"first"
        waiting.set()
        next(iterator)

    adapter = WSGIAdapter(app)
    iterable: Any = adapter(environ_of(), ignore)
    iterator = iter(iterable)
    with ThreadPoolExecutor(1) as thread:
        iterating = thread.submit(iterate)
        waiting.wait(30)
        iterable.close()
        with pytest.raises(ResponseAborted, match="aborted"):
            iterating.result(30)


def test_exception_reaches_one_host_thread_while_another_closes_the_iterable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"status": 200, "content": b"first", "more_content": True})
        await asyncio.wrap_future(begun)
        asyncio.get_running_loop().call_soon(iterable.close)
        raise LookupError("of the application")

    class Environ(dict[str, Any]):
        """When the closing thread looks at the request, the iterating thread receives the exception."""

        def get(self, key: str, default: Any = None) -> Any:
            if begun.done() and not raised.done():
                raised.set_result(thread.submit(lambda: list(iterable)).exception(30))
            return super().get(key, default)

    begun: Future[None] = Future()
    raised: Future[BaseException | None] = Future()
    iterable: Any = WSGIAdapter(app)(Environ(environ_of()), ignore)
    with ThreadPoolExecutor(1) as thread:
        begun.set_result(None)
        assert isinstance(raised.result(30), LookupError)
    loop_thread().calls.start(nothing).result(30)
    assert "AssertionError" not in caplog.text


GUNICORN_LIKE = """
import asyncio, signal, sys, os, threading
from uvicorn import WSGIAdapter

ended = threading.Event()

async def app(message, channels):
    try:
        os.kill(os.getpid(), signal.SIGALRM)
        await channels['body'].receive()
        await asyncio.sleep(0)
    finally:
        ended.set()

def stop(*signal):
    sys.exit(7)

class Input:
    def read(self, size):
        ended.wait(20)
        return b'x'

signal.signal(signal.SIGALRM, stop)
try:
    WSGIAdapter(app)({'CONTENT_LENGTH': '2', 'wsgi.input': Input()}, lambda status, headers: None)
except SystemExit as error:
    print(error.code, 'and the application has ended:', ended.wait(10))
"""


def run_python(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)


def test_exception_in_a_signal_handler_reaches_the_host_and_ends_the_application() -> None:
    process = run_python(GUNICORN_LIKE)
    assert process.stdout == "7 and the application has ended: True\n", process.stderr


EXIT_WHILE_RUNNING = """
import asyncio, threading
from uvicorn import WSGIAdapter, ASGIAdapter

begun = threading.Semaphore(0)

class App:
    async def __call__(self, message, channels):
        try:
            begun.release()
            await asyncio.Event().wait()
        finally:
            print('cancelled')

    async def shutdown(self):
        print('shut down')

def blocking(environ, start_response):
    begun.release()
    threading.Event().wait()

for app in App(), ASGIAdapter(blocking):
    host = threading.Thread(
        target=lambda adapter=WSGIAdapter(app): adapter({}, lambda status, headers: None), daemon=True)
    host.start()
    begun.acquire()
"""


def test_C12_process_exit_cancels_running_applications_without_a_traceback() -> None:
    process = run_python(EXIT_WHILE_RUNNING)
    assert (process.stdout, process.returncode) == ("cancelled\nshut down\n", 0)
    assert "Traceback" not in process.stderr, process.stderr


FAILING_SHUTDOWN = """
from uvicorn import WSGIAdapter

class App:
    async def __call__(self, message, channels):
        await channels['reply'].send({'status': 200})

    async def shutdown(self):
        print('shut down')
        raise ValueError('no')

for _ in range(2):
    WSGIAdapter(App())({}, lambda status, headers: None)
"""


def test_adapters_are_shut_down_even_if_an_earlier_shutdown_fails() -> None:
    process = run_python(FAILING_SHUTDOWN)
    assert (process.stdout, process.returncode) == ("shut down\n" * 2, 0)
    assert process.stderr.count("exception in the application's shutdown") == 2


@pytest.mark.parametrize("error", [ValueError("not yet"), SystemExit(3), asyncio.CancelledError()])
def test_second_request_retries_a_failed_startup(error: BaseException) -> None:
    class App:
        starts = 0

        async def startup(self) -> None:
            App.starts += 1
            if App.starts == 1:
                raise error

        async def __call__(self, message: Message, channels: Channels) -> None:
            await channels["reply"].send({"status": 200})

    adapter = WSGIAdapter(App())
    with pytest.raises(StartupError):
        adapter(environ_of(), ignore)
    assert call(adapter).status == "200 OK"
    assert App.starts == 2


def test_wsgi_adapter_raises_if_called_on_its_own_event_loop() -> None:
    inner = WSGIAdapter(hello)

    async def app(message: Message, channels: Channels) -> None:
        with pytest.raises(RuntimeError, match="would deadlock"):
            inner(environ_of(), ignore)
        await channels["reply"].send({"status": 200})

    assert call(WSGIAdapter(app)).status == "200 OK"


def test_invalid_environ_raises_in_the_host_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AttributeError):
        WSGIAdapter(hello)({"SERVER_PROTOCOL": None}, ignore)
    assert caplog.messages == []
    assert call(WSGIAdapter(hello)).content == b"hello"


def test_an_application_that_returns_without_a_reply_gives_500() -> None:
    async def app(message: Message, channels: Channels) -> None:
        return None

    assert call(WSGIAdapter(app)).status == "500 Internal Server Error"


def nested(app: Callable[..., Any], depth: int) -> Callable[..., Any]:
    for _ in range(depth):
        app = WSGIAdapter(ASGIAdapter(app, threads=1))
    return app


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_C9_nested_adapters_with_one_thread_each_do_not_deadlock(depth: int) -> None:
    app = nested(wsgi_apps.app, depth)
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(call, app, environ_of("/generator")) for _ in range(16)]
        assert [one.result(60).content for one in calls] == [b"0\n1\n2\n3\n4\n"] * 16


def test_exception_behind_three_nested_adapters_is_raised_to_the_host(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="boom"):
        call(nested(wsgi_apps.app, 3), environ_of("/failing"))
    assert caplog.messages == []


def test_P3_middleware_sees_the_environ_keys_of_the_wsgi_host() -> None:
    seen: list[Any] = []
    adapter = ASGIAdapter(wsgi_apps.show)

    async def middleware(message: Message, channels: Channels) -> None:
        seen.append(message["environ"]["REMOTE_USER"])
        await adapter(message, channels)

    answer = call(WSGIAdapter(middleware), environ_of(REMOTE_USER="me"))
    assert seen == ["me"]
    assert b"'REMOTE_USER': 'me'" in answer.content


def test_C11_application_gets_OSError_when_it_reads_undecoded_chunked_content() -> None:
    raised: list[BaseException] = []

    async def app(message: Message, channels: Channels) -> None:
        try:
            await read_body(message, channels)
        except OSError as error:
            raised.append(error)
        await channels["reply"].send({"status": 200})

    environ = environ_of("/", "POST", HTTP_TRANSFER_ENCODING="chunked")
    environ["wsgi.input"] = io.BytesIO(b"5\r\nhello")
    call(WSGIAdapter(app), environ)
    assert raised


def test_A4_a_malformed_content_length_in_environ_gives_400() -> None:
    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"status": 200, "content": await read_body(message, channels)})

    environ = environ_of("/", "POST", CONTENT_LENGTH="+5")
    environ["wsgi.input"] = io.BytesIO(b"hello")
    assert call(WSGIAdapter(app), environ).status == "400 Bad Request"


def test_two_undecoded_chunked_requests_cause_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def app(message: Message, channels: Channels) -> None:
        await read_body(message, channels)

    adapter = WSGIAdapter(app)
    for _ in range(2):
        assert call(adapter, environ_of("/", "POST", HTTP_TRANSFER_ENCODING="chunked")).status == "400 Bad Request"
    assert [record.levelname for record in caplog.records if "chunked" in record.message] == ["WARNING"]


def test_content_length_without_wsgi_input_gives_400() -> None:
    environ = environ_of("/", "POST", CONTENT_LENGTH="3")
    del environ["wsgi.input"]

    async def app(message: Message, channels: Channels) -> None:
        await read_body(message, channels)

    assert call(WSGIAdapter(app), environ).status == "400 Bad Request"


def test_wsgi_adapter_starts_a_new_event_loop_if_its_loop_was_stopped() -> None:
    adapter = WSGIAdapter(hello)
    call(adapter)
    loop_thread().stop()
    assert call(adapter).content == b"hello"


def test_request_in_progress_gets_500_when_the_event_loop_stops() -> None:
    begun = threading.Event()

    async def app(message: Message, channels: Channels) -> None:
        begun.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as thread:
        calling = thread.submit(call, WSGIAdapter(app))
        assert begun.wait(30)
        loop_thread().stop()
        assert calling.result(30).status == "500 Internal Server Error"


def test_iterating_a_response_after_the_event_loop_has_stopped_raises() -> None:
    iterable = iter(WSGIAdapter(endless)(environ_of(), ignore))
    next(iterable)
    loop_thread().stop()
    with pytest.raises(ResponseAborted):
        list(iterable)


async def nothing() -> None:
    pass


def test_stopping_a_stopped_loop_thread_does_nothing() -> None:
    thread = LoopThread()
    thread.calls.start(nothing).result(30)
    thread.stop()
    thread.stop()
    assert thread.is_stopped
    assert thread.loop.is_closed()


def test_wsgi_host_may_close_an_iterable_after_the_event_loop_has_stopped() -> None:
    iterable: Any = WSGIAdapter(endless)(environ_of(), ignore)
    next(iter(iterable))
    loop_thread().stop()
    iterable.close()
