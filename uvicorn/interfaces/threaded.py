"""Base of the interfaces of blocking applications, which run on worker threads.

Worker threads call the event loop through `LoopCalls`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final

from uvicorn.concurrency.loop_calls import LoopCalls
from uvicorn.concurrency.thread_call import ThreadCall, refuse
from uvicorn.concurrency.worker_pool import Job, PoolFull, WorkerPool
from uvicorn.core.exchange import HTTPExchange
from uvicorn.interfaces.base import Interface
from uvicorn.interfaces.client_shares import ClientShares, SharedJob
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.app")

# Time for a worker that is to stop to close its files and connections, and the interval of checks for its end.
_CLOSE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.01


class ThreadedInterface(Interface):
    """Calls its application on a worker thread.

    `executor` replaces the pool of `settings.threads` workers.
    """

    def __init__(self, app: Callable[..., Any], settings: Settings, executor: Executor | None = None) -> None:
        super().__init__(app, settings)
        self._own_pool: WorkerPool | None = None
        if executor is None:
            executor = self._own_pool = WorkerPool(settings.threads, settings.thread_queue)
        self.executor = executor
        # The attribute is that of the standard library's; 0 for an executor without it.
        workers = executor.threads if isinstance(executor, WorkerPool) else getattr(executor, "_max_workers", 0)
        #: Most calls of the application that run at a time; 0 if that is not known.
        self.calls_at_a_time: int = workers if isinstance(workers, int) else 0
        self._loop_calls: LoopCalls | None = None
        self._watches_rate = settings.min_response_rate > 0
        most = settings.threads_per_client
        self._shares = ClientShares(most, settings.thread_queue) if most else None

    def loop_calls(self) -> LoopCalls:
        """Return the calls to the running loop."""
        loop = asyncio.get_running_loop()
        # Kept at hand: one interface may serve on several loops, in as many threads.
        loop_calls = self._loop_calls
        if loop_calls is None or loop_calls.loop is not loop:
            loop_calls = self._loop_calls = LoopCalls(loop)
        return loop_calls

    def queue(self, call: ThreadCall, exchange: HTTPExchange) -> None:
        """Have a worker run `call`, which responds to `exchange`; respond 503 if the queue is full."""
        if self._watches_rate:
            exchange.thread_held = call.holds_thread
        # A peer on a Unix socket is a proxy for all clients, unless it forwards their addresses.
        if self._shares is not None and (client := exchange.client) is not None:
            self._queue_shared(call, exchange, self._shares, client[0])
        elif self._post(call, exchange):
            exchange.on_end(call.on_end)

    def _queue_shared(self, call: ThreadCall, exchange: HTTPExchange, shares: ClientShares, client: str) -> None:
        """Like `queue`, but hold the call back while `client` occupies its share of the threads."""
        loop_calls = self.loop_calls()

        def post(job: SharedJob) -> bool:
            return loop_calls.post(lambda: post_or_give_back(job))

        def post_or_give_back(job: SharedJob) -> None:
            if not self._post(job, exchange):
                job.give_back()

        job = SharedJob(call, client, shares, post)
        try:
            is_next = shares.take(job)
        except PoolFull:
            refuse(exchange)
            return
        if is_next:
            post_or_give_back(job)
        else:
            exchange.on_end(lambda exchange: job.forget())
        exchange.on_end(call.on_end)

    def _post(self, job: Job, exchange: HTTPExchange) -> bool:
        """Have a worker run `job`; if that is impossible, cancel the job and return False."""
        try:
            if isinstance(self.executor, WorkerPool):
                self.executor.post(job)
            else:
                self.executor.submit(job.run).add_done_callback(lambda future: _on_executor_done(future, job, exchange))
        except PoolFull:
            refuse(exchange)
        except Exception as error:
            # The user's executor may have limits of its own, and raises its own exceptions.
            logger.error("%s: the executor rejected the call: %.200r", exchange, error)
            refuse(exchange)
        else:
            return True
        return False

    async def shutdown(self, seconds: float) -> None:
        """End the workers; running calls have `seconds` to finish, and one more second to close their resources."""
        await super().shutdown(seconds)
        for job in self._shares.take_back() if self._shares is not None else ():
            job.refuse()
        pool = self._own_pool
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
            turns = int(max(seconds, _CLOSE_SECONDS) / _POLL_SECONDS)
            while pool.alive and turns:
                turns -= 1
                await asyncio.sleep(_POLL_SECONDS)

    def end_workers(self) -> None:
        """End the workers of a process that exits without `shutdown`, after its event loop has closed."""
        pool = self._own_pool
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
            turns = int(_CLOSE_SECONDS / _POLL_SECONDS)
            while pool.alive and turns:
                turns -= 1
                time.sleep(_POLL_SECONDS)


def _on_executor_done(future: Future[object], call: Job, exchange: HTTPExchange) -> None:
    """`run` handles its own errors, so a failed future means that the call never ran."""
    if future.cancelled():
        call.cancel()
    elif (error := future.exception()) is not None:
        # As that of an executor of processes, to which no call can be handed.
        logger.error("%s: the executor did not run the call: %.200r; expected a thread pool", exchange, error)
        call.cancel()
