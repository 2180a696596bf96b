"""Streams of frames that clients send: valid ones, and ones that are refused, with the code they are closed with."""

from __future__ import annotations

import zlib
from typing import Any, Final

from uvicorn.errors import WebSocketProtocolError
from uvicorn.wire.http1.default_fields import DefaultFields
from uvicorn.wire.websocket.deflate import PerMessageDeflate
from uvicorn.wire.websocket.frames import WebSocketCodec
from uvicorn.wire.websocket.handshake import WebSocketHandshake

MASK: Final = b"\x12\x9a\x00\xff"

#: What the streams below keep within or go beyond.
MAX_MESSAGE_BYTES: Final = 1000
MAX_FRAGMENTS: Final = 10

TEXT: Final = 0x81
BINARY: Final = 0x82
CLOSE: Final = 0x88
PING: Final = 0x89
PONG: Final = 0x8A
#: First bytes of fragments: that of the first lacks FIN, that of the others has the opcode 0.
TEXT_PART: Final = 0x01
BINARY_PART: Final = 0x02
MORE: Final = 0x00
LAST: Final = 0x80
#: To be added to the first byte of a compressed message.
RSV1: Final = 0x40

WITH_COMPRESSION: Final = b"permessage-deflate; client_max_window_bits"
KEY: Final = b"dGhlIHNhbXBsZSBub25jZQ=="


def masked(payload: bytes, mask: bytes = MASK) -> bytes:
    """`payload` as it goes over the wire."""
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def header(first: int, length: int, mask: bytes = MASK) -> bytes:
    """The header of a masked frame."""
    if length < 126:
        return bytes((first, 0x80 | length)) + mask
    if length < 65536:
        return bytes((first, 0xFE)) + length.to_bytes(2, "big") + mask
    return bytes((first, 0xFF)) + length.to_bytes(8, "big") + mask


def frame(first: int, payload: bytes = b"", mask: bytes = MASK) -> bytes:
    """A masked frame."""
    return header(first, len(payload), mask) + masked(payload, mask)


