"""Applications that raise SystemExit or KeyboardInterrupt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.server_process import running_server

EXITING = """
import asyncio, sys

async def app(message, channels):
    if message['path'] == '/late':
        await asyncio.sleep(0)
    if message['path'] != '/':
        raise {'/exit': SystemExit(3), '/late': SystemExit(4), '/ctrl-c': KeyboardInterrupt()}[message['path']]
    await channels['reply'].send({'status': 200, 'content': b'still here'})

def wsgi(environ, start_response):
    if environ['PATH_INFO'] != '/':
        sys.exit(5)
    start_response('200 OK', [])
    return [b'still here']
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(("app", "paths"), [("app", ["/exit", "/late", "/ctrl-c"]), ("wsgi", ["/exit"])])
def test_D12_server_survives_system_exit_in_an_application(
    app: str, paths: list[str], loop: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(EXITING)
    with running_server(tmp_path, f"app:{app}", "--loop", loop) as server:
        assert [server.get(path)[0] for path in paths] == [500] * len(paths)
        assert server.get("/") == (200, "still here")
        assert server.stop() == 0
        assert server.stderr.count("exception in the application") == len(paths)
