"""A WSGI application that sends 10 MiB below /whole and /stream, and elsewhere the length of a POST."""

from collections.abc import Iterable
from typing import Any

PIECE = b"x" * 65536
WHOLE = PIECE * 160


def app(environ: Any, start_response: Any) -> Iterable[bytes]:
    content: Iterable[bytes]
    path = environ["PATH_INFO"]
    if path.startswith("/whole"):
        content, length = [WHOLE], len(WHOLE)
    elif path.startswith("/stream"):
        content, length = (PIECE for _ in range(160)), len(WHOLE)
    else:
        read = environ["wsgi.input"].read
        received = 0
        while piece := read(65536):
            received += len(piece)
        answer = str(received).encode()
        content, length = [answer], len(answer)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(length))])
    return content
