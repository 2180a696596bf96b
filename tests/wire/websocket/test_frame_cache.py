from __future__ import annotations

import subprocess
import sys

from uvicorn.wire.websocket.frame_cache import FrameCache


def test_a_message_is_let_go_of() -> None:
    last = FrameCache()
    last.message, last.frame = "hello", b"\x81\x05hello"
    last.forget()
    assert last.frame == b""


def test_a_server_imports_nothing_for_websockets_before_there_is_one() -> None:
    """It takes 3 MiB of the 32 that a server may have."""
    ask = "import sys, uvicorn.server.server, uvicorn.interfaces.channels; print('websockets' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", ask], text=True) == "False\n"
