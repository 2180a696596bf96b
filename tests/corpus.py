"""Streams of bytes that clients send: valid ones, and invalid ones with the status of their refusal.

Each name begins with the requirement or the section that the stream tests.
"""

from __future__ import annotations

#: The fields of a request for a websocket.
HANDSHAKE = (
    b"connection: upgrade",
    b"upgrade: WebSocket",
    b"sec-websocket-version: 13",
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
)


def request(
    line: bytes = b"GET / HTTP/1.1", *fields: bytes, host: bytes | None = b"host: x", content: bytes = b""
) -> bytes:
    """Return a request with a request line, fields and, unless it is None, a host field."""
    lines = [line, *([host] if host is not None else []), *fields, b"", b""]
    return b"\r\n".join(lines) + content


POST = b"POST / HTTP/1.1"
CHUNKED = b"transfer-encoding: chunked"


def chunked(content: bytes, *fields: bytes) -> bytes:
    """Return a request whose content is `content`, already chunked."""
    return request(POST, CHUNKED, *fields, content=content)


VALID: dict[str, bytes] = {
    "get": request(),
    "two gets": request() + request(b"GET /2 HTTP/1.1"),
    "twelve gets": b"".join(request(b"GET /%d HTTP/1.1" % number) for number in range(12)),
    "empty line first": b"\r\n" + request(),
    "empty line between": request(POST, b"content-length: 2", content=b"ab") + b"\r\n" + request(),
    "empty line after each of four": (request() + b"\r\n") * 4,
    "empty line after each of three with content": (request(POST, b"content-length: 2", content=b"ab") + b"\r\n") * 3,
    "empty lines around heads of one kind": b"\r\n" + request() * 2 + b"\r\n" + request() + b"\r\n",
    "cut off in an empty line": request() + b"\r",
    "http/1.0": request(b"GET / HTTP/1.0", host=None),
    "http/1.0 kept alive": request(b"GET / HTTP/1.0", b"connection: keep-alive") * 2,
    "close": request(b"GET / HTTP/1.1", b"connection: close") + request(),
    "close among others": request(b"GET / HTTP/1.1", b"Connection: foo, Close") + request(),
    "head": request(b"HEAD / HTTP/1.1"),
    "options *": request(b"OPTIONS * HTTP/1.1"),
    "absolute form": request(b"GET http://example.com/a?b HTTP/1.1"),
    "absolute form without path": request(b"GET http://example.com HTTP/1.1"),
    "absolute form with query alone": request(b"GET http://example.com?b HTTP/1.1"),
    "percent": request(b"GET /%E2%82%AC%2F%zz%?%41 HTTP/1.1"),
    "double slash": request(b"GET //a//b/../c HTTP/1.1"),
    "many fields": request(b"GET / HTTP/1.1", *(b"x-%d: %d" % (n, n) for n in range(90))),
    "white space around values": request(b"GET / HTTP/1.1", b"a:\t b c \t ", b"b:", b"c: "),
    "bytes above 127 in a value": request(b"GET / HTTP/1.1", b"a: caf\xe9 \xe2\x82\xac"),
    "cookies": request(b"GET / HTTP/1.1", b"cookie: a=b", b"cookie: c=d"),
    "length": request(POST, b"content-length: 5", content=b"hello"),
    "length 0": request(POST, b"content-length: 0") + request(),
    "length with leading zeros": request(POST, b"content-length: 0005", content=b"hello"),
    "length, then get": request(POST, b"content-length: 5", content=b"hello") + request(),
    "content that looks like a request": request(POST, b"content-length: %d" % len(request()), content=request()),
    "chunks": chunked(b"5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n"),
    "chunks, then get": chunked(b"5\r\nhello\r\n0\r\n\r\n") + request(),
    "no chunks": chunked(b"0\r\n\r\n"),
    "chunk size in upper case": chunked(b"A\r\n0123456789\r\n00\r\n\r\n"),
    "chunk size with leading zeros": chunked(b"0000000000000005\r\nhello\r\n0\r\n\r\n"),
    "chunk extensions": chunked(b'5;a=b;c="d e"\r\nhello\r\n0;x\r\n\r\n'),
    "chunk extensions with white space": chunked(b'5 ; a = b\t;c="d \\" e"\r\nhello\r\n0\t;x\r\n\r\n'),
    "digests in trailers": chunked(
        b"5\r\nhello\r\n0\r\nContent-Digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:\r\n"
        b"repr-digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:\r\n\r\n"
    )
    + request(),
    "trailers": chunked(b"5\r\nhello\r\n0\r\nx-sum: 1\r\ny:\r\n\r\n") + request(),
    "transfer-encoding in another case": request(POST, b"Transfer-Encoding: CHUNKED", content=b"0\r\n\r\n"),
    "expect": request(POST, b"content-length: 5", b"expect: 100-continue", content=b"hello"),
    "expect in http/1.0": request(b"POST / HTTP/1.0", b"content-length: 5", b"expect: x", content=b"hello"),
    "expect without content": request(b"GET / HTTP/1.1", b"expect: 100-continue"),
    "upgrade to h2c": request(b"GET / HTTP/1.1", b"connection: upgrade", b"upgrade: h2c") + request(),
    "get with content": request(b"GET / HTTP/1.1", b"content-length: 3", content=b"abc") + request(),
    "rare method": request(b"M-SEARCH / HTTP/1.1"),
    "host with port": request(host=b"host: example.com:8000"),
    "host of ipv6": request(host=b"host: [::1]:8000"),
    "host of ipv6 that maps ipv4": request(host=b"host: [::ffff:127.0.0.1]"),
    "host with an escape": request(host=b"host: caf%C3%A9.example"),
    "host empty": request(host=b"host:"),
    "cut off in the line": b"GET / HT",
    "cut off in the fields": b"GET / HTTP/1.1\r\nhost: x\r\nfoo",
    "cut off in content": request(POST, b"content-length: 5", content=b"hel"),
    "cut off in a chunk": chunked(b"5\r\nhel"),
    "cut off in a chunk line": chunked(b"5\r\nhello\r\n5;abc"),
    "cut off in trailers": chunked(b"0\r\nfoo: b"),
}

