"""An example site in a server of its own, and a client that uses it as a browser does."""

from __future__ import annotations

import html
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Final, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, ProxyHandler, Request, build_opener

from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server

CLEAN: Final = {"PYTHONDONTWRITEBYTECODE": "1"}
PASSWORD: Final = "correct horse battery staple"


class Page(NamedTuple):
    status: int
    url: str
    headers: Message
    content: bytes

    @property
    def text(self) -> str:
        return html.unescape(self.content.decode())


class Browser:
    """A client that keeps cookies, follows redirects, and sends forms with their hidden fields."""

    def __init__(self, server: ServerProcess, fields: dict[str, str] | None = None) -> None:
        self._root = f"http://127.0.0.1:{server.port}"
        opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar()))
        opener.addheaders += (fields or {}).items()
        self._open = opener.open

    def get(self, path: str) -> Page:
        return self._ask(Request(self._root + path))

    def submit(self, path: str, fields: dict[str, str], file: bytes | None = None) -> Page:
        fields = {**dict(re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', self.get(path).text)), **fields}
        kind, content = "application/x-www-form-urlencoded", urlencode(fields).encode()
        if file is not None:
            kind, content = "multipart/form-data; boundary=limit", multipart(fields, file)
        return self._ask(Request(self._root + path, content, {"content-type": kind}))

    def _ask(self, request: Request) -> Page:
        try:
            response = self._open(request, timeout=LONGEST_WAIT)
        except HTTPError as error:
            response = error
        with response:
            return Page(response.status, response.url.removeprefix(self._root), response.headers, response.read())


def multipart(fields: dict[str, str], file: bytes) -> bytes:
    """Return a form with a file called large.bin; its boundary is `limit`."""
    parts = [f'--limit\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{fields[name]}\r\n' for name in fields]
    head = '--limit\r\ncontent-disposition: form-data; name="file"; filename="large.bin"\r\n\r\n'
    return "".join(parts).encode() + head.encode() + file + b"\r\n--limit--\r\n"


@contextmanager
def example(folder: Path, app: str, **variables: str) -> Iterator[ServerProcess]:
    """Serve until Ctrl-C. Fail if the server does not survive it or logs an error."""
    with running_server(folder, app, env=CLEAN | variables) as server:
        yield server
        assert server.stop(signal.SIGINT) == 0
        assert not re.search("ERROR|Warning|Traceback", server.stderr), server.stderr
