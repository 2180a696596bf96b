from __future__ import annotations

from typing import Any

import pytest

from uvicorn.errors import LocalProtocolError
from uvicorn.wire.http1.default_fields import DefaultFields
from uvicorn.wire.http1.encoder import ContentTooLong, HTTP1ResponseEncoder, encode_default_fields


def encoder() -> HTTP1ResponseEncoder:
    return HTTP1ResponseEncoder(DefaultFields(b"", send_date=False))


def start(encoder: HTTP1ResponseEncoder, content: bytes = b"", more_content: bool = False, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "method": "GET",
        "http_version": "1.1",
        "keep_alive": True,
        "status": 200,
        "reason": b"",
        "headers": [],
    }
    return b"".join(encoder.start(**{**arguments, **changes}, content=content, more_content=more_content))


def test_a_complete_response_has_a_content_length() -> None:
    assert start(encoder(), b"hello") == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


def test_a_long_complete_response_has_a_content_length() -> None:
    content = bytes(100_000)
    assert start(encoder(), content) == b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + content


@pytest.mark.parametrize("reason", [b"OK", b"Fine"])
def test_the_reason_phrase_of_the_application_is_sent(reason: bytes) -> None:
    assert start(encoder(), reason=reason).startswith(b"HTTP/1.1 200 %b\r\n" % reason)


@pytest.mark.parametrize("length", [3, 2048])
def test_content_length_header_that_the_application_sets_is_sent_once(length: int) -> None:
    whole = start(encoder(), b"x" * length, headers=[[b"Content-Length", b"%d" % length]])
    assert whole == b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % length + b"x" * length


def test_a_streamed_response_is_chunked() -> None:
    response = encoder()
    beginning = start(response, b"hi", more_content=True)
    assert beginning == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"
    assert response.content(b"hello world", True) == b"b\r\nhello world\r\n"
    assert response.content(b"", True) == b""
    assert response.content(b"!", False) == b"1\r\n!\r\n0\r\n\r\n"


def test_a_streamed_response_may_end_without_content() -> None:
    response = encoder()
    start(response, more_content=True)
    assert response.content(b"", False) == b"0\r\n\r\n"


def test_streamed_response_with_a_content_length_is_not_chunked() -> None:
    response = encoder()
    head = start(response, more_content=True, headers=[[b"Content-Length", b"3"]])
    assert head == b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"
    assert response.content(b"ab", True) + response.content(b"c", False) == b"abc"


def test_streamed_response_to_an_http_1_0_client_has_connection_close() -> None:
    response = encoder()
    head = start(response, more_content=True, http_version="1.0")
    assert head == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
    assert response.content(b"ab", True) + response.content(b"c", False) == b"abc"
    assert not response.keep_alive


def test_http_1_0_response_has_connection_keep_alive_if_the_connection_stays_open() -> None:
    assert start(encoder(), http_version="1.0") == (
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n"
    )


