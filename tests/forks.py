"""Forks in tests."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

#: Keeps a child that has failed from hanging; no test may depend on it.
LONGEST_WAIT = 30


def exit_code_in_child(function: Callable[[], object]) -> int:
    """What a forked process ends with that calls `function`: 0 if that returns, 1 if it raises, -14 if it does neither.

    It never goes on in what the test runs in: a second pytest that reports to the same master, holds its output open
    and waits for ever.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LONGEST_WAIT)
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
