"""Whether the time to parse grows with the input or with its square, in process and without limits: D8."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Final

from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.errors import RemoteProtocolError
from uvicorn.settings import Limits
from uvicorn.wire.http1.parser import HTTP1RequestParser

from .measuring import Figure, case
from .servers import CaseFailed, Workshop

_BYTES: Final = 1_000_000
_PIECE: Final = 100
_BAR: Final = 2.5

# The least of several runs is what the input costs; the rest is the machine's noise.
_REPETITIONS: Final = 7
_FEWEST_REPETITIONS: Final = 3
_SECONDS_EACH: Final = 1.0

_BOUNDLESS: Final = 1 << 40
_LIMITS: Final = Limits(
    max_request_line_bytes=_BOUNDLESS,
    max_header_bytes=_BOUNDLESS,
    max_header_fields=_BOUNDLESS,
    max_content_bytes=0,
    max_chunk_extension_bytes=_BOUNDLESS,
    max_chunk_extensions_bytes=_BOUNDLESS,
)

_GET: Final = b"GET / HTTP/1.1\r\nhost: x\r\n"
_CHUNKED: Final = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class _Sink:
    """A sink that also creates the exchange, which decodes the path."""

    parser: HTTP1RequestParser

    def __init__(self) -> None:
        self.complete = 0
        self._gateway = HTTPGateway()
        self._endpoint = Endpoint()

    def on_request(self) -> None:
        parser = self.parser
        HTTPExchange(
            self._gateway, self._endpoint, parser.method, parser.target, parser.http_version, parser.fields, True
        )
        # Without content a request is whole with its head.
        self.complete += parser.content_length == 0

    def on_content(self, content: bytes) -> None:
        pass

    def on_message_complete(self) -> None:
        self.complete += 1


def _fill(piece: bytes, count: int) -> bytes:
    return piece * (count // len(piece))


def _numbered(line: bytes, count: int) -> bytes:
    return b"".join(line % number for number in range(count // len(line % 100_000)))


# What is hostile, by name, made as long as is asked.
_INPUTS: Final[dict[str, Callable[[int], bytes]]] = {
    "long field value": lambda n: _GET + b"cookie: " + _fill(b"x", n) + b"\r\n\r\n",
    "many fields": lambda n: _GET + _numbered(b"x-%06d: y\r\n", n) + b"\r\n",
    "many fields of one name": lambda n: _GET + _fill(b"cookie: a=b\r\n", n) + b"\r\n",
    "connection: a,a,a,...": lambda n: _GET + b"connection: " + _fill(b"a,", n) + b"a\r\n\r\n",
    "target with many % and ?": lambda n: (
        b"GET /" + _fill(b"%41%zz%", n) + _fill(b"?%", n) + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    ),
    "one chunk extension": lambda n: _CHUNKED + b"1;" + _fill(b"a", n) + b"\r\nx\r\n0\r\n\r\n",
    "many chunk extensions": lambda n: _CHUNKED + _fill(b"1;a=b;c\r\nx\r\n", n) + b"0\r\n\r\n",
    "one trailer": lambda n: _CHUNKED + b"0\r\nfield: " + _fill(b"x", n) + b"\r\n\r\n",
    "many trailers": lambda n: _CHUNKED + b"0\r\n" + _fill(b"field: value\r\n", n) + b"\r\n",
    "chunks of one byte": lambda n: _CHUNKED + _fill(b"1\r\nx\r\n", n) + b"0\r\n\r\n",
}


def _parse(pieces: list[bytes]) -> float:
    sink = _Sink()
    parser = sink.parser = HTTP1RequestParser(sink, _LIMITS)
    began = time.process_time()
    for piece in pieces:
        parser.receive_data(piece)
    took = time.process_time() - began
    if sink.complete != 1:
        raise CaseFailed("the request was not complete: the case does not measure what it says")
    return took


def _least_seconds(data: bytes, size: int) -> float:
    pieces = [data[position : position + size] for position in range(0, len(data), size)]
    took: list[float] = []
    # The collector's passes come at thresholds: one more or less of them is no growth of the parser's.
    gc.disable()
    try:
        while len(took) < _FEWEST_REPETITIONS or (len(took) < _REPETITIONS and sum(took) < _SECONDS_EACH):
            took.append(_parse(pieces))
    finally:
        gc.enable()
    return min(took)


def _figure(name: str, make: Callable[[int], bytes], size: int) -> Figure:
    whole = _BYTES * 3
    how = "whole" if size == whole else f"pieces of {size}"
    try:
        once, twice = (_least_seconds(make(count), size) for count in (_BYTES, 2 * _BYTES))
    except RemoteProtocolError as error:
        raise CaseFailed(f"{name}: refused: {error}") from None
    ratio = twice / once
    note = f"{name}, {how}: {once * 1000:.1f} and {twice * 1000:.1f} ms" if ratio >= _BAR else ""
    return Figure(f"{name}, {how}", ratio, "ratio", _BAR, note=note)


@case("D8", "hostile input of 1 and of 2 MB through the parser", 300)
def parsing_times(workshop: Workshop) -> list[Figure]:
    return [_figure(name, make, size) for name, make in _INPUTS.items() for size in (_PIECE, _BYTES * 3)]
