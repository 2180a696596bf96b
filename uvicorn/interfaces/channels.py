"""Channels applications: `async def app(message, channels)`. Rules R1 to R18 are in docs/rules.md."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from threading import get_ident
from typing import Any, Never, final

from uvicorn.channel import (
    DONE,
    DROPS_IN_A_ROW,
    SENDS_IN_A_ROW,
    LazyAwaitable,
    channel_names,
    check_named,
    let_others_run,
    send_from_thread,
    shape,
)
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import CLOSED, COMPLETE, STREAMING, WAITING, HTTPExchange
from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.errors import ChannelClosed, ClientDisconnected, LocalProtocolError
from uvicorn.interfaces.base import Interface
from uvicorn.interfaces.channels_websocket import ChannelsListener
from uvicorn.interfaces.handlers import OWNER, answer_failure, is_disconnect, is_reported, watch_handler
from uvicorn.interfaces.http_reply import HTTPReply
from uvicorn.settings import Settings
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.app")


@final
class ReplyChannel(HTTPReply):
    """`channels['reply']` of one exchange. Hashable, and usable from any task or thread."""

    __slots__ = ()

    def __init__(self, exchange: HTTPExchange) -> None:
        self._exchange = exchange
        self._name = ""

    def send(self, message: Message) -> Coroutine[Any, Any, None]:
        """Send a response or its next chunk. On the event loop's thread, the call does not wait.

        The result can be awaited. Then the caller waits while the client is slow (R17).

        A response has `status`, `headers`, `content`, `more_content` and `status_text`. A chunk has `content` and
        `more_content`.

        After the client has disconnected, raises ChannelClosed in tasks that serve this client (rule R6). Raises
        LocalProtocolError for a message that is invalid in the current state.
        """
        exchange = self._exchange
        if get_ident() != exchange.endpoint.thread:
            return send_from_thread(exchange.endpoint.loop, self._send_and_wait, message)
        if exchange.state is WAITING:
            try:
                status = message["status"]
            except (KeyError, TypeError):
                raise LocalProtocolError(
                    f"reply.send: expected a response with 'status', got {shape(message)} in state WAITING"
                ) from None
            content = message.get("content")
            if content is None:
                check_named(message)
            exchange.respond(
                status,
                message.get("headers") or (),
                content or b"",
                message.get("more_content", False),
                message.get("status_text") or b"",
            )
            if exchange.state is COMPLETE:
                return DONE
        elif exchange.state is CLOSED:
            return self._send_after_disconnect()
        elif not isinstance(message, dict) or "status" in message:
            raise LocalProtocolError(
                f"reply.send: expected a chunk without 'status', got {shape(message)} in state {exchange.state.name}"
            )
        else:
            content = message.get("content")
            if content is None:
                check_named(message)
            exchange.write(content or b"", message.get("more_content", False))
        if exchange.state is COMPLETE:
            return LazyAwaitable(let_others_run) if exchange.ended_early else DONE
        exchange.sends += 1
        if exchange.write_paused:
            return (
                LazyAwaitable(self._drain, exchange.gateway.last_send()) if OWNER.get() is exchange.endpoint else DONE
            )
        if exchange.sends % SENDS_IN_A_ROW == 0 and OWNER.get() is exchange.endpoint:
            return LazyAwaitable(let_others_run)
        return DONE

    @property
    def has_lost_client(self) -> bool:
        """Whether the client disconnected before the response was complete. Thread-safe."""
        return self._exchange.state is CLOSED

    def on_close(self, callback: Callable[[], object]) -> None:
        """Register `callback()`. It is called once, when the exchange ends or the client closes its side."""
        self._exchange.on_close(callback)

    def on_end(self, callback: Callable[[], object]) -> None:
        """Register `callback()`. It is called once, when the response is complete or aborted."""
        self._exchange.on_end(lambda exchange: callback())

    def watch_thread(self, holds_thread: Callable[[], bool]) -> None:
        """Apply `--min-response-rate` to the response while `holds_thread()` is true."""
        self._exchange.thread_held = holds_thread

    def exchange_of(self, message: Message) -> HTTPExchange | None:
        """Return the exchange if an adapter may use it directly, without messages. Otherwise return None."""
        exchange = self._exchange
        endpoint = exchange.endpoint
        client, scheme = exchange.forwarded or (endpoint.client, endpoint.scheme)
        get = message.get
        if (
            exchange.state is not WAITING
            or exchange.has_content
            or get("path") is not exchange.path
            or get("raw_path") is not exchange.raw_path
            or get("query_string") is not exchange.query_string
            or get("method") is not exchange.method
            or get("root_path") is not (exchange.root_path if endpoint.root_path else endpoint.root_path)
            or get("http_version") is not exchange.http_version
            or get("scheme") is not scheme
            or get("client") is not client
            or get("server") is not endpoint.server
            or get("environ") is not endpoint.environ
            or "body" in message
            or get_ident() != endpoint.thread
            or get("headers") != [[name, value] for name, value in zip(*exchange.fields)]  # noqa: B905
        ):
            return None
        return exchange

    def _send_and_wait(self, message: Message) -> Coroutine[Any, Any, None]:
        """Send a message from another thread. This thread blocks while the client is slow."""
        sent = self.send(message)
        exchange = self._exchange
        if sent is DONE and exchange.state is STREAMING and exchange.write_paused:
            return LazyAwaitable(exchange.drain, exchange.gateway.last_send())
        return sent

    async def _drain(self) -> None:
        await self._exchange.drain()
        if self._exchange.state is CLOSED:
            raise ChannelClosed("the client has disconnected")

    def _send_after_disconnect(self) -> Coroutine[Any, Any, None]:
        exchange = self._exchange
        if OWNER.get() is exchange.endpoint:
            raise ChannelClosed("the client has disconnected")
        exchange.sends += 1
        return DONE if exchange.sends % DROPS_IN_A_ROW else LazyAwaitable(let_others_run)


@final
class BodyChannel:
    """`channels['body']`, which receives the request's content in pieces, as they arrive."""

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
        """Return the next piece of content. After the last piece, return an empty piece."""
        try:
            # As `receive`, without its coroutine.
            content, more_content = self._exchange.receive_now() or await self._exchange.receive_later()
        except ClientDisconnected:
            return ClosedChunk(closed=True, more_content=False)
        return {"content": content, "more_content": more_content}


