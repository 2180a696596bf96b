"""`--debug`: werkzeug's debugger for WSGI applications."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

import uvicorn
from tests.helpers import GET, Conversation, hello, until
from uvicorn.errors import ConfigError
from uvicorn.server.listener import describe


def failing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raise ValueError("no tea")


class Site:
    """A WSGI application with hooks."""

    def __init__(self) -> None:
        self.awaited: list[str] = []

    async def startup(self) -> None:
        self.awaited.append("startup")

    async def shutdown(self) -> None:
        self.awaited.append("shutdown")

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise NotImplementedError


def interface_of(app: Any, **options: Any) -> Any:
    return uvicorn.Config(app, debug=True, log_config=None, **options).load()


async def test_exception_of_a_wsgi_application_is_shown_in_the_debugger() -> None:
    conversation = Conversation(interface_of(failing).app, interface="wsgi")
    conversation.send(GET)
    await until(lambda: conversation.statuses)
    assert (conversation.statuses, b"ValueError: no tea" in conversation.received) == ([500], True)
    await conversation.lose()


def test_pin_of_the_debugger_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = interface_of(failing).app
    assert caplog.messages[-1].endswith(f"enter the PIN {app.pin}")


async def test_M20_debugger_shows_exceptions_of_every_wsgi_application_in_a_router(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = uvicorn.Router(uvicorn.Route("/live", hello), uvicorn.Route("/a", failing, threads=1), default=failing)
    conversation = Conversation(hello)
    conversation.context.interface = interface_of(table)
    for number, path in enumerate((b"/live", b"/a", b"/b"), 1):
        conversation.send(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda number=number: len(conversation.statuses) == number)  # type: ignore[misc]
    assert conversation.statuses == [200, 500, 500]
    assert [b"ValueError: no tea" in response.content for response in conversation.responses()] == [False, True, True]
    assert sum("enter the PIN" in line for line in caplog.messages) == 1
    await conversation.context.interface.shutdown(0)
    await conversation.lose()


async def test_startup_and_shutdown_of_an_application_in_the_debugger_are_awaited() -> None:
    site = Site()
    interface = interface_of(site)
    await interface.startup()
    await interface.shutdown(0)
    assert site.awaited == ["startup", "shutdown"]


def test_all_debuggers_of_a_router_use_the_pin_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    interface = interface_of(uvicorn.Router(uvicorn.Route("/site", Site()), default=failing))
    (logged,) = [line.rpartition(" ")[2] for line in caplog.messages if "enter the PIN" in line]
    for debugger in [part.app for part in interface.parts]:
        # As werkzeug reads them for each request.
        assert debugger.pin_cookie_name
        assert debugger.pin == logged


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"host": "0.0.0.0"}, "got 0.0.0.0:8000"),
        ({"bind": ["127.0.0.1:8000", "192.0.2.1:80"]}, "got 192.0.2.1:80"),
        ({"uds": "/tmp/socket"}, "got unix:/tmp/socket"),
        ({"workers": 2}, "got 2 workers"),
    ],
)
def test_debug_option_is_rejected_with_several_workers_or_a_public_address(where: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError, match="^debug: expected one worker that listens on 127.0.0.1") as caught:
        interface_of(failing, **where)
    assert str(caught.value).endswith(found)


def listening_on(address: str) -> socket.socket:
    if not address.startswith("/"):
        return socket.create_server((address, 0))
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(address)
    return sock


@pytest.mark.parametrize("public", ["0.0.0.0", "/socket"])
async def test_debug_option_rejects_a_listening_socket_outside_loopback(public: str, tmp_path: Path) -> None:
    address = f"{tmp_path}{public}" if public.startswith("/") else public
    sockets = [listening_on("127.0.0.1"), listening_on(address)]
    found = describe(sockets[1]).removeprefix("http://")
    site = Site()
    server = uvicorn.Server(uvicorn.Config(site, debug=True, log_config=None))
    with pytest.raises(ConfigError, match="^debug: expected one worker that listens on 127.0.0.1") as caught:
        await server.serve(sockets)
    assert (str(caught.value).partition("; got ")[2], site.awaited) == (found, [])


async def test_server_with_the_debug_option_serves_sockets_on_loopback() -> None:
    server = uvicorn.Server(uvicorn.Config(failing, debug=True, log_config=None))
    task = asyncio.create_task(server.serve([listening_on("127.0.0.1")]))
    await until(lambda: server.started or task.done())
    server.should_exit = True
    await task
    assert server.started


def test_debugger_without_a_pin_logs_that_every_user_can_run_code(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WERKZEUG_DEBUG_PIN", "off")
    interface_of(failing)
    assert caplog.messages == [
        "debug: exceptions are shown in the browser; every user of this machine can run code in the "
        "server, because WERKZEUG_DEBUG_PIN is off"
    ]


def test_debug_option_has_no_effect_on_a_channels_application(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="uvicorn.error"):
        assert interface_of(hello).app is hello
    assert caplog.messages == ["debug has no effect: the debugger is for WSGI applications, not for interface channels"]
