"""The state that all connections of one server share."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import logging
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.helpers import ManualClock, hello
from tests.websocket_streams import Client
from tests.wsgi_apps import hello as wsgi_hello
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.interfaces.detect import build_interface
from uvicorn.keywords import build_settings
from uvicorn.server.context import ServerContext
from uvicorn.wire.websocket.frames import WebSocketCodec, WebSocketSink


def with_context(use: Callable[[ServerContext], None], **settings: Any) -> None:
    """Call `use` with the context of a server, on its event loop."""

    async def main() -> None:
        chosen = build_settings(settings)
        context = ServerContext(build_interface(hello, chosen), chosen, ManualClock())
        context.clock.on_tick(context.tick)
        use(context)

    asyncio.run(main())


class TickingConnection:
    """A connection that counts its ticks, and removes itself at the last one."""

    def __init__(self, context: ServerContext, leave_after: int = 1000) -> None:
        self.ticks = 0
        self._context = context
        self._leave_after = leave_after
        context.connections.add(self)

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks == self._leave_after:
            self._context.connections.discard(self)

    def served(self) -> None: ...

    def stop(self) -> None: ...

    def reset(self, reason: str = "") -> None: ...


def test_clock_tick_reaches_every_connection() -> None:
    def use(context: ServerContext) -> None:
        connections = [TickingConnection(context) for _ in range(3)]
        context.clock.tick()
        assert [connection.ticks for connection in connections] == [1, 1, 1]

    with_context(use)


def test_connection_removed_during_a_clock_tick_does_not_affect_other_connections() -> None:
    def use(context: ServerContext) -> None:
        connections = [TickingConnection(context, leave_after=1) for _ in range(3)]
        context.clock.tick()
        context.clock.tick()
        assert [connection.ticks for connection in connections] == [1, 1, 1]

    with_context(use)


def test_clock_tick_updates_the_date_field(monkeypatch: pytest.MonkeyPatch) -> None:
    def use(context: ServerContext) -> None:
        monkeypatch.setattr(context.clock, "unix_seconds", lambda: 784111777.0)
        context.clock.tick()
        assert context.defaults.date == b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"

    with_context(use)


def test_default_response_fields_include_the_server_field() -> None:
    with_context(lambda context: _equal(context.defaults.server, b"server: uvicorn\r\n"))


def test_default_fields_omit_server_if_the_server_header_is_switched_off() -> None:
    with_context(lambda context: _equal(context.defaults.server, b""), server_header=False)


def test_default_fields_omit_date_if_the_date_header_is_switched_off() -> None:
    def use(context: ServerContext) -> None:
        context.clock.tick()
        assert context.defaults.block == b"server: uvicorn\r\n"

    with_context(use, date_header=False)


def test_clock_tick_frees_the_cached_websocket_frame() -> None:
    def use(context: ServerContext) -> None:
        text = "hello"
        frame = WebSocketCodec(cast(WebSocketSink, Client()), 1000, 10, None, context.last_frame).encode_text(text)
        assert (context.last_frame.message, context.last_frame.frame) == (text, frame)
        context.clock.tick()
        assert (context.last_frame.message, context.last_frame.frame) == (None, b"")

    with_context(use)


def test_server_keeps_a_copy_of_the_context_variables_for_its_handlers() -> None:
    user = contextvars.ContextVar("user", default="nobody")
    user.set("the server")
    with_context(lambda context: _equal(context.variables[user], "the server"))


def _equal(found: object, expected: object) -> None:
    assert found == expected


# Fields that an application cannot decide


def exchange() -> HTTPExchange:
    return HTTPExchange(HTTPGateway(), Endpoint(), "GET", b"/cart", "1.1", ((), ()), False)


def test_a_dropped_response_field_is_logged_with_the_request(caplog: pytest.LogCaptureFixture) -> None:
    with_context(lambda context: context.dropped_fields(exchange(), (b"keep-alive",)))
    assert caplog.messages == [
        "<GET '/cart' WAITING>: dropped the application's response field keep-alive; "
        "only the server may send this field (logged once for each name)"
    ]


def test_a_dropped_response_field_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def use(context: ServerContext) -> None:
        for _ in range(100):
            context.dropped_fields(exchange(), (b"keep-alive", b"upgrade"))

    with_context(use)
    assert len(caplog.messages) == 2


# Failed attempts to accept, and what reaches the event loop's exception handler


def run_out(context: ServerContext, number: int) -> None:
    """Report that a connection cannot be accepted."""
    context.accept_failed(OSError(number, "Too many open files"))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_D10_repeated_accept_failures_are_logged_at_most_once_a_second(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    def use(context: ServerContext) -> None:
        for _ in range(10_000):
            run_out(context, number)

    with_context(use)
    assert caplog.messages == [
        "cannot accept connections: Too many open files; raise the limit (ulimit -n), or lower --limit-concurrency"
    ]


def test_D10_running_out_of_file_descriptors_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    with_context(lambda context: run_out(context, errno.EMFILE))
    assert [(record.name, record.levelno) for record in caplog.records] == [("uvicorn.error", logging.ERROR)]


def test_D10_lack_of_descriptors_is_logged_again_in_the_next_second(caplog: pytest.LogCaptureFixture) -> None:
    def use(context: ServerContext) -> None:
        for _ in range(3):
            run_out(context, errno.EMFILE)
            run_out(context, errno.EMFILE)
            context.clock.tick()

    with_context(use)
    assert len(caplog.messages) == 3


@pytest.mark.parametrize(
    "report",
    [
        {"message": "something else", "exception": OSError(errno.EMFILE, "of the application")},
        {"message": "something else", "exception": ValueError("a bug")},
        {"message": "something else"},
    ],
)
def test_D10_event_loop_error_outside_accept_is_logged_by_the_default_handler(
    report: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with_context(lambda context: context.loop_exception(context.loop, report))
    assert [(record.name, record.message) for record in caplog.records] == [("asyncio", "something else")]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_SystemExit_in_a_task_is_not_logged_by_the_exception_handler(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    report = {"message": "Task exception was never retrieved", "exception": error}
    with_context(lambda context: context.loop_exception(context.loop, report))
    assert not caplog.records


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how other allocators give memory back is their own")
def test_keep_freed_memory_function_reduces_page_faults() -> None:
    script = """if True:
        import resource, sys
        from uvicorn.server.context import keep_freed_memory

        if sys.argv[1:]:
            keep_freed_memory()

        def turns(count: int) -> int:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(count):
                [b"x" * 131072 + b"x" for _ in range(16)]
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        turns(3)
        print(turns(50))
    """
    faults = [
        int(subprocess.run([sys.executable, "-c", script, *kept], capture_output=True, check=True).stdout)
        for kept in ([], ["kept"])
    ]
    assert faults[1] < 100 < faults[0]


@pytest.mark.parametrize(
    ("limit", "ws_threads", "is_logged"), [(1249, 300, True), (1250, 300, False), (-1, 300, False), (849, 200, False)]
)
async def test_W6_server_warns_at_start_if_the_descriptor_limit_is_too_low_for_ws_threads(
    limit: int, ws_threads: int, is_logged: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    settings = build_settings({"ws_threads": ws_threads})
    ServerContext(build_interface(wsgi_hello, settings), settings, ManualClock())
    expected = [
        "300 WebSockets of WSGI applications may need 1250 descriptors, but the limit is 1249; "
        "raise the limit (ulimit -n), or lower --ws-threads"
    ]
    assert caplog.messages == (expected if is_logged else [])


async def test_low_descriptor_limit_is_logged_only_for_an_application_that_uses_threads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (10, 10))
    settings = build_settings({"ws_threads": 300})
    ServerContext(build_interface(hello, settings), settings, ManualClock())
    assert caplog.messages == []
