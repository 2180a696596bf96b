"""Escapes untrusted text for log lines.

Text from a client, a peer or an exception must not end a line, forge another one, or control a terminal.
"""

from __future__ import annotations

import re
from typing import Final

#: Control characters, line separators, bidirectional marks, and surrogates, which cannot be encoded.
CONTROLS: Final = (
    r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff"
)
_CONTROLS: Final = re.compile(f"[{CONTROLS}]")
# Multi-line text keeps its line feeds and tabs.
_CONTROLS_IN_LINES: Final = re.compile(rf"(?![\t\n])[{CONTROLS}]")

_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# Enough for a name, an address or a short message.
_LONGEST: Final = 200


def escaped(value: object, longest: int = _LONGEST) -> str:
    r"""`str(value)` on one line: control characters as `\n` or `\xNN`, truncated after `longest` characters."""
    try:
        text = str(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose text fails with {type(error).__name__}>"
    shown = _CONTROLS.sub(_escape, text[:longest])
    return shown + "..." if len(text) > longest else shown


def escaped_lines(text: str) -> str:
    """Escape the control characters of a multi-line text, except line feeds and tabs; do not truncate it."""
    return _CONTROLS_IN_LINES.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    named = _NAMED.get(match[0])
    if named is not None:
        return named
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
