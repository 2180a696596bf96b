"""A server as part of another program: in a task, in a thread, by single steps."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

import uvicorn
from tests.helpers import hello, until
from uvicorn.config import Config
from uvicorn.errors import StartupError


class Application:
    """An application that says hello and records its events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def startup(self) -> None:
        self.events.append("startup")

    async def shutdown(self) -> None:
        self.events.append("shutdown")

    async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
        await hello(message, channels)


def server_of(app: Callable[..., Any], **options: Any) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, **options))


def get(server: uvicorn.Server) -> bytes:
    host, port = server.servers[0].sockets[0].getsockname()
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=30) as response:
        content: bytes = response.read()
        return content


async def test_a_server_runs_in_a_task() -> None:
    server = server_of(Application())
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    assert await asyncio.to_thread(get, server) == b"hello"
    server.should_exit = True
    await task


def test_a_server_runs_in_a_thread() -> None:
    started = threading.Event()

    class ThreadedServer(uvicorn.Server):
        def install_signal_handlers(self) -> None:
            pass

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets=sockets)
            started.set()

    server = ThreadedServer(uvicorn.Config(Application(), port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(30)
    try:
        assert get(server) == b"hello"
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


async def test_startup_and_main_loop_and_shutdown_may_be_called_separately() -> None:
    app = Application()
    server = server_of(app)
    await server.startup()
    assert server.started
    assert await asyncio.to_thread(get, server) == b"hello"
    main_loop = asyncio.create_task(server.main_loop())
    server.should_exit = True
    await main_loop
    await server.shutdown()
    assert server.started
    assert not server.servers
    assert app.events == ["startup", "shutdown"]


async def test_main_loop_before_startup_raises_instead_of_waiting_for_ever() -> None:
    with pytest.raises(AssertionError, match="main_loop comes after startup"):
        await asyncio.wait_for(server_of(Application()).main_loop(), 30)


async def test_startup_makes_the_server_listen_on_the_sockets_of_the_caller() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = server_of(Application())
        await server.startup(sockets=[listening])
        assert server.servers[0].sockets[0].getsockname()[1] == port
        await server.shutdown()


async def test_cancelled_server_shuts_its_application_down() -> None:
    app = Application()
    server = server_of(app)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app.events == ["startup", "shutdown"]


async def test_server_cancelled_during_startup_leaves_no_task() -> None:
    class StartupOnce(Application):
        async def startup(self) -> None:
            await super().startup()
            await asyncio.Event().wait()

    app = StartupOnce()
    task = asyncio.create_task(server_of(app).serve())
    await until(lambda: app.events)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_failed_startup_closes_all_sockets(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Application):
        async def startup(self) -> None:
            raise RuntimeError("no database")

    server = server_of(Failing())
    with caplog.at_level(logging.CRITICAL), pytest.raises(StartupError):
        await server.serve()
    assert not server.servers
    assert not server.started


class Slow(Application):
    """An application whose startup does not end."""

    async def startup(self) -> None:
        await super().startup()
        await asyncio.Event().wait()


async def test_server_stopped_during_startup_raises_no_exception(caplog: pytest.LogCaptureFixture) -> None:
    app = Slow()
    server = server_of(app)
    task = asyncio.create_task(server.serve())
    await until(lambda: app.events)
    with caplog.at_level(logging.INFO):
        server.should_exit = True
        await task
    assert (server.started, caplog.messages) == (False, ["stopped before the application's startup was complete"])


async def test_signal_during_startup_ends_the_server_and_reaches_the_previous_handler() -> None:
    app = Slow()
    server = server_of(app)
    passed_on: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: passed_on.append(number))
    try:
        task = asyncio.create_task(server.serve())
        await until(lambda: app.events)
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert (server.started, passed_on) == (False, [signal.SIGTERM])


async def test_traceback_of_a_failed_startup_has_only_lines_of_the_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        raise RuntimeError("no database")  # the application's line

    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="on", log_config=None))
    with pytest.raises(StartupError):
        await server.serve()
    assert caplog.messages[-2:] == [
        "the application does not support lifespan: RuntimeError: no database; pass --lifespan auto to serve it "
        "nevertheless",
        "Application startup failed. Exiting.",
    ]
    folder = os.path.dirname(uvicorn.__file__) + os.sep
    assert ("# the application's line" in caplog.text, f'File "{folder}' in caplog.text) == (True, False)


async def test_exception_handler_of_the_program_is_called_while_a_server_runs() -> None:
    loop = asyncio.get_running_loop()
    watching = loop.get_exception_handler()
    reports: list[dict[str, Any]] = []

    def mine(loop: asyncio.AbstractEventLoop, report: dict[str, Any]) -> None:
        reports.append(report)

    loop.set_exception_handler(mine)
    try:
        server = server_of(Application())
        await server.startup()
        loop.call_exception_handler({"message": "somebody else's"})
        await server.shutdown()
        assert loop.get_exception_handler() is mine
    finally:
        loop.set_exception_handler(watching)
    assert [report["message"] for report in reports] == ["somebody else's"]


async def test_serve_task_can_be_cancelled_after_the_shutdown() -> None:
    """Test fixtures of real projects cancel the server after its shutdown."""
    app = Application()
    server = server_of(app)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    await server.shutdown()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app.events == ["startup", "shutdown"]


