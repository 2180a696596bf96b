"""Logs the messages of applications at level TRACE."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.channel import WrappedReply
from uvicorn.logging import TRACE_LOG_LEVEL
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.asgi")

# Fields with content, or with cookies and credentials.
_SIZED = ("body", "bytes", "text", "headers", "content")


def message_with_placeholders(message: Any) -> Any:
    """Copy `message`. Replace contents and headers by their sizes."""
    return {
        name: f"<{len(value)} {'fields' if name == 'headers' else 'characters' if name == 'text' else 'bytes'}>"
        if name in _SIZED and value is not None and hasattr(value, "__len__")
        else value
        for name, value in message.items()
    }


def log_messages(interface: Any) -> None:
    """Wrap an interface's ASGI 3 and channels applications in message loggers."""
    for part in interface.parts:
        wrapper = {"asgi3": MessageLoggerMiddleware, "channels": ChannelsMessageLogger}.get(part.name)
        if wrapper is not None:
            part.app = wrapper(part.app)


class MessageLoggerMiddleware:
    """Logs the messages of an ASGI application."""

    def __init__(self, app: Callable[..., Awaitable[object]]) -> None:
        self.app = app
        self._numbers = itertools.count(1)

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        name = _name(scope, "ASGI", next(self._numbers))

        async def logged_receive() -> Message:
            message = await receive()
            logger.log(TRACE_LOG_LEVEL, "%s Receive %s", name, message_with_placeholders(message))
            return message

        async def logged_send(message: Message) -> None:
            logger.log(TRACE_LOG_LEVEL, "%s Send %s", name, message_with_placeholders(message))
            await send(message)

        logger.log(TRACE_LOG_LEVEL, "%s Started scope=%s", name, message_with_placeholders(scope))
        try:
            await self.app(scope, logged_receive, logged_send)
        except BaseException as error:
            logger.log(TRACE_LOG_LEVEL, "%s Raised exception: %s", name, type(error).__name__)
            raise
        logger.log(TRACE_LOG_LEVEL, "%s Completed", name)


class ChannelsMessageLogger:
    """Logs the messages of a channels application."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app = app
        self._numbers = itertools.count(1)

    def __call__(self, message: Message, channels: Message) -> Any:
        name = _name(message, "Channels", next(self._numbers))
        reply = channels["reply"]

        def logged_send(message: Any) -> Any:
            shown = message_with_placeholders(message) if isinstance(message, dict) else message
            logger.log(TRACE_LOG_LEVEL, "%s Send %s", name, shown)
            return reply.send(message)

        logger.log(TRACE_LOG_LEVEL, "%s Receive %s", name, message_with_placeholders(message))
        return self.app(message, {**channels, "reply": WrappedReply(reply, logged_send)})


def _name(message: Message, kind: str, number: int) -> str:
    client = message.get("client")
    return f"{client[0]}:{client[1]} - {kind} [{number}]" if client else f"{kind} [{number}]"
