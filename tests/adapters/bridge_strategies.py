"""Hypothesis strategies for requests and scripts: usual behaviour of applications, and all their mistakes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hypothesis import strategies as st

from tests.adapters.scripted_app import READS, Raise, Read, Script, Start, Step, Write, Yield
from tests.adapters.strict_host import Request

METHODS = ("GET", "GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "PURGE", "M-SEARCH")
STATUSES = ("200 OK", "200 OK", "201 Created", "404 Not Found", "500 Oops", "200", "503 ", "299", "200 Odd, r\xe9ason")
STATUSES_WITHOUT_CONTENT = ("204 No Content", "304 Not Modified")
HEADERS = (
    ("Content-Type", "text/plain"),
    ("Set-Cookie", "a=1; Path=/"),
    ("Set-Cookie", "b=2"),
    ("X-Latin", "caf\xe9"),
    ("X-Empty", ""),
    ("X-Spaces", " a  b "),
    ("x_under", "kept"),
    ("ETag", '"1"'),
    ("Date", "now"),
    ("Connection", "close"),
    ("Keep-Alive", "timeout=5"),
)
BAD_STARTS = (
    Start("200 OK", (("X-Bad", "a\r\nevil: 1"),)),
    Start("200 OK", (("X-Bad", "a\0"),)),
    Start("200 OK", (("X Bad", "a"),)),
    Start("200 OK", (("X-Bad", "\u20ac"),)),
    Start("200 OK", (("Content-Length", "-1"),)),
    Start("200 OK", (("Content-Length", "1"), ("Content-Length", "2"))),
    Start("200 OK\r\nevil: 1"),
    Start("OK 200"),
    Start("20 OK"),
)
FIELDS = (
    ("HTTP_HOST", "example.org"),
    ("HTTP_COOKIE", "a=1; b=2"),
    ("HTTP_ACCEPT", "text/html,*/*"),
    ("HTTP_X_FORWARDED_FOR", "1.1.1.1,2.2.2.2"),
    ("HTTP_X_LATIN", "caf\xe9"),
    ("HTTP_X_EMPTY", ""),
    ("HTTP_PROXY", "evil:80"),
    ("HTTP_CONTENT_TYPE", "text/evil"),
    ("HTTP_CONTENT_LENGTH", "1"),
    ("CONTENT_TYPE", "text/x; charset=y"),
    ("CONTENT_TYPE", ""),
    ("REMOTE_ADDR", "1.2.3.4"),
    ("REMOTE_PORT", "5678"),
)
OWN = (
    ("REMOTE_USER", "me"),
    ("AUTH_TYPE", "Basic"),
    ("SSL_CLIENT_S_DN", "CN=caf\xe9"),
    ("HTTPS", "on"),
    ("GATEWAY_INTERFACE", "CGI/1.1"),
    ("test.own", object()),
    ("test.list", ["shared"]),
    ("test.none", None),
)
ERRORS = (ValueError, OSError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)
RETURNS = (
    "list",
    "generator",
    "iterator",
    "iterable",
    "file",
    "tuple",
    "generator",
    "endless",
    "iterator",
    "generator",
)
SIZES = (1, 2, 0, 5, 100, 1000, 16385, 65536, 65537)

_segments = st.one_of(
    st.sampled_from(
        [
            b"a",
            b"",
            b".",
            b"..",
            b"%2F",
            b"%",
            b"%zz",
            b"\xff",
            b"\0",
            "\u20ac".encode(),
            b"\xc3",
            b"a b",
            b"?x",
            b"#",
            b";",
        ]
    ),
    st.binary(max_size=3).map(lambda octets: octets.replace(b"/", b"")),
)
_paths = st.lists(_segments, min_size=1, max_size=3).map(lambda segments: b"/" + b"/".join(segments))
_queries = st.one_of(st.sampled_from(["", "", "a=1&b=%20", "?", "/%2F", "caf\xe9"]), st.just("x=" * 100))
_sizes = st.sampled_from(SIZES)
_headers = st.lists(
    st.one_of(
        st.sampled_from(HEADERS),
        st.tuples(st.text("aZ09-_.!~", min_size=1, max_size=5), st.text("aZ \t\x80\xff,;=\"'", max_size=5)),
    ),
    max_size=4,
).map(tuple)
_own_subsets = st.lists(st.sampled_from(OWN), max_size=3, unique_by=lambda item: item[0]).map(tuple)
_field_subsets = st.lists(st.sampled_from(FIELDS), max_size=5, unique_by=lambda item: item[0]).map(tuple)
_all_reads = [
    st.builds(Read, st.sampled_from(sorted(READS)), st.sampled_from([0, 1, 10, 1000, 70000]), st.just(caught))
    for caught in (False, True)
]


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Draw a request of a client, with the host's part of the environ."""
    script_name = draw(st.one_of(st.just(b""), st.just(b"/app"), _paths.filter(lambda path: path != b"/")))
    path_info = draw(st.one_of(_paths, st.just(b""))) if script_name else draw(_paths)
    ended_by = draw(st.sampled_from(["", "length", "length", "end"]))
    content_bytes = draw(st.sampled_from([0, 1, 10, 1000, 65536, 65537, 200_000])) if ended_by else 0
    breaks = None
    if content_bytes and draw(st.integers(0, 3)) == 3:
        breaks = (
            draw(st.sampled_from(["ends", "raises"] if ended_by == "length" else ["raises"])),
            draw(st.integers(0, content_bytes - 1)),
        )
    return Request(
        method=draw(st.sampled_from(METHODS)),
        script_name=script_name,
        path_info=path_info,
        query=draw(_queries),
        raw=draw(st.sampled_from(["", "all", "lower", "needed"])),
        fields=draw(_field_subsets),
        own=draw(_own_subsets),
        content_bytes=content_bytes,
        ended_by=ended_by,
        piece_bytes=draw(st.sampled_from([1, 7, 100] if content_bytes < 2000 else [100, 1000, 65536])),
        breaks=breaks,
    )


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[Request, Script]:
    """Draw a request, and the application's reaction to it."""
    request = draw(requests())
    returns = draw(st.sampled_from(RETURNS))
    if returns == "endless" and (request.method == "HEAD" or request.breaks):
        returns = "iterator"
    statuses = STATUSES if returns == "endless" else STATUSES + STATUSES_WITHOUT_CONTENT
    starts = st.builds(Start, st.sampled_from(statuses), _headers)
    is_bad = draw(st.integers(0, 15)) == 15
    start = draw(st.sampled_from(BAD_STARTS) if is_bad else starts)
    # One way of dealing with failures for all of them, for the first to fail may not be the same behind a bridge.
    read = draw(st.sampled_from(_all_reads))
    reads = st.lists(read, max_size=2) if request.ended_by else st.just([])
    lazy = returns in ("iterator", "iterable", "endless") and draw(st.booleans())
    calls: list[Step] = [*draw(reads)]
    said = st.builds(Yield, _sizes)
    iterates: list[Step] = draw(
        st.lists(
            st.one_of(said, said, read) if request.ended_by else said,
            min_size=draw(st.sampled_from([2, 1, 0])),
            max_size=6,
        )
    )
    writes = [] if lazy or returns == "generator" else draw(st.lists(st.builds(Write, _sizes), max_size=2))
    length = "" if is_bad or returns == "endless" else draw(st.sampled_from(["", "", "", "right", "right", "wrong"]))
    if length:
        total = sum(step.count for step in (*writes, *iterates) if not isinstance(step, Read | Start | Raise))
        if length == "wrong":
            total = draw(st.sampled_from([max(total - 1, 0), total + 1, total + 100_000, 0]))
        at = draw(st.integers(0, len(start.headers)))
        field = (draw(st.sampled_from(["Content-Length", "content-length"])), str(total))
        start = replace(start, headers=(*start.headers[:at], field, *start.headers[at:]))
    if lazy:
        iterates = [*draw(st.lists(st.just(Yield(0)), max_size=1)), start, *iterates]
    else:
        calls += [start, *writes]
    odds: list[st.SearchStrategy[Step]] = [st.builds(Raise, st.sampled_from(ERRORS)), st.just(start)]
    if not is_bad:
        again = st.builds(Start, st.sampled_from(statuses), _headers, st.just(True), st.booleans())
        odds += [again, again, again]
    if returns in ("generator", "iterator"):
        odds.append(st.just(Yield(-1)))
    for _ in range(draw(st.sampled_from([1, 0, 2, 0]))):
        odd = draw(st.one_of(odds))
        steps = calls if draw(st.booleans()) and odd != Yield(-1) else iterates
        steps.insert(len(steps) - draw(st.integers(0, len(steps))), odd)
    if draw(st.integers(0, 30)) == 30:
        # The application forgets to call start_response; without it there is no write() either.
        calls, iterates = ([step for step in steps if step != start] for steps in (calls, iterates))
        calls = [step for step in calls if not isinstance(step, Write)]
    if draw(st.integers(0, 30)) == 30:
        returns = "nothing"
    close_raises = draw(st.sampled_from([None] * 10 + [*ERRORS]))
    if returns == "endless" or (
        length != "wrong" and not is_bad and not request.breaks and draw(st.integers(0, 3)) == 3
    ):
        request = replace(request, leaves_after=draw(st.sampled_from([0, 1, 10, 1000, 70_000])))
    return request, Script(returns, tuple(calls), tuple(iterates), close_raises)
