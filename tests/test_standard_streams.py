"""Standard streams, which the parent process may have closed; see also tests/e2e/test_workers_in_trouble.py."""

from __future__ import annotations

import io
import os
import subprocess
import sys

from uvicorn.logging import is_terminal
from uvicorn.serving import occupy_standard_descriptors


def test_stream_that_is_None_does_not_count_as_a_terminal() -> None:
    assert not is_terminal(None)


def test_closed_stream_is_not_a_terminal() -> None:
    stream = io.StringIO()
    stream.close()
    assert not is_terminal(stream)


def test_terminal_is_recognized_as_a_terminal() -> None:
    leader, follower = os.openpty()
    with open(leader), open(follower) as stream:
        assert is_terminal(stream)


def test_closed_standard_input_is_replaced_by_dev_null() -> None:
    kept = os.dup(0)
    os.close(0)
    try:
        occupy_standard_descriptors()
        assert os.readlink("/proc/self/fd/0") == "/dev/null"
        assert os.get_inheritable(0)
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_open_standard_input_is_not_changed() -> None:
    before = os.fstat(0)
    occupy_standard_descriptors()
    assert os.path.samestat(before, os.fstat(0))


def test_supervisor_imports_neither_asyncio_nor_ssl() -> None:
    """The two take 6 MiB; the supervisor uses 20 MiB and is limited to 25 by another test."""
    ask = "import sys, uvicorn.cli; print(sorted({'asyncio', 'ssl', 'uvloop', 'httptools'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", ask], text=True) == "[]\n"
