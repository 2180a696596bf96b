"""A handler that answers through a channel, and its exchange: what the end of one means for the other."""

from __future__ import annotations

import asyncio
import logging
import weakref
from functools import partial
from typing import Any

from uvicorn.exchange import CLOSED, COMPLETE, WAITING, HTTPExchange
from uvicorn.interfaces.base import answer_failure
from uvicorn.sending import shape
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.app")


def watch_handler(task: asyncio.Task[Any], exchange: HTTPExchange, reply: weakref.ref[Any], settings: Settings) -> None:
    """Look after `exchange` when its handler has ended, and after the handler when the client has gone.

    `reply` is the channel that the handler was given.
    """
    ended = partial(handler_ended, exchange=exchange, reply=reply, settings=settings)
    if task.done():
        ended(task)
    else:
        task.add_done_callback(ended)
        cancel_after_end(task, exchange, settings.disconnect_seconds)


def handler_ended(task: asyncio.Task[Any], exchange: HTTPExchange, reply: weakref.ref[Any], settings: Settings) -> None:
    """The handler has ended: nobody may be left waiting for an answer that will not come."""
    if task.cancelled():
        if exchange.state < COMPLETE:
            logger.error("%s: the handler was cancelled before its response was complete", exchange)
            exchange.app_failed("the handler was cancelled")
        return
    error = task.exception()
    if error is not None:
        answer_failure(exchange, error)
    elif exchange.state < COMPLETE:
        await_late_reply(exchange, reply, settings.reply_seconds, task.result())


def await_late_reply(exchange: HTTPExchange, reply: weakref.ref[Any], seconds: float, returned: object = None) -> None:
    """The handler has returned without a whole reply, perhaps having handed the channel to somebody (A10.3).

    Until somebody begins to reply there is a deadline; a stream may go on for as long as somebody has its channel.
    """
    loop = asyncio.get_running_loop()
    # Who returns a response has mistaken the interface; nobody else returns anything.
    what = "" if returned is None else f" {shape(returned)}"

    def give_up() -> None:
        if exchange.state < COMPLETE:
            lacking, expected = (
                ("nobody replied", "a response sent to the reply channel")
                if exchange.state == WAITING
                else ("nobody ended the response", "a last message without more_content")
            )
            logger.error("%s: the handler returned%s and %s; expected %s", exchange, what, lacking, expected)
            exchange.app_failed(lacking)

    def abandoned(reference: object) -> None:
        # The garbage collector may run in any thread, and at any time.
        if not loop.is_closed():
            loop.call_soon_threadsafe(give_up)

    channel = reply()
    if channel is None:
        give_up()
        return
    timer = loop.call_later(seconds, lambda: give_up() if exchange.state == WAITING else None)
    watch = weakref.ref(channel, abandoned)
    # A weak reference calls back only while it lives itself, so it is kept for as long as it is of use.
    exchange.on_end(lambda exchange, watch=watch: timer.cancel())  # type: ignore[misc]


def cancel_after_end(task: asyncio.Task[Any], exchange: HTTPExchange, seconds: float) -> None:
    """Have `task`, which handles `exchange`, end within `seconds` once nobody takes what it sends (rule R6)."""
    exchange.on_end(partial(_exchange_ended, task=task, seconds=seconds))


def _exchange_ended(exchange: HTTPExchange, task: asyncio.Task[Any], seconds: float) -> None:
    if task.done():
        return
    if exchange.state == CLOSED:
        timer = asyncio.get_running_loop().call_later(seconds, task.cancel)
        task.add_done_callback(lambda task: timer.cancel())
    elif exchange.ended_early:
        ended = exchange.gateway.handler_continues(exchange, task.cancel, seconds)
        task.add_done_callback(lambda task: ended())
