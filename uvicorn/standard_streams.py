"""Standard input, output and error of the process, which may be closed or may be no terminal."""

from __future__ import annotations

import os
from typing import TextIO


def is_terminal(stream: TextIO | None) -> bool:
    """Whether `stream` is one. Whoever starts us may have closed it, and then Python has None for it."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def occupy_standard_descriptors() -> None:
    """Have what was closed lead to nowhere, lest a socket become the next process's standard input."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # It takes the lowest that is free, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
