"""Helpers for standard streams, which may be closed, or may be files instead of terminals."""

from __future__ import annotations

import os
from typing import TextIO


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether `stream` is a terminal. `stream` is None if the parent has closed it."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def occupy_standard_descriptors() -> None:
    """Open /dev/null for closed standard streams, so that no socket gets their descriptors."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # os.open returns the lowest free descriptor, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
