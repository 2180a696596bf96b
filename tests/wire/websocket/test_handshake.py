from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from websockets.utils import accept_key

from tests.websocket_streams import KEY, WITH_COMPRESSION, handshake
from uvicorn.errors import LocalProtocolError, RemoteProtocolError
from uvicorn.wire.http1.default_fields import DefaultFields
from uvicorn.wire.websocket.handshake import WebSocketHandshake

Fields = list[tuple[bytes, bytes]]


def accepted(*fields: tuple[bytes, bytes], subprotocol: str | None = None, headers: Any = ()) -> list[bytes]:
    """Return the lines of the response to a handshake."""
    response, _ = handshake(*fields).accept(subprotocol, headers, DefaultFields(), compression=True)
    assert response.endswith(b"\r\n\r\n")
    return response[:-4].split(b"\r\n")


def refusal(*fields: tuple[bytes, bytes], without: bytes = b"") -> RemoteProtocolError:
    """Return the error of a rejected handshake."""
    with pytest.raises(RemoteProtocolError) as caught:
        handshake(*fields, without=without)
    return caught.value


# Requests


def test_a_minimal_handshake_is_parsed() -> None:
    asked = handshake()
    assert (asked.host, asked.origin, asked.subprotocols) == ("example.com", None, [])


def test_parsed_handshake_contains_the_origin() -> None:
    assert handshake((b"origin", b"https://example.com")).origin == "https://example.com"


def test_subprotocols_in_several_fields_keep_the_order_of_the_client() -> None:
    asked = handshake((b"sec-websocket-protocol", b"chat.v2,  chat.v1"), (b"sec-websocket-protocol", b"Chat.v1"))
    assert asked.subprotocols == ["chat.v2", "chat.v1", "Chat.v1"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"connection", b"keep-alive, Upgrade"),
        (b"connection", b"UPGRADE"),
        (b"upgrade", b"WebSocket"),
        (b"upgrade", b"h2c, websocket"),
    ],
)
def test_upgrade_and_connection_tokens_are_found_in_a_list_in_any_case(name: bytes, value: bytes) -> None:
    handshake((name, value), without=name)


@pytest.mark.parametrize(
    ("method", "version", "has_content"), [("POST", "1.1", False), ("GET", "1.0", False), ("GET", "1.1", True)]
)
def test_handshake_must_be_a_GET_request_in_http_1_1_without_content(
    method: str, version: str, has_content: bool
) -> None:
    headers = [
        [b"host", b"x"],
        [b"upgrade", b"websocket"],
        [b"connection", b"upgrade"],
        [b"sec-websocket-key", KEY],
        [b"sec-websocket-version", b"13"],
    ]
    WebSocketHandshake("GET", "1.1", headers, False)
    with pytest.raises(RemoteProtocolError):
        WebSocketHandshake(method, version, headers, has_content)


@pytest.mark.parametrize("name", [b"host", b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version"])
def test_a_handshake_without_a_required_field_gets_400(name: bytes) -> None:
    assert refusal(without=name).status_hint == 400


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"host", b"example.com"),
        (b"sec-websocket-key", KEY),
        (b"sec-websocket-version", b"13"),
    ],
)
def test_handshake_that_repeats_the_host_or_key_or_version_field_gets_400(name: bytes, value: bytes) -> None:
    assert refusal((name, value)).status_hint == 400


def test_a_handshake_with_two_origins_gets_400() -> None:
    assert refusal((b"origin", b"http://a"), (b"origin", b"http://a")).status_hint == 400


@pytest.mark.parametrize("version", [b"8", b"0", b"14", b"", b"013", b"13, 8", b"x", b"\xff"])
def test_handshake_with_a_websocket_version_other_than_13_gets_426(version: bytes) -> None:
    error = refusal((b"sec-websocket-version", version), without=b"sec-websocket-version")
    assert error.status_hint == 426


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"upgrade", b"h2c"),
        (b"upgrade", b"websocket/13"),
        (b"upgrade", b"web socket"),
        (b"upgrade", b""),
        (b"upgrade", b"\xe9"),
        (b"connection", b"close"),
        (b"connection", b"upgrade;"),
        (b"connection", b","),
        (b"sec-websocket-key", b""),
        (b"sec-websocket-key", KEY[:-1]),
        (b"sec-websocket-key", KEY[:-2] + b"AA"),
        (b"sec-websocket-key", KEY + b"A"),
        (b"sec-websocket-key", b" " + KEY[1:]),
        (b"sec-websocket-key", b"\xe9" + KEY[1:]),
        (b"sec-websocket-key", KEY + b"\n"),
    ],
)
def test_handshake_with_an_invalid_upgrade_or_connection_or_key_field_gets_400(name: bytes, value: bytes) -> None:
    assert refusal((name, value), without=name).status_hint == 400


@pytest.mark.parametrize("name", [b"sec-websocket-protocol", b"sec-websocket-extensions"])
@pytest.mark.parametrize(
    "value",
    [
        b"",
        b",",
        b", ,",
        b"a b",
        b"a/b",
        b'"a"',
        b"caf\xe9",
        b"\xe2\x82\xac",
        b"a;;",
        b"a\0",
        b"a;b=",
        b'a;b="',
        b"(",
        b"\xff",
    ],
)
def test_handshake_with_a_malformed_protocol_or_extension_list_gets_400(name: bytes, value: bytes) -> None:
    assert refusal((name, value)).status_hint == 400


def test_a_handshake_that_offers_a_subprotocol_twice_gets_400() -> None:
    assert refusal((b"sec-websocket-protocol", b"chat, chat")).status_hint == 400


