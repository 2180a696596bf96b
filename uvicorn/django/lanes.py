"""Threads with Django's connections on them, and which of them runs the calls of a request or of an event.

Django keeps a connection on the thread, and sites keep a tenant or a user there. So nobody else may come to a thread
for as long as its owner may come back to what it has left:

- A request keeps its thread from its first call to its end.
- Other code (an event of a WebSocket, a task that has outlived its request) has a thread for one call, and keeps it
  while it has a transaction open, or an iterator over rows.

A thread closes connections that are broken or too old before its first call and after its last one, as Django does at
the beginning and at the end of a request. A transaction that is still open then is rolled back with its connection.
"""

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
from inspect import GEN_SUSPENDED, getgeneratorstate
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
    """A call of an event handler, or of a task that has outlived its request, found no free thread in time."""


class RequestRefused(BaseException):
    """A request found no free thread in time: it ends with this, and is answered with 503.

    Not an Exception, like a cancellation: Django would log it as a fault of the view and send mail about it.
    """


@final
class Lane:
    """Threads for leases: at most so many, started when they are needed; the one that was used last goes first."""

    def __init__(self, threads: int, wait: float) -> None:
        """`wait` is how many seconds a call waits for a thread before it is refused."""
        self.threads = threads
        self.wait = wait
        self.renew()
        _lanes.add(self)

    def renew(self) -> None:
        """Begin with no threads: a new lane, or one in a forked process, to which the threads have not come along."""
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        # Each idle thread waits for its next lease, or for None, which ends it.
        self._idle: list[SimpleQueue[Callable[[], None] | None]] = []
        self._closed = False
        self._threads: list[threading.Thread] = []
        # Those that have not been told to end.
        self._lasting = 0
        #: Leases that have a thread, or wait for one.
        self.leases = 0

    @property
    def alive(self) -> int:
        """Threads that have not ended."""
        return sum(thread.is_alive() for thread in self._threads)

    @property
    def is_full(self) -> bool:
        """Whether a lease waits for a thread."""
        return bool(self._waiting)

    def run(self, serve: Callable[[], None]) -> None:
        """Have a thread call `serve` as soon as one is free."""
        with self._lock:
            if self._idle:
                self._idle.pop().put(serve)
            elif self._lasting == self.threads or not self._start_thread(serve):
                self._waiting.append(serve)
            self.leases += 1

    def withdraw(self, serve: Callable[[], None]) -> bool:
        """Return whether no thread will call `serve`, which has waited too long: it need not be kept any more."""
        with self._lock:
            if serve not in self._waiting:
                return False
            self._waiting.remove(serve)
            self.leases -= 1
            return True

    def open(self) -> None:
        """Keep threads that a lease gives back, also after `close`."""
        with self._lock:
            self._closed = False

    def close(self) -> None:
        """End the threads, each when no lease has it or waits for it, and close their connections.

        Later leases have threads that end with them.
        """
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().put(None)
                self._lasting -= 1

    def join(self) -> None:
        """Wait until all threads have ended."""
        for thread in self._threads:
            thread.join()

    def _start_thread(self, serve: Callable[[], None]) -> bool:
        # A daemon: an application that blocks for ever must not keep the process from ending.
        name = f"uvicorn-django-{self._lasting + 1}"
        # In a context of its own: some versions of Python have a thread inherit that of the request that starts it.
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
                logger.exception("DjangoThreads: a thread has failed; it continues")
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


# At once: later two threads of the process could do it at the same time.
os.register_at_fork(after_in_child=_renew_all)


class Lanes(NamedTuple):
    """Of one application. Code that has a thread for a call never waits behind requests, which keep theirs."""

    requests: Lane
    calls: Lane


class _Call:
    """A call, and the future of its outcome. Either a thread takes it, to run it, or a timer, to refuse it."""

    __slots__ = ("_untaken", "function", "future")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.future: Future[Any] = Future()
        self._untaken = threading.Lock()

    def take(self) -> bool:
        """Return whether the call is the caller's to run or to refuse: it has not been taken, nor cancelled."""
        return self._untaken.acquire(blocking=False) and self.future.set_running_or_notify_cancel()


