"""Calls channels applications, `async def app(message, channels)` (rules R1 to R18)."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Never, final

from uvicorn.channel import channel_names
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import COMPLETE, HTTPExchange
from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.errors import ClientDisconnected
from uvicorn.interfaces.base import Interface, fill_template, request_template
from uvicorn.interfaces.channels_websocket import ChannelsListener
from uvicorn.interfaces.handlers import answer_failure, is_disconnect, is_reported, watch_handler
from uvicorn.interfaces.http_reply import ReplyChannel
from uvicorn.settings import Settings
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.app")


@final
class BodyChannel:
    """`channels['body']`. Receives the request's content in pieces."""

    __slots__ = ("_exchange", "_name")

    def __init__(self, exchange: HTTPExchange) -> None:
        self._exchange = exchange
        self._name = ""

    @property
    def name(self) -> str:
        if not self._name:
            self._name = channel_names.new("body")
        return self._name

    async def receive(self) -> Message:
        """Return the next piece of content. After an early disconnect, it has no content (see `ClosedChunk`)."""
        try:
            # As `receive`, without its coroutine.
            content, more_content = self._exchange.receive_now() or await self._exchange.receive_later()
        except ClientDisconnected:
            return ClosedChunk(closed=True, more_content=False)
        return {"content": content, "more_content": more_content}


class ClosedChunk(dict[str, Any]):
    """The result of `BodyChannel.receive` after an early disconnect."""

    def __missing__(self, key: str) -> Never:
        if key == "content":
            raise ClientDisconnected("the client disconnected before its request was complete")
        raise KeyError(key)


def message_template(endpoint: Endpoint) -> Message:
    """Return a connection's template for channels messages."""
    template = request_template("channel", "http.request", endpoint)
    if endpoint.environ is not None:
        template["environ"] = endpoint.environ
    return template


@final
class ChannelsInterface(Interface):
    """Calls `app(message, channels)` for each event, in a new task."""

    name = "channels"
    serves_websockets = True
    expected = "async def app(message, channels)"
    alternative = "run a plain function on threads: uvicorn.utils.threaded(app)"

    def __init__(self, app: Callable[..., Any], settings: Settings) -> None:
        super().__init__(app, settings)
        self._wants_disconnect = getattr(app, "wants_http_disconnect", False) is True

    def serve_http(self, exchange: HTTPExchange) -> None:
        endpoint = exchange.endpoint
        template = endpoint.template
        if template is None:
            template = endpoint.template = message_template(endpoint)
        message = template.copy()
        fill_template(message, exchange)
        # As `exchange.headers`, without the call.
        message["headers"] = [[name, value] for name, value in exchange.pairs or zip(*exchange.fields)]  # noqa: B905
        reply = ReplyChannel(exchange)
        channels: dict[str, Any] = {"reply": reply}
        if exchange.has_content:
            channels["body"] = BodyChannel(exchange)
        try:
            handler = (
                self.app(message, channels) if self.returns_awaitables else self.call_plain(exchange, message, channels)
            )
            task = self.tasks.start(handler, endpoint)
        except BaseException as error:
            # SystemExit, which an eagerly started handler raises here, ends the request and not the server.
            answer_failure(exchange, error)
            return
        if self._wants_disconnect:  # Rule R8.
            exchange.on_close(partial(self._notify_disconnect, exchange, reply))
        if exchange.state is not COMPLETE or not task.done() or task.cancelled() or task.exception() is not None:
            watch_handler(self.tasks, task, exchange, weakref.ref(reply), self.settings)

    def serve_websocket(self, session: WebSocketSession) -> None:
        listener = session.listener = ChannelsListener(self.app, session, self.settings, self.tasks)
        listener.on_connect()

    def _notify_disconnect(self, exchange: HTTPExchange, reply: ReplyChannel) -> None:
        message: Message = {"channel": "http.disconnect", "path": exchange.path}
        task = self.tasks.start(self.app(message, {"reply": reply}), exchange.endpoint)
        self.tasks.on_end(task, partial(_disconnect_handled, exchange))


def _disconnect_handled(exchange: HTTPExchange, task: asyncio.Task[Any]) -> None:
    # A failure of this handler does not end the response: the exchange has a handler of its own.
    error = None if task.cancelled() else task.exception()
    if error is not None and not is_disconnect(error) and not is_reported(error):
        logger.error("%s: exception in the application's handler of http.disconnect", exchange, exc_info=error)
