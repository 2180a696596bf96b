"""Run the tests that are coroutine functions, and fail those that leave anything behind.

Such a test runs once on asyncio's loop and once on uvloop, because the two differ in sockets, transports, threads,
subprocesses, signals, and in the order and the errors of their callbacks. A test that uses none of these has the
same outcome on both: mark it `any_loop`, or its module with `pytestmark = pytest.mark.any_loop`, and it runs on asyncio
only.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.quick import is_left_out
from uvicorn import process_count
from uvicorn.server.loops import loop_factory

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell does so to what it starts in the background, and servers that are started here would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_finished = 0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, certificates: Certificates) -> Certificates | None:
    """Return certificates for a test over TLS, and None for the same test without TLS."""
    return certificates if request.param == "tls" else None


@pytest.fixture(autouse=True)
def _process_restored() -> Iterator[None]:
    # A configuration sets logging up when it is made, and a server sets the number of processes.
    processes = process_count.count
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.access", "uvicorn.error", "uvicorn.asgi")]
    kept = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    process_count.count = processes
    for logger, handlers, level, propagate in kept:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick", action="store_true", help="leave out what tests/quick.py describes: servers, frameworks"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    # Half as many again as cores: tests of processes wait for most of their time.
    return len(os.sched_getaffinity(0)) * 3 // 2


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.getoption("quick") and is_left_out(collection_path) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop_name")
        one = metafunc.definition.get_closest_marker("any_loop") is not None
        metafunc.parametrize("loop_name", ["asyncio"] if one else ["asyncio", "uvloop"])


def pytest_collection_finish() -> None:
    _exclude_living_objects_from_collection()


def pytest_runtest_logfinish() -> None:
    global _finished
    _finished += 1
    if _finished % 50 == 0:
        _exclude_living_objects_from_collection()


def _exclude_living_objects_from_collection() -> None:
    # Each test ends with a collection. Modules, and the reports of the tests before, would make it take longer than
    # most tests do.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    with asyncio.Runner(loop_factory=loop_factory(str(pyfuncitem.callspec.params["loop_name"]))) as runner:
        runner.run(_watched(pyfuncitem.obj(**arguments)))
    return True


async def _watched(test: Any) -> None:
    """Run `test`; whatever reaches the loop's exception handler, or still runs at the end, is a failure."""
    reports: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, report: reports.append(report))
    await test
    gc.collect()
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in left:
        task.cancel()
    assert not left, f"tasks left behind: {left}"
    assert not reports, f"reached the loop's exception handler: {reports}"
