"""Calls the WSGI application of an ASGIAdapter without messages.

A direct call doubles the requests per second (bench/wsgi.py, `mixed`).
"""

from __future__ import annotations

import asyncio
from typing import final

from uvicorn.adapters.crossing import crossing, log_uncaught
from uvicorn.core.exchange import COMPLETE, STREAMING, HTTPExchange
from uvicorn.errors import ResponseAborted
from uvicorn.interfaces.file_wrapper import FilePart
from uvicorn.interfaces.handlers import answer_failure, is_disconnect, log_failure
from uvicorn.interfaces.threaded import Head, refuse
from uvicorn.interfaces.wsgi import WSGICall, WSGIInterface


async def answer_directly(interface: WSGIInterface, exchange: HTTPExchange) -> None:
    """Let `interface` respond to `exchange`. Raises the application's exception."""
    call = DirectCall(interface, exchange)
    interface.queue(call, exchange)
    if exchange.state >= COMPLETE:
        # The interface has rejected the call, because too many wait for a worker thread.
        return
    try:
        await call.outcome
        failure, call.failure = call.failure, None
    finally:
        call.end()
    if failure is not None:
        try:
            raise failure
        finally:
            # Break the reference cycle through the traceback.
            del failure


@final
class DirectCall(WSGICall):
    __slots__ = ("failure", "outcome")

    def __init__(self, interface: WSGIInterface, exchange: HTTPExchange) -> None:
        loop_calls = interface.loop_calls()
        super().__init__(interface, exchange, interface.environ_of(exchange, loop_calls), loop_calls)
        #: Done when the exchange has ended, the application has failed, or the caller was cancelled.
        self.outcome: asyncio.Future[None] = loop_calls.loop.create_future()
        self.failure: Exception | None = None

    def end(self) -> None:
        if self.exchange.state < COMPLETE:
            self._give_up()
        if self.failure is not None:
            # The caller was cancelled before the exception was raised.
            log_uncaught(repr(self.exchange), self.failure)
            self.failure = None

    def cancel(self) -> None:
        self._loop_calls.post(self._on_loop_cancelled)

    def on_end(self, exchange: HTTPExchange) -> None:
        # A cancelled caller may have sent its own response.
        if not self.outcome.done():
            super().on_end(exchange)
            self.outcome.set_result(None)

    def _on_loop_cancelled(self) -> None:
        if not self.outcome.done():
            refuse(self.exchange)

    def _on_loop_failed(self, error: BaseException) -> None:
        exchange = self.exchange
        if self.outcome.done():
            if not is_disconnect(error):
                log_failure(exchange, error)
        elif is_disconnect(error):
            if exchange.state is STREAMING:
                self.failure = ResponseAborted("exception in the application")
            answer_failure(exchange, error)
        else:
            self.failure = crossing(error)
            self.outcome.set_result(None)

    def _on_loop_send(self, head: Head | None, content: bytes, more_content: bool) -> None:
        if not self.outcome.done():
            super()._on_loop_send(head, content, more_content)

    async def _send_part(self, head: Head | None, part: FilePart) -> None:
        if not self.outcome.done():
            await super()._send_part(head, part)
