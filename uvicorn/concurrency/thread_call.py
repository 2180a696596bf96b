"""One call of a blocking application: it runs on a worker thread, and what it sends crosses to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context

from uvicorn.concurrency.loop_calls import LoopCalls
from uvicorn.core.exchange import COMPLETE, ERROR_HEADERS, WAITING, HTTPExchange
from uvicorn.forks import end_fork

#: Status, reason phrase and fields of a response, as the worker thread hands them over.
Head = tuple[int, bytes, Iterable[Sequence[bytes]]]


class ThreadCall:
    """A call that answers `exchange`: `run` or `cancel` is called, once. Methods named `_on_loop_*` are the loop's.

    Once the client has gone (`_over`), the application's next send raises. After a response that was complete before
    the application had ended it (`_answered`), what it still sends is dropped, and it may go on for `seconds`.
    """

    __slots__ = (
        "_answered",
        "_context",
        "_failed",
        "_forget",
        "_loop_calls",
        "_over",
        "_returned",
        "_seconds",
        "_sent",
        "_taken",
        "exchange",
    )

    #: High-water mark of the content that was handed over and has not been sent.
    high_water_bytes = 65536
    #: What a message counts for beside its content: messages without content must not fill the memory.
    message_bytes = 0

    def __init__(self, exchange: HTTPExchange, loop_calls: LoopCalls, seconds: float) -> None:
        self.exchange = exchange
        self._loop_calls = loop_calls
        self._seconds = seconds
        # The application sees the variables that a middleware has set for this request, such as a trace.
        self._context = copy_context()
        # Set by the loop.
        self._over = False
        self._answered = False
        # The loop's: the response could not be sent, and the failure has been answered.
        self._failed = False
        # Set by the worker.
        self._returned = False
        self._forget: Callable[[], object] | None = None
        # Bytes: the first is the sending threads' to write, the second the loop's.
        self._sent = 0
        self._taken = 0

    # On a worker thread

    def run(self) -> None:
        """Call the application and see to what it leaves undone. Never raises."""
        try:
            if not self._over:
                self._run()
        finally:
            # First this, then the check; the loop does it the other way round, so that one of them sees the other.
            self._returned = True
            if self._answered:
                self._loop_calls.post(self._on_loop_end)

    def _run(self) -> None:
        endpoint = self.exchange.endpoint
        try:
            last = self._context.run(self._call_application)
        except BaseException as error:
            if endpoint.is_parents:
                end_fork(error)
            # SystemExit and KeyboardInterrupt too: they end the request, not the worker.
            self._loop_calls.post(lambda error=error: self._on_loop_failed(error))  # type: ignore[misc]
            return
        if endpoint.is_parents:
            end_fork(None)
        if last is not None:
            self._loop_calls.post(last)

    def _call_application(self) -> Callable[[], None] | None:
        """Call it; return what is left to do on the loop."""
        raise NotImplementedError

    def holds_thread(self) -> bool:
        """Return whether the application has yet to return."""
        return not self._returned

    def _wait_for_room(self) -> None:
        """Wait while the content handed over and not sent is above the high-water mark."""
        if self._sent - self._taken > self.high_water_bytes:
            room = threading.Lock()
            room.acquire()
            if self._loop_calls.post(lambda: self._on_loop_wants_room(room)):
                room.acquire()

    # On any thread

    def cancel(self) -> None:
        """Called instead of `run` if no worker will make the call: the pool has been shut down before its turn."""
        self._loop_calls.post(lambda: refuse(self.exchange))

    # On the event loop's thread

    def on_end(self, exchange: HTTPExchange) -> None:
        """The response has ended, perhaps not as the application meant it."""
        exchange.thread_held = None
        if not exchange.ended_early:
            self._give_up()
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
        """Log and answer what the application has raised, or what it has sent and cannot be sent."""
        raise NotImplementedError

    def _on_loop_send(self, head: Head | None, content: bytes, more_content: bool) -> None:
        """Begin the response, or go on with it; dropped if it could not be sent so far."""
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
        if not exchange.write_paused:
            self._taken += len(content) + self.message_bytes

    def _on_loop_wants_room(self, room: threading.Lock) -> None:
        if self.exchange.state >= COMPLETE or not self.exchange.write_paused:
            self._on_loop_room(room)
        else:
            task = asyncio.get_running_loop().create_task(self.exchange.drain())
            task.add_done_callback(lambda task: self._on_loop_room(room))

    def _on_loop_room(self, room: threading.Lock) -> None:
        self._taken = self._sent
        room.release()


def refuse(exchange: HTTPExchange) -> None:
    """Respond with 503: no worker thread can make the call."""
    if exchange.state is WAITING:
        exchange.respond(503, (*ERROR_HEADERS, (b"retry-after", b"1")), b"Service Unavailable\n")
