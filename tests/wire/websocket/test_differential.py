"""Compares our codec with the protocol object of `websockets`, on random streams of frames, valid and mutated.

UVICORN_WEBSOCKET_STREAMS is the number of streams, 2,000 by default; UVICORN_WEBSOCKET_SEED is the first seed.
"""

from __future__ import annotations

import os
import random
from typing import Any, Final

import pytest
from websockets.exceptions import PayloadTooBig
from websockets.extensions.permessage_deflate import PerMessageDeflate as TheirDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from tests.websocket_streams import BINARY, CLOSE, MASK, PING, PONG, RSV1, TEXT, Client, Deflater, agreed, frame
from uvicorn.wire.websocket.deflate import INVALID_COMPRESSED

STREAMS: Final = int(os.environ.get("UVICORN_WEBSOCKET_STREAMS", "2000"))
SEED: Final = int(os.environ.get("UVICORN_WEBSOCKET_SEED", "0"))
BATCHES: Final = 8

MAX_BYTES: Final = 1000

Call = tuple[Any, ...]


class Theirs:
    """A server of the library that has received `stream`, with the calls that its application would get."""

    def __init__(self, stream: bytes, compression: bool) -> None:
        self.protocol = ServerProtocol(state=OPEN, max_size=MAX_BYTES)
        self.deflate = TheirDeflate(False, False, 12, 12, {"memLevel": 5})
        if compression:
            self.protocol.extensions = [self.deflate]
        self.calls: list[Call] = []
        self.code: int | None = None
        self._opcode: Opcode | None = None
        self._message = b""
        self.feed(stream)

    @property
    def ended(self) -> bool:
        return self.code is not None or bool(self.calls and self.calls[-1][0] == "close")

    @property
    def error(self) -> Exception | None:
        """The library's error. It has none for text that is not UTF-8, because it leaves that to its caller."""
        return self.protocol.parser_exc if self.code != 1007 else None

    def feed(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            assert isinstance(event, Frame)
            self._take(event)
            if self.ended:
                return
        if self.protocol.parser_exc is not None:
            assert self.protocol.close_sent is not None
            self.code = self.protocol.close_sent.code

    def _take(self, event: Frame) -> None:
        """Join the fragments of messages, as the library's connections do; check text with each frame, as we do."""
        data = bytes(event.data)
        if event.opcode is Opcode.PING:
            self.calls.append(("ping", data))
        elif event.opcode is Opcode.PONG:
            self.calls.append(("pong", data))
        elif event.opcode is Opcode.CLOSE:
            parsed = Close.parse(data)
            self.calls.append(("close", int(parsed.code), parsed.reason))
        else:
            if event.opcode is not Opcode.CONT:
                self._opcode, self._message = event.opcode, b""
            self._message += data
            is_text = self._opcode is Opcode.TEXT
            if is_text and not may_become_text(self._message, event.fin):
                self.code = 1007
            elif event.fin:
                self.calls.append(("text", self._message.decode()) if is_text else ("bytes", self._message))


def may_become_text(data: bytes, is_whole: bool) -> bool:
    """Return whether `data` is valid UTF-8, or the beginning of it."""
    for ending in (b"",) if is_whole else (b"", b"\x80", b"\x80\x80", b"\x80\x80\x80", b"\xa0\x80", b"\x90\x80\x80"):
        try:
            (data + ending).decode()
        except UnicodeDecodeError:
            continue
        return True
    return False


def is_known_difference(ours: Client, theirs: Theirs, compression: bool) -> bool:
    """Return whether the difference is known; the comments give the reasons."""
    code, reason = ours.refused or (None, "")
    error = theirs.error
    if compression and theirs.deflate.decoder.eof:
        # A deflate stream may end within a connection (RFC 7692, section 7.2.3.4); the library inflates nothing more
        # after it, so that all later messages are cut short.
        return True
    if isinstance(error, PayloadTooBig) and error.size is not None and ours.calls[: len(theirs.calls)] == theirs.calls:
        # The library compares the size of each frame with the rest of the message's limit: also a compressed size, and
        # that of a control frame between two fragments. We compare the size of the message.
        is_in_message = error.current_size is not None
        if (compression and error.size <= MAX_BYTES + MAX_BYTES // 8 + 64) or (is_in_message and error.size <= 125):
            return True
    if compression and code == 1009 and ours.calls == theirs.calls[: len(ours.calls)]:
        # When a fragment inflates to exactly the limit, the library finds further output only at the next fragment;
        # control frames and faults may come in between. Zlib takes a limit of 0 for no limit, so it inflates the rest.
        messages = [call[1] for call in theirs.calls[len(ours.calls) :] if call[0] in ("text", "bytes")]
        length = len(messages[0].encode() if isinstance(messages[0], str) else messages[0]) if messages else 0
        if length > MAX_BYTES or (not messages and (theirs.protocol.current_size or 0) >= MAX_BYTES):
            return True
    if ours.calls and ours.calls[-1][0] == "close" and str(error) == "incomplete fragmented message":
        # A close frame is a control frame, so it may stand between fragments (section 5.4).
        return ours.calls[:-1] == theirs.calls
    if code is None or ours.calls != theirs.calls[: len(ours.calls)]:
        return False
    if reason in ("frame length not in its shortest form", "control frame over 125 bytes"):
        # The library accepts any form of a length, for control frames too; section 5.2 requires the shortest.
        return True
    if ours.calls != theirs.calls:
        return False
    if code == 1002 and theirs.code == 1009:
        # We check the first byte of a frame before its length; the library checks reserved bits, fragmentation and the
        # length of control frames last.
        return True
    # The library closes with 1002 for malformed compressed data, we with 1007 (section 7.4.1): the data contradicts the
    # type of the message. We also find invalid text before malformed data or an excess of length that follows it.
    return reason == INVALID_COMPRESSED and theirs.code in (1002, 1009)


def compare(stream: bytes, compression: bool, source: random.Random) -> str:
    """Return an empty text if both agree, otherwise the calls of each."""
    theirs = Theirs(stream, compression)
    ours = Client(deflate=agreed() if compression else None, max_message_bytes=MAX_BYTES, max_fragments=1 << 30)
    ours.send(stream, source.choice((1 << 30, 1 << 30, 1, 7, 100, source.randint(2, 300))))
    if ours.code is not None:
        # We may reject an incomplete frame. Complete it for the library, whose next event must be an error too.
        happened = len(theirs.calls)
        for _ in range(MAX_BYTES + 200):
            if theirs.ended or len(theirs.calls) > happened:
                break
            theirs.feed(b"\0")
    if (ours.calls, ours.code) == (theirs.calls, theirs.code) or is_known_difference(ours, theirs, compression):
        return ""
    return f"ours: {ours.calls} {ours.refused}\ntheirs: {theirs.calls} {theirs.code} {theirs.error!r}"


ALPHABET: Final = "aaaaaaaaaabcdefghij \0\x7f\x80äß€\ud7ff\ue000\uffff\U00010000\U0001f4a9\U0010ffff"


def random_payload(source: random.Random, is_text: bool) -> bytes:
    longest = source.choice((0, 5, 30, 130, 300, MAX_BYTES + 5))
    if source.random() < 0.1:
        # Around the boundaries of the three forms of length, and of the limit.
        longest = source.choice((125, 126, 127, MAX_BYTES, MAX_BYTES + 1))
        return b"a" * longest
    if is_text and source.random() < 0.97:
        return "".join(source.choices(ALPHABET, k=longest // 2)).encode()
    return source.randbytes(source.randint(0, longest))


def random_frames(source: random.Random, compression: bool) -> bytes:
    """Return the frames of a few messages, most of them valid."""
    deflate = Deflater()
    frames: list[bytes] = []

    def add(first: int, payload: bytes) -> None:
        frames.append(frame(first, payload, source.choice((MASK, b"\0\0\0\0", source.randbytes(4)))))

    def add_control() -> None:
        add(source.choice((PING, PONG)), source.randbytes(source.choice((0, 1, 20, 125))))

    for _ in range(source.randint(1, 6)):
        if source.random() < 0.15:
            add_control()
            continue
        first = source.choice((TEXT, BINARY))
        payload = random_payload(source, first == TEXT)
        if compression and source.random() < 0.7:
            payload = deflate(payload)
            first |= RSV1
        cuts = sorted(source.randint(0, len(payload)) for _ in range(source.choice((0, 0, 0, 1, 2, 5))))
        for index, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(payload)], strict=True)):
            if index and source.random() < 0.2:
                add_control()
            is_last = index == len(cuts)
            add((0 if index else first & 0x7F) | (0x80 if is_last else 0), payload[begin:end])
    if source.random() < 0.3:
        code = source.choice((1000, 1001, 1005, 1011, 1014, 3000, 4999, source.randrange(65536)))
        reason = source.choice((b"", b"bye", "zu spät".encode(), source.randbytes(3)))
        add(CLOSE, source.choice((b"", code.to_bytes(2, "big") + reason, code.to_bytes(2, "big") + reason, b"x")))
    return b"".join(frames)


def mutated(source: random.Random, stream: bytes) -> bytes:
    """Return `stream` with a few random changes."""
    data = bytearray(stream)
    for _ in range(source.choice((1, 1, 2, 4))):
        where = source.randrange(len(data) + 1)
        kind = source.randrange(6)
        if kind == 0 and where < len(data):
            data[where] ^= 1 << source.randrange(8)
        elif kind == 1 and where < len(data):
            data[where] = source.choice((0, 1, 2, 0x80, 0x81, 0xC1, 0xFE, 0xFF, source.randrange(256)))
        elif kind == 2:
            del data[where : where + source.choice((1, 2, 10))]
        elif kind == 3:
            data[where:where] = source.randbytes(source.choice((1, 2, 6)))
        elif kind == 4:
            data[where:where] = data[source.randrange(len(data) + 1) :][:50]
        else:
            del data[where:]
    return bytes(data)


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "compression"])
@pytest.mark.parametrize("batch", range(BATCHES))
def test_codec_and_websockets_library_decode_random_frames_to_the_same_result(batch: int, compression: bool) -> None:
    count = STREAMS // (2 * BATCHES)
    for seed in range(SEED + batch * count, SEED + (batch + 1) * count):
        source = random.Random(seed)
        stream = random_frames(source, compression)
        if source.random() < 0.6:
            stream = mutated(source, stream)
        difference = compare(stream, compression, source)
        assert not difference, f"seed {seed}: {stream!r}\n{difference}"
