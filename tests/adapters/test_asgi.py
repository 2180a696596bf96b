"""`ASGIAdapter` as a channels application, called directly or behind a middleware that changes its messages."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest

from tests import wsgi_apps
from tests.corpus import POST, request
from tests.helpers import GET, Conversation, until
from tests.waits import LONGEST_WAIT
from uvicorn.adapters import ASGIAdapter
from uvicorn.adapters.startup_once import StartupOnce
from uvicorn.errors import ChannelClosed, ConfigError, LocalProtocolError, StartupError
from uvicorn.interfaces.base import Interface
from uvicorn.interfaces.detect import build_interface
from uvicorn.loop_calls import LoopCalls
from uvicorn.server.loops import loop_factory
from uvicorn.settings import Settings


class Reply:
    """A reply channel that records its messages, and disconnects after `limit` of them."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.sent: list[dict[str, Any]] = []
        self.limit = limit

    async def send(self, message: dict[str, Any]) -> None:
        if len(self.sent) == self.limit:
            raise ChannelClosed("the client has disconnected")
        self.sent.append(message)

    @property
    def content(self) -> bytes:
        return b"".join(message["content"] for message in self.sent)


class Body:
    """A body channel that returns `chunks`."""

    def __init__(self, *chunks: Any) -> None:
        self._chunks = iter(chunks)

    async def receive(self) -> Any:
        chunk = next(self._chunks)
        if isinstance(chunk, Exception):
            raise chunk
        return chunk


async def answer(app: Callable[..., Any], message: dict[str, Any] | None = None, **channels: Any) -> Reply:
    reply: Reply = channels.setdefault("reply", Reply())
    adapter = ASGIAdapter(app, threads=1)
    try:
        await adapter({"method": "GET", "path": "/", **(message or {})}, channels)
    finally:
        await adapter.shutdown()
    return reply


def environ_into(seen: list[dict[str, Any]]) -> Callable[..., Any]:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ)
        start_response("200 OK", [])
        return []

    return app


async def environ_of(message: dict[str, Any]) -> dict[str, Any]:
    seen: list[dict[str, Any]] = []
    await answer(environ_into(seen), message)
    return seen[0]


async def test_asgi_adapter_rejects_a_websocket() -> None:
    reply = Reply()
    await ASGIAdapter(wsgi_apps.app)({"channel": "websocket.connect"}, {"reply": reply})
    assert reply.sent == [{"accept": False}]


async def test_asgi_adapter_ignores_unknown_messages() -> None:
    assert (await answer(wsgi_apps.app, {"channel": "http.disconnect"})).sent == []


async def test_asgi_adapter_serves_a_message_with_only_required_keys() -> None:
    reply = await answer(wsgi_apps.app, {"method": "POST", "path": "/echo", "headers": [], "body": b"inline"})
    assert reply.sent[0]["status"] == 200
    assert reply.content == b"POST inline"


async def test_content_in_the_message_precedes_content_from_the_body_channel() -> None:
    body = Body({"content": b"", "more_content": True}, {"content": b"b", "more_content": True}, {"content": b"c"})
    reply = await answer(wsgi_apps.app, {"method": "POST", "path": "/echo", "body": b"a"}, body=body)
    assert reply.content == b"POST abc"


@pytest.mark.parametrize(
    "end", [{"closed": True}, {"closed": True, "content": b"", "more_content": False}, OSError("x")]
)
async def test_C11_interrupted_body_channel_gives_400(end: Any) -> None:
    body = Body({"content": b"a", "more_content": True}, end)
    assert (await answer(wsgi_apps.app, {"method": "POST", "path": "/echo"}, body=body)).sent[0]["status"] == 400


async def test_adapter_ignores_a_raw_path_that_contradicts_the_path() -> None:
    environ = await environ_of({"path": "/new path", "raw_path": b"/old%20path"})
    assert (environ["PATH_INFO"], environ["RAW_URI"]) == ("/new path", "/new%20path")


