"""What a process knows of its surroundings: its siblings, its forks, and its standard streams.

What an application keeps in memory is a share of it only where several processes serve it side by side; broadcast must
not keep to that.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import Final, Never, TextIO

from uvicorn.escape import escaped

logger = logging.getLogger("uvicorn.app")

#: How many processes serve the application; 0 as long as no server of ours has said it.
count = 0

# Where other servers take the number of their processes from.
_HOW_MANY: Final = "WEB_CONCURRENCY"

#: How many forks lie between this process and the one that has imported this.
forks = 0


def are_several() -> bool:
    """Whether other processes serve the application beside this one, as far as it is known here."""
    if count:
        return count > 1
    said = os.environ.get(_HOW_MANY, "")
    return said.isdigit() and int(said) > 1


def _after_fork() -> None:
    global forks
    forks += 1


os.register_at_fork(after_in_child=_after_fork)


def end_fork(error: BaseException | None) -> Never:
    """End this process, which an application has forked when it was called, and which comes back from that call.

    It has its parent's connections and event loop, and must not go on with either. It ends as a child of
    multiprocessing does, without what the parent has registered for its own end; with the code of a SystemExit, or 1.
    """
    code = 1
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            code = error.code or 0
        else:
            logger.error("%s", escaped(error.code, 1000))
    elif error is not None:
        logger.error("exception in a process that the application has forked", exc_info=error)
    else:
        logger.error(
            "the application has forked, and returned in the child too, which has been ended; "
            "expected os._exit() or sys.exit() there, or subprocess or multiprocessing instead of os.fork()"
        )
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code & 0xFF)


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
