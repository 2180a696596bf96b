"""Deliveries per second of messages that every client gets, through Redis, in one process and in three.

README.md says how to read the output.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from contenders import uvicorn
from conversation import Conversation
from environments import Environment
from results import rate_target
from rounds import Contender, Scenario, run_program
from servers import free_port

_THREE = ("--workers", "3")

_OURS = Environment("ours-broadcast", "uvicorn", (), from_checkout=True)
_PUBLIC = ("uvicorn[standard]", "starlette")
_BROADCASTER = Environment("broadcaster", "broadcaster", (*_PUBLIC, "broadcaster[redis]"))
_CHANNELS_REDIS = Environment("channels-redis", "channels_redis", (*_PUBLIC, "channels-redis", "hiredis"))


class _Afterwards(Conversation):
    """A trial that begins when the clients of the run before have gone, so that none of their messages count."""

    @contextmanager
    def load(self, port: int, connections: int, seconds: int) -> Iterator[list[str]]:
        time.sleep(1)
        with super().load(port, connections, seconds) as command:
            yield command


def _starlette(name: str, *options: str) -> tuple[str, ...]:
    return uvicorn(f"broadcast_starlette:{name}", "--factory", "--ws", "websockets-sansio", *options)


def _scenario(name: str, ours: tuple[str, ...], *options: str) -> Scenario:
    contenders = (
        Contender("ours", _OURS, ours, is_peer=False),
        Contender("broadcaster", _BROADCASTER, _starlette("broadcaster", *options)),
        Contender("channels_redis", _CHANNELS_REDIS, _starlette("layer", *options)),
    )
    targets = (rate_target("S8", 500, "broadcaster", 2.0), rate_target("S8", 500, "channels_redis", 10.0))
    title = f"32 bytes to all, through Redis, {name} process{'es' if options else ''}"
    return Scenario(name, title, contenders, targets, _Afterwards("fanout", 32), "", "deliveries")


APP = "broadcast_channels:chat"
SCENARIOS = [
    _scenario("one", uvicorn(APP)),
    _scenario("three", uvicorn(APP, *_THREE), *_THREE),
]


@contextmanager
def redis() -> Iterator[str]:
    """Start a Redis server; return its URL."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed: apt-get install redis-server")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if "accept connections" in line:
                break
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


if __name__ == "__main__":
    with redis() as url:
        os.environ["BENCH_REDIS"] = url
        run_program(SCENARIOS, __doc__, [500])
