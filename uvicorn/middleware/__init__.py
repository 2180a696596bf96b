"""Middleware under the public release's names; each class wraps an application and is an ASGI 3 application."""
