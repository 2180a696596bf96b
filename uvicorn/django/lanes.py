"""Lends threads to requests and events, because Django's database connections belong to threads."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from contextvars import Context
from functools import partial
from inspect import GEN_CLOSED, GEN_SUSPENDED, getgeneratorstate
from queue import Empty, SimpleQueue
from types import GeneratorType
from typing import Any, Final, NamedTuple, TypeVar, final

from django.db import connections
from django.db.transaction import TransactionManagementError

from uvicorn import forks
from uvicorn.django.cleaning import clean_connections, in_transaction, opened
from uvicorn.django.housekeeping import arguments_of, leaves_nothing
from uvicorn.errors import UvicornError

T = TypeVar("T")

logger = logging.getLogger("uvicorn.app")


class ThreadsBusy(UvicornError):
    """No thread was free in time for a call outside of a request."""


class RequestRefused(BaseException):
    """No thread was free in time for a request. The response is 503."""

    # A BaseException, because Django logs and mails an Exception as a fault of the view.


@final
class Lane:
    """A pool of at most `threads` threads. Calls from an event loop wait for up to `wait` seconds."""

    def __init__(self, threads: int, wait: float) -> None:
        self.threads = threads
        self.wait = wait
        #: The number of calls that have waited too long.
        self.refused = 0
        self.renew()
        _lanes.add(self)

    def renew(self) -> None:
        """Forget all threads. After a fork, none of them exist."""
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        # The inboxes of idle threads. None ends the thread.
        self._idle: list[SimpleQueue[Callable[[], None] | None]] = []
        self._closed = False
        self._threads: list[threading.Thread] = []
        # The number of threads that are not about to end.
        self._lasting = 0
        #: The number of leases that have a thread or wait for one.
        self.leases = 0

    @property
    def alive(self) -> int:
        return sum(thread.is_alive() for thread in self._threads)

    @property
    def waiting(self) -> int:
        """The number of leases that wait for a thread."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """The number of leases with a thread."""
        return self.leases - len(self._waiting)

    def run(self, serve: Callable[[], None]) -> None:
        with self._lock:
            if self._idle:
                self._idle.pop().put(serve)
            elif self._lasting == self.threads or not self._start_thread(serve):
                self._waiting.append(serve)
            self.leases += 1

    def withdraw(self, serve: Callable[[], None]) -> bool:
        """Remove `serve` from the queue. Return whether `serve` was there."""
        with self._lock:
            if serve not in self._waiting:
                return False
            self._waiting.remove(serve)
            self.leases -= 1
            return True

    def open(self) -> None:
        """Keep idle threads from now on."""
        with self._lock:
            self._closed = False

    def close(self) -> None:
        """End each thread as soon as the thread is idle."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().put(None)
                self._lasting -= 1

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _start_thread(self, serve: Callable[[], None]) -> bool:
        # A daemon thread, so that the process can end while an application blocks.
        name = f"uvicorn-django-{self._lasting + 1}"
        # An empty context: from Python 3.14 on, a thread may inherit the context of the request that starts it.
        thread = threading.Thread(target=Context().run, args=(self._work, serve), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._lasting:
                raise
            return False
        self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        self._lasting += 1
        return True

    def _work(self, serve: Callable[[], None] | None) -> None:
        inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        while serve is not None:
            try:
                serve()
            except BaseException:
                logger.exception("DjangoThreads: serving a request failed; the thread continues")
            with self._lock:
                self.leases -= 1
                serve = self._waiting.popleft() if self._waiting else None
                if serve is not None:
                    continue
                if self._closed:
                    self._lasting -= 1
                    break
                self._idle.append(inbox)
            serve = inbox.get()
        connections.close_all()


_lanes: Final[weakref.WeakSet[Lane]] = weakref.WeakSet()


def _renew_all() -> None:
    for lane in _lanes:
        lane.renew()


# Right after the fork, because the process has one thread then.
os.register_at_fork(after_in_child=_renew_all)


class Lanes(NamedTuple):
    """The pools of an application: one for requests, one for single calls."""

    requests: Lane
    calls: Lane


class _Call:
    __slots__ = ("_untaken", "function", "future")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.future: Future[Any] = Future()
        self._untaken = threading.Lock()

    def take(self) -> bool:
        # True once, unless the call was cancelled.
        return self._untaken.acquire(blocking=False) and self.future.set_running_or_notify_cancel()


@final
class Lease(Executor):
    """An executor for one request or event. Calls run one at a time, in order."""

    def __init__(self, lanes: Lanes, *, is_request: bool) -> None:
        self._lanes = lanes
        self._keeps_thread = is_request
        # The exception of a call that finds no thread.
        self._refusal: type[BaseException] = RequestRefused if is_request else ThreadsBusy
        self._ended = False
        self._lock = threading.Lock()
        # None wakes the thread. A SimpleQueue, because the garbage collector may call `put` in the middle of a `put`.
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        # Whether a thread serves the calls, or has been requested from the lane.
        self._is_served = False
        # The request for a thread, until a thread begins to serve.
        self._thread_request: Callable[[], None] | None = None
        # The number of calls whose wait for a thread has not timed out.
        self._waiting_calls = 0
        self._thread = 0
        # Unfinished iterators. Only the caller keeps them alive.
        self._iterators: set[weakref.ref[GeneratorType[Any, Any, Any]]] = set()
        # Makes the exception of every later call.
        self._broken: Callable[[], BaseException] | None = None

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if args or kwargs:
            return self.submit(partial(fn, *args, **kwargs))
        if threading.get_ident() == self._thread:
            # The thread runs an event loop: a call to this thread would wait until that loop ends.
            return once(self._lanes).submit(fn)
        if self._keeps_thread and not self._is_served and leaves_nothing(fn):
            return once(self._lanes, self._refusal).submit(fn)
        call = _Call(fn)
        if self._broken is not None:
            call.take()
            call.future.set_exception(self._broken())
            return call.future
        lane = self._lanes.requests if self._keeps_thread else self._lanes.calls
        with self._lock:
            self._calls.put(call)
            asks, self._is_served = not self._is_served, True
            self._waiting_calls += 1
        if asks:
            self._thread_request = partial(self._serve, lane.wait)
            try:
                lane.run(self._thread_request)
            except RuntimeError:
                call.take()
                self._is_served, self._thread_request = False, None
                self._stop_waiting()
                raise
        if self._thread or not lane.waiting:
            self._stop_waiting()
        else:
            with suppress(RuntimeError):
                # Without an event loop the call waits without limit.
                asyncio.get_running_loop().call_later(lane.wait, self._refuse, call, lane)
        return call.future

    def end(self) -> None:
        """Release the thread after the last submitted call."""
        if self._ended:
            return
        self._keeps_thread = False
        self._refusal = ThreadsBusy
        self._broken = None
        self._ended = True
        self._calls.put(None)

    def _refuse(self, call: _Call, lane: Lane) -> None:
        self._stop_waiting()
        if self._thread:
            return
        if call.take():
            lane.refused += 1
            refuse = partial(self._refusal, f"all {lane.threads} threads were busy for {lane.wait:g} s")
            if self._keeps_thread:
                self._broken = refuse
            call.future.set_exception(refuse())
            del call.function, call.future
        with self._lock:
            # Without this, refused leases would accumulate in the lane while its threads are busy.
            if not self._waiting_calls and self._thread_request is not None and lane.withdraw(self._thread_request):
                self._is_served, self._thread_request = False, None

    def _stop_waiting(self) -> None:
        with self._lock:
            self._waiting_calls -= 1

    def _serve(self, seconds: float) -> None:
        self._thread = threading.get_ident()
        self._thread_request = None
        used = False
        while True:
            try:
                call = self._calls.get(timeout=self._patience(seconds) if used else 0)
            except Empty:
                if used:
                    # Not immediately, because a collected iterator may still run its `finally`.
                    if clean_connections(closes=bool(self._iterators)):
                        # A task that continues would commit only the second half of the transaction.
                        self._broken = partial(
                            TransactionManagementError, "rolled back: the transaction outlived its handler"
                        )
                    used = False
                    self._iterators.clear()
                with self._lock:
                    if self._calls.empty():
                        self._thread = 0
                        self._is_served = False
                        return
                continue
            if call is not None and call.take():
                if not used:
                    clean_connections()
                    used = True
                self._make(call)
            # Let the call be freed while the thread waits.
            del call

    def _make(self, call: _Call) -> None:
        function, future = call.function, call.future
        # The timer may still refer to the call.
        del call.function
        inherited = forks.forks
        iterators = [argument for argument in arguments_of(function) if isinstance(argument, GeneratorType)]
        try:
            result = function()
        except BaseException as error:
            if inherited != forks.forks:
                forks.end_fork(error)
            if isinstance(error, StopIteration):
                # Before Python 3.12, asyncio leaves the task that awaits it waiting for ever.
                cause, error = error, RuntimeError("the call raised StopIteration")
                error.__cause__ = cause
                del cause
            future.set_exception(error)
        else:
            if inherited != forks.forks:
                forks.end_fork(None)
            future.set_result(result)
        for iterator in iterators:
            if getgeneratorstate(iterator) == GEN_SUSPENDED:
                self._iterators.add(weakref.ref(iterator, self._collected))

    def _collected(self, iterator: weakref.ref[GeneratorType[Any, Any, Any]]) -> None:
        # The iterator's `finally`, which closes its cursor on this thread, runs only after this callback.
        if threading.get_ident() == self._thread:
            self._iterators.discard(iterator)
            return
        # On a thread without an event loop nothing reports the end of the `finally`.
        self._calls.put(None)
        with suppress(RuntimeError):
            asyncio.get_running_loop().call_soon(self._forget, iterator)

    def _forget(self, iterator: weakref.ref[GeneratorType[Any, Any, Any]]) -> None:
        self._iterators.discard(iterator)
        self._calls.put(None)

    def _patience(self, seconds: float) -> float | None:
        # A request keeps its thread to its end, and a task only while a transaction or an iterator is open.
        if self._keeps_thread or (not self._ended and any(map(in_transaction, opened()))):
            return None
        is_read = False
        # A copy, because `_forget` may be called at any time.
        for reference in self._iterators.copy():
            iterator = reference()
            if iterator is not None:
                if getgeneratorstate(iterator) == GEN_CLOSED:
                    self._iterators.discard(reference)
                else:
                    is_read = True
        if is_read and not self._ended:
            return None
        return seconds if self._iterators else 0


def once(lanes: Lanes, refusal: type[BaseException] = ThreadsBusy) -> Lease:
    """Return a lease for one call. The call cannot leave a transaction open."""
    lease = Lease(lanes, is_request=False)
    lease.end()
    lease._refusal = refusal
    return lease