def test_the_last_response_of_a_connection_has_connection_close() -> None:
    assert start(encoder(), keep_alive=False) == (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


@pytest.mark.parametrize(("content", "expected"), [(b"hello", b"content-length: 5\r\n"), (b"", b"")])
def test_response_to_HEAD_has_a_content_length_if_the_content_is_known(content: bytes, expected: bytes) -> None:
    assert start(encoder(), content, method="HEAD") == b"HTTP/1.1 200 OK\r\n" + expected + b"\r\n"


def test_a_response_to_HEAD_keeps_the_content_length_of_the_application() -> None:
    head = start(encoder(), method="HEAD", headers=[(b"content-length", b"7")])
    assert head == b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"


@pytest.mark.parametrize("changes", [{"status": 204}, {"status": 304}, {"method": "HEAD"}])
def test_content_of_a_response_to_HEAD_or_with_status_204_or_304_is_dropped(changes: dict[str, Any]) -> None:
    response = encoder()
    assert start(response, b"abc", more_content=True, **changes).endswith(b"\r\n\r\n")
    assert response.content(b"abc", False) == b""


def test_a_204_response_omits_the_content_length_of_the_application() -> None:
    assert b"content-length" not in start(encoder(), status=204, headers=[[b"content-length", b"0"]])


def test_a_304_response_keeps_the_content_length_of_the_application() -> None:
    assert b"content-length: 9" in start(encoder(), status=304, headers=[[b"content-length", b"9"]])


def test_an_unregistered_status_has_an_empty_reason_phrase() -> None:
    assert start(encoder(), status=299).startswith(b"HTTP/1.1 299 \r\n")


def test_ContentTooLong_error_has_the_bytes_that_fit_in_content_length() -> None:
    response = encoder()
    start(response, more_content=True, headers=[[b"content-length", b"3"]])
    with pytest.raises(ContentTooLong, match="content-length is 3 but the app sent more") as raised:
        response.content(b"abcd", True)
    assert raised.value.allowed == b"abc"


def test_error_for_too_little_content_shows_the_number_of_sent_bytes() -> None:
    response = encoder()
    start(response, more_content=True, headers=[[b"content-length", b"12"]])
    response.content(b"abcdefgh", True)
    with pytest.raises(LocalProtocolError, match="content-length is 12 but the app sent 9 bytes and stopped"):
        response.content(b"i", False)


def test_valid_response_can_begin_after_the_encoder_rejects_an_invalid_response() -> None:
    response = encoder()
    with pytest.raises(LocalProtocolError):
        start(response, headers=[[b"a", b"b\n"]])
    assert start(response, b"1") == b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1"


@pytest.mark.parametrize("value", [b"+1", b"", b"1" * 19, b"1 ", "1", 1])
def test_response_with_a_malformed_content_length_is_rejected(value: Any) -> None:
    with pytest.raises(LocalProtocolError, match="content-length: expected digits"):
        start(encoder(), headers=[[b"content-length", value]])


def test_error_for_a_str_header_value_shows_the_value() -> None:
    with pytest.raises(LocalProtocolError, match="expected a value of bytes, got 'text'"):
        start(encoder(), headers=[[b"x-a", "text"]])


def test_the_trailer_field_of_a_response_is_sent() -> None:
    assert b"\r\ntrailer: x-sum\r\n" in start(encoder(), more_content=True, headers=[[b"Trailer", b"x-sum"]])


def test_trailers_end_chunked_content() -> None:
    response = encoder()
    start(response, more_content=True)
    assert response.trailers([[b"X-Sum", b"1"], (b"x-b", b"")]) == b"0\r\nx-sum: 1\r\nx-b: \r\n\r\n"


@pytest.mark.parametrize("headers", [[[b"content-length", b"0"]], []])
def test_trailers_are_left_out_of_a_response_that_is_not_chunked(headers: Any) -> None:
    response = encoder()
    start(response, more_content=True, headers=headers, http_version="1.1" if headers else "1.0")
    assert response.trailers([[b"x-sum", b"1"]]) == b""


def test_trailers_are_rejected_if_the_content_is_shorter_than_content_length() -> None:
    response = encoder()
    start(response, more_content=True, headers=[[b"content-length", b"3"]])
    with pytest.raises(LocalProtocolError, match="the app sent 0 bytes and stopped"):
        response.trailers([])


@pytest.mark.parametrize("name", [b"Content-Digest", b"Repr-Digest", b"Content-MD5", b"ETag"])
def test_trailers_may_contain_a_digest_or_an_etag(name: bytes) -> None:
    response = encoder()
    start(response, more_content=True)
    assert response.trailers([[name, b"1"]]) == b"0\r\n%b: 1\r\n\r\n" % name.lower()


@pytest.mark.parametrize(
    "name",
    [b"Content-Length", b"transfer-encoding", b"host", b"connection", b"Set-Cookie", b"Content-Type", b"Content-Range"],
)
def test_trailer_field_that_must_precede_the_content_is_rejected(name: bytes) -> None:
    response = encoder()
    start(response, more_content=True)
    with pytest.raises(LocalProtocolError, match="this field is forbidden in trailers"):
        response.trailers([[name, b"1"]])


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ([[b"x", b"a\r\nb"]], "expected a value without control characters"),
        ([[b"x", "text"]], "expected a value of bytes"),
        ([[b"a b", b""]], "a b"),
        ([b"abc"], "trailers: expected .name, value. pairs of bytes"),
        (3, "trailers: expected .name, value. pairs of bytes"),
    ],
)
def test_invalid_trailers_are_rejected(headers: Any, message: str) -> None:
    response = encoder()
    start(response, more_content=True)
    with pytest.raises(LocalProtocolError, match=message):
        response.trailers(headers)


@pytest.mark.parametrize(
    ("changes", "framing", "end"),
    [
        ({"headers": [[b"content-length", b"20"]]}, (b"", b""), b""),
        ({}, (b"14\r\n", b"\r\n"), b"0\r\n\r\n"),
        ({"http_version": "1.0"}, (b"", b""), b""),
        ({"method": "HEAD"}, None, b""),
        ({"status": 304}, None, b""),
    ],
)
def test_encoder_returns_the_chunk_framing_around_content_of_a_file(
    changes: Any, framing: tuple[bytes, bytes] | None, end: bytes
) -> None:
    response = encoder()
    start(response, more_content=True, **changes)
    assert response.framing_around(20) == framing
    assert response.content(b"", more_content=False) == end


def test_chunk_framing_of_empty_content_is_empty() -> None:
    response = encoder()
    start(response, more_content=True)
    assert response.framing_around(0) == (b"", b"")


def test_bytes_of_a_file_count_towards_content_length() -> None:
    response = encoder()
    start(response, more_content=True, headers=[[b"content-length", b"20"]])
    with pytest.raises(LocalProtocolError, match="content-length is 20 but the app sent more"):
        response.framing_around(21)
    response.framing_around(19)
    with pytest.raises(LocalProtocolError, match="sent 19 bytes and stopped"):
        response.content(b"", more_content=False)


