"""ASGI 3 middleware, named as in the public `uvicorn` release."""