class ClosedChunk(dict[str, Any]):
    """The result of `BodyChannel.receive` after the client has disconnected early."""

    def __missing__(self, key: str) -> Never:
        if key == "content":
            raise ClientDisconnected("the client disconnected before its request was complete")
        raise KeyError(key)


def message_template(endpoint: Endpoint) -> Message:
    """Return the message that is copied for each request of a connection."""
    template: Message = {
        "channel": "http.request",
        "http_version": "",
        "method": "",
        "scheme": endpoint.scheme,
        "path": "",
        "raw_path": b"",
        "query_string": b"",
        "root_path": endpoint.root_path,
        "headers": None,
        "server": endpoint.server,
        "client": endpoint.client,
    }
    if endpoint.environ is not None:
        template["environ"] = endpoint.environ
    return template


@final
class ChannelsInterface(Interface):
    """Calls `app(message, channels)` for each exchange, in a new task."""

    name = "channels"
    serves_websockets = True
    expected = "async def app(message, channels)"
    alternative = "run a plain function on threads: uvicorn.utils.threaded(app)"

    def __init__(self, app: Callable[..., Any], settings: Settings) -> None:
        super().__init__(app, settings)
        self._wants_disconnect = getattr(app, "wants_http_disconnect", False) is True

    def serve_http(self, exchange: HTTPExchange) -> None:
        """Start the handler of a request."""
        endpoint = exchange.endpoint
        template = endpoint.template
        if template is None:
            template = endpoint.template = message_template(endpoint)
        message = template.copy()
        message["http_version"] = exchange.http_version
        message["method"] = exchange.method
        message["path"] = exchange.path
        message["raw_path"] = exchange.raw_path
        message["query_string"] = exchange.query_string
        if endpoint.root_path:
            message["root_path"] = exchange.root_path
        # As `exchange.headers`, without the call.
        message["headers"] = [[name, value] for name, value in exchange.pairs or zip(*exchange.fields)]  # noqa: B905
        if exchange.forwarded is not None:
            message["client"], message["scheme"] = exchange.forwarded
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
        if exchange.state is COMPLETE and task.done() and not task.cancelled() and task.exception() is None:
            if self._wants_disconnect:
                self._notify_disconnect(exchange, reply)
            return
        if self._wants_disconnect:
            exchange.on_close(partial(self._notify_disconnect, exchange, reply))
        watch_handler(task, exchange, weakref.ref(reply), self.settings)

    def serve_websocket(self, session: WebSocketSession) -> None:
        listener = session.listener = ChannelsListener(self.app, session, self.settings, self.tasks)
        listener.on_connect()

    def _notify_disconnect(self, exchange: HTTPExchange, reply: ReplyChannel) -> None:
        """Send `http.disconnect` to applications with `wants_http_disconnect = True` (rule R8)."""
        message: Message = {"channel": "http.disconnect", "path": exchange.path}
        task = self.tasks.start(self.app(message, {"reply": reply}), exchange.endpoint)
        task.add_done_callback(partial(_disconnect_handled, exchange=exchange))


def _disconnect_handled(task: asyncio.Task[Any], exchange: HTTPExchange) -> None:
    # A failure of this handler does not end the response: the exchange has a handler of its own.
    error = None if task.cancelled() else task.exception()
    if error is not None and not is_disconnect(error) and not is_reported(error):
        logger.error("%s: exception in the application's handler of http.disconnect", exchange, exc_info=error)
