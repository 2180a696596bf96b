"""Middleware under the public release's names. Each class wraps an application and is an ASGI 3 application."""
