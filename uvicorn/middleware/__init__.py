"""ASGI 3 middleware under the names of the public `uvicorn` release."""
