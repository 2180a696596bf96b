"""Text from outside, made fit for one line of a log.

What a client, a peer or an exception's message says must not end a line, begin a forged one, or steer a terminal.
"""

from __future__ import annotations

import re
from typing import Final

#: Controls, which also end lines; marks that reorder a line; and halves of characters, which no stream can write.
CONTROLS: Final = (
    r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff"
)
_CONTROLS: Final = re.compile(f"[{CONTROLS}]")
# Line feeds and tabs lay out a text that is allowed to have several lines.
_CONTROLS_IN_LINES: Final = re.compile(rf"(?![\t\n])[{CONTROLS}]")

_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# Enough for a name, an address or a short message.
_LONGEST: Final = 200


def escaped(value: object, longest: int = _LONGEST) -> str:
    r"""`str(value)` on one line: control characters as `\n` or `\xNN`, and cut after `longest` characters."""
    try:
        text = str(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose text fails with {type(error).__name__}>"
    shown = _CONTROLS.sub(_escape, text[:longest])
    return shown + "..." if len(text) > longest else shown


def escaped_lines(text: str) -> str:
    """A text of several lines with its control characters escaped, but for line feeds and tabs; not cut."""
    return _CONTROLS_IN_LINES.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    named = _NAMED.get(match[0])
    if named is not None:
        return named
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