@pytest.mark.parametrize("name", [b"Keep-Alive", b"transfer-encoding", b"te", b"upgrade", b"proxy-connection"])
def test_hop_by_hop_field_is_dropped_and_reported(name: bytes) -> None:
    response = encoder()
    assert start(response, headers=[[name, b"x"]]) == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    assert response.dropped == (name.lower(),)


def test_upgrade_field_of_a_426_response_is_sent_with_connection_upgrade() -> None:
    # RFC 9110, section 15.5.22: a 426 response must name the protocols.
    response = encoder()
    assert start(response, status=426, headers=[[b"Upgrade", b"websocket"]]) == (
        b"HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 0\r\n\r\n"
    )
    assert response.dropped == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"http_version": "1.0"}, True), ({"headers": [[b"content-length", b"1"]]}, False)],
)
def test_response_is_open_ended_if_it_is_streamed_without_content_length(
    changes: dict[str, Any], expected: bool
) -> None:
    response = encoder()
    start(response, more_content=True, **changes)
    assert response.is_open_ended is expected


def test_configured_header_fields_are_encoded_as_lines() -> None:
    assert encode_default_fields([(b"Server", b"theirs"), (b"X-A", b"b")]) == b"server: theirs\r\nx-a: b\r\n"


@pytest.mark.parametrize("name", [b"Date", b"Content-Length", b"Connection", b"Transfer-Encoding"])
def test_configured_header_field_that_only_the_server_may_set_is_rejected(name: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="this field is not configurable"):
        encode_default_fields([(name, b"1")])


@pytest.mark.parametrize("status", [100, 199, 1000, "200", None])
def test_error_for_an_invalid_status_shows_the_allowed_range(status: Any) -> None:
    with pytest.raises(LocalProtocolError, match="status: expected an int from 200 to 999, got"):
        start(encoder(), status=status)


@pytest.mark.parametrize("reason", [b"a\r\nb: c", b"\0", "text"])
def test_invalid_reason_phrase_is_rejected(reason: Any) -> None:
    with pytest.raises(LocalProtocolError, match="reason phrase: expected bytes without control characters"):
        start(encoder(), reason=reason)


@pytest.mark.parametrize("headers", [3, [3], [b"abc"], [(b"a", b"b", b"c")], [([], b"b")]])
def test_headers_that_are_not_pairs_are_rejected(headers: Any) -> None:
    with pytest.raises(LocalProtocolError, match="headers: expected .name, value. pairs of bytes, got"):
        start(encoder(), headers=headers)


@pytest.mark.parametrize(("length", "message"), [(b"1", "sent 2 bytes$"), (b"3", "sent 2 bytes and stopped$")])
def test_complete_response_that_contradicts_its_content_length_is_rejected(length: bytes, message: str) -> None:
    with pytest.raises(LocalProtocolError, match=message):
        start(encoder(), b"ab", headers=[[b"content-length", length]])


def test_response_with_two_content_length_headers_is_rejected() -> None:
    with pytest.raises(LocalProtocolError, match="header content-length: expected one field, got two"):
        start(encoder(), b"ab", headers=[[b"content-length", b"2"]] * 2)


@pytest.mark.parametrize(("value", "keep_alive"), [(b"Close", False), (b"x, close", False), (b"keep-alive", True)])
def test_connection_close_header_of_the_application_ends_the_connection(value: bytes, keep_alive: bool) -> None:
    response = encoder()
    assert (b"connection: close" in start(response, headers=[[b"Connection", value]])) is not keep_alive
    assert response.keep_alive is keep_alive


@pytest.mark.parametrize("name", [b"server", b"Date"])
def test_a_server_or_date_field_of_the_application_replaces_the_default(name: bytes) -> None:
    defaults = DefaultFields()
    defaults.update(0)
    head = start(HTTP1ResponseEncoder(defaults), headers=[[name, b"mine"]])
    assert [line for line in head.split(b"\r\n") if line.startswith(name.lower())] == [name.lower() + b": mine"]


def test_thousand_header_fields_of_one_response_are_sent() -> None:
    headers = [(b"x-%d" % number, b"%d" % number) for number in range(1000)]
    expected = b"".join(b"%b: %b\r\n" % field for field in headers)
    assert start(encoder(), headers=headers) == b"HTTP/1.1 200 OK\r\n" + expected + b"content-length: 0\r\n\r\n"


def test_header_field_is_encoded_the_same_in_each_response() -> None:
    responses = [start(encoder(), headers=[(b"X-Same", b"1")]) for _ in range(2)]
    assert responses == [b"HTTP/1.1 200 OK\r\nx-same: 1\r\ncontent-length: 0\r\n\r\n"] * 2


def test_thousand_values_of_one_header_field_are_sent_unchanged() -> None:
    for number in range(1000):
        assert b"\r\nx-n: %d\r\n" % number in start(encoder(), headers=[[b"x-n", b"%d" % number]])
