"""Middleware under the public release's names. Each class makes an ASGI 3 application of another application."""
