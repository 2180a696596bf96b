"""Middleware under the names of the public `uvicorn` release.

Each class wraps an application as an ASGI 3 application.
"""
