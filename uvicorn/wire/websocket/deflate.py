"""Compresses and inflates messages (permessage-deflate, RFC 7692)."""

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

#: Shorter messages fit into one TCP segment, so they are sent uncompressed. A compressor takes time, and 32 KiB.
MIN_COMPRESSED_BYTES: Final = 1024

#: The close reason for all faults inside compressed data. Which fault zlib finds first depends on the split.
INVALID_COMPRESSED: Final = "compressed data does not inflate to a valid message"

# The end of each compressed message, removed on the wire (section 7.2.1).
_TAIL: Final = b"\x00\x00\xff\xff"

# The most bytes of one step: zlib copies its remaining input after each step, and memory grows with each.
_STEP_IN: Final = 16384
_STEP_OUT: Final = 65536

# The most bytes that one byte can inflate to: 258 for each two bits.
_MAX_RATIO: Final = 1032

# The most deflate streams that may end within one message (section 7.2.3.4). Each end costs a new decompressor.
_MAX_STREAM_ENDS: Final = 64

# The library's defaults: 4 KiB windows suffice for small messages, and a compressor takes 32 KiB instead of 256.
_MEMORY_LEVEL: Final = 5
_FACTORY: Final = ServerPerMessageDeflateFactory(
    server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": _MEMORY_LEVEL}
)
_NAME: Final = ExtensionName("permessage-deflate")

# The largest window, whatever was negotiated, because clients refer further back (zlib uses 9 bits when asked for 8),
# and whether zlib accepts that depends on the split of the stream.
_INFLATE_BITS: Final = -zlib.MAX_WBITS


@final
class PerMessageDeflate:
    """The compression of one connection."""

    def __init__(self, parameters: Parameters) -> None:
        self._deflate_bits = -parameters.local_max_window_bits
        self._client_starts_anew = parameters.remote_no_context_takeover
        self._server_starts_anew = parameters.local_no_context_takeover
        self._decompressor: zlib._Decompress | None = None
        self._compressor: zlib._Compress | None = None
        self._stream_ends = 0

    def inflate(self, data: bytes, final: bool, room: int) -> Iterator[bytes]:
        """Decompress a part of a message. Stop when the output exceeds `room` bytes."""
        if final:
            data += _TAIL
        decompressor = self._decompressor
        if decompressor is None:
            decompressor = zlib.decompressobj(_INFLATE_BITS)
        position = 0
        width = _STEP_IN
        full = False
        while position < len(data) or full:
            part = data[position : position + width]
            # With one byte more than `room`, the message is too large.
            step = min(_STEP_OUT, room + 1)
            # A failed zlib call withholds its output, with which the message may exceed its limit: prepare a retry.
            retry = decompressor.copy() if len(part) > 1 and room < (len(part) + 8) * _MAX_RATIO else None
            try:
                piece = decompressor.decompress(part, step)
            except zlib.error:
                if retry is None:
                    raise WebSocketProtocolError(1007, INVALID_COMPRESSED) from None
                # Byte by byte, to find which comes first: the limit or the fault.
                decompressor = retry
                width = 1
                continue
            position += len(part) - len(decompressor.unconsumed_tail) - len(decompressor.unused_data)
            # zlib may have read all its input and still hold output.
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
                decompressor = zlib.decompressobj(_INFLATE_BITS)
        if final:
            self._stream_ends = 0
            self._decompressor = None if self._client_starts_anew else decompressor
        else:
            self._decompressor = decompressor

    def deflate(self, data: bytes) -> bytes:
        """Compress a message. Messages must be sent in the order of compression."""
        compressor = self._compressor
        if compressor is None:
            compressor = zlib.compressobj(wbits=self._deflate_bits, memLevel=_MEMORY_LEVEL)
            if not self._server_starts_anew:
                self._compressor = compressor
        return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def negotiate(offers: Iterable[ExtensionHeader]) -> tuple[str, PerMessageDeflate] | None:
    """Return the response's extension and the compression, or None if no offer is acceptable."""
    for name, parameters in offers:
        if name == _NAME:
            try:
                agreed, extension = _FACTORY.process_request_params(parameters, ())
            except (NegotiationError, ValueError):
                # ValueError: older releases of websockets, for a window of 8 bits, which zlib cannot make.
                continue
            return build_extension([(_NAME, agreed)]), PerMessageDeflate(extension)
    return None
