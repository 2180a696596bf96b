"""`metrics=HOST:PORT` of a server in one process."""

from __future__ import annotations

import asyncio
import re
import socket
import urllib.request
from typing import Any, Final

import pytest

import uvicorn
from tests.helpers import hello, until
from tests.server.test_metrics import samples
from tests.server.test_server import Application, get, server_of
from uvicorn.errors import ConfigError

REQUESTS: Final = "uvicorn_requests_total{entry=*,kind=channels,status=2xx}"


def scraped(log: str) -> dict[str, float]:
    """The metrics at the address in the log."""
    [url] = re.findall(r"Metrics are served on (\S+)", log)
    with urllib.request.urlopen(url, timeout=30) as response:
        return samples(response.read())


async def test_server_metrics_include_a_request_after_the_next_clock_tick(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    server = server_of(Application(), metrics="127.0.0.1:0")
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    assert (await asyncio.to_thread(scraped, caplog.text))[REQUESTS] == 0
    await asyncio.to_thread(get, server)
    assert server.server_state.context is not None
    server.server_state.context.tick()
    found = await asyncio.to_thread(scraped, caplog.text)
    assert (found[REQUESTS], found["uvicorn_connections_total"], found["uvicorn_processes"]) == (1, 1, 1)
    server.should_exit = True
    await task


async def test_metrics_listener_responds_while_the_event_loop_is_blocked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    found: list[dict[str, float]] = []

    async def blocking(message: Any, channels: Any) -> None:
        found.append(scraped(caplog.text))
        await hello(message, channels)

    server = server_of(blocking, metrics="127.0.0.1:0")
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    await asyncio.to_thread(get, server)
    server.should_exit = True
    await task
    assert found[0]["uvicorn_processes"] == 1


async def test_address_of_the_metrics_is_free_after_the_server_has_stopped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    server = server_of(Application(), metrics="127.0.0.1:0")
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    server.should_exit = True
    await task
    [port] = re.findall(r"Metrics are served on http://127.0.0.1:(\d+)", caplog.text)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", int(port)))


async def test_server_does_not_start_if_its_metrics_address_is_in_use() -> None:
    application = Application()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = server_of(application, metrics=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConfigError, match=r"choose another address with --metrics$"):
            await server.serve()
    assert application.events == []


def test_config_rejects_a_metrics_address_with_a_malformed_port() -> None:
    with pytest.raises(ConfigError, match=r"^metrics '127.0.0.1:x' has port 'x'; expected a number from 0 to 65535$"):
        uvicorn.Config(hello, metrics="127.0.0.1:x")


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]", "localhost", "9100"])
def test_config_rejects_a_metrics_address_without_a_port(address: str) -> None:
    with pytest.raises(ConfigError, match=r"^metrics .* has no port; expected HOST:PORT or \[IPV6\]:PORT, such as "):
        uvicorn.Config(hello, metrics=address)
