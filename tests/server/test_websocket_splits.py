"""A handshake with frames has the same effect on the application and the client for any split."""

from __future__ import annotations

from typing import Any

import pytest

from tests.corpus import HANDSHAKE, request
from tests.helpers import Conversation, Recorder, settle
from tests.websocket_streams import close, frame
from uvicorn.wire.websocket.encoder import BINARY, CONTINUATION, FIN, PING, TEXT

STREAMS = {
    "a message": frame(FIN | TEXT, b"hello"),
    "two messages": frame(FIN | TEXT, b"a") + frame(FIN | BINARY, b"b"),
    "a close": close(1000, b"bye"),
    "a ping within a message": frame(TEXT, b"a") + frame(FIN | PING, b"p") + frame(FIN | CONTINUATION, b"b"),
    "text that is not UTF-8": frame(FIN | TEXT, b"ok") + frame(FIN | TEXT, b"\xff"),
    "a reserved opcode": frame(FIN | TEXT, b"ok") + frame(FIN | 3),
    "a message that is too large": frame(FIN | TEXT, b"ok") + frame(FIN | BINARY, bytes(300)),
}


async def echo(message: dict[str, Any], channels: dict[str, Any]) -> None:
    if message["channel"] == "websocket.connect":
        await channels["reply"].send({"accept": True})
    elif message["channel"] == "websocket.receive":
        await channels["reply"].send({"text": message["text"], "bytes": message["bytes"]})


async def outcome(frames: bytes, cut: int) -> tuple[Any, ...]:
    recorder = Recorder(echo)
    conversation = Conversation(recorder, ws_max_size=200, date_header=False)
    stream = request(b"GET /chat HTTP/1.1", *HANDSHAKE) + frames
    for piece in (stream[:cut], stream[cut:]):
        if piece and not conversation.transport.closing:
            conversation.feed(piece)
        await settle()
    heard = [(message["channel"], message.get("text"), message.get("bytes")) for message in recorder.messages]
    await conversation.lose()
    codes = [message.get("code") for message in recorder.messages if message["channel"] == "websocket.disconnect"]
    return heard, codes, conversation.received


@pytest.mark.any_loop
@pytest.mark.parametrize("name", STREAMS)
async def test_websocket_conversation_does_not_depend_on_the_splits_of_the_stream(name: str) -> None:
    frames = STREAMS[name]
    length = len(request(b"GET /chat HTTP/1.1", *HANDSHAKE) + frames)
    whole = await outcome(frames, length)
    for cut in range(1, length):
        assert await outcome(frames, cut) == whole, f"cut at {cut}"
