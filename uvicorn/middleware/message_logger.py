"""`uvicorn.message_logger` at the import path of the public `uvicorn` release."""

from uvicorn.message_logger import MessageLoggerMiddleware, message_with_placeholders

__all__ = ["MessageLoggerMiddleware", "message_with_placeholders"]
