"""Calls consumers that are plain functions, on worker threads."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, final

from uvicorn.channel import DONE, LazyAwaitable, check_named, let_others_run, shape
from uvicorn.core.content import as_bytes
from uvicorn.core.exchange import COMPLETE, STREAMING, WAITING, HTTPExchange
from uvicorn.errors import ChannelClosed, ClientDisconnected, LocalProtocolError
from uvicorn.fields import encode_field_line, has_controls, lower_name
from uvicorn.interfaces.consumer import consumer_message, receive_inline
from uvicorn.interfaces.handlers import OWNER, answer_failure, await_late_reply, watch_handler
from uvicorn.interfaces.http_reply import HTTPReply
from uvicorn.interfaces.threaded import Head, ThreadCall, ThreadedInterface
from uvicorn.types import Message


@final
class ThreadReplyChannel(HTTPReply):
    """`message['reply_channel']` of a consumer on a worker thread. Thread-safe."""

    __slots__ = ("_call",)

    def __init__(self, call: ConsumerCall) -> None:
        super().__init__(call.exchange)
        self._call = call

    def send(self, message: Message) -> Coroutine[Any, Any, None]:
        """Send a response or its next chunk. Block while the client is slow.

        The result need not be awaited. After the client has disconnected, raises ChannelClosed on the consumer's
        thread. Raises LocalProtocolError for an invalid message.
        """
        return self._call.send(message)

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call `callback()` once on the event loop's thread when the exchange ends (rule R15)."""
        self._call.on_close(callback)


@final
class ConsumerCall(ThreadCall):
    __slots__ = ("_interface", "_lock", "_message", "_state")

    message_bytes = 64

    def __init__(self, interface: ThreadedConsumerInterface, exchange: HTTPExchange, content: bytes) -> None:
        super().__init__(exchange, interface.loop_calls(), interface.settings.disconnect_seconds)
        self._interface = interface
        self._message: Message | None = consumer_message(exchange, content, ThreadReplyChannel(self))
        # The state after all sends, which several threads may make; the exchange reaches it a little later.
        self._lock = threading.Lock()
        self._state = WAITING

    # On a worker thread

    def _call_application(self) -> Callable[[], None] | None:
        OWNER.set(self.exchange.endpoint)
        message, self._message = self._message, None
        assert message is not None
        reply = weakref.ref(message["reply_channel"])
        try:
            result = self._interface.app(message)
        except ChannelClosed:
            # The consumer's `send` raised it, because the client has disconnected.
            return None
        del message
        if result is not None and asyncio.iscoroutine(result):
            # A decorator has hidden that the consumer is a coroutine function.
            return lambda: self._on_loop_go_on(result, reply)
        return (lambda: self._on_loop_returned(reply, result)) if self._state is not COMPLETE else None

    # On any thread

    def send(self, message: Message) -> Coroutine[Any, Any, None]:
        with self._lock:
            state = self._state
            if self._over and state is not COMPLETE:
                return self._send_after_disconnect()
            if not isinstance(message, dict) or (state is WAITING) is not ("status" in message):
                expected = "a response with 'status'" if state is WAITING else "a chunk without 'status'"
                raise LocalProtocolError(
                    f"reply_channel.send: expected {expected}, got {shape(message)} in state {state.name}"
                )
            content = message.get("content")
            if content is None:
                check_named(message)
            # A copy: the application may change its object after the send.
            content = as_bytes(content or b"")
            # Content after the end is ignored. Its sender waits as before the end.
            more_content = state is COMPLETE or bool(message.get("more_content", False))
            head = _head_of(message) if state is WAITING else None
            if state is not COMPLETE:
                self._state = STREAMING if more_content else COMPLETE
                if self._answered:
                    return DONE
            if more_content:
                self._sent += len(content) + self.message_bytes
            # Called when a task awaits the send; None for a worker thread, which waits while the client is slow.
            on_loop = threading.get_ident() == self.exchange.endpoint.thread
            on_await: list[Callable[[], object]] | None = [] if on_loop else None
            posted = self._loop_calls.post(lambda: self._on_loop_message(head, content, more_content, on_await))
        if not posted:
            self._over = True
            return self._send_after_disconnect()
        if on_await is not None:
            # Send now, after the sends of other threads: the handler may have ended by the loop's next iteration.
            self._loop_calls.flush()
            return LazyAwaitable(self.exchange.drain, *on_await) if self.exchange.write_paused else DONE
        if more_content:
            self._wait_for_room()
            if self._over and self._state is not COMPLETE:
                return self._send_after_disconnect()
        return DONE

    def on_close(self, callback: Callable[[], object]) -> None:
        self._loop_calls.post(lambda: self.exchange.on_close(callback))

    def _send_after_disconnect(self) -> Coroutine[Any, Any, None]:
        if OWNER.get() is self.exchange.endpoint:
            raise ChannelClosed("the client has disconnected")
        return LazyAwaitable(let_others_run) if threading.get_ident() == self.exchange.endpoint.thread else DONE

    # On the event loop's thread

    def _on_loop_message(
        self, head: Head | None, content: bytes, more_content: bool, on_await: list[Callable[[], object]] | None
    ) -> None:
        exchange = self.exchange
        self._on_loop_send(head, content, more_content)
        if exchange.write_paused and exchange.state is STREAMING and (last_send := exchange.gateway.last_send()):
            if on_await is not None:
                on_await.append(last_send)
            else:
                # The sending thread waits until the client has read enough, or has sent little.
                last_send()

    def _on_loop_returned(self, reply: weakref.ref[ThreadReplyChannel], returned: object) -> None:
        if self.exchange.state < COMPLETE:
            await_late_reply(self.exchange, reply, self._interface.settings.reply_seconds, returned)

    def _on_loop_go_on(self, handler: Coroutine[Any, Any, Any], reply: weakref.ref[ThreadReplyChannel]) -> None:
        try:
            task = self._interface.tasks.start(handler, self.exchange.endpoint)
        except BaseException as error:
            answer_failure(self.exchange, error)
            return
        watch_handler(self._interface.tasks, task, self.exchange, reply, self._interface.settings)


def _head_of(message: Message) -> Head:
    status, given = message["status"], message.get("headers") or ()
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise LocalProtocolError(f"status: expected an int from 200 to 999, got {status!r:.40}")
    try:
        headers = [(name, value) for name, value in given]
    except (TypeError, ValueError):
        raise LocalProtocolError(f"headers: expected [name, value] pairs of bytes, got {given!r:.200}") from None
    for name, value in headers:
        if not (isinstance(name, bytes) and isinstance(value, bytes)) or has_controls(value):
            encode_field_line(lower_name(name), value)
    return status, message.get("status_text") or b"", headers


@final
class ThreadedConsumerInterface(ThreadedInterface):
    """Calls the plain function `app(message)` on a worker thread for each request."""

    name = "consumer"

    def serve_http(self, exchange: HTTPExchange) -> None:
        content = exchange.receive_whole()
        if content is not None and len(content) <= self.settings.max_inline_bytes:
            self.queue(ConsumerCall(self, exchange, content), exchange)
        else:
            self.tasks.start(self._queue_when_whole(exchange, content), exchange.endpoint)

    async def _queue_when_whole(self, exchange: HTTPExchange, content: bytes | None) -> None:
        try:
            content = await receive_inline(exchange, content, self.settings.max_inline_bytes)
        except ClientDisconnected as error:
            answer_failure(exchange, error)
            return
        if content is not None:
            self.queue(ConsumerCall(self, exchange, content), exchange)
