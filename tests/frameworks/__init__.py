"""The same small site in five frameworks. Its responses must not depend on the server.

Paths that every site has: `/`, `/redirect`, `/show/ANYTHING`, `/environ`, `/cookies`, `/form`, `/upload`, `/raw`,
`/json`, `/stream`, `/fail`, `/fail-midway`, `/nothing`, `/file`, `/big`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

PAGE: Final = "<!doctype html><title>Site</title><p>Grüße, 世界"

BIG: Final = b"0123456789abcdef" * 196608

FILE: Final = __file__

COOKIES: Final = (("first", "1"), ("second", "two words"), ("third", "3"))

_OF_THE_REQUEST: Final = (
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "REMOTE_ADDR",
    "SERVER_PROTOCOL",
    "RAW_URI",
    "wsgi.url_scheme",
)


def environ_of(environ: dict[str, Any]) -> str:
    """Return the request that an environ describes, as text."""
    shown = {key: environ.get(key) or "" for key in _OF_THE_REQUEST}
    shown |= {key: value for key, value in environ.items() if key.startswith("HTTP_") and key != "HTTP_CONNECTION"}
    return json.dumps(shown, sort_keys=True, indent=1)


def told(*values: object) -> str:
    """Return values as text that shows their types."""
    return "\n".join(map(ascii, values))


def digest(content: bytes) -> str:
    """Return size and checksum."""
    return f"{len(content)} {hashlib.sha256(content).hexdigest()}"


def pieces() -> Iterator[bytes]:
    """Yield the pieces of a streamed response."""
    for number in range(5):
        yield b"%d" % number * 20000


def broken_pieces() -> Iterator[bytes]:
    """Yield a piece of a response, then raise."""
    yield b"half" * 1000
    raise ValueError("midway")
