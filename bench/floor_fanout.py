"""The floor of a fan-out: a message is framed once and the same bytes are written to every client.

A protocol on uvloop that understands short messages which come whole and alone, as the load's do, and nothing else:
no checks, no application.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys
from typing import cast

import uvloop
from websockets.speedups import apply_mask

CLIENTS: set[asyncio.Transport] = set()


class Floor(asyncio.Protocol):
    """A connection whose messages are sent to all connections."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        CLIENTS.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        if self.transport in CLIENTS:
            text = apply_mask(data[6:], data[2:6]).decode()
            content = text.encode()
            frame = bytes((0x81, len(content))) + content
            for client in CLIENTS:
                client.write(frame)
        elif key := re.search(rb"Sec-WebSocket-Key: (\S+)", data):
            accept = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
            head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            self.transport.write(head + b"Sec-WebSocket-Accept: " + base64.b64encode(accept) + b"\r\n\r\n")
            CLIENTS.add(self.transport)
        else:
            self.transport.close()


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Floor, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
