"""`wsgi.file_wrapper`: files are sent from their position, by the kernel where that gives the same bytes."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import socket
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from werkzeug.utils import send_file

from tests.certificates import Certificates
from tests.corpus import request
from tests.helpers import GET, Response, parse_responses, until
from tests.interfaces.wsgi_conversations import WAYS, response_of
from tests.server.test_transport_sendfile import served
from uvicorn.interfaces.file_wrapper import FileWrapper, part_to_send

CONTENT = os.urandom(1 << 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def sent_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets at which `os.sendfile` was called."""
    offsets: list[int] = []
    sendfile = os.sendfile

    def watched(out: int, file: int, offset: int, count: int) -> int:
        offsets.append(offset)
        return sendfile(out, file, offset, count)

    monkeypatch.setattr(os, "sendfile", watched)
    return offsets


def answering(opened: Callable[[], Any], *fields: tuple[str, str]) -> Callable[..., Any]:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(fields))
        return environ["wsgi.file_wrapper"](opened())

    return app


async def response_by_socket(app: Any) -> Response:
    async with served(app) as conversation:
        await conversation.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return parse_responses(await conversation.read(1 << 30), closed=True)[0]


def at(file: Any, position: int) -> Any:
    file.seek(position)
    return file


def random_access(path: Path) -> Any:
    file = tempfile.TemporaryFile()
    file.write(path.read_bytes())
    return at(file, 1000)


SENT_BY_THE_KERNEL: dict[str, tuple[Callable[[Path], Any], int]] = {
    "unbuffered": (lambda path: open(path, "rb", buffering=0), 0),
    "unbuffered, from a position": (lambda path: at(open(path, "rb", buffering=0), 5), 5),
    "buffered": (lambda path: open(path, "rb"), 0),
    "buffered, partly read": (lambda path: [file := open(path, "rb"), file.read(10)][0], 10),
    "random access": (random_access, 1000),
}


@pytest.mark.parametrize("length", [None, 0, 1, 70000])
@pytest.mark.parametrize("kind", SENT_BY_THE_KERNEL)
async def test_regular_file_is_sent_by_the_kernel_from_the_current_position(
    kind: str, length: int | None, path: Path, sent_by_the_kernel: list[int]
) -> None:
    opened, start = SENT_BY_THE_KERNEL[kind]
    fields = [] if length is None else [("Content-Length", str(length))]
    response = await response_by_socket(answering(lambda: opened(path), *fields))
    assert response.complete
    assert response.content == CONTENT[start:][:length]
    assert sent_by_the_kernel[:1] == ([start] if length != 0 else [])


async def test_file_response_includes_bytes_that_the_application_has_not_flushed(
    path: Path, sent_by_the_kernel: list[int]
) -> None:
    def opened() -> Any:
        file = open(path, "r+b")
        file.write(b"new")
        return at(file, 0)

    response = await response_by_socket(answering(opened))
    assert (response.content == b"new" + CONTENT[3:], sent_by_the_kernel[:1]) == (True, [0])


