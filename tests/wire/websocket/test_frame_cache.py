from __future__ import annotations

from uvicorn.wire.websocket.frame_cache import FrameCache


def test_forget_method_frees_the_frame_in_the_frame_cache() -> None:
    cache = FrameCache()
    cache.message, cache.frame = "hello", b"\x81\x05hello"
    cache.forget()
    assert cache.frame == b""
