"""Standard streams, which the parent process may have closed; see also tests/e2e/test_workers_in_trouble.py."""

from __future__ import annotations

import io
import os
import subprocess
import sys

from uvicorn.standard_streams import is_terminal, occupy_standard_descriptors


def test_a_stream_that_is_not_there_is_no_terminal() -> None:
    assert not is_terminal(None)


def test_a_stream_that_is_closed_is_no_terminal() -> None:
    stream = io.StringIO()
    stream.close()
    assert not is_terminal(stream)


def test_is_terminal_is_true_for_a_terminal() -> None:
    leader, follower = os.openpty()
    with open(leader), open(follower) as stream:
        assert is_terminal(stream)


def test_a_standard_descriptor_that_was_closed_leads_to_nowhere_and_is_inherited() -> None:
    kept = os.dup(0)
    os.close(0)
    try:
        occupy_standard_descriptors()
        assert os.readlink("/proc/self/fd/0") == "/dev/null"
        assert os.get_inheritable(0)
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_standard_descriptors_that_are_open_are_left_alone() -> None:
    before = os.fstat(0)
    occupy_standard_descriptors()
    assert os.path.samestat(before, os.fstat(0))


def test_what_a_supervisor_imports_makes_no_event_loop_and_no_tls() -> None:
    """Together they take 6 MiB of its 20; it may have 25."""
    ask = "import sys, uvicorn.cli; print(sorted({'asyncio', 'ssl', 'uvloop', 'httptools'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", ask], text=True) == "[]\n"
