"""Exceptions that adapters raise from an application to its host: their class, their log, and their release."""

from __future__ import annotations

import asyncio
import gc
import io
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.middleware.errors import ServerErrorMiddleware
from werkzeug.debug import DebuggedApplication

from tests.adapters.test_asgi import Reply
from tests.adapters.test_asgi3 import HTTP, POST, Host
from tests.adapters.test_wsgi import call, environ_of
from tests.helpers import settle, until
from uvicorn.adapters import ASGI3Adapter, ASGIAdapter, WSGIAdapter
from uvicorn.errors import ApplicationError, ClientDisconnected
from uvicorn.types import Message

with warnings.catch_warnings():
    # That httpx, which it uses, will have a successor.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

Log = pytest.LogCaptureFixture


class Unpleasant(Exception):
    """An exception of the application."""


# Each calls an application of some kind, by way of an adapter of one kind, with one request.


def by_wsgi(app: Callable[..., Any], **options: Any) -> Any:
    return call(WSGIAdapter(app, **options), validate=False)


def by_asgi3(app: Callable[..., Any], **options: Any) -> Any:
    async def serve() -> list[Message]:
        host = Host(app, HTTP, **options)
        await host.task
        return host.sent

    return asyncio.run(serve())


def by_messages(app: Callable[..., Any], **options: Any) -> Any:
    async def serve() -> list[Message]:
        adapter, reply = ASGIAdapter(app, **{"interface": "channels", **options}), Reply()
        try:
            await adapter({"method": "GET", "path": "/"}, {"reply": reply})
        finally:
            await adapter.shutdown()
        return reply.sent

    return asyncio.run(serve())


def by_messages_behind_wsgi(app: Callable[..., Any], **options: Any) -> Any:
    adapter = ASGIAdapter(app, **{"interface": "channels", **options})

    async def middleware(message: Message, channels: dict[str, Any]) -> None:
        await adapter(message, channels)

    return by_wsgi(middleware)


WAYS = [by_wsgi, by_asgi3, by_messages, by_messages_behind_wsgi]

Way = Callable[..., Any]


def raising(error: BaseException, late: bool = False, begun: bool = False) -> Callable[..., Any]:
    async def app(message: Message, channels: dict[str, Any]) -> None:
        if begun:
            await channels["reply"].send({"status": 200, "content": b"half", "more_content": True})
        if late:
            await asyncio.sleep(0)
        raise error

    return app


def raising_wsgi(error: BaseException) -> Callable[..., Any]:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise error

    return app


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_exception_is_raised_to_the_host_unchanged_and_not_logged(
    way: Way, late: bool, begun: bool, caplog: Log
) -> None:
    error = Unpleasant("boom")
    with pytest.raises(Unpleasant) as raised:
        way(raising(error, late, begun))
    assert raised.value is error
    assert caplog.messages == []


@pytest.mark.parametrize("way", WAYS)
def test_exception_of_a_wsgi_application_is_raised_to_the_host_unchanged(way: Way, caplog: Log) -> None:
    error = Unpleasant("boom")
    with pytest.raises(Unpleasant) as raised:
        way(raising_wsgi(error), interface="wsgi")
    assert raised.value is error
    assert caplog.messages == []


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("slow"),
        ConnectionResetError("reset"),
        FileNotFoundError("gone"),
        SystemExit(3),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("way", WAYS)
def test_adapter_raises_ApplicationError_for_OSError_and_SystemExit(
    way: Way, error: BaseException, late: bool, begun: bool, caplog: Log
) -> None:
    with pytest.raises(ApplicationError, match=f"the application raised {type(error).__name__}") as raised:
        way(raising(error, late, begun))
    assert raised.value.__cause__ is error
    assert caplog.messages == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), OSError("disk"), StopIteration("none")])
def test_special_exception_on_a_worker_thread_raises_ApplicationError(way: Way, error: BaseException) -> None:
    with pytest.raises(ApplicationError) as raised:
        way(raising_wsgi(error), interface="wsgi")
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("way", WAYS)
def test_client_disconnect_raises_nothing_in_the_host(way: Way) -> None:
    way(raising(ClientDisconnected("gone")))


@pytest.mark.parametrize("way", WAYS)
def test_adapter_logs_an_exception_raised_after_the_complete_response(way: Way, caplog: Log) -> None:
    async def app(message: Message, channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "content": b"whole"})
        raise Unpleasant("boom")

    way(app)
    # The loop of WSGIAdapter has come to it by the time that it has answered another request.
    by_wsgi(raising_nothing)
    assert caplog.text.count("Unpleasant: boom") == 1