async def test_server_starts_with_a_configuration_that_is_already_loaded() -> None:
    server = server_of(Application())
    server.config.load()
    await server.startup()
    assert await asyncio.to_thread(get, server) == b"hello"
    await server.shutdown()


async def test_application_factory_is_called_once() -> None:
    made: list[Application] = []

    def make() -> Application:
        made.append(Application())
        return made[-1]

    config = uvicorn.Config(make, factory=True, port=0, log_config=None)
    config.load()
    server = uvicorn.Server(config)
    await server.startup()
    await server.shutdown()
    assert made == [config.loaded_app]
    assert config.loaded


async def test_startup_and_shutdown_of_a_server_can_be_called_without_serve() -> None:
    app = Application()
    server = server_of(app)
    config = server.config
    assert isinstance(config, uvicorn.Config)
    if not config.loaded:
        config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    assert await asyncio.to_thread(get, server) == b"hello"
    await server.shutdown(sockets=None)
    assert app.events == ["startup", "shutdown"]


async def test_startup_may_be_called_again_while_the_server_runs() -> None:
    app = Application()
    server = server_of(app)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    await server.shutdown()
    await server.startup()
    assert await asyncio.to_thread(get, server) == b"hello"
    server.should_exit = True
    await task
    assert app.events == ["startup", "shutdown"] * 2


async def test_server_uses_a_socket_that_the_configuration_has_bound() -> None:
    config = uvicorn.Config(Application(), port=0, log_config=None)
    listening = config.bind_socket()
    server = uvicorn.Server(config)
    await server.startup(sockets=[listening])
    assert await asyncio.to_thread(get, server) == b"hello"
    await server.shutdown()


def test_server_runs_on_an_event_loop_from_the_configuration() -> None:
    server = server_of(Application(), loop="asyncio")
    server.should_exit = True
    with asyncio.Runner(loop_factory=cast(Config, server.config).get_loop_factory()) as runner:
        runner.run(server.serve())
        assert isinstance(runner.get_loop(), asyncio.SelectorEventLoop)


@pytest.mark.parametrize(
    ("name", "nothing"), [("install_signal_handlers", lambda: None), ("capture_signals", contextlib.nullcontext)]
)
def test_program_may_replace_the_signal_handling_of_a_server_instance(name: str, nothing: Callable[[], Any]) -> None:
    server = server_of(Application())
    setattr(server, name, nothing)
    before = signal.getsignal(signal.SIGTERM)
    seen: list[Any] = []
    server.announce = lambda sock: seen.append(signal.getsignal(signal.SIGTERM))  # type: ignore[method-assign]
    server.should_exit = True
    server.run()
    assert seen in ([], [before])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGHUP, signal.SIGTERM),
    ],
)
def test_second_SIGINT_or_SIGTERM_forces_the_server_to_exit(first: int, second: int) -> None:
    assert after_signals(first, second) == (True, True)


def test_SIGTERM_after_SIGINT_does_not_force_the_server_to_exit() -> None:
    # A terminal interrupts all processes, and a supervisor then terminates its workers.
    assert after_signals(signal.SIGINT, signal.SIGTERM) == (True, False)


def test_second_SIGHUP_does_not_force_the_server_to_exit() -> None:
    assert after_signals(signal.SIGHUP, signal.SIGHUP) == (True, False)


def after_signals(first: int, second: int) -> tuple[bool, bool]:
    """Return `should_exit` and `force_exit` of a server that receives both signals."""
    server = server_of(Application())
    server.handle_exit(first, None)
    server.handle_exit(second, None)
    return server.should_exit, server.force_exit


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_SIGHUP_handler_of_the_program_is_kept_while_the_server_runs(handler: Any) -> None:
    server = server_of(Application())
    seen: list[Any] = []

    def announce(sock: socket.socket) -> None:
        seen.append(signal.getsignal(signal.SIGHUP))
        server.should_exit = True

    server.announce = announce  # type: ignore[method-assign]
    before = signal.signal(signal.SIGHUP, handler)
    try:
        server.run()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen == [handler]


@pytest.fixture
def nothing_is_frozen() -> Iterator[None]:
    """Undo the freeze of the test suite, which speeds up its garbage collections."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.usefixtures("nothing_is_frozen")
def test_loaded_modules_are_exempt_from_garbage_collection_while_serving() -> None:
    server, frozen = looking_at_what_is_frozen()
    server.run()
    assert frozen[0] > 1000
    assert gc.get_freeze_count() == 0


@pytest.mark.usefixtures("nothing_is_frozen")
def test_objects_that_the_program_has_frozen_with_gc_stay_frozen() -> None:
    gc.freeze()
    before = gc.get_freeze_count()
    server, frozen = looking_at_what_is_frozen()
    server.run()
    # What is freed meanwhile does not count any more.
    assert 1000 < gc.get_freeze_count() <= frozen[0] <= before


def looking_at_what_is_frozen() -> tuple[uvicorn.Server, list[int]]:
    """Return a server that stops once it listens, and the list of frozen counts at that moment."""
    server = server_of(Application())
    frozen: list[int] = []

    def announce(sock: socket.socket) -> None:
        frozen.append(gc.get_freeze_count())
        server.should_exit = True

    server.announce = announce  # type: ignore[method-assign]
    return server, frozen
