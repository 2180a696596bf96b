"""Calls blocking applications on worker threads. The event loop's thread sends the responses."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import copy_context
from typing import Any

from uvicorn.core.exchange import COMPLETE, ERROR_HEADERS, WAITING, HTTPExchange
from uvicorn.forks import end_fork
from uvicorn.loop_calls import LoopCalls

#: Status, reason phrase and fields of a response, as a worker thread passes them to the event loop.
Head = tuple[int, bytes, Iterable[Sequence[bytes]]]


class ThreadCall:
    """One call of an application for `exchange`. Either a worker thread calls `run`, or the pool calls `cancel`."""

    __slots__ = (
        "_answered", "_context", "_failed", "_forget", "_loop_calls", "_over", "_returned", "_seconds", "_sent",
        "_taken", "exchange",
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
        # Bytes that the sending threads have passed to the loop, and bytes that the loop has sent.
        self._sent = 0
        self._taken = 0

    # On a worker thread

    def run(self) -> None:
        """Call the application. If the call fails, log the failure and respond. Never raises."""
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
        """Call the application. Return a callback to run on the event loop, or None."""
        raise NotImplementedError

    def holds_thread(self) -> bool:
        return not self._returned

    def _wait_for_room(self) -> None:
        """Wait while unsent content is above the high-water mark."""
        if self._sent - self._taken > self.high_water_bytes and not self._loop_calls.wait(self._on_loop_wants_room):
            self._over = True

    # On any thread

    def cancel(self) -> None:
        """Respond 503. The pool calls this method instead of `run` when it shuts down."""
        self._loop_calls.post(lambda: refuse(self.exchange))

    # On the event loop's thread

    def on_end(self, exchange: HTTPExchange) -> None:
        """Handle the end of the exchange. If the response is complete, the application may continue for `seconds`."""
        exchange.thread_held = None
        if not exchange.ended_early:
            self._over = True
            return
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
        """Handle an error that the application raised or that its response caused."""
        raise NotImplementedError

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
        if more_content and not exchange.gateway.write_paused:
            self._taken += len(content) + self.message_bytes

    def _on_loop_wants_room(self) -> Coroutine[Any, Any, None] | None:
        if self.exchange.state < COMPLETE and self.exchange.write_paused:
            return self._drain()
        self._taken = self._sent
        return None

    async def _drain(self) -> None:
        await self.exchange.drain()
        self._taken = self._sent


def refuse(exchange: HTTPExchange) -> None:
    """Respond 503 for a call that no worker thread can make."""
    if exchange.state is WAITING:
        exchange.respond(503, (*ERROR_HEADERS, (b"retry-after", b"1")), b"Service Unavailable\n")