def close(code: int, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


class Deflater:
    """A client's compression. `final` streams end with a block that says so (RFC 7692, section 7.2.3.4)."""

    def __init__(self, bits: int = 12, final: bool = False) -> None:
        self.bits = bits
        self.final = final
        self.stream = zlib.compressobj(wbits=-bits)

    def __call__(self, data: bytes) -> bytes:
        if self.final:
            self.stream = zlib.compressobj(wbits=-self.bits)
            return self.stream.compress(data) + self.stream.flush() + b"\0"
        return (self.stream.compress(data) + self.stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def deflated(data: bytes, final: bool = False) -> bytes:
    """One message, compressed."""
    return Deflater(final=final)(data)


class RecordingSink:
    """Keeps what the codec calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_text(self, text: str) -> None:
        self.calls.append(("text", text))

    def on_bytes(self, data: bytes) -> None:
        assert type(data) is bytes
        self.calls.append(("bytes", data))

    def on_ping(self, data: bytes) -> None:
        assert type(data) is bytes
        self.calls.append(("ping", data))

    def on_pong(self, data: bytes) -> None:
        assert type(data) is bytes
        self.calls.append(("pong", data))

    def on_close(self, code: int, reason: str) -> None:
        self.calls.append(("close", code, reason))

    def on_busy(self) -> None:
        """Goes on."""


def handshake(*fields: tuple[bytes, bytes], without: bytes = b"") -> WebSocketHandshake:
    """The handshake of an ordinary client, with other fields besides."""
    ordinary = [
        [b"host", b"example.com"],
        [b"upgrade", b"websocket"],
        [b"connection", b"Upgrade"],
        [b"sec-websocket-key", KEY],
        [b"sec-websocket-version", b"13"],
    ]
    headers = [field for field in ordinary if field[0] != without] + [list(field) for field in fields]
    return WebSocketHandshake("GET", "1.1", headers, has_content=False)


def agreed(offer: bytes = WITH_COMPRESSION) -> PerMessageDeflate:
    """The server's half of what is agreed on when a client offers `offer`."""
    deflate = handshake((b"sec-websocket-extensions", offer)).accept(None, [], DefaultFields(), True)[1]
    assert deflate is not None
    return deflate


class Client:
    """The far end of a codec: sends it bytes, sees what it calls."""

    def __init__(
        self,
        *,
        deflate: PerMessageDeflate | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        max_fragments: int = MAX_FRAGMENTS,
    ) -> None:
        self.sink = RecordingSink()
        self.codec = WebSocketCodec(self.sink, max_message_bytes, max_fragments, deflate)
        self.refused: tuple[int, str] | None = None

    def send(self, data: bytes, piece: int = 1 << 30) -> Client:
        """Send `data`, in pieces of `piece` bytes; a refusal is kept."""
        for start in range(0, len(data), piece):
            try:
                self.codec.receive_data(data[start : start + piece])
            except WebSocketProtocolError as error:
                assert self.refused is None, "refused twice"
                self.refused = (error.code, error.reason)
        return self

    @property
    def buffered_bytes(self) -> int:
        """The number of bytes that the codec holds."""
        return len(self.codec._buffer) - self.codec._position + len(self.codec._message)

    @property
    def calls(self) -> list[tuple[Any, ...]]:
        return self.sink.calls

    @property
    def code(self) -> int | None:
        """The code that the server would close with, None as long as all is well."""
        return self.refused[0] if self.refused else None


def pausing_after_each_call(client: Client) -> None:
    """Pause the codec within each call, as a connection does whose application is behind."""
    sink = client.sink

    class Calls(list[tuple[Any, ...]]):
        paused_at = -1

        def append(self, call: tuple[Any, ...]) -> None:
            assert len(self) != self.paused_at, "called while paused"
            super().append(call)
            self.paused_at = len(self)
            client.codec.pause()

    sink.calls = Calls()


def resume(client: Client) -> None:
    """Resume a codec that pauses after each call; a refusal is kept."""
    client.sink.calls.paused_at = -1  # type: ignore[attr-defined]
    try:
        client.codec.resume()
    except WebSocketProtocolError as error:
        assert client.refused is None
        client.refused = (error.code, error.reason)


def received(stream: bytes, compression: bool = False) -> list[tuple[Any, ...]]:
    """What is called for a stream that is not refused."""
    client = Client(deflate=agreed() if compression else None).send(stream)
    assert client.refused is None
    return client.calls


EURO: Final = "\N{EURO SIGN}".encode()
POOP: Final = "\N{PILE OF POO}".encode()
HELLO: Final = "Hello, Wörld €, \N{PILE OF POO}".encode()

_deflate = Deflater()
_final = Deflater(final=True)

VALID: dict[str, bytes] = {
    "text": frame(TEXT, b"hello"),
    "empty text": frame(TEXT),
    "empty binary": frame(BINARY),
    "binary": frame(BINARY, bytes(range(256))),
    "text of every length form": frame(TEXT, b"a" * 125) + frame(TEXT, b"b" * 126) + frame(TEXT, b"c" * 127),
    "text beyond ascii": frame(TEXT, HELLO),
    "other masks": frame(TEXT, HELLO, b"\0\0\0\0") + frame(TEXT, HELLO, b"\x80\xff\x7f\x01"),
    "limit": frame(TEXT, b"a" * 1000) + frame(BINARY, b"a" * 1000),
    "limit in fragments": frame(TEXT_PART, b"a" * 500) + frame(LAST, b"a" * 500),
    "fragments": frame(TEXT_PART, HELLO[:9]) + frame(MORE, HELLO[9:20]) + frame(LAST, HELLO[20:]),
    "fragments of binary": frame(BINARY_PART, b"\xff") + frame(MORE) + frame(LAST, b"\xfe"),
    "fragments of a character": frame(TEXT_PART, EURO[:1]) + frame(MORE, EURO[1:2]) + frame(LAST, EURO[2:]),
    "empty fragments": frame(TEXT_PART) + frame(MORE) + frame(LAST),
    "most fragments": frame(TEXT_PART, b"a") + frame(MORE, b"b") * 8 + frame(LAST, b"c"),
    "controls between fragments": frame(TEXT_PART, b"a") + frame(PING, b"x") + frame(PONG) + frame(LAST, b"b"),
    "pings": frame(PING) + frame(PING, b"a" * 125) + frame(PONG, b"\xff\xfe"),
    "close": close(1000, b"bye") + frame(TEXT, b"never read"),
    "close without code": frame(CLOSE) + frame(TEXT, b"never read"),
    "close with the longest reason": close(4999, b"r" * 123),
    "close between fragments": frame(TEXT_PART, b"a") + close(1001),
    "close, then nonsense": close(3000) + b"\xff" * 50,
    "many": (frame(TEXT, b"one") + frame(BINARY, b"two")) * 20,
    "cut off in a header": frame(TEXT, b"a") + header(TEXT, 300)[:3],
    "cut off in a payload": frame(TEXT, HELLO)[:-3],
    "cut off in a ping": frame(PING, b"abc")[:-1],
    "cut off between fragments": frame(BINARY_PART, b"abc"),
}

COMPRESSED: dict[str, bytes] = {
    "compressed text": frame(TEXT | RSV1, deflated(HELLO)),
    "compressed binary": frame(BINARY | RSV1, deflated(bytes(range(256)))),
    "compressed and not": frame(TEXT | RSV1, _deflate(HELLO))
    + frame(TEXT, HELLO)
    + frame(TEXT | RSV1, _deflate(HELLO)),
    "compressed empty": frame(TEXT | RSV1, b"\0") + frame(TEXT | RSV1, b""),
    "compressed in fragments": frame(TEXT_PART | RSV1, deflated(HELLO)[:7])
    + frame(MORE, deflated(HELLO)[7:9])
    + frame(PING)
    + frame(LAST, deflated(HELLO)[9:]),
    "compressed with an empty last fragment": frame(TEXT_PART | RSV1, deflated(HELLO)) + frame(LAST),
    "compressed limit": frame(TEXT | RSV1, deflated(b"a" * 1000)),
    "compressed with final blocks": frame(TEXT | RSV1, _final(HELLO)) + frame(TEXT | RSV1, _final(b"again")),
    "compressed in two streams": frame(TEXT | RSV1, deflated(HELLO, final=True)[:-1] + deflated(b"more")),
    "incompressible limit": frame(BINARY | RSV1, b"\0\xe8\x03\x17\xfc" + bytes(range(250)) * 4 + b"\0"),
}

#: Streams to the code that they are closed with, and whether compression has been agreed on.
INVALID: dict[str, tuple[bytes, int, bool]] = {
    **{
        f"5.2 {name}": (frame(TEXT, b"before") + stream, 1002, False)
        for name, stream in {
            "rsv1": frame(TEXT | 0x40, b"a"),
            "rsv2": frame(TEXT | 0x20, b"a"),
            "rsv3": frame(TEXT | 0x10, b"a"),
            "all reserved bits": frame(TEXT | 0x70, b"a"),
            "rsv1 in a ping": frame(PING | 0x40),
            **{f"opcode {opcode}": frame(0x80 | opcode, b"a") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
            "16 bits for 125": b"\x81\xfe\x00\x7d" + MASK + b"a" * 125,
            "64 bits for 125": b"\x81\xff" + (125).to_bytes(8, "big") + MASK + b"a" * 125,
            "64 bits for 65535": b"\x81\xff" + (65535).to_bytes(8, "big") + MASK,
            "64 bits with the highest": b"\x81\xff\x80" + bytes(7) + MASK,
        }.items()
    },
    "5.1 unmasked": (b"\x81\x05hello", 1002, False),
    "5.1 unmasked and empty": (b"\x81\x00", 1002, False),
    "5.1 unmasked ping": (b"\x89\x00", 1002, False),
    "5.4 continuation of nothing": (frame(LAST, b"a"), 1002, False),
    "5.4 first part of nothing": (frame(MORE, b"a"), 1002, False),
    "5.4 message inside another": (frame(TEXT_PART, b"a") + frame(TEXT, b"b"), 1002, False),
    "5.4 message begun inside another": (frame(TEXT_PART, b"a") + frame(BINARY_PART, b"b"), 1002, False),
    "5.4 continuation after the last": (frame(TEXT_PART, b"a") + frame(LAST, b"b") + frame(LAST, b"c"), 1002, False),
    "5.5 fragmented ping": (frame(0x09, b"a"), 1002, False),
    "5.5 fragmented close": (frame(0x08), 1002, False),
    "5.5 long ping": (frame(PING, b"a" * 126), 1002, False),
    "5.5 long close": (close(1000, b"a" * 124), 1002, False),
    "5.5.1 close of one byte": (frame(CLOSE, b"a"), 1002, False),
    "5.5.1 reason is not UTF-8": (close(1000, b"\xff"), 1007, False),
    "5.5.1 reason ends early": (close(1000, EURO[:2]), 1007, False),
    **{
        f"7.4 code {code}": (close(code), 1002, False)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    **{
        f"8.1 {data!r}": (frame(TEXT, b"ok" + data + b"ok"), 1007, False)
        for data in (
            b"\xff",
            b"\x80",
            b"\xc0\x80",
            b"\xc1\xbf",
            b"\xe0\x9f\xbf",
            b"\xed\xa0\x80",
            b"\xed\xbf\xbf",
            b"\xf0\x8f\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xf5\x80\x80\x80",
            EURO[:2],
            POOP[:3],
        )
    },
    "8.1 ends in a character": (frame(TEXT, EURO[:2]), 1007, False),
    "8.1 ends in a character, in fragments": (frame(TEXT_PART, POOP[:2]) + frame(LAST, POOP[2:3]), 1007, False),
    "8.1 in the first fragment": (frame(TEXT_PART, b"\xff") + frame(LAST, b"a"), 1007, False),
    "8.1 in the last fragment": (frame(TEXT_PART, b"a") + frame(LAST, b"\xff"), 1007, False),
    "8.1 in a frame that is not whole": (header(TEXT, 500) + masked(b"ab\xffcd"), 1007, False),
    "8.1 before a fault in the next frame": (frame(TEXT_PART, b"\xff") + b"\xff\xff", 1007, False),
    "E5 long frame": (header(TEXT, 1001), 1009, False),
    "E5 huge frame": (header(BINARY, (1 << 63) - 1), 1009, False),
    "E5 long fragments": (frame(TEXT_PART, b"a" * 600) + header(MORE, 401), 1009, False),
    "E5 many fragments": (frame(TEXT_PART, b"a") + frame(MORE, b"b") * 10, 1009, False),
    "E5 empty fragments without end": (frame(BINARY_PART) + frame(MORE) * 100, 1009, False),
    "E4 inflates too long": (frame(TEXT | RSV1, deflated(b"a" * 1001)), 1009, True),
    "E4 inflates far too long": (frame(BINARY | RSV1, deflated(b"a" * 500000)), 1009, True),
    "E4 fragments inflate too long": (
        frame(BINARY_PART | RSV1, deflated(b"a" * 100000)[:60]) + frame(LAST, deflated(b"a" * 100000)[60:]),
        1009,
        True,
    ),
    "E4 long on the wire": (header(BINARY | RSV1, 1190), 1009, True),
    "E4 empty blocks without end": (
        frame(BINARY_PART | RSV1, b"\0\0\0\xff\xff" * 200) + header(MORE, 190),
        1009,
        True,
    ),
    "7692 cannot be inflated": (frame(TEXT | RSV1, b"\xff\xff\xff\xff"), 1007, True),
    "7692 cannot be inflated, binary": (frame(BINARY | RSV1, deflated(HELLO)[:-1] + b"\xff" * 9), 1007, True),
    "7692 too many streams": (frame(BINARY | RSV1, b"\x03\0" * 65 + b"\0"), 1007, True),
    "7692 8.1 inflates to no text": (frame(TEXT | RSV1, deflated(b"ok\xffok")), 1007, True),
    "7692 8.1 inflates to half a character": (frame(TEXT | RSV1, deflated(EURO[:2])), 1007, True),
    "7692 8.1 no text, then cannot be inflated": (frame(TEXT | RSV1, deflated(b"ok\xffok") + b"\xff" * 9), 1007, True),
    "7692 8.1 no text, then too long": (frame(TEXT | RSV1, deflated(b"\xff" + b"a" * 5000)), 1007, True),
    "7692 too long, then no text": (frame(TEXT | RSV1, deflated(b"a" * 1000 + b"\xff")), 1009, True),
    "7692 too long, then cannot be inflated": (
        frame(BINARY | RSV1, deflated(b"a" * 1001)[:-1] + b"\xff" * 9),
        1009,
        True,
    ),
    "7692 too long by the end of a stream too many": (
        frame(BINARY | RSV1, b"\x03\0" * 64 + deflated(b"a" * 1001, final=True)),
        1009,
        True,
    ),
    "7692 rsv1 in a continuation": (frame(TEXT_PART | RSV1, b"a") + frame(LAST | RSV1, b"a"), 1002, True),
    "7692 rsv1 in a ping": (frame(PING | RSV1), 1002, True),
    "7692 rsv2": (frame(TEXT | RSV1 | 0x20, b"a"), 1002, True),
}

#: Every stream, with whether compression has been agreed on.
STREAMS: dict[str, tuple[bytes, bool]] = {
    **{name: (stream, False) for name, stream in VALID.items()},
    **{f"{name}, compression agreed on": (stream, True) for name, stream in VALID.items()},
    **{name: (stream, True) for name, stream in COMPRESSED.items()},
    **{name: (stream, compression) for name, (stream, code, compression) in INVALID.items()},
}
