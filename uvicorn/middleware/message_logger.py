"""`uvicorn.message_logger` under the public release's module name."""

from uvicorn.message_logger import MessageLoggerMiddleware, message_with_placeholders

__all__ = ["MessageLoggerMiddleware", "message_with_placeholders"]
