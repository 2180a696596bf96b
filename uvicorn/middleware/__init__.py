"""Middleware under the public release's names. Each class wraps an application as an ASGI 3 application."""
