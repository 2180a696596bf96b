"""permessage-deflate: messages compressed one by one (RFC 7692).

The parameters are negotiated by `websockets`. Inflating is ours: a message is inflated as it arrives, in steps, and
never further than it may be long. Its extension object inflates whole frames.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final, final

from websockets.exceptions import NegotiationError
from websockets.extensions.permessage_deflate import PerMessageDeflate as Parameters
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import build_extension
from websockets.typing import ExtensionHeader, ExtensionName

from uvicorn.errors import WebSocketProtocolError

#: Shorter messages are sent as they are. Within one TCP segment the network gains little, deflating costs more than
#: all the rest of a frame does, and a connection that only ever sends short ones needs no compressor (32 KiB).
MIN_COMPRESSED_BYTES: Final = 1024

#: The one reason for whatever is wrong inside compressed data. Where zlib fails it keeps what it has inflated in that
#: call to itself, so whether text had gone wrong before depends on how the stream was cut; the answer must not.
INVALID_COMPRESSED: Final = "compressed data does not inflate to a valid message"

# What ends each message, left out on the wire (section 7.2.1).
_TAIL: Final = b"\x00\x00\xff\xff"

# Inflating goes by steps: zlib copies what is left of its input at the end of each, and memory grows by one at a time.
_STEP_IN: Final = 16384
_STEP_OUT: Final = 65536

# Bytes that one byte inflates to at most: two bits, for 258 bytes each.
_MAX_RATIO: Final = 1032

# Deflate streams that may end within one message (section 7.2.3.4). Each costs a new decompressor, and a hostile
# message could hold one in every two bytes.
_MAX_STREAM_ENDS: Final = 64

# The library's own choice: 4 KiB windows do for the usual small messages, and with this memory level a connection
# needs 32 KiB for its compressor rather than 256.
_MEMORY_LEVEL: Final = 5
_FACTORY: Final = ServerPerMessageDeflateFactory(
    server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": _MEMORY_LEVEL}
)
_NAME: Final = ExtensionName("permessage-deflate")


@final
class PerMessageDeflate:
    """The compression of one connection, as agreed on. Costs next to nothing until the first compressed message."""

    def __init__(self, parameters: Parameters) -> None:
        # At least 9: zlib compresses with 9 where 8 is asked for, and refers further back than 8 bits reach.
        self._inflate_bits = -max(9, parameters.remote_max_window_bits)
        self._deflate_bits = -parameters.local_max_window_bits
        self._client_starts_anew = parameters.remote_no_context_takeover
        self._server_starts_anew = parameters.local_no_context_takeover
        self._decompressor: zlib._Decompress | None = None
        self._compressor: zlib._Compress | None = None
        self._stream_ends = 0

    def inflate(self, data: bytes, final: bool, room: int) -> Iterator[bytes]:
        """Inflate a part of a message, the last one if `final`, piece by piece.

        No further than one byte over `room`, the number that may still come: then the last piece is too long by that
        byte, and the message is to be refused. Raises WebSocketProtocolError for data that cannot be inflated.
        """
        if final:
            data += _TAIL
        decompressor = self._decompressor
        if decompressor is None:
            decompressor = zlib.decompressobj(self._inflate_bits)
        position = 0
        width = _STEP_IN
        full = False
        while position < len(data) or full:
            part = data[position : position + width]
            step = min(_STEP_OUT, room + 1)
            # Before a fault the message may have become too long, and zlib keeps to itself what it has inflated then.
            retry = decompressor.copy() if len(part) > 1 and room < (len(part) + 8) * _MAX_RATIO else None
            try:
                piece = decompressor.decompress(part, step)
            except zlib.error:
                if retry is None:
                    raise WebSocketProtocolError(1007, INVALID_COMPRESSED) from None
                # Byte by byte, whichever comes first is found, however the stream was cut.
                decompressor = retry
                width = 1
                continue
            position += len(part) - len(decompressor.unconsumed_tail) - len(decompressor.unused_data)
            # zlib may have read all and still have something to tell.
            full = len(piece) == step and not decompressor.eof
            if piece:
                room -= len(piece)
                yield piece
                if room < 0:
                    return
            if decompressor.eof:
                self._stream_ends += 1
                if self._stream_ends > _MAX_STREAM_ENDS:
                    raise WebSocketProtocolError(1007, INVALID_COMPRESSED)
                decompressor = zlib.decompressobj(self._inflate_bits)
        if final:
            self._stream_ends = 0
            self._decompressor = None if self._client_starts_anew else decompressor
        else:
            self._decompressor = decompressor

    def deflate(self, data: bytes) -> bytes:
        """A whole message, compressed. It must be sent, and in this order: the next one may refer to it."""
        compressor = self._compressor
        if compressor is None:
            compressor = zlib.compressobj(wbits=self._deflate_bits, memLevel=_MEMORY_LEVEL)
            if not self._server_starts_anew:
                self._compressor = compressor
        return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def negotiate(offers: Iterable[ExtensionHeader]) -> tuple[str, PerMessageDeflate] | None:
    """Agree to the first offer that can be met (section 5); its answer for sec-websocket-extensions comes with it."""
    for name, parameters in offers:
        if name == _NAME:
            try:
                agreed, extension = _FACTORY.process_request_params(parameters, ())
            except NegotiationError:
                continue
            return build_extension([(_NAME, agreed)]), PerMessageDeflate(extension)
    return None
