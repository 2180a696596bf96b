from __future__ import annotations

import tracemalloc
from itertools import product

import pytest

from tests.corpus import POST, chunked, request
from uvicorn.errors import RemoteProtocolError
from uvicorn.settings import Limits
from uvicorn.wire.http1.head import METHODS
from uvicorn.wire.http1.parser import HTTP1RequestParser


class Log:
    """A sink that records its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.content = b""

    def on_request(self) -> None:
        self.calls.append("request")

    def on_content(self, content: bytes) -> None:
        self.calls.append("content")
        self.content += content

    def on_message_complete(self) -> None:
        self.calls.append("complete")


def parse(stream: bytes, limits: Limits | None = None) -> tuple[HTTP1RequestParser, Log]:
    log = Log()
    parser = HTTP1RequestParser(log, limits or Limits())
    parser.receive_data(stream)
    return parser, log


def pairs(parser: HTTP1RequestParser) -> list[list[bytes]]:
    return [[name, value] for name, value in zip(*parser.fields, strict=True)]


def test_parser_reads_the_request_line_and_the_fields_and_the_content_length() -> None:
    parser, log = parse(request(b"PUT /a?b HTTP/1.1", b"Content-Length: 3", b"X-A:  b "))
    assert (parser.method, parser.target, parser.http_version) == ("PUT", b"/a?b", "1.1")
    assert pairs(parser) == [[b"host", b"x"], [b"content-length", b"3"], [b"x-a", b"b"]]
    assert (parser.content_length, parser.content_left, parser.keep_alive) == (3, 3, True)
    assert log.calls == ["request"]


def test_length_of_chunked_content_is_unknown() -> None:
    parser, log = parse(chunked(b"3\r\nab"))
    assert (parser.content_length, parser.content_left) == (-1, -1)


def test_parser_stops_after_each_message_until_the_caller_resumes_it() -> None:
    parser, log = parse(request() + request(b"GET /2 HTTP/1.1"))
    assert (log.calls, parser.target) == (["request"], b"/")
    parser.next_message()
    assert (log.calls, parser.target) == (["request"] * 2, b"/2")


@pytest.mark.parametrize(
    "stream",
    [
        request(b"GET / HTTP/1.1", b"cookie: " + b"a" * 60000),
        request(b"GET / HTTP/1.1", b"a: 1", b"a: " + b"a" * 60000),
        request(b"GET /" + b"a" * 60000 + b" HTTP/1.1"),
        request(POST, b"content-length: 1", b"cookie: " + b"a" * 60000, content=b"a"),
        request(b"GET / HTTP/1.1", *(b"%d:" % number for number in range(100, 250))),
    ],
    ids=["field", "repeated field", "target", "field and content", "many fields"],
)
def test_large_head_is_freed_before_the_next_request(stream: bytes) -> None:
    parser = HTTP1RequestParser(Log(), Limits())
    tracemalloc.start()
    try:
        parser.receive_data(stream)
        parser.next_message()
        assert tracemalloc.get_traced_memory()[0] < 8192
    finally:
        tracemalloc.stop()


def test_parser_buffers_input_until_next_message_is_called() -> None:
    parser, log = parse(request())
    parser.receive_data(request(b"GET /2 HTTP/1.1"))
    assert bytes(parser.buffer) == request(b"GET /2 HTTP/1.1")


@pytest.mark.parametrize("name", [b"proxy-connection", b"Proxy-Connection"])
@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"GET http://x/ HTTP/1.1"])
def test_proxy_connection_field_does_not_close_the_connection(name: bytes, line: bytes) -> None:
    parser, log = parse(request(line, name + b": close") + request(b"GET /2 HTTP/1.1"))
    assert parser.keep_alive
    parser.next_message()
    assert (log.calls, parser.target) == (["request"] * 2, b"/2")


def test_repeated_fields_keep_their_order_and_their_values() -> None:
    parser, log = parse(request(b"GET / HTTP/1.1", b"a: 1", b"b: 2", b"A: 3 ", b"connection: x", b"connection: close"))
    assert pairs(parser) == [
        [b"host", b"x"],
        [b"a", b"1"],
        [b"b", b"2"],
        [b"a", b"3"],
        [b"connection", b"x"],
        [b"connection", b"close"],
    ]
    assert not parser.keep_alive


def test_parser_ignores_input_after_a_malformed_request() -> None:
    parser, log = parse(b"")
    with pytest.raises(RemoteProtocolError):
        parser.receive_data(b"\n")
    parser.receive_data(request())
    parser.next_message()
    parser.receive_data(request())
    assert log.calls == []


def test_parser_ignores_input_after_it_was_stopped() -> None:
    parser, log = parse(request(POST, b"content-length: 5", content=b"he"))
    parser.stop()
    parser.receive_data(b"llo" + request())
    assert log.content == b"he"


def test_content_before_a_malformed_chunk_reaches_the_application() -> None:
    log = Log()
    parser = HTTP1RequestParser(log, Limits())
    with pytest.raises(RemoteProtocolError):
        parser.receive_data(chunked(b"5\r\nhello\r\nzz\r\n"))
    assert log.content == b"hello"


@pytest.mark.parametrize("method", METHODS)
def test_request_with_any_known_method_is_accepted(method: bytes) -> None:
    parser, log = parse(request(method + b" / HTTP/1.1"))
    assert parser.method == method.decode()


def test_missing_host_field_is_taken_from_an_absolute_target() -> None:
    parser, log = parse(request(b"GET http://a/b HTTP/1.0", host=None))
    assert (pairs(parser), parser.target) == ([[b"host", b"a"]], b"/b")


def test_target_of_OPTIONS_is_an_asterisk_if_the_absolute_url_has_no_path() -> None:
    parser, log = parse(request(b"OPTIONS http://a HTTP/1.1"))
    assert parser.target == b"*"


def test_content_is_unlimited_if_max_content_bytes_is_0() -> None:
    parser, log = parse(request(POST, b"content-length: 999999999999999999"), Limits(max_content_bytes=0))
    assert parser.content_length == 999999999999999999


@pytest.mark.parametrize(
    "stream", [request(POST, b"content-length: 11"), chunked(b"a\r\n0123456789\r\n1\r\n"), chunked(b"b\r\n")]
)
def test_content_above_the_limit_is_rejected_with_413_before_it_is_read(stream: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="content over 10 bytes") as raised:
        parse(stream, Limits(max_content_bytes=10))
    assert raised.value.status_hint == 413


def test_chunk_may_be_split_between_the_CR_and_the_LF_after_its_data() -> None:
    parser, log = parse(chunked(b"1\r\na\r"))
    parser.receive_data(b"\n0\r\n\r\n")
    assert (log.content, log.calls[-1]) == (b"a", "complete")


@pytest.mark.parametrize("size", [61, 60])
def test_headers_and_trailers_together_are_limited_to_max_header_bytes(size: int) -> None:
    stream = chunked(b"0\r\n" + b"x:" + b"a" * size + b"\r\n\r\n")
    # "host: x" and "transfer-encoding: chunked" with their line ends are 37 bytes.
    fits = Limits(max_header_bytes=37 + 2 + size + 2)
    assert parse(stream, fits)[1].calls[-1] == "complete"
    with pytest.raises(RemoteProtocolError, match="header and trailer sections together over"):
        parse(stream, Limits(max_header_bytes=37 + 2 + size + 1))


def test_keep_alive_depends_on_the_http_version_of_each_pipelined_request() -> None:
    parser, log = parse(request(b"GET / HTTP/1.1") + request(b"GET / HTTP/1.0") + request(b"GET / HTTP/1.1"))
    kept = [parser.keep_alive]
    for _ in range(2):
        parser.next_message()
        kept.append(parser.keep_alive)
    assert kept == [True, False, True]


def test_parser_parses_alternating_heads_with_and_without_content() -> None:
    with_content = request(POST, b"content-length: 1", content=b"x")
    parser, log = parse(request() + with_content + request() + with_content)
    lengths = [parser.content_length]
    for _ in range(3):
        parser.next_message()
        lengths.append(parser.content_length)
    assert lengths == [0, 1, 0, 1]


def test_parsed_head_does_not_depend_on_earlier_heads() -> None:
    streams = (
        request(),
        request(b"GET /2 HTTP/1.1"),
        request(b"GET / HTTP/1.1", b"Cookie: a=b"),
        request(b"GET / HTTP/1.0", b"Connection: keep-alive"),
        request(b"GET / HTTP/1.1", b"Connection: upgrade", b"Upgrade: websocket"),
        request(POST, b"Content-Length: 2", content=b"hi"),
    )

    def meaning(parser: HTTP1RequestParser) -> tuple[object, ...]:
        said = (parser.method, parser.target, parser.http_version, parser.fields, parser.content_length)
        return (*said, parser.keep_alive, parser.upgrade, parser.expect_continue)

    alone = {stream: meaning(parse(stream)[0]) for stream in streams}
    for first, second, third, fourth in product(streams, repeat=4):
        parser, log = parse(first)
        for stream in (second, third, fourth):
            parser.next_message()
            parser.receive_data(stream)
            assert meaning(parser) == alone[stream]


def test_parser_reuses_the_result_of_the_last_head_only_for_an_identical_head() -> None:
    first, second = request(), request(b"GET / HTTP/1.1", b"Cookie: a=b")
    parser, log = parse(first)
    pairs_of_each = [parser.pairs]
    for stream in (first, first, second, second, first):
        parser.next_message()
        parser.receive_data(stream)
        pairs_of_each.append(parser.pairs)
    host = (b"host", b"x")
    assert pairs_of_each == [None, [host], [host], None, [host, (b"cookie", b"a=b")], None]


@pytest.mark.parametrize("target", [b"/", b"http://x/"])
def test_more_fields_than_the_limit_are_rejected_with_431(target: bytes) -> None:
    fields = [b"x-%d: 1" % number for number in range(5)]
    with pytest.raises(RemoteProtocolError, match="fields") as raised:
        parse(request(b"GET " + target + b" HTTP/1.1", *fields), Limits(max_header_fields=4))
    assert raised.value.status_hint == 431


def test_an_unknown_method_is_rejected_with_501() -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        parse(request(b"BREW / HTTP/1.1"))
    assert raised.value.status_hint == 501