def test_any_byte_in_a_handshake_field_is_accepted_or_raises_RemoteProtocolError() -> None:
    for name in (
        b"sec-websocket-protocol",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"upgrade",
        b"connection",
    ):
        for byte in range(256):
            for value in (
                bytes((byte,)),
                b"a" + bytes((byte,)),
                b"a;b=" + bytes((byte,)),
                b'a;b="' + bytes((byte, 34)),
            ):
                try:
                    handshake((name, value), (b"origin", value))
                except RemoteProtocolError as error:
                    assert error.status_hint in (400, 426)


@pytest.mark.parametrize("part", [b",", b"a,", b"a;b=c,", b"a;b;", b'a;b="\\c",', b'"', b"permessage-deflate,", b"\t "])
@pytest.mark.parametrize("name", [b"sec-websocket-protocol", b"sec-websocket-extensions"])
def test_long_handshake_field_needs_at_most_200_times_its_size_in_memory(name: bytes, part: bytes) -> None:
    value = part * (20_000 // len(part))
    tracemalloc.start()
    try:
        handshake((name, value)).accept(None, [], DefaultFields(), compression=True)
    except RemoteProtocolError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 200 * len(value)


# Responses


def test_example_key_in_rfc_6455_gives_the_example_response() -> None:
    assert accepted() == [
        b"HTTP/1.1 101 Switching Protocols",
        b"server: uvicorn",
        b"upgrade: websocket",
        b"connection: upgrade",
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ]
    assert accept_key(KEY.decode()) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_an_offered_subprotocol_is_in_the_response() -> None:
    lines = accepted((b"sec-websocket-protocol", b"a, b"), subprotocol="b")
    assert b"sec-websocket-protocol: b" in lines


@pytest.mark.parametrize("subprotocol", ["c", "", "A", "a, b", "a\r\nx: y", 1, b"a"])
def test_handshake_response_rejects_a_subprotocol_that_the_client_did_not_offer(subprotocol: Any) -> None:
    with pytest.raises(LocalProtocolError, match="subprotocol: expected one of "):
        accepted((b"sec-websocket-protocol", b"a, b"), subprotocol=subprotocol)


def test_handshake_response_has_the_fields_of_the_application() -> None:
    lines = accepted(headers=[(b"Set-Cookie", b"a=b"), [b"set-cookie", b"c=d"], [b"x-custom", b""]])
    assert lines[-3:] == [b"set-cookie: a=b", b"set-cookie: c=d", b"x-custom: "]


@pytest.mark.parametrize("name", [b"server", b"Date"])
def test_application_may_replace_the_server_or_date_field_of_a_handshake_response(name: bytes) -> None:
    defaults = DefaultFields()
    defaults.update(0)
    response, _ = handshake().accept(None, [(name, b"mine")], defaults, compression=False)
    assert [line for line in response.split(b"\r\n") if line.startswith(name.lower() + b":")] == [
        name.lower() + b": mine"
    ]


@pytest.mark.parametrize(
    "name",
    [
        b"connection",
        b"Upgrade",
        b"content-length",
        b"transfer-encoding",
        b"keep-alive",
        b"te",
        b"trailer",
        b"proxy-connection",
        b"sec-websocket-accept",
        b"Sec-WebSocket-Extensions",
        b"sec-websocket-protocol",
        b"sec-websocket-anything",
    ],
)
def test_handshake_response_rejects_a_field_that_only_the_server_may_set(name: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="only the server may set this field"):
        accepted(headers=[(name, b"x")])


def test_error_for_a_subprotocol_header_recommends_the_key_subprotocol() -> None:
    with pytest.raises(LocalProtocolError, match="expected the subprotocol in 'subprotocol'"):
        accepted((b"sec-websocket-protocol", b"a"), headers=[(b"Sec-WebSocket-Protocol", b"a")])


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\n", b"\0", b"\x7f"])
def test_handshake_response_rejects_a_control_character_in_a_field(value: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="control character"):
        accepted(headers=[(b"x", value)])


@pytest.mark.parametrize("value", ["text", 1, None])
def test_handshake_response_rejects_a_field_value_other_than_bytes(value: Any) -> None:
    with pytest.raises(LocalProtocolError, match="expected a value of bytes"):
        accepted(headers=[(b"x", value)])


@pytest.mark.parametrize("headers", [[(b"a", b"b", b"c")], [b"a"], 1, [1], [([], b"a")]])
def test_handshake_response_rejects_headers_that_are_not_pairs(headers: Any) -> None:
    with pytest.raises(LocalProtocolError, match="expected \\[name, value\\] pairs"):
        accepted(headers=headers)


@pytest.mark.parametrize("name", [b"a b", b"", b"a\r\n", "text"])
def test_handshake_response_rejects_an_invalid_field_name(name: Any) -> None:
    with pytest.raises(LocalProtocolError, match="header name: expected"):
        accepted(headers=[(name, b"a")])


def test_handshake_can_be_accepted_after_an_invalid_response_was_rejected() -> None:
    asked = handshake()
    with pytest.raises(LocalProtocolError):
        asked.accept("unknown", [], DefaultFields(), compression=True)
    assert asked.accept(None, [], DefaultFields(), compression=True)[0].startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("compression", [False, True])
def test_compression_is_negotiated_if_the_client_and_the_server_allow_it(compression: bool) -> None:
    asked = handshake((b"sec-websocket-extensions", WITH_COMPRESSION))
    response, deflate = asked.accept(None, [], DefaultFields(), compression)
    assert (b"sec-websocket-extensions: permessage-deflate" in response) == compression
    assert (deflate is not None) == compression


def test_compression_is_not_negotiated_without_an_offer() -> None:
    response, deflate = handshake().accept(None, [], DefaultFields(), compression=True)
    assert b"sec-websocket-extensions" not in response
    assert deflate is None