@pytest.mark.parametrize(("path", "raw_path"), [("/a/b", b"/a%2Fb"), ("/%41", b"/%2541"), ("/\ufffd", b"/%ff")])
async def test_C4_raw_path_that_matches_the_path_is_kept(path: str, raw_path: bytes) -> None:
    environ = await environ_of({"path": path, "raw_path": raw_path})
    assert environ["RAW_URI"] == raw_path.decode()


async def test_C4_a_path_is_not_decoded_twice() -> None:
    assert (await environ_of({"path": "/%41", "raw_path": b"/%41"}))["PATH_INFO"] == "/%41"


async def test_C6_adapter_moves_the_root_path_from_path_info_to_script_name() -> None:
    environ = await environ_of({"path": "/app/x", "raw_path": b"/app/x", "root_path": "/app"})
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/x")


async def test_C3_field_names_in_messages_are_case_insensitive() -> None:
    environ = await environ_of({"headers": [(b"Content-Type", b"a/b"), (b"PROXY", b"evil")]})
    assert environ["CONTENT_TYPE"] == "a/b"
    assert not [key for key in environ if key in ("HTTP_CONTENT_TYPE", "HTTP_PROXY")]


async def test_C3_environ_from_the_host_cannot_replace_the_path_or_add_headers() -> None:
    environ = await environ_of({"environ": {"REMOTE_USER": "me", "HTTP_X": "evil", "PATH_INFO": "/evil", "wsgi.x": 1}})
    assert environ["REMOTE_USER"] == "me"
    assert (environ["PATH_INFO"], environ.get("HTTP_X"), environ.get("wsgi.x")) == ("/", None, None)


async def test_C10_disconnect_stops_the_iteration_and_closes_the_iterable() -> None:
    wsgi_apps.closed.clear()
    with pytest.raises(asyncio.CancelledError):
        await answer(wsgi_apps.app, {"path": "/endless"}, reply=Reply(limit=3))
    await until(lambda: wsgi_apps.closed)
    assert wsgi_apps.closed == ["endless"]


