from __future__ import annotations

import random
import tracemalloc
import zlib
from typing import Any

import pytest

from tests.websocket_streams import (
    BINARY,
    BINARY_PART,
    LAST,
    RSV1,
    TEXT,
    Client,
    Deflater,
    agreed,
    deflated,
    frame,
    handshake,
)
from uvicorn.errors import WebSocketProtocolError
from uvicorn.wire.http1.default_fields import DefaultFields
from uvicorn.wire.websocket.deflate import PerMessageDeflate

MEBIBYTE = 1 << 20
ROOM = 1 << 30
OFFER = b"permessage-deflate; client_max_window_bits=%d"


def answer(*offers: bytes) -> bytes:
    """The server's sec-websocket-extensions field in response to `offers`; empty if it has none."""
    fields = [(b"sec-websocket-extensions", offer) for offer in offers]
    response, _ = handshake(*fields).accept(None, [], DefaultFields(), compression=True)
    for line in response.split(b"\r\n"):
        if line.startswith(b"sec-websocket-extensions: "):
            return line.partition(b": ")[2]
    return b""


def inflated(deflate: PerMessageDeflate, message: bytes) -> bytes:
    return b"".join(deflate.inflate(message, True, ROOM))


class Inflater:
    """A client's decompression, with or without context takeover."""

    def __init__(self, bits: int = 12, takeover: bool = True) -> None:
        self.bits = bits
        self.takeover = takeover
        self.stream = zlib.decompressobj(-bits)

    def __call__(self, message: bytes) -> bytes:
        if not self.takeover:
            self.stream = zlib.decompressobj(-self.bits)
        return self.stream.decompress(message + b"\0\0\xff\xff")


# Negotiation (RFC 7692, section 7.1)


@pytest.mark.parametrize(
    ("offer", "agreed_on"),
    [
        (b"permessage-deflate", b"permessage-deflate; server_max_window_bits=12"),
        (
            b"permessage-deflate; client_max_window_bits",
            b"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            b"permessage-deflate; client_max_window_bits=10; server_max_window_bits=9",
            b"permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
        ),
        (
            b"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            b"permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
        ),
        (b'permessage-deflate; server_max_window_bits="10"', b"permessage-deflate; server_max_window_bits=10"),
        (b"x-unknown, permessage-deflate", b"permessage-deflate; server_max_window_bits=12"),
        (b"permessage-deflate; unknown, permessage-deflate", b"permessage-deflate; server_max_window_bits=12"),
        (b"permessage-deflate, permessage-deflate", b"permessage-deflate; server_max_window_bits=12"),
        (b"permessage-deflate; server_max_window_bits=8", b""),
        (b"permessage-deflate; server_max_window_bits=16", b""),
        (b"permessage-deflate; server_max_window_bits", b""),
        (b"permessage-deflate; server_max_window_bits=10; server_max_window_bits=10", b""),
        (b"permessage-deflate; server_no_context_takeover=1", b""),
        (b"permessage-deflate; unknown=1", b""),
        (b"x-webkit-deflate-frame", b""),
    ],
)
def test_the_first_acceptable_compression_offer_is_accepted(offer: bytes, agreed_on: bytes) -> None:
    assert answer(offer) == agreed_on


def test_compression_offers_may_be_spread_over_several_fields() -> None:
    assert answer(b"x-unknown", b"permessage-deflate") == b"permessage-deflate; server_max_window_bits=12"


def test_compression_extension_is_empty_if_the_client_offers_no_compression() -> None:
    assert answer() == b""


# Contexts


@pytest.mark.parametrize("granted", [8, 9, 10, 11, 12])
def test_split_frame_that_refers_beyond_the_negotiated_window_is_inflated(granted: int) -> None:
    """zlib itself compresses with a window of 9 bits when asked for 8."""
    far = random.Random(granted).randbytes((1 << granted) + 50)
    message = far + bytes(300) + far
    stream = frame(BINARY | RSV1, Deflater(15)(message))
    assert len(stream) < len(far) + 300
    for cut in range(1, len(stream)):
        client = (
            Client(deflate=agreed(OFFER % granted), max_message_bytes=MEBIBYTE).send(stream[:cut]).send(stream[cut:])
        )
        assert client.calls == [("bytes", message)], cut


