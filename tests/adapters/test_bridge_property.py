"""Clients and applications notice no difference behind two or three adapters.

With BRIDGE_EXAMPLES=10000 in the environment, 10,000 random exchanges are tried. The default is a fixed set of 300.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.adapters.bridge_rules import differences
from tests.adapters.bridge_strategies import exchanges
from tests.adapters.scripted_app import Script, ScriptedApp, Seen
from tests.adapters.strict_host import Received, Request, StrictHost
from tests.helpers import until
from uvicorn.adapters import ASGIAdapter, WSGIAdapter
from uvicorn.concurrency.loop_thread import loop_thread
from uvicorn.concurrency.worker_pool import WorkerPool

EXAMPLES = int(os.environ.get("BRIDGE_EXAMPLES", "0"))

# Far more than an exchange takes on the slowest machine.
_NEVER_SECONDS = 60


class Bridge:
    """The scripted application behind one nesting of adapters, with the thread pools in between."""

    def __init__(self, name: str, app: ScriptedApp) -> None:
        self.name = name
        # One thread each: what it does next shows that it is done with what it did before.
        self._pools: list[Executor] = []
        self._adapters: list[WSGIAdapter] = []
        self.callable: Callable[..., Any] = app
        if name == "messages":
            self._expose(_through_messages(self._adapt(app, UsersExecutor())))
        elif name != "bare":
            self._expose(self._adapt(app, WorkerPool(1)))
        if name == "triple":
            self._expose(self._adapt(self.callable, WorkerPool(1)))

    def _adapt(self, app: Callable[..., Any], pool: Executor) -> ASGIAdapter:
        self._pools.insert(0, pool)
        return ASGIAdapter(app, executor=pool)

    def _expose(self, app: Callable[..., Any]) -> None:
        self.callable = WSGIAdapter(app)
        self._adapters.append(self.callable)

    def expect(self, script: Script) -> None:
        """Prepare for a request. An endless response is stopped after a time."""
        for adapter in self._adapters:
            adapter._settings = replace(
                adapter._settings, disconnect_seconds=0.05 if script.returns == "endless" else 30
            )
            if adapter._interface is not None:
                adapter._interface.settings = adapter._settings

    def settle(self) -> None:
        """Wait until all pools are idle, from the outermost one inwards."""
        for pool in self._pools:
            _wait_for_tasks()
            pool.submit(int).result()
        if self._pools:
            _wait_for_tasks()

    def shutdown(self, wait: bool) -> None:
        for pool in self._pools:
            pool.shutdown(wait)


class UsersExecutor(Executor):
    """An executor of the user, with daemon threads."""

    def __init__(self) -> None:
        self._pool = WorkerPool(1)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait)


def _through_messages(adapter: ASGIAdapter) -> Callable[..., Any]:
    async def middleware(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await adapter(message, channels)

    return middleware


def _wait_for_tasks() -> None:
    async def all_done() -> None:
        await until(lambda: len(asyncio.all_tasks()) == 1)

    asyncio.run_coroutine_threadsafe(all_done(), loop_thread().loop).result()


class Bridges:
    """All nestings of adapters around one application."""

    def __init__(self) -> None:
        self.app = ScriptedApp()
        self.kinds = [Bridge(name, self.app) for name in ("bare", "double", "triple", "messages")]
        self.loop_reports: list[dict[str, Any]] = []
        self._hang = ""
        loop = loop_thread().loop
        loop.call_soon_threadsafe(loop.set_exception_handler, lambda loop, report: self.loop_reports.append(report))

    def serve(self, bridge: Bridge, request: Request, script: Script) -> tuple[Received, Seen]:
        """Serve one exchange on a host's thread, to its end."""
        # What has hung once cannot serve again: the search for a shorter exchange ends there.
        assert not self._hang, self._hang
        seen = Seen()
        bridge.expect(script)
        self.app.script, self.app.seen = script, seen
        outcome: Future[Received] = Future()

        def host() -> None:
            try:
                received = StrictHost(request).serve(bridge.callable, request.environ(strict=bridge.name == "bare"))
                bridge.settle()
                outcome.set_result(received)
            except BaseException as error:
                outcome.set_exception(error)

        # A daemon, so that not even a hang keeps the tests from ending.
        threading.Thread(target=host, daemon=True).start()
        try:
            return outcome.result(_NEVER_SECONDS), seen
        except TimeoutError:
            faulthandler.dump_traceback(2)
            self._hang = f"{bridge.name} never ends: {request!r}, {script!r}"
            raise AssertionError(self._hang) from None

    def shutdown(self) -> None:
        for bridge in self.kinds:
            bridge.shutdown(wait=not self._hang)
        loop = loop_thread().loop
        loop.call_soon_threadsafe(loop.set_exception_handler, None)


@pytest.fixture(scope="module")
def bridges() -> Iterator[Bridges]:
    # Applications that fail are the point; their tracebacks are not.
    logger = logging.getLogger("uvicorn.app")
    logger.disabled = True
    made = Bridges()
    yield made
    made.shutdown()
    logger.disabled = False


@settings(
    max_examples=EXAMPLES or 300,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(exchanges())
def test_P3_application_behaves_the_same_behind_two_or_three_adapters(
    bridges: Bridges, exchange: tuple[Request, Script]
) -> None:
    request, script = exchange
    bare, *others = bridges.kinds
    expected = bridges.serve(bare, request, script)
    for bridge in others:
        found = list(differences(request, expected, bridges.serve(bridge, request, script)))
        assert not found, f"{bridge.name}: {found}"
    reports, bridges.loop_reports[:] = bridges.loop_reports[:], []
    assert not reports, f"reached the loop's exception handler: {reports}"


def test_nested_adapters_leave_no_thread_behind() -> None:
    made = Bridges()
    before = set(threading.enumerate())
    for bridge in made.kinds:
        made.serve(bridge, Request(), Script())
    made.shutdown()
    for thread in set(threading.enumerate()) - before:
        thread.join(_NEVER_SECONDS)
    assert set(threading.enumerate()) <= before
