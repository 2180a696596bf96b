"""WSGI applications that do everything that PEP 3333 allows, and some things that it does not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
HEADERS = [("Content-Type", "text/plain"), ("X-App", "probe")]

closed: list[str] = []


class Body:
    """An iterable with a `close` that is counted."""

    def __init__(self, name: str, chunks: Iterable[bytes]) -> None:
        self._name = name
        self._chunks = iter(chunks)

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        closed.append(self._name)


def failing() -> Iterator[bytes]:
    yield b"half"
    raise ValueError("boom")


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 1000


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """What it does is the last segment of the path."""
    return APPS[environ["PATH_INFO"].rpartition("/")[2]](environ, start_response)


def hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", HEADERS)
    return [b"Hello"]


def echo(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    content = environ["wsgi.input"].read()
    start_response("200 OK", HEADERS)
    return [environ["REQUEST_METHOD"].encode(), b" ", content]


def lines(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", HEADERS)
    return [b"%d:" % len(line) + line for line in environ["wsgi.input"]]


def generator(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("201 Created", HEADERS)
    for number in range(5):
        yield b"%d\n" % number


def write(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    writer = start_response("200 OK", HEADERS)
    writer(b"written, ")
    writer(b"")
    return [b"returned"]


def empty(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []


def replaced(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "1000"), ("X-Old", "1")])
    try:
        raise ValueError("before output")
    except ValueError:
        start_response("503 Busy", [("X-New", "1")], sys.exc_info())
    return [b"busy"]


def too_late(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", HEADERS)
    yield b"half"
    try:
        raise ValueError("after output")
    except ValueError:
        start_response("500 Oops", [], sys.exc_info())
    yield b"never"


def twice(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    start_response("200 OK", [])
    return [b"never"]


def silent(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    return [b"no head"]


def no_reason(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200", [])
    return [b"x"]


def text(environ: Environ, start_response: StartResponse) -> Iterable[Any]:
    start_response("200 OK", [])
    return ["text"]


def system_exit(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    raise SystemExit(3)


def keyboard_interrupt(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    raise KeyboardInterrupt


def file(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", HEADERS)
    with open(__file__, "rb") as source:
        content = source.read()
    import io

    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(content), 100)
    return wrapped


def show(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    shown = {key: value for key, value in environ.items() if isinstance(value, (str, tuple, bool))}
    return [repr(shown).encode()]


def of_body(chunks: Callable[[], Iterable[bytes]], name: str) -> Callable[..., Iterable[bytes]]:
    def serve(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", HEADERS)
        return Body(name, chunks())

    return serve


APPS: dict[str, Callable[..., Iterable[bytes]]] = {
    "": hello,
    "hello": hello,
    "echo": echo,
    "lines": lines,
    "generator": generator,
    "write": write,
    "empty": empty,
    "replaced": replaced,
    "too_late": too_late,
    "twice": twice,
    "silent": silent,
    "no_reason": no_reason,
    "text": text,
    "system_exit": system_exit,
    "keyboard_interrupt": keyboard_interrupt,
    "file": file,
    "show": show,
    "closed": of_body(lambda: [b"a", b"b"], "closed"),
    "failing": of_body(failing, "failing"),
    "endless": of_body(endless, "endless"),
    "big": of_body(lambda: (b"x" * 10000 for _ in range(100)), "big"),
}
