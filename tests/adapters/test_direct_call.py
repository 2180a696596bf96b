"""A site that passes requests of our own server on to `ASGIAdapter(wsgi_app)`, which serves them without messages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import wsgi_apps
from tests.corpus import POST, request
from tests.helpers import GET, Conversation, until
from uvicorn.adapters import ASGIAdapter
from uvicorn.adapters.direct_call import DirectCall
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.errors import ApplicationError, ClientDisconnected, LocalProtocolError, ResponseAborted
from uvicorn.interfaces.http_reply import ReplyChannel
from uvicorn.interfaces.wsgi import WSGIInterface
from uvicorn.settings import Settings

Message = dict[str, Any]


class Site:
    """A conversation with a channels application that awaits `ASGIAdapter(app)`. `raised` has its exceptions."""

    def __init__(self, app: Callable[..., Any], **keywords: Any) -> None:
        self.adapter = ASGIAdapter(app, **{"threads": 1, **keywords})
        self.raised: list[BaseException] = []
        self.task: asyncio.Task[Any] | None = None
        self.conversation = Conversation(self._serve)

    async def change(self, message: Message, channels: Message) -> None:
        """Change the request, as a middleware does."""

    async def fall_back(self, channels: Message) -> None:
        """Respond after the adapter has raised."""
        raise self.raised[-1]

    async def responses(self, data: bytes = GET) -> list[Any]:
        """Send `data`. Return the responses when all handlers and threads have ended."""
        self.conversation.send(data)
        await until(lambda: self.conversation.received or self.conversation.transport.closing)
        await until(lambda: self.conversation.context.requests == 0)
        await self.end()
        return self.conversation.responses(data.split(b" ", 1)[0].decode())

    async def end(self) -> None:
        await self.conversation.lose()
        await self.adapter.shutdown()

    async def _serve(self, message: Message, channels: Message) -> None:
        self.task = asyncio.current_task()
        await self.change(message, channels)
        try:
            await self.adapter(message, channels)
        except BaseException as error:
            self.raised.append(error)
            await self.fall_back(channels)


async def ok(channels: Message) -> None:
    await channels["reply"].send({"status": 200, "content": b"from the site"})


class Blocking:
    """An application that responds with `app` when the test releases it."""

    def __init__(self, app: Callable[..., Any] = wsgi_apps.hello) -> None:
        self._app = app
        self.begun, self.go_on, self.ended = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, environ: Message, start_response: Any) -> Any:
        self.begun.set()
        self.go_on.wait()
        self.ended.set()
        return self._app(environ, start_response)


def raises(error: BaseException) -> Callable[..., Any]:
    def app(environ: Message, start_response: Any) -> Any:
        raise error

    return app


def breaks(error: Exception) -> Callable[..., Any]:
    def app(environ: Message, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"half"
        raise error

    return app


async def test_application_gets_the_same_environ_with_and_without_the_adapter() -> None:
    data = request(
        b"GET /a%20b?c=d HTTP/1.1",
        b"x-own: 1",
        b"Cookie: a=b",
        b"x-forwarded-for: 192.0.2.7",
        b"x-forwarded-proto: https",
    )
    alone = Conversation(wsgi_apps.show)
    alone.send(data)
    await until(lambda: alone.received)
    [response] = await Site(wsgi_apps.show, threads=2).responses(data)
    assert response.content == alone.responses()[0].content
    await alone.lose()
    await alone.interface.shutdown(0)


async def test_two_adapters_on_one_connection_have_separate_environs() -> None:
    one, several = ASGIAdapter(wsgi_apps.show, threads=1), ASGIAdapter(wsgi_apps.show, threads=2)

    async def app(message: Message, channels: Message) -> None:
        await (one if message["path"] == "/one" else several)(message, channels)

    conversation = Conversation(app)
    for path in (b"/one", b"/several", b"/one"):
        conversation.send(request(b"GET %s HTTP/1.1" % path))
        await until(lambda: conversation.context.requests == 0)
    flags = [b"'wsgi.multithread': True" in response.content for response in conversation.responses()]
    assert flags == [False, True, False]
    await conversation.lose()
    await one.shutdown()
    await several.shutdown()


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda message: message.update(path="/changed"), b"'PATH_INFO': '/changed'"),
        (lambda message: message.update(client=("192.0.2.9", 1)), b"'REMOTE_ADDR': '192.0.2.9'"),
        (lambda message: message["headers"].append([b"x-added", b"1"]), b"'HTTP_X_ADDED': '1'"),
        (lambda message: message["headers"][0].__setitem__(1, b"other.example"), b"'HTTP_HOST': 'other.example'"),
        (lambda message: message["headers"].clear(), b"'REQUEST_METHOD': 'GET'"),
    ],
    ids=["path", "client", "added field", "changed field", "no fields"],
)
async def test_direct_call_serves_a_request_that_a_middleware_has_changed(
    change: Callable[[Message], Any], shown: bytes
) -> None:
    class Changing(Site):
        async def change(self, message: Message, channels: Message) -> None:
            change(message)

    [response] = await Changing(wsgi_apps.show).responses()
    assert shown in response.content


async def test_malformed_header_from_a_middleware_fails_the_direct_call() -> None:
    class Malforming(Site):
        async def change(self, message: Message, channels: Message) -> None:
            message["headers"][0] = 7

    site = Malforming(wsgi_apps.show)
    [response] = await site.responses()
    assert (response.status, type(site.raised[0])) == (500, LocalProtocolError)


async def test_direct_call_sends_to_the_reply_channel_that_a_middleware_has_installed() -> None:
    class Loud:
        def __init__(self, reply: ReplyChannel) -> None:
            self._reply = reply

        async def send(self, message: Message) -> None:
            await self._reply.send({**message, "content": message["content"].upper()})

    class Replacing(Site):
        async def change(self, message: Message, channels: Message) -> None:
            channels["reply"] = Loud(channels["reply"])

    [response] = await Replacing(wsgi_apps.hello).responses()
    assert response.content == b"HELLO"


async def test_application_receives_the_content_that_a_middleware_left_unread() -> None:
    class Reading(Site):
        async def change(self, message: Message, channels: Message) -> None:
            assert (await channels["body"].receive())["content"] == b"one"
            self.conversation.send(b"two")

    [response] = await Reading(wsgi_apps.echo).responses(request(POST, b"content-length: 6", content=b"one"))
    assert response.content == b"POST two"


async def test_direct_call_raises_if_the_caller_has_already_started_the_response() -> None:
    class Begun(Site):
        async def change(self, message: Message, channels: Message) -> None:
            await channels["reply"].send({"status": 200, "content": b"from the site", "more_content": True})

        async def fall_back(self, channels: Message) -> None:
            await channels["reply"].send({"content": b""})

    site = Begun(wsgi_apps.hello)
    [response] = await site.responses()
    assert (response.content, type(site.raised[0])) == (b"from the site", LocalProtocolError)


async def test_caller_may_send_a_response_after_its_direct_call_raises() -> None:
    class FallingBack(Site):
        async def fall_back(self, channels: Message) -> None:
            await ok(channels)

    error = ValueError("boom")
    site = FallingBack(raises(error))
    [response] = await site.responses()
    assert (response.content, site.raised) == (b"from the site", [error])


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), FileNotFoundError("gone")])
async def test_direct_call_raises_ApplicationError_for_OSError(error: BaseException) -> None:
    site = Site(raises(error))
    [response] = await site.responses()
    assert (response.status, type(site.raised[0]), site.raised[0].__cause__) == (500, ApplicationError, error)


async def test_exception_during_the_response_of_a_direct_call_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site(breaks(ValueError("boom")))
    [response] = await site.responses()
    assert (response.content, response.complete) == (b"half", False)
    assert caplog.text.count("Traceback") == 1


async def test_direct_call_raises_for_a_malformed_response_header() -> None:
    def app(environ: Message, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "x")])
        return [b"x"]

    site = Site(app)
    [response] = await site.responses()
    assert (response.status, type(site.raised[0])) == (500, LocalProtocolError)


async def test_direct_call_aborts_a_response_shorter_than_its_content_length(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def app(environ: Message, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        yield b"half"

    [response] = await Site(app).responses()
    assert (response.content, response.complete) == (b"half", False)
    assert caplog.text.count("content-length is 5 but the app sent 4 bytes and stopped") == 1


async def test_ClientDisconnected_before_the_response_of_a_direct_call_gives_400() -> None:
    site = Site(raises(ClientDisconnected("gone")))
    [response] = await site.responses()
    assert (response.status, site.raised) == (400, [])


async def test_direct_call_aborts_the_response_if_ClientDisconnected_is_raised_midway() -> None:
    site = Site(breaks(ClientDisconnected("gone")))
    [response] = await site.responses()
    assert (response.complete, type(site.raised[0])) == (False, ResponseAborted)


async def test_two_direct_calls_for_one_request_both_return() -> None:
    adapter = ASGIAdapter(wsgi_apps.hello, threads=2)
    returned: list[object] = []

    async def site(message: Message, channels: Message) -> None:
        calls = adapter(message, channels), adapter(message, channels)
        returned.extend(await asyncio.gather(*calls, return_exceptions=True))

    conversation = Conversation(site)
    conversation.send(GET)
    await until(lambda: returned)
    await conversation.lose()
    await adapter.shutdown()
    assert returned == [None, None]


async def test_direct_call_for_a_HEAD_request_ends_after_the_response_head() -> None:
    [response] = await Site(wsgi_apps.generator).responses(request(b"HEAD / HTTP/1.1"))
    assert (response.status, response.content, response.complete) == (201, b"", True)


async def test_disconnect_ends_a_direct_call_and_closes_its_iterable() -> None:
    wsgi_apps.closed.clear()
    app = wsgi_apps.of_body(wsgi_apps.endless, "left")
    site = Site(app)
    site.conversation.send(GET)
    await until(lambda: site.conversation.received)
    await site.conversation.lose()
    await until(lambda: site.conversation.context.requests == 0 and wsgi_apps.closed == ["left"])
    assert site.raised == []
    await site.end()


async def test_direct_call_that_the_executor_rejects_gets_503() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    [response] = await Site(wsgi_apps.hello, executor=executor).responses()
    assert response.status == 503


async def test_queued_direct_call_gets_503_when_the_adapter_shuts_down() -> None:
    app = Blocking()
    site = Site(app)
    first, _ = site.conversation.connect()
    first.data_received(GET)
    await until(app.begun.is_set)
    site.conversation.send(GET)
    app_ends = asyncio.ensure_future(until(lambda: site.conversation.received))
    shutting_down = asyncio.ensure_future(site.adapter.shutdown())
    await app_ends
    assert site.conversation.statuses == [503]
    app.go_on.set()
    await shutting_down
    first.connection_lost(None)
    await site.end()


class Impatient(Site):
    """A site that responds itself when its handler is cancelled."""

    async def fall_back(self, channels: Message) -> None:
        await ok(channels)

    async def cancelled(self, app: Blocking) -> list[Any]:
        """Cancel the handler before the application responds; return the responses."""
        self.conversation.send(GET)
        await until(app.begun.is_set)
        assert self.task is not None
        self.task.cancel()
        await until(lambda: self.conversation.received)
        app.go_on.set()
        await until(app.ended.is_set)
        await self.end()
        return self.conversation.responses()


@pytest.mark.parametrize("app", [wsgi_apps.hello, wsgi_apps.generator, wsgi_apps.file])
async def test_cancelled_direct_call_sends_no_content_of_the_application(
    app: Callable[..., Any],
) -> None:
    blocking = Blocking(app)
    [response] = await Impatient(blocking).cancelled(blocking)
    assert response.content == b"from the site"


async def test_direct_call_sends_no_file_after_its_caller_is_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * (1 << 20))

    def app(environ: Message, start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    blocking = Blocking(app)
    [response] = await Impatient(blocking).cancelled(blocking)
    assert response.content == b"from the site"


async def test_application_exception_is_logged_after_a_direct_call_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    blocking = Blocking(raises(ValueError("late")))
    await Impatient(blocking).cancelled(blocking)
    assert caplog.text.count("ValueError: late") == 1


async def test_cancelled_direct_call_in_the_queue_gets_no_response_at_shutdown() -> None:
    app = Blocking()
    site = Impatient(app)
    first, _ = site.conversation.connect()
    first.data_received(GET)
    await until(app.begun.is_set)
    running = site.task
    site.conversation.send(GET)
    await until(lambda: site.task is not running)
    assert site.task is not None
    site.task.cancel()
    await until(lambda: site.conversation.received)
    shutting_down = asyncio.ensure_future(site.adapter.shutdown())
    app.go_on.set()
    await shutting_down
    first.connection_lost(None)
    await site.end()
    assert [response.content for response in site.conversation.responses()] == [b"from the site"]


async def test_direct_call_logs_an_exception_that_never_reached_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    exchange = HTTPExchange(
        HTTPGateway(), Endpoint(loop=asyncio.get_running_loop()), "GET", b"/", "1.1", ((), ()), has_content=False
    )
    call = DirectCall(WSGIInterface(wsgi_apps.app, Settings()), exchange)
    call._on_loop_failed(ValueError("boom"))
    call.end()
    assert caplog.text.count("ValueError: boom") == 1
