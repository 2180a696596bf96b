"""Middleware under the public `uvicorn` release's names. Each class wraps an application as an ASGI 3 application."""
