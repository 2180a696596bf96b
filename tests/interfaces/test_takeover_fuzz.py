"""Random conversations with WSGI applications that may take the connection over leave nothing behind."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest

from tests.helpers import settle, until
from tests.interfaces.wsgi_websockets import Site
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.interfaces.wsgi_websocket import WSGIWebSocket

STEPS = ["accept", "receive", "poll", "send", "send much", "close", "nothing", "raise", "return"]
EVENTS = ["text", "much", "close", "lose", "eof", "stop", "clock", "http", "malformed"]


class Wrong(Exception):
    """What the application raises."""


class RandomCall:
    """An application that takes random steps with the WebSocket, until the client has gone or it has had enough."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.running = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.running += 1
        try:
            if "uvicorn.websocket" in environ:
                for _ in range(self._random.randrange(8)):
                    if self._step(environ["uvicorn.websocket"], self._random.choice(STEPS)):
                        break
            start_response(self._random.choice(["200 OK", "500 Internal Server Error"]), [])
            return [b"ordinary"]
        finally:
            self.running -= 1

    def _step(self, websocket: WSGIWebSocket, step: str) -> bool:
        try:
            if step == "accept":
                websocket.accept()
            elif step == "receive":
                websocket.receive()
            elif step == "poll":
                websocket.receive(timeout=0)
            elif step == "send":
                websocket.send("hello")
            elif step == "send much":
                websocket.send(b"x" * 200_000)
            elif step == "close":
                websocket.close(3000)
            elif step == "raise":
                raise Wrong
        except LocalProtocolError:
            # A second accept, or a close without one.
            pass
        except ClientDisconnected:
            return True
        return step == "return"


@pytest.mark.parametrize("seed", range(40))
async def test_random_wsgi_websocket_traffic_leaves_no_thread_and_no_connection(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    chosen = random.Random(seed)
    call = RandomCall(seed)
    site = Site(call, threads=2, ws_threads=chosen.choice([1, 200]), ws_max_queue=2, compression=seed % 2 == 0)
    site.transport.client_takes = chosen.random() < 0.7
    await site.open()
    for _ in range(chosen.randrange(10)):
        event = chosen.choice(EVENTS)
        if event in ("text", "much") and site.status == 101 and site.transport.reading and site.close_code is None:
            await site.say("hello" if event == "text" else b"x" * 100_000)
        elif event == "close" and site.status == 101 and site.transport.reading and site.close_code is None:
            site.client.send_close()
            await site.flush()
            break
        elif event == "malformed" and site.status == 101 and site.transport.reading:
            site.send(b"\xff\xff")
            break
        elif event == "eof":
            site.send_eof()
        elif event == "stop":
            site.transport.protocol.stop()
        elif event == "clock":
            site.clock.advance(chosen.randrange(30))
        elif event == "http":
            connection, transport = site.connect()
            connection.data_received(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
            await until(lambda transport=transport: transport.writes)  # type: ignore[misc]
            transport.reset()
        await settle(chosen.randrange(30))
    # Also if the server waits until the client reads the last bytes.
    site.transport.reset()
    await settle()
    await until(lambda: not call.running)
    # The posts of the threads that have just left the call.
    await until(lambda: not site.context.ws_threads.count)
    await site.interface.shutdown(30)
    assert site.context.connections == set()
    assert site.context.begun == site.context.ended
    assert site.interface.executor.detached == 0  # type: ignore[attr-defined]
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert all(record.exc_info and record.exc_info[0] is Wrong for record in logged)
