"""Messages of an ASGI application in the log, at level TRACE, with sizes in place of contents."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.logging import TRACE_LOG_LEVEL
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.asgi")

# Fields with content, or with cookies and credentials.
_SIZED = ("body", "bytes", "text", "headers")


def message_with_placeholders(message: Any) -> Any:
    """Return a copy of `message` with sizes in place of contents and headers."""
    return {
        name: f"<{len(value)} {'fields' if name == 'headers' else 'characters' if name == 'text' else 'bytes'}>"
        if name in _SIZED and value is not None and hasattr(value, "__len__")
        else value
        for name, value in message.items()
    }


class MessageLoggerMiddleware:
    """`MessageLoggerMiddleware(app)` logs what `app` receives and sends, on the logger `uvicorn.asgi`."""

    def __init__(self, app: Callable[..., Awaitable[object]]) -> None:
        self.app = app
        self._numbers = itertools.count(1)

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Call the application; log each message, and how the call ends."""
        client = scope.get("client")
        peer = f"{client[0]}:{client[1]} - " if client else ""
        name = f"{peer}ASGI [{next(self._numbers)}]"

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
