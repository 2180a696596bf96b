"""Escapes untrusted text, so that it cannot forge log lines."""

from __future__ import annotations

import re
from typing import Final

#: Control characters, line separators, bidirectional marks, and surrogates, which cannot be encoded.
CONTROLS: Final = (
    r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff"
)
# Multi-line text keeps its line feeds and tabs.
_CONTROLS_IN_LINES: Final = re.compile(rf"(?![\t\n])[{CONTROLS}]")

_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


# 200 characters: enough for a name, an address or a short message.
def escaped(value: object, longest: int = 200) -> str:
    """Return at most `longest` characters of `str(value)`, with control characters escaped."""
    try:
        text = str(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose text fails with {type(error).__name__}>"
    shown = text[:longest]
    if not shown.isprintable():
        shown = "".join(char if char.isprintable() else _escape(char) for char in shown)
    return shown + "..." if len(text) > longest else shown


def escaped_lines(text: str) -> str:
    """Escape control characters, except line feeds and tabs."""
    return _CONTROLS_IN_LINES.sub(lambda match: _escape(match[0]), text)


def escaped_report(value: object, longest: int = 4000) -> str:
    """Escape the control characters in `str(value)`. Indent multi-line text."""
    lines = str(value).rstrip()[:longest].splitlines()
    if len(lines) < 2:
        return "".join(escaped(line, longest) for line in lines)
    # Indented, so that no line looks like a log line.
    return "".join(f"\n    {escaped(line, longest)}" for line in lines)


def summary(error: BaseException) -> str:
    """Return the exception's type and the first line of its message."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _escape(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
