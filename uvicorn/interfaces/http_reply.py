"""The reply channels of HTTP exchanges."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from threading import get_ident
from typing import Any, final

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
from uvicorn.core.exchange import CLOSED, COMPLETE, STREAMING, WAITING, HTTPExchange
from uvicorn.errors import ChannelClosed, LocalProtocolError
from uvicorn.interfaces.handlers import OWNER
from uvicorn.types import Message


class HTTPReply:
    """Base class of HTTP reply channels. Subclasses define `send` and `on_close`."""

    __slots__ = ("__weakref__", "_exchange", "_name")

    def __init__(self, exchange: HTTPExchange) -> None:
        self._exchange = exchange
        self._name = ""

    @property
    def name(self) -> str:
        if not self._name:
            self._name = channel_names.new("reply", self)
        return self._name

    @property
    def loop_thread(self) -> int:
        return self._exchange.endpoint.thread

    @property
    def is_ready(self) -> bool:
        return not self._exchange.write_paused

    def offer_text(self, text: str) -> bool:
        """Return False, because a response has no text messages."""
        return False

    async def wait_ready(self) -> None:
        await self._exchange.drain()

    def break_off(self, reason: str) -> None:
        """Abort the response, so that it does not look complete."""
        self._exchange.break_off(reason)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {self._exchange!r}>"


@final
class ReplyChannel(HTTPReply):
    """`channels['reply']` of a request. Hashable. `send` is thread-safe."""

    __slots__ = ()

    def send(self, message: Message) -> Coroutine[Any, Any, None]:
        """Send a response or its next chunk. For a slow client, the result waits in the client's own tasks (rule R17).

        A response has `status`, `headers`, `content`, `more_content` and `status_text`. A chunk has `content` and
        `more_content`.

        Raises LocalProtocolError for an invalid message. Raises ChannelClosed after the client has disconnected, but
        only in the client's own tasks (rule R6).
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
        if exchange.gateway.write_paused:
            return (
                LazyAwaitable(self._drain, exchange.gateway.last_send()) if OWNER.get() is exchange.endpoint else DONE
            )
        if exchange.sends % SENDS_IN_A_ROW == 0 and OWNER.get() is exchange.endpoint:
            return LazyAwaitable(let_others_run)
        return DONE

    @property
    def has_lost_client(self) -> bool:
        """Whether the response ended early, for example because the client disconnected. Thread-safe."""
        return self._exchange.state is CLOSED

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call `callback()` once when the exchange ends or the client half-closes the connection."""
        self._exchange.on_close(callback)

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call `callback()` once when the response is complete or aborted."""
        self._exchange.on_end(lambda exchange: callback())

    def watch_thread(self, holds_thread: Callable[[], bool]) -> None:
        """While `holds_thread()` is true, enforce `--min-response-rate`."""
        self._exchange.thread_held = holds_thread

    def exchange_of(self, message: Message) -> HTTPExchange | None:
        """Return the exchange if an adapter may use it in place of `message`."""
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