async def test_asgi_adapter_sends_earlier_content_before_it_raises_an_exception(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reply = Reply()
    with pytest.raises(ValueError, match="boom"):
        await answer(wsgi_apps.app, {"path": "/failing"}, reply=reply)
    assert (reply.content, reply.sent[-1]["more_content"]) == (b"half", True)
    assert caplog.text.count("Traceback") == 0


async def test_exception_of_an_adapted_application_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    adapter = ASGIAdapter(wsgi_apps.app, threads=1)

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await adapter(message, channels)

    conversation = Conversation(app)
    conversation.send(request(b"GET /failing HTTP/1.1"))
    await until(lambda: conversation.context.requests == 0)
    await conversation.lose()
    await adapter.shutdown()
    assert caplog.text.count("Traceback") == 1


async def test_a_slow_reply_channel_slows_the_application() -> None:
    made = 0

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        nonlocal made
        start_response("200 OK", [])
        for _ in range(100):
            made += 1
            yield b"x" * 65536

    class Slow(Reply):
        resume = asyncio.Event()

        async def send(self, message: dict[str, Any]) -> None:
            await self.resume.wait()
            await super().send(message)

    reply = Slow()
    reply.resume = asyncio.Event()
    answering = asyncio.ensure_future(answer(app, reply=reply))
    await until(lambda: made)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert made < 10
    reply.resume.set()
    await answering
    assert len(reply.content) == 100 * 65536


async def test_middleware_may_change_the_messages_of_a_long_response() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        return iter([b"x" * 65536] * 10)

    class Compressing(Reply):
        async def send(self, message: dict[str, Any]) -> None:
            message["content"] = b"compressed" if message["content"] else b""
            await super().send(message)

    async with asyncio.timeout(LONGEST_WAIT):
        reply = await answer(app, reply=Compressing())
    assert reply.content == b"compressed" * 10


async def test_asgi_adapter_serves_requests_after_a_shutdown_and_a_new_startup() -> None:
    adapter = ASGIAdapter(wsgi_apps.app)
    for _ in range(2):
        reply = Reply()
        await adapter.startup()
        await adapter({"method": "GET", "path": "/"}, {"reply": reply})
        await adapter.shutdown()
        assert reply.content == b"Hello"
    await adapter.shutdown()


def test_two_servers_apply_their_threads_settings_to_one_asgi_adapter() -> None:
    adapter = ASGIAdapter(wsgi_apps.app)
    pools = [build_interface(adapter, Settings(threads=threads)).executor for threads in (2, 3)]  # type: ignore[attr-defined]
    assert [pool.threads for pool in pools] == [2, 3]


def test_threads_argument_of_an_asgi_adapter_overrides_the_server_setting() -> None:
    interface: Any = build_interface(ASGIAdapter(wsgi_apps.app, threads=5), Settings(threads=2))
    assert interface.executor.threads == 5


class Guard:
    """A middleware that forwards unknown attributes to the application, as many do."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __getattr__(self, name: str) -> Any:
        return getattr(self.app, name)

    async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 403})


async def test_server_calls_a_middleware_around_the_asgi_adapter() -> None:
    conversation = Conversation(Guard(ASGIAdapter(wsgi_apps.app)))
    conversation.send(GET)
    await until(lambda: conversation.received)
    assert conversation.statuses == [403]
    await conversation.lose()


async def coroutine_application(message: Any, channels: Any) -> None: ...


@pytest.mark.parametrize(
    ("app", "options", "said"),
    [
        (
            coroutine_application,
            {},
            "ASGIAdapter: the application does not fit interface 'wsgi': .* 'channels' would fit",
        ),
        (wsgi_apps.app, {"interface": "asgi3"}, "does not fit interface 'asgi3': .* 'wsgi' would fit"),
        ("app:wsgi", {}, "ASGIAdapter: the application is not callable: expected an application, got str 'app:wsgi'"),
        (wsgi_apps.app, {"threads": 0}, "ASGIAdapter: threads: expected a number not below 1, got 0"),
        (wsgi_apps.app, {"threads": "4"}, "ASGIAdapter: threads: expected a number not below 1, got '4'"),
        (wsgi_apps.app, {"executor": 4}, "ASGIAdapter: executor: expected a concurrent.futures.Executor, got 4"),
        (wsgi_apps.app, {"interface": "asgi"}, "interface: expected one of .*, wsgi, .*, got 'asgi'"),
    ],
)
def test_constructor_of_asgi_adapter_rejects_an_unsuitable_application(
    app: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        ASGIAdapter(app, **options)


@pytest.mark.parametrize("field", [["x-user", "me"], [b"x-number", 5], [b"x"]])
async def test_malformed_header_from_a_middleware_raises_local_protocol_error(field: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"message\['headers'\]: expected \[name, value\] pairs of bytes, got"):
        await answer(wsgi_apps.app, {"headers": [[b"a", b"b"], field]})


async def test_asgi_adapter_rejects_a_number_as_response_header_value() -> None:
    async def app(message: Any) -> None:
        await message["reply_channel"].send({"status": 200, "headers": [[b"content-length", 1 << 40]]})

    adapter, reply = ASGIAdapter(app, interface="consumer"), Reply()
    with pytest.raises(LocalProtocolError, match="pairs of bytes"):
        await adapter({"method": "GET", "path": "/"}, {"reply": reply})
    await adapter.shutdown()
    assert reply.sent == []


class AtOnce:
    """Simultaneous requests to one adapter from event loops in several threads."""

    def __init__(self, app: Any, loops: int = 4, **options: Any) -> None:
        self._adapter = ASGIAdapter(app, **options)
        self._together = threading.Barrier(loops)
        with ThreadPoolExecutor(loops) as threads:
            asking = [threads.submit(asyncio.run, self._ask()) for _ in range(loops)]
            self.statuses = [one.result(60) for one in asking]

    async def _ask(self) -> int:
        reply = Reply()
        self._together.wait(30)
        await asyncio.wait_for(self._adapter({"method": "GET", "path": "/"}, {"reply": reply}), 30)
        status: int = reply.sent[0]["status"]
        return status


def test_several_event_loops_may_call_the_adapter_at_the_same_time() -> None:
    # Often, for they have to meet in a few instructions.
    assert [AtOnce(wsgi_apps.hello, threads=1).statuses for _ in range(50)] == [[200] * 4] * 50


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_second_loop_gets_StartupError_when_the_loop_that_runs_startup_closes(name: str) -> None:
    class Hanging(Interface):
        async def startup(self) -> None:
            await first.create_future()

    async def second() -> None:
        waiting = asyncio.ensure_future(starting.ended())
        await until(lambda: LoopCalls.of(first)._wakes)
        first.close()
        with pytest.raises(StartupError):
            await waiting

    first = loop_factory(name)()
    starting = StartupOnce(Hanging(wsgi_apps.hello, Settings()))
    begun = first.create_task(starting.ended())
    first.run_until_complete(asyncio.sleep(0))
    for task in (begun, starting._task):
        # asyncio reports a pending task that is freed.
        task._log_destroy_pending = False  # type: ignore[union-attr]
    asyncio.run(second())


def test_several_event_loops_wait_for_one_startup() -> None:
    class App:
        starts = 0

        async def startup(self) -> None:
            App.starts += 1
            await asyncio.sleep(0.01)

        def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return []

    for _ in range(10):
        assert AtOnce(App()).statuses == [200] * 4
    assert App.starts == 10


trace: ContextVar[str] = ContextVar("trace", default="none")


async def test_application_sees_context_variables_that_a_middleware_has_set() -> None:
    seen: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(trace.get())
        trace.set("the application's")
        start_response("200 OK", [])
        return []

    trace.set("the middleware's")
    await answer(app)
    await answer(app)
    assert seen == ["the middleware's"] * 2
    assert trace.get() == "the middleware's"


async def test_request_gets_503_if_the_executor_pickles_the_application_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class ProcessLikeExecutor(ThreadPoolExecutor):
        """An executor that pickles its calls, as one of processes does."""

        def submit(self, function: Any, /, *arguments: Any, **keywords: Any) -> Any:
            return super().submit(pickle.dumps, function)

    with ProcessLikeExecutor(1) as executor:
        reply = Reply()
        await ASGIAdapter(wsgi_apps.app, executor=executor)({"method": "GET", "path": "/"}, {"reply": reply})
    assert reply.sent[0]["status"] == 503
    assert "the executor did not call the application" in caplog.text


async def test_C9_blocked_application_does_not_delay_other_handlers() -> None:
    begun, release = threading.Event(), threading.Event()

    def blocking(environ: Any, start_response: Any) -> list[bytes]:
        begun.set()
        release.wait()
        start_response("200 OK", [])
        return []

    adapter = ASGIAdapter(blocking, threads=1)

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["path"] == "/async":
            await channels["reply"].send({"status": 204})
        else:
            await adapter(message, channels)

    conversation = Conversation(app)
    other, transport = conversation.connect()
    conversation.send(GET)
    await until(begun.is_set)
    other.data_received(request(b"GET /async HTTP/1.1"))
    assert await until_written(transport) and transport.writes[0].startswith(b"HTTP/1.1 204 ")
    assert not conversation.received
    release.set()
    await until(lambda: conversation.received)
    await adapter.shutdown()
    await conversation.lose()


async def until_written(transport: Any) -> bool:
    await until(lambda: transport.writes)
    return True


async def test_asgi_adapter_does_not_wait_for_unread_content() -> None:
    adapter = ASGIAdapter(wsgi_apps.hello, threads=1)

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await adapter(message, channels)

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 10", content=b"x"))
    await until(lambda: conversation.received)
    assert conversation.statuses == [200]
    await adapter.shutdown()
    await conversation.lose()


async def test_C10_cancelling_the_adapter_call_interrupts_a_read_of_content() -> None:
    raised: list[BaseException] = []
    begun = threading.Event()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        begun.set()
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            raised.append(error)
            raise
        return []

    class Silent:
        asked = False

        async def receive(self) -> None:
            Silent.asked = True
            await asyncio.Event().wait()

    adapter = ASGIAdapter(app, threads=1)
    channels = {"reply": Reply(), "body": Silent()}
    answering = asyncio.ensure_future(adapter({"method": "POST", "path": "/"}, channels))
    await until(lambda: Silent.asked)
    answering.cancel()
    await until(lambda: raised)
    await adapter.shutdown()


class WithStartup:
    """A WSGI application whose startup fails a given number of times."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.events: list[str] = []

    async def startup(self) -> None:
        self.events.append("startup")
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise ValueError("not yet")

    async def shutdown(self) -> None:
        self.events.append("shutdown")

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.events.append("request")
        start_response("200 OK", [])
        return []


async def test_asgi_adapter_starts_once_before_the_first_request() -> None:
    app = WithStartup()
    adapter = ASGIAdapter(app)
    await asyncio.gather(*(adapter({"method": "GET", "path": "/"}, {"reply": Reply()}) for _ in range(3)))
    await adapter.shutdown()
    assert app.events == ["startup", "request", "request", "request", "shutdown"]


async def test_failed_startup_of_the_asgi_adapter_is_retried_by_the_next_request() -> None:
    app = WithStartup(failures=1)
    adapter = ASGIAdapter(app)
    with pytest.raises(StartupError):
        await adapter({"method": "GET", "path": "/"}, {"reply": Reply()})
    await adapter({"method": "GET", "path": "/"}, {"reply": Reply()})
    await adapter.shutdown()
    assert app.events == ["startup", "startup", "request", "shutdown"]


async def test_adapter_starts_again_after_its_shutdown() -> None:
    app = WithStartup()
    adapter = ASGIAdapter(app)
    for _ in range(2):
        await adapter.startup()
        await adapter.shutdown()
    assert app.events == ["startup", "shutdown"] * 2


WITHOUT_SHUTDOWN = """
import asyncio, time
from uvicorn import ASGIAdapter

class Endless:
    def __iter__(self):
        return self

    def __next__(self):
        return b"x"

    def close(self):
        time.sleep(0.2)
        print("closed")

def wsgi_app(environ, start_response):
    start_response("200 OK", [])
    return Endless()

class Reply:
    sent = 0

    async def send(self, message):
        self.sent += 1

async def main():
    reply = Reply()
    calling = asyncio.create_task(adapter({"method": "GET", "path": "/"}, {"reply": reply}))
    while not reply.sent:
        await asyncio.sleep(0)

adapter = ASGIAdapter(wsgi_app)
asyncio.run(main())
"""


def test_wsgi_iterable_is_closed_at_exit_if_the_adapter_was_not_shut_down() -> None:
    process = subprocess.run([sys.executable, "-c", WITHOUT_SHUTDOWN], capture_output=True, text=True, timeout=60)
    assert (process.stdout, process.stderr) == ("closed\n", "")


async def test_asgi_adapter_runs_the_lifespan_of_an_asgi3_application() -> None:
    events: list[str] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for name in ("startup", "shutdown"):
                await receive()
                events.append(name)
                await send({"type": f"lifespan.{name}.complete"})
            return
        events.append("request")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    adapter = ASGIAdapter(app, interface="asgi3")
    await adapter({"method": "GET", "path": "/"}, {"reply": Reply()})
    await adapter.shutdown()
    assert events == ["startup", "request", "shutdown"]