class Shouting(io.BufferedReader):
    """Reads something else than its descriptor has."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size).upper()


def compressed(path: Path) -> Any:
    with gzip.open(path.with_suffix(".gz"), "wb") as file:
        file.write(b"a" * 1000000)
    # What has a `fileno`, too: that of the compressed file.
    return gzip.open(path.with_suffix(".gz"))


def named(path: Path) -> Any:
    file = tempfile.NamedTemporaryFile()
    file.write(CONTENT)
    return at(file, 0)


def through_a_pipe(path: Path) -> Any:
    reader, writer = os.pipe()
    os.write(writer, b"from a pipe")
    os.close(writer)
    return open(reader, "rb")


def through_a_socket(path: Path) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"from a socket")
        theirs.shutdown(socket.SHUT_WR)
        return ours.makefile("rb")


READ: dict[str, tuple[Callable[[Path], Any], bytes]] = {
    "compressed": (compressed, b"a" * 1000000),
    "a subclass": (lambda path: Shouting(io.FileIO(path)), CONTENT.upper()),
    "a wrapper": (named, CONTENT),
    "in memory": (lambda path: io.BytesIO(CONTENT), CONTENT),
    "a pipe": (through_a_pipe, b"from a pipe"),
    "a socket": (through_a_socket, b"from a socket"),
    "of /proc": (lambda path: open("/proc/version", "rb"), Path("/proc/version").read_bytes()),
}


@pytest.mark.parametrize("kind", READ)
async def test_server_reads_a_file_that_sendfile_cannot_send(
    kind: str, path: Path, sent_by_the_kernel: list[int]
) -> None:
    opened, content = READ[kind]
    response = await response_by_socket(answering(lambda: opened(path)))
    assert (response.complete, response.content == content, sent_by_the_kernel) == (True, True, [])


async def test_wsgi_file_over_tls_is_not_sent_by_the_kernel(
    path: Path, tmp_path: Path, sent_by_the_kernel: list[int]
) -> None:
    certificates = Certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.both)
    async with served(answering(lambda: at(open(path, "rb"), 9)), tls) as conversation:
        reader, writer = await asyncio.open_connection(*conversation.address, ssl=certificates.client())
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        response = parse_responses(await reader.read(), closed=True)[0]
        writer.close()
    assert (response.complete, response.content == CONTENT[9:], sent_by_the_kernel) == (True, True, [])


@pytest.mark.parametrize("way", WAYS)
async def test_wsgi_file_arrives_whole_through_every_gateway(path: Path, way: str) -> None:
    response = await response_of(GET, way, answering(lambda: at(open(path, "rb"), 9)))
    assert (response.complete, response.content == CONTENT[9:]) == (True, True)


async def test_wsgi_file_shorter_than_its_content_length_aborts_the_response(path: Path) -> None:
    response = await response_by_socket(answering(lambda: open(path, "rb"), ("Content-Length", str(2 << 20))))
    assert not response.complete


async def test_wsgi_file_is_sent_after_the_bytes_passed_to_write(path: Path, sent_by_the_kernel: list[int]) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "100000")])(b"first")
        return environ["wsgi.file_wrapper"](open(path, "rb"))

    response = await response_by_socket(app)
    assert (response.complete, response.content == b"first" + CONTENT[:99995]) == (True, True)
    assert sent_by_the_kernel[:1] == [0]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_wsgi_file_is_not_sent_with_status_204_or_304(path: Path, status: str) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response(status, [])
        return environ["wsgi.file_wrapper"](open(path, "rb"))

    response = await response_by_socket(app)
    assert (response.complete, response.content) == (True, b"")


async def test_wsgi_file_is_not_sent_in_response_to_HEAD(path: Path) -> None:
    app = answering(lambda: open(path, "rb"), ("Content-Length", str(len(CONTENT))))
    response = await response_of(request(b"HEAD / HTTP/1.1"), app=app)
    assert (response.content, response.header(b"content-length")) == (b"", b"1048576")


async def test_wsgi_file_without_start_response_gives_500_and_is_closed(path: Path) -> None:
    opened: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        opened.append(open(path, "rb"))
        return environ["wsgi.file_wrapper"](opened[0])

    assert (await response_by_socket(app)).status == 500
    await until(lambda: opened[0].closed)


async def test_wsgi_file_with_an_invalid_response_head_gives_500_and_is_closed(path: Path) -> None:
    opened: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        opened.append(open(path, "rb"))
        start_response("200 OK", [("Content-Length", "1"), ("Content-Length", "1")])
        return environ["wsgi.file_wrapper"](opened[0])

    assert (await response_by_socket(app)).status == 500
    await until(lambda: opened[0].closed)


async def test_disconnect_during_a_wsgi_file_response_closes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 64 << 20)
    opened: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        opened.append(open(path, "rb"))
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](opened[0])

    async with served(app) as conversation:
        await conversation.send(GET)
        await conversation.read(1)
        conversation.client.close()
        await until(lambda: opened and opened[0].closed)


async def test_access_log_counts_the_bytes_of_a_file_sent_by_the_kernel(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "uvicorn.access")
    async with served(answering(lambda: open(path, "rb")), access_log=True) as conversation:
        await conversation.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        await conversation.read(1 << 30)
        await until(lambda: caplog.records)
    assert [record.__dict__["size"] for record in caplog.records] == [len(CONTENT)]


async def test_werkzeug_range_response_reads_only_the_requested_bytes(path: Path) -> None:
    wrapped: list[Any] = []

    class Watched(FileWrapper):
        """Counts what is read of the file."""

        read = 0

        def __next__(self) -> bytes:
            block = super().__next__()
            Watched.read += len(block)
            return block

    def app(environ: Any, start_response: Any) -> Any:
        environ["wsgi.file_wrapper"] = Watched
        wrapped.append(send_file(str(path), environ, "x/y", conditional=True))
        return wrapped[0](environ, start_response)

    stream = request(b"GET / HTTP/1.1", b"range: bytes=%d-" % (len(CONTENT) - 1000))
    response = await response_of(stream, app=app)
    assert (response.status, response.content == CONTENT[-1000:], Watched.read) == (206, True, 1000)


def test_file_wrapper_is_seekable_if_its_file_is_seekable(path: Path) -> None:
    with open(path, "rb") as file:
        wrapper = FileWrapper(file)
        assert (wrapper.seekable(), wrapper.seek(10), wrapper.tell(), next(wrapper)[:5]) == (
            True,
            10,
            10,
            CONTENT[10:15],
        )
    with through_a_pipe(path) as pipe:
        assert not FileWrapper(pipe).seekable()


def test_file_wrapper_is_seekable_if_its_file_has_seek_and_tell() -> None:
    class Old:
        def read(self, size: int) -> bytes:
            return b""

    class OldAndSeekable(Old):
        def seek(self, position: int) -> None: ...

        def tell(self) -> int:
            return 0

    assert (FileWrapper(Old()).seekable(), FileWrapper(OldAndSeekable()).seekable()) == (False, True)


def test_close_method_of_a_file_wrapper_subclass_is_called() -> None:
    calls: list[str] = []

    class Recording(FileWrapper):
        def close(self) -> None:
            calls.append("close")
            super().close()

    file = io.BytesIO(b"hello")
    Recording(file).close()
    assert (calls, file.closed) == (["close"], True)


@pytest.mark.parametrize("spoil", ["close", "detach"])
def test_closed_file_is_not_sent_by_the_kernel(path: Path, spoil: str) -> None:
    file = open(path, "rb")
    raw = getattr(file, spoil)()
    assert part_to_send(file) is None
    if raw is not None:
        raw.close()


def test_write_only_file_is_not_sent_by_the_kernel(path: Path) -> None:
    with io.FileIO(path, "a") as file:
        assert part_to_send(file) is None
