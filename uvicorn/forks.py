"""Forks of a serving process that the application makes: counted, and ended if they return to the server."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import Never

from uvicorn.escape import escaped

logger = logging.getLogger("uvicorn.app")

#: Number of forks between the process that imported this module and this one.
forks = 0


def _after_fork() -> None:
    global forks
    forks += 1


os.register_at_fork(after_in_child=_after_fork)


def end_fork(error: BaseException | None) -> Never:
    """End this process, which the application forked during a call and which returns from that call.

    It shares its parent's connections and event loop and must not use either. It ends like a child of
    multiprocessing, without the parent's exit handlers; its exit code is that of a SystemExit, or 1.
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
