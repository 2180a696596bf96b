"""One table of applications of every kind: `Router`, with its entries `Route` and `Mount`."""

from uvicorn.routing.entries import Mount, Route
from uvicorn.routing.router import Router

__all__ = ["Mount", "Route", "Router"]
