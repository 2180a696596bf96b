"""What one WebSocket message costs in process: frame in, frames out, no socket.

Drives a connection as an event loop would, on a transport that only counts: one message echoed on each of 64
connections, and one sent to all of 500. README.md says how to read the output.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from dataclasses import dataclass
from typing import Any

from protocol import Application, CountingTransport

from uvicorn.interfaces.detect import build_interface
from uvicorn.server.clock import Clock
from uvicorn.server.context import ServerContext
from uvicorn.server.http1 import HTTP1Connection
from uvicorn.server.loops import loop_factory
from uvicorn.settings import Settings

_HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_MASK = b"\x37\xfa\x21\x3d"

# What is the same for every message is cached on the first ones, and the interpreter specialises its instructions.
_WARM_UP_ROUNDS = 50

_TURNS = 1 if sys.version_info >= (3, 12) else 2


async def echo(message: Any, channels: Any) -> None:
    """Send the message back."""
    if message["channel"] == "websocket.connect":
        await channels["reply"].send({"accept": True})
    elif message["channel"] == "websocket.receive":
        text = message["text"]
        await channels["reply"].send({"text": text} if text is not None else {"bytes": message["bytes"]})


def chat() -> Application:
    """Send the message to all clients."""
    clients = set()

    async def app(message: Any, channels: Any) -> None:
        if message["channel"] == "websocket.connect":
            await channels["reply"].send({"accept": True})
            clients.add(channels["reply"])
        elif message["channel"] == "websocket.receive":
            for client in clients:
                await client.send({"text": message["text"]})
        elif message["channel"] == "websocket.disconnect":
            clients.remove(channels["reply"])

    return app


@dataclass(frozen=True)
class Scenario:
    """An application, the size of a message, and its receivers: the sender, or all connections."""

    name: str
    app: Application
    length: int
    connections: int
    to_all: bool = False


SCENARIOS = (
    Scenario("echo, 32 B text", echo, 32, 64),
    Scenario("echo, 1 KiB text", echo, 1024, 64),
    Scenario("echo, 64 KiB binary", echo, 65536, 64),
    Scenario("32 B text to 500, each", chat(), 32, 500, to_all=True),
)


def frame(content: bytes, masked: bool) -> bytes:
    """Return a text frame, or a binary frame from 64 KiB on."""
    length = len(content)
    head = bytes((0x81 if length < 65536 else 0x82,))
    size, first = (0, length) if length < 126 else (2, 126) if length < 65536 else (8, 127)
    head += bytes((first + 0x80 * masked,)) + (length.to_bytes(size) if size else b"")
    if masked:
        content = _MASK + bytes(byte ^ _MASK[i % 4] for i, byte in enumerate(content))
    return head + content


class Transport(CountingTransport):
    """A transport that another protocol may take over."""

    protocol: HTTP1Connection | asyncio.Protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, (HTTP1Connection, asyncio.Protocol))
        self.protocol = protocol

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Harness:
    """WebSocket connections to one application, and frames for them."""

    def __init__(self, scenario: Scenario) -> None:
        settings = Settings(access_log=False)
        self.scenario = scenario
        self.written = bytearray()
        content = bytes(ord("a") + number % 26 for number in range(scenario.length))
        self.question, self.answer = frame(content, True), frame(content, False)
        self.context = ServerContext(build_interface(scenario.app, settings), settings, Clock())
        self.transports = [Transport(self.written.extend) for _ in range(scenario.connections)]
        for transport in self.transports:
            transport.set_protocol(HTTP1Connection(self.context))
            transport.protocol.connection_made(transport)

    async def open(self) -> None:
        """Open the connections. Raises RuntimeError unless each then returns the right response."""
        for transport in self.transports:
            self.feed(transport, _HANDSHAKE)
        # Python 3.11 starts handlers on the loop's next turn.
        while any(isinstance(transport.protocol, HTTP1Connection) for transport in self.transports):  # noqa: ASYNC110
            await asyncio.sleep(0)
        for transport in self.transports:
            self.written.clear()
            await self.ask(transport)
            if self.written != self.answer * (self.scenario.connections if self.scenario.to_all else 1):
                raise RuntimeError(f"{self.scenario.name}: wrong answer {bytes(self.written)!r:.200}")
        for transport in self.transports:
            transport.on_write = None

    async def ask(self, *transports: Transport) -> None:
        """Send one message on each connection."""
        for transport in transports:
            self.feed(transport, self.question)
        # For handlers that let others run now and then; and Python 3.11 starts all of them on the loop's next turn.
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def feed(self, transport: Transport, data: bytes) -> None:
        """Pass data to a connection as an event loop does, including the copy of the kernel's buffer."""
        transport.protocol.data_received(bytes(memoryview(data)))


async def microseconds(harness: Harness, seconds: float) -> float:
    """Return the time for one message sent, in the fastest of as many rounds as fit into `seconds`."""
    transports = harness.transports[:1] if harness.scenario.to_all else harness.transports
    for _ in range(_WARM_UP_ROUNDS):
        await harness.ask(*transports)
    gc.collect()
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        for _ in range(10):
            await harness.ask(*transports)
        best = min(best, time.perf_counter() - started)
    return best / (10 * harness.scenario.connections) * 1e6


async def kept_blocks(harness: Harness) -> float:
    """Return the allocator blocks that a message leaves behind: 0 but for rounding, unless there is a leak."""
    rounds = 100
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(rounds):
        await harness.ask(*harness.transports[:64])
    gc.collect()
    return (sys.getallocatedblocks() - before) / (rounds * 64)


async def measure(scenario: Scenario, seconds: float) -> None:
    """Print the line of a scenario."""
    harness = Harness(scenario)
    await harness.open()
    best = await microseconds(harness, seconds)
    writes = -sum(transport.writes for transport in harness.transports)
    await harness.ask(harness.transports[0])
    writes += sum(transport.writes for transport in harness.transports)
    print(f"{scenario.name:<26} {best:7.2f} {writes:7} {await kept_blocks(harness):6.2f}", flush=True)


async def run(seconds: float, names: list[str]) -> None:
    """Run all scenarios, or those that are named."""
    loop = type(asyncio.get_running_loop()).__module__
    print(f"Python {sys.version.split()[0]}, {loop}\n")
    print(f"{'':<26} {'us':>7} {'writes':>7} {'kept':>6}")
    for scenario in SCENARIOS:
        if not names or any(name in scenario.name for name in names):
            await measure(scenario, seconds)
    harness = Harness(SCENARIOS[0])
    for transport in harness.transports:
        transport.set_protocol(asyncio.Protocol())
    print(f"{'(the harness itself)':<26} {await microseconds(harness, min(seconds, 0.5)):7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each scenario (2)")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="of a scenario's name; repeatable")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(run(options.seconds, options.only))


if __name__ == "__main__":
    main()