@pytest.mark.parametrize("granted", [8, 12])
@pytest.mark.parametrize("piece", [1, 7, 100, 5000])
def test_messages_that_refer_beyond_the_negotiated_window_are_inflated(granted: int, piece: int) -> None:
    client, source, deflater = (
        Client(deflate=agreed(OFFER % granted), max_message_bytes=MEBIBYTE),
        random.Random(granted),
        Deflater(15),
    )
    messages = [source.randbytes(10_000) for _ in range(3)] * 2
    for message in messages:
        client.send(frame(BINARY | RSV1, deflater(message)), piece)
    assert client.calls == [("bytes", message) for message in messages]


@pytest.mark.parametrize("bits", [9, 12, 15])
def test_compressed_messages_of_a_client_may_refer_to_earlier_messages(bits: int) -> None:
    deflate = agreed(OFFER % bits)
    client = Deflater(min(bits, 12))
    assert [inflated(deflate, client(b"the same words again")) for _ in range(3)] == [b"the same words again"] * 3


def test_client_messages_are_inflated_if_client_no_context_takeover_is_negotiated() -> None:
    deflate = agreed(b"permessage-deflate; client_no_context_takeover")
    assert [inflated(deflate, deflated(b"words")) for _ in range(3)] == [b"words"] * 3


def test_client_message_cannot_refer_to_an_earlier_message_without_context_takeover() -> None:
    deflate = agreed(b"permessage-deflate; client_no_context_takeover")
    client = Deflater()
    words = b"the same words again and again, far apart"
    assert inflated(deflate, client(words)) == words
    with pytest.raises(WebSocketProtocolError):
        inflated(deflate, client(words))


def test_compressed_messages_of_the_server_refer_to_earlier_messages() -> None:
    deflate, client = agreed(), Inflater()
    message = random.Random(1).randbytes(2000)
    first, second = deflate.deflate(message), deflate.deflate(message)
    assert len(second) < len(first) / 10
    assert (client(first), client(second)) == (message, message)


def test_server_messages_are_independent_of_each_other_without_context_takeover() -> None:
    deflate, client = agreed(b"permessage-deflate; server_no_context_takeover"), Inflater(takeover=False)
    message = b"words" * 500
    first, second = deflate.deflate(message), deflate.deflate(message)
    assert first == second
    assert (client(first), client(second)) == (message, message)


@pytest.mark.parametrize("bits", [9, 10, 11, 12])
def test_server_messages_are_compressed_within_the_negotiated_window(bits: int) -> None:
    deflate = agreed(b"permessage-deflate; server_max_window_bits=%d" % bits)
    client = Inflater(bits)
    message = random.Random(bits).randbytes(1 << 11) * 4
    assert client(deflate.deflate(message)) == message


def test_final_deflate_block_may_end_in_the_middle_or_at_the_end_of_a_message() -> None:
    deflate, ending = agreed(), Deflater(final=True)
    assert inflated(deflate, ending(b"one")) == b"one"
    assert inflated(deflate, ending(b"two")[:-1] + deflated(b" and three")) == b"two and three"
    assert inflated(deflate, deflated(b"four")) == b"four"


def test_200_messages_may_each_end_with_a_final_deflate_block() -> None:
    deflate, ending = agreed(), Deflater(final=True)
    assert [inflated(deflate, ending(b"words")) for _ in range(200)] == [b"words"] * 200


def test_compression_allocates_almost_no_memory_before_the_first_message() -> None:
    tracemalloc.start()
    kept = [PerMessageDeflate(parameters) for parameters in [_parameters()] * 100]
    allocated = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert allocated < len(kept) * 500


