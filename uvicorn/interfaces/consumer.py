"""Calls consumers, `async def app(message)` (rule R9)."""

from __future__ import annotations

import weakref
from typing import Any, final

from uvicorn.core.exchange import ERROR_HEADERS, HTTPExchange
from uvicorn.interfaces.base import Interface, fill_template
from uvicorn.interfaces.channels import message_template
from uvicorn.interfaces.handlers import answer_failure, watch_handler
from uvicorn.interfaces.http_reply import ReplyChannel
from uvicorn.types import Message


@final
class ConsumerInterface(Interface):
    """Calls the coroutine function `app(message)` for each request, in a new task."""

    name = "consumer"
    expected = "async def app(message)"

    def serve_http(self, exchange: HTTPExchange) -> None:
        reply = ReplyChannel(exchange)
        content = exchange.receive_whole()
        try:
            handler = (
                self._call(exchange, content, reply)
                if content is not None and len(content) <= self.settings.max_inline_bytes
                else self._call_when_whole(exchange, content, reply)
            )
            task = self.tasks.start(handler, exchange.endpoint)
        except BaseException as error:
            answer_failure(exchange, error)
        else:
            watch_handler(self.tasks, task, exchange, weakref.ref(reply), self.settings)

    async def _call_when_whole(self, exchange: HTTPExchange, content: bytes | None, reply: ReplyChannel) -> None:
        content = await receive_inline(exchange, content, self.settings.max_inline_bytes)
        if content is not None:
            await self.tasks.as_coroutine(self._call(exchange, content, reply))

    def _call(self, exchange: HTTPExchange, content: bytes, reply: ReplyChannel) -> Any:
        message = consumer_message(exchange, content, reply)
        return self.app(message) if self.returns_awaitables else self.call_plain(exchange, message)


async def receive_inline(exchange: HTTPExchange, content: bytes | None, most: int) -> bytes | None:
    """Return the whole content. Above `most` bytes, respond 413 and return None."""
    if content is None:
        if _declared_length(exchange) > most:
            # Refuse before asking for content, for which a client may wait to be asked (100 Continue).
            _refuse(exchange)
            return None
        pieces: list[bytes] = []
        received, more_content = 0, True
        while more_content and received <= most:
            piece, more_content = await exchange.receive()
            pieces.append(piece)
            received += len(piece)
        content = b"".join(pieces)
    if len(content) > most:
        _refuse(exchange)
        return None
    return content


def consumer_message(exchange: HTTPExchange, content: bytes, reply: Any) -> Message:
    endpoint = exchange.endpoint
    template = endpoint.template
    if template is None:
        template = endpoint.template = message_template(endpoint) | {"body": b""}
    request = template.copy()
    fill_template(request, exchange)
    request["headers"] = exchange.headers
    request["body"] = content
    # `content` and `message` repeat the request, for older applications.
    return {**request, "reply_channel": reply, "content": request, "message": request, "channel_layer": None}


def _declared_length(exchange: HTTPExchange) -> int:
    for name, value in zip(*exchange.fields, strict=True):
        if name == b"content-length" and value.isdigit() and len(value) < 20:
            return int(value)
    return 0


def _refuse(exchange: HTTPExchange) -> None:
    exchange.respond(413, ERROR_HEADERS, b"Content Too Large\n")
