"""Names for the shapes that applications see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

#: `[name, value]`, the name in lower case. A list because the interface's documents show lists.
HeaderField: TypeAlias = list[bytes]

#: What applications may hand us: lists or tuples, names in any case.
Headers: TypeAlias = Iterable[Sequence[bytes]]

#: A message of the channels interface: a dict with text keys.
Message: TypeAlias = dict[str, Any]


class SharedText(str):
    """Text on its way to many clients: never compressed, so that one frame does for all of them."""


class SharedBytes(bytes):
    """Bytes on their way to many clients, like SharedText."""
