"""Adapters that were used before their process forked (C12)."""

from __future__ import annotations

from typing import Final

import pytest

from tests.adapters.hosts import ROOT, hosted
from tests.adapters.wire import ask
from tests.e2e.server_process import run_command

_BY_THREADS: Final = [
    ("uvicorn", "wsgi"),
    ("uvicorn", "consumer"),
    ("gunicorn gthread", "consumer_on_a_host"),
]
_ON_A_LOOP: Final = [("uvicorn", "channels"), ("gunicorn gthread", "channels_on_a_host")]


def ended_child(host: str, app: str, target: str) -> bytes:
    """Return the exit code of the application's child process. Check that the server still serves."""
    with hosted(host, f"tests.adapters.forking_apps:{app}") as server:
        code = ask(server.port, target).content
        assert [ask(server.port).status for _ in range(10)] == [200] * 10
        return code


@pytest.mark.parametrize(("host", "app"), [*_BY_THREADS, *_ON_A_LOOP])
def test_C12_sys_exit_in_a_forked_child_ends_the_child(host: str, app: str) -> None:
    assert ended_child(host, app, "/?exit") == b"5"


@pytest.mark.parametrize(("host", "app"), _ON_A_LOOP)
def test_C12_sys_exit_in_a_task_of_a_forked_child_ends_the_child(host: str, app: str) -> None:
    assert ended_child(host, app, "/late?exit") == b"5"


@pytest.mark.parametrize(("host", "app"), [_BY_THREADS[0], _ON_A_LOOP[0]])
def test_C12_exception_in_a_forked_child_ends_the_child(host: str, app: str) -> None:
    assert ended_child(host, app, "/?raise") == b"1"


def test_C12_sys_exit_with_a_message_in_a_forked_child_exits_with_1() -> None:
    assert ended_child(*_BY_THREADS[0], "/?exit-with-a-word") == b"1"


@pytest.mark.parametrize(("host", "app"), _BY_THREADS)
def test_C12_forked_child_exits_after_the_application_returns(host: str, app: str) -> None:
    assert ended_child(host, app, "/?return") == b"1"


#: A process that answers by itself, then in its children; it ends with the output of a child.
FORKING = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # that threads and forks do not go together is what this is about
from tests.adapters.hosted_apps import plain
from uvicorn.adapters import ASGIAdapter, WSGIAdapter

def content_of(app, path="/stream"):
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path}
    iterable = app(environ, lambda status, headers, exc_info=None: None)
    try:
        return b"".join(iterable)
    finally:
        getattr(iterable, "close", lambda: None)()

def in_child(function):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if function() else 2
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, code
    return True

app = WSGIAdapter(ASGIAdapter(plain))
expected = b"".join(b"%d" % number * 20000 for number in range(5))

def answers():
    return content_of(app) == expected

assert answers()
"""


@pytest.mark.parametrize("name", ["gunicorn --preload", "uwsgi"])
def test_C12_adapter_that_was_used_before_the_fork_works_in_the_workers(name: str) -> None:
    with hosted(name, "tests.adapters.hosted_apps:wsgi", {"USED_BEFORE": "1"}) as host:
        for _ in range(10):
            assert ask(host.port, "/a").content == b"GET /a  "


@pytest.mark.parametrize(
    "script",
    [
        "in_child(answers)",
        "in_child(lambda: in_child(answers) and answers())",
        "in_child(answers); assert answers(); in_child(answers)",
        # Half of a response is with the loop of the parent when it forks, and is delivered there.
        "parent = app({'REQUEST_METHOD': 'GET', 'PATH_INFO': '/stream'}, lambda *start: None); pieces = iter(parent);"
        "first = next(pieces); in_child(answers); assert first + b''.join(pieces) == expected",
    ],
    ids=["child", "grandchild", "again", "midway"],
)
def test_C12_process_may_fork_while_its_event_loop_runs(script: str) -> None:
    ended = run_command(ROOT, "-c", FORKING + script, program=())
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr


def test_C12_process_may_fork_while_an_adapter_starts_in_another_thread() -> None:
    script = """
import asyncio
parent, entered, go = os.getpid(), threading.Event(), threading.Event()

class App:
    async def startup(self):
        if os.getpid() == parent:
            entered.set()
            await asyncio.to_thread(go.wait)

    async def __call__(self, message, channels):
        await channels["reply"].send({"status": 200, "content": b"started"})

app = WSGIAdapter(App())
first = threading.Thread(target=content_of, args=(app,))
first.start()
entered.wait()
in_child(lambda: content_of(app) == b"started")
go.set()
first.join()
assert content_of(app) == b"started"
"""
    ended = run_command(ROOT, "-c", FORKING + script, program=())
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr


def test_C12_parent_keeps_serving_after_a_forked_child_exits() -> None:
    script = "child = os.fork()\nif child == 0: answers(); sys.exit(3)\n"
    script += "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3\nassert answers()"
    ended = run_command(ROOT, "-c", FORKING + script, program=())
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr


def test_C12_program_with_an_adapter_may_fork_by_multiprocessing() -> None:
    script = "import multiprocessing\ncontext = multiprocessing.get_context('fork')\n"
    script += "with context.Pool(1) as pool: assert pool.apply(answers)"
    ended = run_command(ROOT, "-c", FORKING + script, program=())
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