#: A request for a websocket, with more behind it than an application that refuses it will see.
WEBSOCKET = request(b"GET / HTTP/1.1", *HANDSHAKE) + request()

INVALID: dict[str, tuple[bytes, int]] = {
    # A1
    "A1 length and coding": (request(POST, b"content-length: 5", CHUNKED, content=b"0\r\n\r\n"), 400),
    "A1 coding and length": (request(POST, CHUNKED, b"content-length: 5", content=b"0\r\n\r\n"), 400),
    "A1 in other cases": (request(POST, b"TRANSFER-encoding: Chunked", b"CONTENT-length: 5"), 400),
    "A1 length 0": (request(POST, CHUNKED, b"content-length: 0", content=b"0\r\n\r\n"), 400),
    # A2
    **{
        f"A2 {value!r}": (request(POST, b"transfer-encoding: " + value, content=b"0\r\n\r\n"), status)
        for value, status in {
            b"chunked, identity": 400,
            b"x chunked": 400,
            b"\x0bchunked": 400,
            b"chunked\x00": 400,
            b"xchunked": 400,
            b"identity": 400,
            b"gzip, chunked": 501,
            b"gzip": 400,
            b"chunked, chunked": 400,
            b"": 400,
            b",chunked": 501,
            b"chunked,": 400,
            b'"chunked"': 400,
        }.items()
    },
    "A2 twice": (request(POST, CHUNKED, CHUNKED, content=b"0\r\n\r\n"), 400),
    "A2 twice, once empty": (request(POST, b"transfer-encoding:", CHUNKED, content=b"0\r\n\r\n"), 400),
    # A3
    "A3": (request(b"POST / HTTP/1.0", CHUNKED, content=b"0\r\n\r\n"), 400),
    # A4
    **{
        f"A4 {value!r}": (request(POST, b"content-length: " + value, content=b"hello"), 400)
        for value in (
            b"+5",
            b"-5",
            b"0x5",
            b"5_0",
            b"5, 5",
            b"5 5",
            b"\xd9\xa5",
            b"12345678901234567890",
            b"1" * 5000,
            b"",
            b"5.0",
            b"five",
            b"\xc2\xa05",
        )
    },
    "A4 too many digits": (request(POST, b"content-length: 0000000000000000005", content=b"hello"), 400),
    "A4 two": (request(POST, b"content-length: 5", b"content-length: 6", content=b"hello"), 400),
    "A4 two alike": (request(POST, b"content-length: 5", b"content-length: 5", content=b"hello"), 400),
    "A4 too large": (request(POST, b"content-length: 999999999999999999"), 413),
    # A5
    **{
        f"A5 {size!r}": (chunked(size + b"\r\nhello\r\n0\r\n\r\n"), 400)
        for size in (
            b"+5",
            b"0x5",
            b"5 ",
            b" 5",
            b"5_",
            b"",
            b"-5",
            b"0" * 16 + b"5",
            b"f" * 17,
            b"5\t",
            b"g",
            b"0" * 5000,
        )
    },
    "A5 overflow": (chunked(b"f" * 16 + b"\r\nhello"), 413),
    # A6
    "A6 size ends with LF": (chunked(b"5\nhello\r\n0\r\n\r\n"), 400),
    "A6 size ends with CR": (chunked(b"5\rhello\r\n0\r\n\r\n"), 400),
    "A6 data ends with LF": (chunked(b"5\r\nhello\n0\r\n\r\n"), 400),
    "A6 data ends with CR": (chunked(b"5\r\nhello\r0\r\n\r\n"), 400),
    "A6 data ends without": (chunked(b"5\r\nhello0\r\n\r\n"), 400),
    "A6 data longer than its size": (chunked(b"4\r\nhello\r\n0\r\n\r\n"), 400),
    "A6 last chunk ends with LF": (chunked(b"5\r\nhello\r\n0\r\n\n"), 400),
    # A7
    "A7 LF in extension": (chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), 400),
    "A7 CR in extension": (chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400),
    "A7 NUL in extension": (chunked(b"5;a\0b\r\nhello\r\n0\r\n\r\n"), 400),
    "A7 CR in an extension without end": (chunked(b"5;a\rbc"), 400),
    **{
        f"A7 {extension!r}": (chunked(b"5" + extension + b"\r\nhello\r\n0\r\n\r\n"), 400)
        for extension in (
            b";",
            b"; ",
            b";;a",
            b";a;",
            b";=a",
            b";a=",
            b";a=;b",
            b";a b",
            b";a=b c",
            b";a=b=c",
            b";a@b",
            b";a ",
            b";caf\xe9",
            b';"a"',
            b';a="b',
            b';a="b"c',
            b';a="b\\"',
            b';a="b\x7f"',
            b",a",
        )
    },
    "A7 one extension too long": (chunked(b"5;" + b"a" * 256 + b"\r\nhello\r\n0\r\n\r\n"), 400),
    "A7 extension without end": (chunked(b"5;" + b"a" * 60000), 400),
    "A7 extensions too long together": (chunked((b"1;" + b"a" * 200 + b"\r\nx\r\n") * 50 + b"0\r\n\r\n"), 400),
    # A8
    "A8 trailers too long": (chunked(b"0\r\n" + b"x: " + b"a" * 66000 + b"\r\n\r\n"), 431),
    "A8 a trailer that is whole but too long": (chunked(b"0\r\nx: y\r\nz: " + b"a" * 65530 + b"\r\n\r\n"), 431),
    "A8 too many trailers": (chunked(b"0\r\n" + b"x: y\r\n" * 500 + b"\r\n"), 431),
    "A8 fields and trailers together": (
        chunked(b"0\r\n" + b"x: " + b"a" * 40000 + b"\r\n\r\n", b"y: " + b"a" * 40000),
        431,
    ),
    **{
        f"A8 {name!r} in trailers": (chunked(b"0\r\n" + name + b": 1\r\n\r\n"), 400)
        for name in (
            b"Transfer-Encoding",
            b"Content-Length",
            b"Host",
            b"Content-Type",
            b"Content-Encoding",
            b"Content-Range",
            b"Content-Location",
            b"Set-Cookie",
            b"Forwarded",
        )
    },
    "A8 malformed trailer": (chunked(b"0\r\nx y\r\n\r\n"), 400),
    "A8 CR in a trailer without end": (chunked(b"0\r\nx: y\rz"), 400),
    "A8 CR in a trailer too many": (chunked(b"0\r\n" + b"x: y\r\n" * 98 + b"x: y\rz\r\n"), 400),
    "A8 CR in a trailer too long": (chunked(b"0\r\nx: \ry" + b"a" * 66000 + b"\r\n\r\n"), 400),
    "A8 folded trailer": (chunked(b"0\r\nx: y\r\n z\r\n\r\n"), 400),
    "A8 trailer ends with LF": (chunked(b"0\r\nx: y\n\r\n"), 400),
    # A9
    "A9 LF after the line": (b"GET / HTTP/1.1\nhost: x\r\n\r\n", 400),
    "A9 LF after a field": (b"GET / HTTP/1.1\r\nhost: x\na: b\r\n\r\n", 400),
    "A9 LF at the end": (b"GET / HTTP/1.1\r\nhost: x\n\n", 400),
    "A9 LF throughout": (b"GET / HTTP/1.1\nhost: x\n\n", 400),
    "A9 LF before the line": (b"\n" + request(), 400),
    "A9 CR alone after the line": (b"GET / HTTP/1.1\rhost: x\r\n\r\n", 400),
    "A9 CR in the line, without end": (b"GET / HTTP/1.1\rhost", 400),
    "A9 CR twice after the line": (b"GET / HTTP/1.1\r\r", 400),
    "A9 CR in a line too long": (b"GET /a\r" + b"a" * 66000, 400),
    "A9 CR in a field without end": (b"GET / HTTP/1.1\r\nhost: x\ry", 400),
    "A9 CR in fields too long": (request(b"GET / HTTP/1.1", b"a: \rb" + b"b" * 66000), 400),
    "A9 CR, CR, LF at the end": (b"GET / HTTP/1.1\r\nhost: x\r\r\n\r\n", 400),
    "A9 CR in a value": (request(b"GET / HTTP/1.1", b"a: b\rc"), 400),
    "A9 CR at the end of a value": (request(b"GET / HTTP/1.1", b"a: b\r"), 400),
    "A9 folded field": (request(b"GET / HTTP/1.1", b"a: b", b" c"), 400),
    "A9 folded field with tab": (request(b"GET / HTTP/1.1", b"a: b", b"\tc"), 400),
    "A9 NUL in a value": (request(b"GET / HTTP/1.1", b"a: b\0c"), 400),
    "A9 NUL in a name": (request(b"GET / HTTP/1.1", b"a\0b: c"), 400),
    "A9 control in a value": (request(b"GET / HTTP/1.1", b"a: b\x01c"), 400),
    "A9 two empty lines first": (b"\r\n\r\n" + request(), 400),
    "A9 CR first": (b"\r" + request(), 400),
    # A10
    "A10 space before colon": (request(b"GET / HTTP/1.1", b"a : b"), 400),
    "A10 tab before colon": (request(b"GET / HTTP/1.1", b"a\t: b"), 400),
    "A10 space before colon of length": (request(POST, b"content-length : 5", content=b"hello"), 400),
    "A10 empty name": (request(b"GET / HTTP/1.1", b": b"), 400),
    "A10 no colon": (request(b"GET / HTTP/1.1", b"abc"), 400),
    "A10 name with a parenthesis": (request(b"GET / HTTP/1.1", b"a(b): c"), 400),
    "A10 name that is not ASCII": (request(b"GET / HTTP/1.1", b"caf\xe9: c"), 400),
    "A10 space before the first field": (b"GET / HTTP/1.1\r\n host: x\r\n\r\n", 400),
    # A11
    "A11 no host": (request(host=None), 400),
    "A11 two hosts": (request(b"GET / HTTP/1.1", b"host: x"), 400),
    "A11 two hosts in other cases": (request(b"GET / HTTP/1.1", b"HOST: y"), 400),
    **{
        f"A11 host {value!r}": (request(host=b"host: " + value), 400)
        for value in (
            b"a/b",
            b"a?b",
            b"a#b",
            b"a@b",
            b"a b",
            b"a:b",
            b"a:1:2",
            b"[::1",
            b"a\\b",
            b"a,b c",
            b"caf\xe9",
            b"[:1]",
            b"[1]",
            b"[::1::]",
            b"[:::]",
            b"[12345::]",
            b"[1.2.3.4]",
            b"[::1]a",
            b"[fe80::1%eth0]",
            b"a%b",
            b"a%zz",
        )
    },
    "A11 no address in the target": (request(b"GET http://[:1]/ HTTP/1.1"), 400),
    "A11 user in the target": (request(b"GET http://user@example.com/ HTTP/1.1"), 400),
    # A12
    "A12 fragment": (request(b"GET /a#b HTTP/1.1"), 400),
    "A12 no slash": (request(b"GET a HTTP/1.1"), 400),
    "A12 * for GET": (request(b"GET * HTTP/1.1"), 400),
    "A12 authority": (request(b"GET example.com:80 HTTP/1.1"), 400),
    "A12 other scheme": (request(b"GET ftp://example.com/ HTTP/1.1"), 400),
    "A12 connect": (request(b"CONNECT example.com:80 HTTP/1.1"), 501),
    "A12 not ASCII": (request(b"GET /caf\xe9 HTTP/1.1"), 400),
    "A12 space": (request(b"GET /a b HTTP/1.1"), 400),
    "A12 control": (request(b"GET /a\x01 HTTP/1.1"), 400),
    "A12 empty": (request(b"GET  HTTP/1.1"), 400),
    "A12 absolute with fragment": (request(b"GET http://a/#b HTTP/1.1"), 400),
    # A13
    "A13 lower case": (request(b"get / HTTP/1.1"), 501),
    "A13 unknown": (request(b"BREW / HTTP/1.1"), 501),
    "A13 too long": (request(b"A" * 33 + b" / HTTP/1.1"), 400),
    "A13 not a token": (request(b"GE(T / HTTP/1.1"), 400),
    "A13 two spaces": (request(b"GET  / HTTP/1.1"), 400),
    "A13 space at the end": (request(b"GET / HTTP/1.1 "), 400),
    "A13 space first": (request(b" GET / HTTP/1.1"), 400),
    "A13 tab": (request(b"GET\t/ HTTP/1.1"), 400),
    "A13 HTTP/1.10": (request(b"GET / HTTP/1.10"), 505),
    "A13 HTTP/1.2": (request(b"GET / HTTP/1.2"), 505),
    "A13 HTTP/2.0": (request(b"GET / HTTP/2.0"), 505),
    "A13 HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "A13 HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "A13 HTTP/0.9, spelt out": (request(b"GET / HTTP/0.9"), 505),
    "A13 http/1.1": (request(b"GET / http/1.1"), 400),
    "A13 ICE/1.0": (request(b"SOURCE / ICE/1.0"), 400),
    "A13 RTSP/1.0": (request(b"DESCRIBE / RTSP/1.0"), 400),
    "A13 TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    # A16
    "A16 unknown expectation": (request(POST, b"content-length: 5", b"expect: 200-ok"), 417),
    "A16 two expectations": (
        request(POST, b"content-length: 5", b"expect: 100-continue", b"expect: 100-continue"),
        417,
    ),
    # A18
    "A18 websocket with content": (
        request(POST, b"connection: upgrade", b"upgrade: websocket", b"content-length: 5", content=b"hello"),
        400,
    ),
    "A18 websocket with chunks": (
        request(POST, b"connection: upgrade", b"upgrade: websocket", CHUNKED, content=b"0\r\n\r\n"),
        400,
    ),
    # C8, as far as it is a matter of the head
    "C8 two content-types": (request(POST, b"content-type: a/b", b"content-type: c/d"), 400),
    "C8 two authorizations": (request(b"GET / HTTP/1.1", b"authorization: a", b"authorization: b"), 400),
    # D1
    "D1 line too long": (request(b"GET /" + b"a" * 65536 + b" HTTP/1.1"), 414),
    "D1 line too long that does not begin with a method": (b"(" + b"a" * 66000 + b" / HTTP/1.1\r\n\r\n", 400),
    "D1 line too long after an empty line": (b"\r\n" + request(b"GET /" + b"a" * 65536 + b" HTTP/1.1"), 414),
    "D1 line without end": (b"GET /" + b"a" * 66000, 414),
    "D1 fields too long": (request(b"GET / HTTP/1.1", b"a: " + b"b" * 66000), 431),
    "D1 field without end": (b"GET / HTTP/1.1\r\na: " + b"b" * 66000, 431),
    "D1 too many fields": (request(b"GET / HTTP/1.1", *[b"a: b"] * 500), 431),
}