def test_the_message_of_an_application_error_is_one_short_line() -> None:
    with pytest.raises(ApplicationError) as raised:
        by_wsgi(raising(OSError("a\nb\x1b[31m" + "c" * 1000)))
    assert str(raised.value).startswith("the application raised OSError: a\\nb\\x1b[31mccc")
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_system_exit_of_an_application_does_not_end_the_host_event_loop(error: BaseException) -> None:
    async def serve() -> None:
        host = Host(raising(error, late=True), HTTP)
        with pytest.raises(ApplicationError):
            await host.task
        # The loop runs on.
        await asyncio.sleep(0)

    asyncio.run(serve())


async def test_cancelled_handler_behind_the_asgi3_adapter_gives_500() -> None:
    ended = asyncio.Event()

    async def app(message: Message, channels: dict[str, Any]) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    host = Host(app, HTTP)
    await settle()
    await host.adapter._interface.finish_handlers(0)
    await ended.wait()
    await host.task
    assert host.sent[0]["status"] == 500


async def test_exception_that_a_disconnect_hides_from_the_host_is_logged(caplog: Log) -> None:
    go_on = asyncio.Event()

    async def app(message: Message, channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "content": b"half", "more_content": True})
        await go_on.wait()
        raise Unpleasant("boom")

    host = Host(app, HTTP)
    host.takes.clear()
    await settle()
    go_on.set()
    await settle()
    # It takes the head, finds its client gone, and never comes to the failure.
    host.gone = True
    host.takes.set()
    await host.task
    assert caplog.text.count("Unpleasant: boom") == 1


def test_exception_is_logged_if_the_wsgi_host_closes_the_iterable_early(caplog: Log) -> None:
    failed = threading.Event()

    async def app(message: Message, channels: dict[str, Any]) -> None:
        try:
            await channels["reply"].send({"status": 200, "content": b"half", "more_content": True})
            raise Unpleasant("boom")
        finally:
            failed.set()

    iterable: Any = WSGIAdapter(app)(environ_of(), lambda status, headers: None)
    assert failed.wait(30)
    iterable.close()
    # The loop has come to it by the time that it has answered another request.
    by_wsgi(raising_nothing)
    assert caplog.text.count("Unpleasant: boom") == 1


async def raising_nothing(message: Message, channels: dict[str, Any]) -> None:
    await channels["reply"].send({"status": 200})


def test_exception_that_reaches_the_host_creates_no_reference_cycle() -> None:
    async def app(message: Message, channels: dict[str, Any]) -> None:
        # Not at its first step: Python's own eager tasks make a cycle of their failure.
        await asyncio.sleep(0)
        raise Unpleasant("boom")

    def cross() -> weakref.ref[Unpleasant]:
        try:
            by_wsgi(app)
        except Unpleasant as error:
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        gone = cross()
        by_wsgi(raising_nothing)
        assert gone() is None
    finally:
        gc.enable()


# Frameworks and tools that look at exceptions


def test_werkzeug_debugger_shows_the_exception_of_the_application() -> None:
    errors = io.StringIO()
    app = DebuggedApplication(WSGIAdapter(raising(TimeoutError("slow"))), evalex=False)
    answer = call(app, environ_of(**{"wsgi.errors": errors}), validate=False)
    assert answer.status.startswith("500 ")
    assert b"TimeoutError" in answer.content
    assert errors.getvalue().count("\nTimeoutError: slow") == 1


def test_starlette_test_client_raises_the_exception_of_the_application() -> None:
    app: Any = ASGI3Adapter(raising(Unpleasant("boom")))
    with pytest.raises(Unpleasant), TestClient(app) as client:
        client.get("/")


@pytest.mark.parametrize(
    "app",
    [
        pytest.param(ASGI3Adapter(raising(Unpleasant("boom"))), id="channels"),
        pytest.param(ASGI3Adapter(ASGIAdapter(raising_wsgi(Unpleasant("boom")))), id="wsgi"),
    ],
)
def test_starlette_error_middleware_shows_the_exception_of_the_application(app: Any) -> None:
    client = TestClient(ServerErrorMiddleware(app, debug=True), raise_server_exceptions=False)
    answer = client.get("/", headers={"accept": "text/plain"})
    assert answer.status_code == 500
    assert "Unpleasant: boom" in answer.text


async def test_middleware_may_send_a_response_after_the_adapter_raises() -> None:
    adapter = ASGIAdapter(raising_wsgi(Unpleasant("boom")), threads=1)
    reply = Reply()

    async def middleware(message: Message, channels: dict[str, Any]) -> None:
        try:
            await adapter(message, channels)
        except Unpleasant as error:
            await channels["reply"].send({"status": 503, "content": str(error).encode()})

    host = Host(middleware, POST)
    await until(lambda: len(host.sent) == 2)
    await adapter.shutdown()
    assert (host.sent[0]["status"], host.sent[1]["body"], reply.sent) == (503, b"boom", [])


def test_exception_of_a_wsgi_iterable_without_content_is_raised_to_the_host() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        raise Unpleasant("boom")
        yield b""

    with pytest.raises(Unpleasant):
        by_wsgi(app, interface="wsgi")
