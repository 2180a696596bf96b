from __future__ import annotations

import subprocess
import sys

from uvicorn.wire.websocket.frame_cache import FrameCache


def test_forget_frees_the_message() -> None:
    cache = FrameCache()
    cache.message, cache.frame = "hello", b"\x81\x05hello"
    cache.forget()
    assert cache.frame == b""


def test_a_server_does_not_import_websockets_before_the_first_handshake() -> None:
    """The library takes 3 MiB of the 32 that a server may use."""
    ask = "import sys, uvicorn.server.server, uvicorn.interfaces.channels; print('websockets' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", ask], text=True) == "False\n"
