"""Counts forks. `end_fork` ends a forked process."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import Never

from uvicorn.escape import escaped

logger = logging.getLogger("uvicorn.app")

#: Number of forks since the import of this module, which an ancestor of this process may have made.
forks = 0


def _after_fork() -> None:
    global forks
    forks += 1


os.register_at_fork(after_in_child=_after_fork)


def end_fork(error: BaseException | None) -> Never:
    """End this forked process, without exit handlers."""
    code = 1
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            code = error.code or 0
        else:
            logger.error("%s", escaped(error.code, 1000))
    elif error is not None:
        logger.error("fork: exception in a child process of the application", exc_info=error)
    else:
        logger.error(
            "fork: a child process of the application returned to the server's code and was ended; "
            "call os._exit() in the child, or use subprocess instead of os.fork()"
        )
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    # The connections and the event loop belong to the parent.
    os._exit(code & 0xFF)