@final
class Lease(Executor):
    """The executor of a request or an event handler: runs its calls one at a time, in their order.

    `submit` works from any thread, also after `end`.
    """

    def __init__(self, lanes: Lanes, *, is_request: bool) -> None:
        self._lanes = lanes
        self._keeps_thread = is_request
        # What a call raises that finds no thread.
        self._refusal: type[BaseException] = RequestRefused if is_request else ThreadsBusy
        self._ended = False
        self._lock = threading.Lock()
        # None wakes the thread, which then looks whether it is still needed. The garbage collector may put one in the
        # middle of another `put`, which this kind of queue allows.
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        # Whether a thread serves the calls, or has been asked for.
        self._is_served = False
        # What a thread that has been asked for is to call, until it does.
        self._turn: Callable[[], None] | None = None
        # Calls that may wait for it, and of which no timer has run out.
        self._hopes = 0
        self._thread = 0
        # Iterators that have begun and not ended. Only the caller keeps them alive.
        self._iterators: set[weakref.ref[GeneratorType[Any, Any, Any]]] = set()
        # Makes what every later call raises.
        self._broken: Callable[[], BaseException] | None = None

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have the thread of this lease call `fn`; if none is free in time, the future raises RequestRefused or
        ThreadsBusy."""
        if args or kwargs:
            return self.submit(partial(fn, *args, **kwargs))
        if threading.get_ident() == self._thread:
            # That thread runs an event loop of its own, which would wait for a call that waits for the loop's end.
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
            self._hopes += 1
        if asks:
            self._turn = partial(self._serve, lane.wait)
            try:
                lane.run(self._turn)
            except RuntimeError:
                call.take()
                self._is_served, self._turn = False, None
                self._lose_hope()
                raise
        if self._thread or not lane.is_full:
            self._lose_hope()
        else:
            with suppress(RuntimeError):
                # Without an event loop only the caller waits.
                asyncio.get_running_loop().call_later(lane.wait, self._refuse, call, lane)
        return call.future

    def end(self) -> None:
        """The request or the handler has ended: give the thread back as soon as it has made the calls it has."""
        if self._ended:
            return
        self._keeps_thread = False
        self._refusal = ThreadsBusy
        self._broken = None
        self._ended = True
        self._calls.put(None)

    def _refuse(self, call: _Call, lane: Lane) -> None:
        """Refuse a call that has waited too long, unless a thread has taken it or comes to it after others."""
        self._lose_hope()
        if self._thread:
            return
        if call.take():
            refuse = partial(self._refusal, f"{lane.threads} threads were busy for {lane.wait:g} s")
            if self._keeps_thread:
                self._broken = refuse
            call.future.set_exception(refuse())
            del call.function, call.future
        with self._lock:
            # Threads may be busy for hours, and calls be refused for as long.
            if not self._hopes and self._turn is not None and lane.withdraw(self._turn):
                self._is_served, self._turn = False, None

    def _lose_hope(self) -> None:
        with self._lock:
            self._hopes -= 1

    def _serve(self, seconds: float) -> None:
        """Make calls until the thread is not needed any more; called by a thread.

        After the end it waits `seconds` for a task to go on with an iteration: one that was abandoned may be kept alive
        by garbage that is not collected for long.
        """
        self._thread = threading.get_ident()
        self._turn = None
        used = False
        while True:
            try:
                call = self._calls.get(used and self._needs_thread(), seconds if self._ended else None)
            except Empty:
                if used:
                    if clean_connections(closes=bool(self._iterators)):
                        # A task that goes on would save a part of what belongs together.
                        self._broken = partial(TransactionManagementError, "rolled back: it outlived its handler")
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
            # Not kept while the thread waits.
            del call

    def _make(self, call: _Call) -> None:
        function, future = call.function, call.future
        # A timer may still refer to it.
        del call.function
        inherited = forks.forks
        iterators = [argument for argument in arguments_of(function) if isinstance(argument, GeneratorType)]
        try:
            result = function()
        except BaseException as error:
            if inherited != forks.forks:
                forks.end_fork(error)
            future.set_exception(error)
        else:
            if inherited != forks.forks:
                forks.end_fork(None)
            future.set_result(result)
        for iterator in iterators:
            if getgeneratorstate(iterator) == GEN_SUSPENDED:
                self._iterators.add(weakref.ref(iterator, self._collected))

    def _collected(self, iterator: weakref.ref[GeneratorType[Any, Any, Any]]) -> None:
        """Called before the iterator runs its `finally`, which closes its cursor: where it is collected, not here."""
        try:
            asyncio.get_running_loop().call_soon(self._forget, iterator)
        except RuntimeError:
            self._forget(iterator)

    def _forget(self, iterator: weakref.ref[GeneratorType[Any, Any, Any]]) -> None:
        self._iterators.discard(iterator)
        self._calls.put(None)

    def _needs_thread(self) -> bool:
        if self._keeps_thread or (not self._ended and any(map(in_transaction, opened()))):
            return True
        # In one step, for `_forget` may come at any time.
        for reference in self._iterators.copy():
            iterator = reference()
            if iterator is not None and getgeneratorstate(iterator) != GEN_SUSPENDED:
                self._iterators.discard(reference)
        return bool(self._iterators)


def once(lanes: Lanes, refusal: type[BaseException] = ThreadsBusy) -> Lease:
    """Return a lease for one call, which leaves nothing open behind it."""
    lease = Lease(lanes, is_request=False)
    lease.end()
    lease._refusal = refusal
    return lease
