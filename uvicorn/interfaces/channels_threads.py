"""Runs plain functions as channels applications on worker threads."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import copy_context
from functools import partial
from typing import Any, Final, final

from uvicorn import forks
from uvicorn.channel import call_hook
from uvicorn.concurrency.worker_pool import PoolFull, WorkerPool
from uvicorn.core.exchange import OVERLOADED
from uvicorn.errors import ApplicationError, ConfigError
from uvicorn.interfaces.channels import ChannelsInterface
from uvicorn.interfaces.detect import check_interface
from uvicorn.interfaces.http_reply import ReplyChannel
from uvicorn.loop_calls import LoopCalls
from uvicorn.settings import Settings
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.app")

_NAME: Final = "threaded: the application"
# Events that may be rejected when no thread is free. Messages of an open WebSocket wait: they must not be lost.
_REQUESTS: Final = frozenset(("http.request", "websocket.connect"))


@final
class Threaded:
    """A channels application that calls a plain function on worker threads."""

    def __init__(self, app: Callable[..., Any], threads: int | None = None) -> None:
        check_interface(app, "channels", _NAME)
        if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__):
            raise ConfigError(f"{_NAME} is a coroutine function, which needs no threads; expected a plain function")
        if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
            raise ConfigError(f"threaded: threads: expected a number not below 1, got {threads!r}")
        self.app = app
        self._threads = threads
        self.settings = Settings()
        self._own_pool: WorkerPool | None = None
        #: Protects the attributes below: event loops of several threads may share the application.
        self.lock = threading.RLock()
        self._connections: weakref.WeakKeyDictionary[Any, _Connection] = weakref.WeakKeyDictionary()
        #: Connections whose next event waits for room in the queue of the pool.
        self.waiting: deque[_Connection] = deque()
        #: Number of calls that were posted to the pool and have not ended.
        self.posted = 0
        #: With `threads_per_client`, the calls of each client that the pool has, and its connections that wait.
        self.shares: dict[str, int] = {}
        self.held: dict[str, deque[_Connection]] = {}

    def __uvicorn_interface__(self, settings: Settings) -> ChannelsInterface:
        self.settings = settings
        return ChannelsInterface(self, settings)

    async def __call__(self, message: Message, channels: Mapping[str, Any]) -> None:
        """Call the plain function on a worker thread. If the queue is full, requests and handshakes get 503."""
        reply = channels["reply"]
        loop = asyncio.get_running_loop()
        connection = self._connections.get(reply)
        if connection is None:
            client = message.get("client") if self.settings.threads_per_client else None
            connection = _Connection(self, LoopCalls.of(loop), client[0] if client else "")
            self._connections[reply] = connection
            if self.settings.min_response_rate and isinstance(reply, ReplyChannel):
                reply.watch_thread(connection.holds_thread)
        outcome: asyncio.Future[Any] = loop.create_future()
        if "body" in channels:
            channels = {**channels, "body": BlockingBody(channels["body"], loop)}
        connection.add(_Call(connection, outcome, self.app, message, channels))
        try:
            returned = await outcome
        except PoolFull:
            status, headers, content = OVERLOADED
            await reply.send({"status": status, "headers": list(headers), "content": content})
            return
        if isinstance(returned, Awaitable):
            # A decorator has hidden that the application is a coroutine function.
            await returned

    async def startup(self) -> None:
        await call_hook(self.app, "startup")

    async def shutdown(self) -> None:
        """Shut the application down, then end the worker threads."""
        try:
            await call_hook(self.app, "shutdown")
        finally:
            pool, self._own_pool = self._own_pool, None
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    @property
    def pool(self) -> WorkerPool:
        """The pool of worker threads, made on first use."""
        with self.lock:
            if self._own_pool is None:
                self._own_pool = WorkerPool(self._threads or self.settings.threads, self.settings.thread_queue)
            return self._own_pool

    # For metrics.
    __uvicorn_lane__ = pool


def threaded(app: Callable[..., Any], threads: int | None = None) -> Threaded:
    """Return a channels application that calls the plain function `app` on worker threads.

    `app` takes `(message, channels)`. `threads` is the number of threads, by default the server's `--threads`. Calls
    for one connection run in order, one at a time. In `app`, `send` and `receive` need no `await`, and block while the
    client is slow.

    Raises ConfigError for a coroutine function. Raises InterfaceError if `app` does not take two arguments.
    """
    return Threaded(app, threads)


# Makes the calls for one connection, one at a time.
class _Connection:
    __slots__ = ("_app", "_calls", "_client", "_is_busy", "_pool", "loop_calls")

    def __init__(self, app: Threaded, loop_calls: LoopCalls, client: str) -> None:
        self._app = app
        self._calls: deque[_Call] = deque()
        # The client's address; empty without a limit on the client's threads.
        self._client = client
        self._is_busy = False
        # That of the first call: the application's next pool, after a shutdown, gets no late events.
        self._pool: WorkerPool | None = None
        self.loop_calls = loop_calls

    def holds_thread(self) -> bool:
        return self._is_busy

    def add(self, call: _Call) -> None:
        self._calls.append(call)
        if not self._is_busy:
            self.begin()

    def begin(self) -> None:
        calls = self._calls
        self._is_busy = False
        while calls and not self._is_busy:
            call = calls[0]
            try:
                if call.is_wanted:
                    self._is_busy = True
                    with self._app.lock:
                        if not self._post(call):
                            return
            except PoolFull as error:
                self._is_busy = False
                call.fail(error if call.is_request else RuntimeError("threaded: no thread can be started"))
            except RuntimeError as error:
                # The pool has been shut down meanwhile.
                self._is_busy = False
                if call.is_awaited:
                    call.fail(error)
            calls.popleft()

    def ended(self) -> None:
        app, client = self._app, self._client
        with app.lock:
            app.posted -= 1
            if client:
                app.shares[client] -= 1
                if not app.shares[client]:
                    del app.shares[client]
        self.begin()
        self._let_another_begin()

    def _post(self, call: _Call) -> bool:
        app, client = self._app, self._client
        if client and app.shares.get(client, 0) >= app.settings.threads_per_client:
            held = app.held.setdefault(client, deque())
            if call.is_request and len(held) >= app.settings.thread_queue:
                raise PoolFull
            held.append(self)
            return False
        try:
            if self._pool is None:
                self._pool = app.pool
            self._pool.post(call)
        except PoolFull:
            if call.is_request or not app.posted:
                raise
            app.waiting.append(self)
            return False
        app.posted += 1
        if client:
            app.shares[client] = app.shares.get(client, 0) + 1
        return True

    def _let_another_begin(self) -> None:
        app = self._app
        with app.lock:
            held = app.held.get(self._client)
            # At most two calls: one above the limit of this client, and one that the queue had no room for.
            for queue in (held, app.waiting):
                while queue:
                    connection = queue.popleft()
                    # Otherwise its event loop has ended.
                    if connection.loop_calls.post(connection._begin_after_waiting):
                        break
            if held is not None and not held:
                del app.held[self._client]

    def _begin_after_waiting(self) -> None:
        self.begin()
        if not self._is_busy:
            # Its events were cancelled meanwhile.
            self._let_another_begin()


@final
class _Call:
    __slots__ = ("_connection", "_outcome", "_reply", "_work", "is_request", "kind")

    def __init__(self, connection: _Connection, outcome: asyncio.Future[Any], app: Any, *arguments: Any) -> None:
        self._connection = connection
        self._outcome = outcome
        self.kind: str = arguments[0].get("channel", "http.request")
        self.is_request = self.kind in _REQUESTS
        self._reply: ReplyChannel | None = None
        if self.kind == "http.request" and isinstance(reply := arguments[1]["reply"], ReplyChannel):
            self._reply = reply
        # With the variables that middleware has set for this event.
        self._work: Callable[[], Any] | None = partial(copy_context().run, app, *arguments)

    @property
    def is_awaited(self) -> bool:
        return not self._outcome.done()

    @property
    def is_wanted(self) -> bool:
        if not self.is_awaited or (self._reply is not None and self._reply.has_lost_client):
            return self.kind == "websocket.disconnect"
        return True

    def run(self) -> None:
        work, self._work = self._work, None
        assert work is not None
        inherited = forks.forks
        post = self._connection.loop_calls.post
        is_wanted, self._reply = self.is_wanted, None
        if not is_wanted:
            del work
            post(partial(self._end, self._outcome.cancel))
            return
        try:
            returned = work()
        except BaseException as error:
            if inherited != forks.forks:
                forks.end_fork(error)
            post(partial(self._end, self.fail, error))
            return
        if inherited != forks.forks:
            forks.end_fork(None)
        # The reply channel is freed before the event loop looks for a response.
        del work
        post(partial(self._end, self._succeed, returned))

    def cancel(self) -> None:
        self._connection.loop_calls.post(partial(self._end, self._outcome.cancel))

    # On the event loop's thread

    def fail(self, error: BaseException) -> None:
        if isinstance(error, StopIteration) or not isinstance(error, (Exception, asyncio.CancelledError)):
            # SystemExit would end the event loop.
            error = ApplicationError.of(error)
        if not self._outcome.done():
            self._outcome.set_exception(error)
        elif isinstance(error, Exception):
            logger.error("threaded: %s: exception after the handler was cancelled", self.kind, exc_info=error)

    def _succeed(self, returned: Any) -> None:
        if not self._outcome.done():
            self._outcome.set_result(returned)
        elif isinstance(returned, Coroutine):
            returned.close()

    def _end(self, finish: Callable[..., object], *arguments: Any) -> None:
        finish(*arguments)
        self._connection.ended()


@final
class BlockingBody:
    """`channels['body']` of a plain function. Receives the request's content."""

    __slots__ = ("_body", "_loop", "_thread")

    def __init__(self, body: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._body = body
        self._loop = loop
        self._thread = threading.get_ident()

    @property
    def name(self) -> str:
        return self._body.name  # type: ignore[no-any-return]

    def receive(self) -> Any:
        """Block until content arrives, and return the next piece."""
        if threading.get_ident() == self._thread:
            return self._body.receive()
        return LoopCalls.of(self._loop).run(self._body.receive)
