"""ASGI's lifespan: startup and shutdown once for the process, and the state that requests see."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.helpers import GET, Conversation, settle
from tests.websocket_client import WebSocketConversation
from uvicorn.errors import StartupError
from uvicorn.interfaces.detect import build_interface
from uvicorn.keywords import build_settings
from uvicorn.server.loops import run

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class App:
    """Takes part in lifespan, and answers requests; keeps its scopes and what it has received."""

    def __init__(self, *answers: str, state: dict[str, Any] | None = None) -> None:
        self.answers = answers or ("lifespan.startup.complete", "lifespan.shutdown.complete")
        self.state = state or {}
        self.scopes: list[Scope] = []
        self.received: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "lifespan":
            scope["state"].update(self.state)
            for answer in self.answers:
                self.received.append((await receive())["type"])
                await send({"type": answer, "message": "the reason"})
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})


async def stateless(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError("nothing but HTTP")


def interface_of(app: Any, **settings: Any) -> Any:
    return build_interface(app, build_settings(settings))


async def test_lifespan_startup_and_shutdown_are_sent_once_each() -> None:
    app = App()
    interface = interface_of(app)
    await interface.startup()
    assert app.received == ["lifespan.startup"]
    await interface.shutdown(1)
    assert app.received == ["lifespan.startup", "lifespan.shutdown"]


async def test_lifespan_scope_has_every_key() -> None:
    app = App()
    interface = interface_of(app)
    await interface.startup()
    await interface.shutdown(1)
    assert app.scopes == [{"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.5"}, "state": {}}]


async def test_each_request_scope_has_a_copy_of_the_lifespan_state() -> None:
    app = App(state={"a": 1})
    conversation = Conversation(app)
    await conversation.interface.startup()
    conversation.send(GET * 2)
    await settle()
    first, second = (scope["state"] for scope in app.scopes if scope["type"] == "http")
    assert first == second == {"a": 1}
    assert first is not second
    await conversation.interface.shutdown(1)


async def test_websocket_scope_has_a_copy_of_the_lifespan_state() -> None:
    app = App(state={"a": 1})
    conversation = WebSocketConversation(app)
    await conversation.interface.startup()
    await conversation.open()
    lifespan, websocket = app.scopes
    assert websocket["state"] == {"a": 1}
    assert websocket["state"] is not lifespan["state"]
    await conversation.interface.shutdown(1)


@pytest.mark.parametrize("lifespan", ["auto", "off"])
async def test_request_scope_has_no_state_if_lifespan_is_off_or_unsupported(lifespan: str) -> None:
    app = App("http.response.start") if lifespan == "auto" else App()
    conversation = Conversation(app, lifespan=lifespan)
    await conversation.interface.startup()
    conversation.send(GET)
    await settle()
    assert "state" not in app.scopes[-1]


async def test_application_is_not_called_at_startup_if_lifespan_is_off() -> None:
    app = App()
    interface = interface_of(app, lifespan="off")
    await interface.startup()
    await interface.shutdown(1)
    assert app.scopes == []


async def returning(scope: Scope, receive: Receive, send: Send) -> None: ...


@pytest.mark.parametrize(("app", "reason"), [(stateless, "ValueError: nothing but HTTP"), (returning, "it returned")])
async def test_application_without_lifespan_support_is_served(
    app: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    interface = interface_of(app)
    await interface.startup()
    await interface.shutdown(1)
    assert f"ASGI 'lifespan' protocol appears unsupported. ({reason})" in caplog.text
    assert caplog.records[0].levelno == logging.INFO


@pytest.mark.parametrize("app", [stateless, returning])
async def test_application_without_lifespan_support_is_rejected_if_lifespan_is_on(app: Any) -> None:
    with pytest.raises(StartupError, match="does not support lifespan"):
        await interface_of(app, lifespan="on").startup()


async def test_application_that_raises_during_lifespan_startup_is_served_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ValueError("no database")

    await interface_of(app).startup()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "no database" in caplog.text


async def test_application_that_answers_lifespan_with_http_events_is_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200})

    caplog.set_level(logging.INFO)
    await interface_of(app).startup()
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    said = "expected type lifespan.startup.complete or lifespan.startup.failed, got 'http.response.start'"
    assert said in caplog.text


async def test_failed_lifespan_startup_raises_StartupError_with_the_reason() -> None:
    with pytest.raises(StartupError, match=r"^lifespan.startup.failed: the reason$"):
        await interface_of(App("lifespan.startup.failed", "lifespan.shutdown.complete")).startup()


async def test_lifespan_startup_can_be_cancelled() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.get_running_loop().create_future()

    starting = asyncio.ensure_future(interface_of(app).startup())
    await settle()
    starting.cancel()
    await asyncio.wait((starting,))
    assert starting.cancelled()


async def test_failed_lifespan_shutdown_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    interface = interface_of(App("lifespan.startup.complete", "lifespan.shutdown.failed"))
    await interface.startup()
    await interface.shutdown(1)
    assert "lifespan.shutdown.failed: the reason" in caplog.text


async def test_exception_in_lifespan_shutdown_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise ValueError("boom")

    interface = interface_of(app)
    await interface.startup()
    await interface.shutdown(1)
    assert caplog.text.count("Traceback") == 1


async def test_lifespan_shutdown_that_takes_too_long_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await asyncio.get_running_loop().create_future()

    interface = interface_of(app, timeout_graceful_shutdown=0.01)
    await interface.startup()
    await interface.shutdown(0)
    assert "shutdown was cancelled after 0.01 seconds" in caplog.text


async def test_lifespan_exception_between_startup_and_shutdown_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise ValueError("boom")

    interface = interface_of(app)
    await interface.startup()
    await settle()
    assert "exception in the application; its requests are still served" in caplog.text
    await interface.shutdown(1)
    assert caplog.text.count("Traceback") == 1


async def test_application_that_receives_again_after_lifespan_shutdown_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            await send({"type": (await receive())["type"] + ".complete"})

    interface = interface_of(app)
    await interface.startup()
    await interface.shutdown(1)
    assert caplog.records == []


def test_application_that_raises_system_exit_in_lifespan_startup_is_not_served() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sys.exit("no database")

    # On an event loop of the server's, which lets it pass.
    with pytest.raises(StartupError, match=r"raised SystemExit\('no database'\)"):
        run(interface_of(app).startup())


async def test_second_answer_to_a_lifespan_event_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.startup.complete"})

    interface = interface_of(app)
    await interface.startup()
    await settle()
    await interface.shutdown(1)
    assert "expected no second answer to lifespan.startup, got 'lifespan.startup.complete'" in caplog.text


async def test_startup_method_of_an_asgi_application_is_not_called() -> None:
    class Framework(App):
        async def startup(self) -> None:
            raise AssertionError("called by the server")

    app = Framework()
    interface = interface_of(app)
    await interface.startup()
    await interface.shutdown(1)
    assert len(app.received) == 2


async def test_lifespan_events_reach_an_asgi_2_application() -> None:
    received = []

    def app(scope: Scope) -> Any:
        async def call(receive: Receive, send: Send) -> None:
            for what in ("startup", "shutdown"):
                received.append((await receive())["type"])
                await send({"type": f"lifespan.{what}.complete"})

        return call

    interface = interface_of(app)
    await interface.startup()
    await interface.shutdown(1)
    assert received == ["lifespan.startup", "lifespan.shutdown"]
