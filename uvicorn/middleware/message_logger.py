"""The name of other servers for `uvicorn.message_logger`."""

from uvicorn.message_logger import MessageLoggerMiddleware, message_with_placeholders

__all__ = ["MessageLoggerMiddleware", "message_with_placeholders"]