def _parameters() -> Any:
    from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

    return ServerPerMessageDeflateFactory().process_request_params([], [])[1]


# Bounds


@pytest.mark.parametrize("room", [0, 1, 1000, 65535, 65536, 65537, 200_000])
def test_decompression_stops_one_byte_above_the_limit(room: int) -> None:
    pieces = agreed().inflate(deflated(b"a" * 1_000_000), True, room)
    assert sum(map(len, pieces)) == room + 1


@pytest.mark.parametrize("size", [0, 1, 2043, 65535, 65536, 65537, 131_072, 300_000])
@pytest.mark.parametrize("content", ["repeated", "random"])
def test_compressed_message_of_any_size_is_inflated_completely(size: int, content: str) -> None:
    message = b"a" * size if content == "repeated" else random.Random(size).randbytes(size)
    assert b"".join(agreed().inflate(deflated(message), True, size)) == message


def test_compressed_message_that_arrives_byte_by_byte_is_inflated_completely() -> None:
    deflate = agreed()
    whole = deflated(b"a" * 300_000)
    pieces = [piece for byte in whole for piece in deflate.inflate(bytes((byte,)), False, ROOM)]
    pieces += deflate.inflate(b"", True, ROOM)
    assert b"".join(pieces) == b"a" * 300_000


def test_incomplete_compressed_message_yields_all_available_output() -> None:
    """Also if a step of output ends within the output of the last byte of input."""
    whole = deflated(b"a" * 200_000)
    for end in range(len(whole)):
        pieces = agreed().inflate(whole[:end], False, ROOM)
        assert sum(map(len, pieces)) == len(zlib.decompressobj(-12).decompress(whole[:end])), end


def test_compression_bomb_is_rejected_with_less_memory_than_twice_the_limit() -> None:
    stream = zlib.compressobj(9, wbits=-12)
    first, again = [stream.compress(bytes(MEBIBYTE)) + stream.flush(zlib.Z_SYNC_FLUSH) for _ in range(2)]
    # Both inflate to a mebibyte; the second may follow any data that ends with zeros.
    bomb = first + again * 999
    assert MEBIBYTE * 0.9 < len(bomb) < MEBIBYTE * 1.1
    data = frame(BINARY | RSV1, bomb)
    client = Client(deflate=agreed(), max_message_bytes=MEBIBYTE)
    tracemalloc.start()
    for start in range(0, len(data), 65536):
        client.send(data[start : start + 65536])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert client.code == 1009
    assert peak < 2 * MEBIBYTE


def test_a_compression_bomb_in_two_fragments_is_rejected() -> None:
    bomb = deflated(b"a" * 10 * MEBIBYTE)
    client = Client(deflate=agreed(), max_message_bytes=MEBIBYTE)
    client.send(frame(BINARY_PART | RSV1, bomb[:500]) + frame(LAST, bomb[500:]))
    assert (client.calls, client.code) == ([], 1009)


def test_incompressible_message_with_exactly_the_size_limit_is_accepted() -> None:
    message = random.Random(1).randbytes(MEBIBYTE)
    client = Client(deflate=agreed(), max_message_bytes=MEBIBYTE).send(frame(BINARY | RSV1, deflated(message)))
    assert client.calls == [("bytes", message)]


@pytest.mark.parametrize("stream", [b"\xff\xff\xff", b"\x03\0" * 65 + b"\0", deflated(b"a" * 100)[:-1] + b"\x07"])
def test_malformed_compressed_data_closes_with_1007(stream: bytes) -> None:
    client = Client(deflate=agreed()).send(frame(TEXT | RSV1, stream))
    assert client.refused == (1007, "compressed data does not inflate to a valid message")


def test_client_can_inflate_the_messages_of_the_server() -> None:
    deflate, client = agreed(), Inflater()
    source = random.Random(7)
    messages = [source.randbytes(source.randint(1, 50)) * source.randint(20, 2000) for _ in range(30)]
    assert [client(deflate.deflate(message)) for message in messages] == messages
