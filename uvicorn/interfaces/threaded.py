"""Calls blocking applications on worker threads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextvars import copy_context
from typing import Any, Final

from uvicorn.concurrency.worker_pool import Job, PoolFull, WorkerPool
from uvicorn.core.counts import Counts, Place
from uvicorn.core.exchange import COMPLETE, OVERLOADED, WAITING, HTTPExchange
from uvicorn.forks import end_fork
from uvicorn.interfaces.base import Interface
from uvicorn.interfaces.client_shares import ClientShares, SharedJob
from uvicorn.interfaces.handlers import answer_failure
from uvicorn.loop_calls import LoopCalls
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.app")

#: Status, reason phrase and fields of a response, as a worker thread passes them to the event loop.
Head = tuple[int, bytes, Iterable[Sequence[bytes]]]

# Time for workers to close files and connections when the pool ends, and the interval at which their end is checked.
_CLOSE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.01


class ThreadCall:
    """One call of a blocking application. The pool calls either `run` or `cancel`."""

    __slots__ = (
        "_answered", "_context", "_failed", "_forget", "_loop_calls", "_over", "_returned", "_seconds", "_sent",
        "_taken", "_unsent", "exchange",
    )  # fmt: skip

    #: High-water mark of the content that was passed to the event loop and has not been sent.
    high_water_bytes = 65536
    #: Bytes that each message counts in addition to its content: empty messages must not fill the memory.
    message_bytes = 0

    def __init__(self, exchange: HTTPExchange, loop_calls: LoopCalls, seconds: float) -> None:
        self.exchange = exchange
        self._loop_calls = loop_calls
        self._seconds = seconds
        # With the variables that middleware has set for this request, such as a trace identifier.
        self._context = copy_context()
        # Set by the event loop's thread.
        self._over = False
        self._answered = False
        # Whether the response could not be sent, and the failure has been answered; for the event loop's thread only.
        self._failed = False
        # Set by the worker thread.
        self._returned = False
        self._forget: Callable[[], object] | None = None
        # Bytes that sending threads have passed to the event loop, and bytes that the loop has sent. The last piece of
        # content is not counted.
        self._sent = 0
        self._taken = 0
        # The bytes of `_sent` that wait for a slow client; for the event loop's thread only.
        self._unsent = 0

    # On a worker thread

    def run(self) -> None:
        """Call the application, and answer failures. Never raises."""
        endpoint = self.exchange.endpoint
        last = None
        try:
            if not self._over:
                last = self._context.run(self._call_application)
        except BaseException as error:
            if endpoint.is_parents:
                end_fork(error)
            # SystemExit and KeyboardInterrupt too end the request, not the worker thread.
            self._loop_calls.post(lambda error=error: self._on_loop_failed(error))  # type: ignore[misc]
        else:
            if endpoint.is_parents:
                end_fork(None)
            if last is not None:
                self._loop_calls.post(last)
        finally:
            # Set `_returned`, then check `_answered`; the loop sets `_answered` first, so that either sees the other's.
            self._returned = True
            if self._answered:
                self._loop_calls.post(self._on_loop_end)

    def _call_application(self) -> Callable[[], None] | None:
        # Returns a callback to run on the event loop, if one is needed.
        raise NotImplementedError

    def holds_thread(self) -> bool:
        return not self._returned

    def _wait_for_room(self) -> None:
        if self._sent - self._taken > self.high_water_bytes and not self._loop_calls.wait(self._on_loop_wants_room):
            self._over = True

    # On any thread

    def cancel(self) -> None:
        """Respond 503 instead of calling the application."""
        self._loop_calls.post(lambda: refuse(self.exchange))

    # On the event loop's thread

    def on_end(self, exchange: HTTPExchange) -> None:
        exchange.thread_held = None
        if not exchange.ended_early:
            self._over = True
            return
        # The response is complete: the application may run on for a limited time.
        self._answered = True
        if not self._returned:
            self._forget = exchange.gateway.handler_continues(exchange, self._give_up, self._seconds)

    def _give_up(self) -> None:
        self._over = True

    def _on_loop_end(self) -> None:
        forget, self._forget = self._forget, None
        if forget is not None:
            forget()

    def _on_loop_failed(self, error: BaseException) -> None:
        answer_failure(self.exchange, error)

    def _on_loop_send(self, head: Head | None, content: bytes, more_content: bool) -> None:
        exchange = self.exchange
        try:
            if head is not None:
                status, reason, headers = head
                exchange.respond(status, headers, content, more_content, reason)
            elif not self._failed:
                exchange.write(content, more_content)
        except Exception as error:
            self._failed = True
            self._on_loop_failed(error)
        if more_content:
            size = len(content) + self.message_bytes
            if exchange.gateway.write_paused:
                self._unsent += size
            else:
                self._taken += size

    def _on_loop_wants_room(self) -> Coroutine[Any, Any, None] | None:
        if self.exchange.state < COMPLETE and self.exchange.write_paused:
            return self._drain()
        self._on_loop_room()
        return None

    async def _drain(self) -> None:
        await self.exchange.drain()
        self._on_loop_room()

    def _on_loop_room(self) -> None:
        # Not all of `_sent`: other threads may have counted bytes that the event loop has not yet handled.
        self._taken += self._unsent
        self._unsent = 0


class ThreadedInterface(Interface):
    """Calls a blocking application on threads of `executor`."""

    def __init__(self, app: Callable[..., Any], settings: Settings, executor: Executor | None = None) -> None:
        super().__init__(app, settings)
        self._own_pool: WorkerPool | None = None
        if executor is None:
            executor = self._own_pool = WorkerPool(settings.threads, settings.thread_queue)
        self.executor = executor
        # Executors of the standard library have the attribute.
        workers = executor.threads if isinstance(executor, WorkerPool) else getattr(executor, "_max_workers", 0)
        #: Number of calls of the application that may run at a time; 0 if unknown.
        self.calls_at_a_time: int = workers if isinstance(workers, int) else 0
        self._loop_calls: LoopCalls | None = None
        self._watches_rate = settings.min_response_rate > 0
        most = settings.threads_per_client
        self._shares = ClientShares(most, settings.thread_queue) if most else None

    def loop_calls(self) -> LoopCalls:
        loop = asyncio.get_running_loop()
        # One interface may serve on several event loops, each in its own thread.
        loop_calls = self._loop_calls
        if loop_calls is None or loop_calls.loop is not loop:
            loop_calls = self._loop_calls = LoopCalls.of(loop)
        return loop_calls

    def counted_in(self, counts: Counts, place: Place) -> None:
        counts.add(place, self.name, self.executor if isinstance(self.executor, WorkerPool) else None)

    def queue(self, call: ThreadCall, exchange: HTTPExchange) -> None:
        """Run `call` on a worker thread. If the queue is full, respond 503."""
        if self._watches_rate:
            exchange.thread_held = call.holds_thread
        # A peer on a Unix socket is a proxy for all clients, unless it forwards their addresses.
        if self._shares is not None and (client := exchange.client) is not None:
            self._queue_shared(call, exchange, self._shares, client[0])
        elif self._post(call, exchange):
            if exchange.end_listeners is None and exchange.state is WAITING:
                # Like `on_end`, without its list and two calls. They take 3 % of the time of a WSGI request.
                exchange.end_listeners = call
            else:
                exchange.on_end(call.on_end)

    def _queue_shared(self, call: ThreadCall, exchange: HTTPExchange, shares: ClientShares, client: str) -> None:
        loop_calls = self.loop_calls()

        def post_or_give_back(job: SharedJob) -> None:
            if not self._post(job, exchange):
                job.give_back()

        def ended(exchange: HTTPExchange) -> None:
            call.on_end(exchange)
            if exchange.status == 101:
                # The thread has left the pool.
                job.give_back()

        job = SharedJob(call, client, shares, lambda job: loop_calls.post(lambda: post_or_give_back(job)))
        try:
            is_next = shares.take(job)
        except PoolFull:
            refuse(exchange)
            return
        if is_next:
            post_or_give_back(job)
        else:
            exchange.on_end(lambda exchange: shares.forget(job))
        exchange.on_end(ended)

    def _post(self, job: Job, exchange: HTTPExchange) -> bool:
        try:
            if isinstance(self.executor, WorkerPool):
                self.executor.post(job)
            else:
                self.executor.submit(job.run).add_done_callback(lambda future: _on_executor_done(future, job, exchange))
        except PoolFull:
            refuse(exchange)
        except Exception as error:
            # An executor of the user may have limits and raise its own exceptions.
            logger.error("%s: the executor rejected the call: %.200r; the response is 503", exchange, error)
            refuse(exchange)
        else:
            return True
        return False

    async def shutdown(self, seconds: float) -> None:
        await super().shutdown(seconds)
        for job in self._shares.take_back() if self._shares is not None else ():
            job.job.cancel()
        for _ in self._end_pool(max(seconds, _CLOSE_SECONDS)):
            await asyncio.sleep(_POLL_SECONDS)

    def end_workers(self) -> None:
        """End the worker threads. Unlike `shutdown`, needs no event loop."""
        for _ in self._end_pool(_CLOSE_SECONDS):
            time.sleep(_POLL_SECONDS)

    def _end_pool(self, seconds: float) -> Iterator[None]:
        pool = self._own_pool
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
            # Calls that serve a WebSocket have `disconnect_seconds`.
            detached_checks = int(self.settings.disconnect_seconds / _POLL_SECONDS)
            for check in range(int(seconds / _POLL_SECONDS)):
                if not pool.alive and (not pool.detached or check >= detached_checks):
                    return
                yield


def refuse(exchange: HTTPExchange) -> None:
    """Respond 503 to a request that no worker thread can serve."""
    if exchange.state is WAITING:
        exchange.respond(*OVERLOADED)


def _on_executor_done(future: Future[object], call: Job, exchange: HTTPExchange) -> None:
    if future.cancelled():
        call.cancel()
    elif (error := future.exception()) is not None:
        # Such as the error of a process pool, to which a call cannot be passed.
        logger.error("%s: the executor did not call the application: %.200r; use a thread pool", exchange, error)
        call.cancel()
