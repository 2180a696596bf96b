"""Combines applications with `Router`, `Route`, `Mount` and `Shift`."""

from uvicorn.routing.entries import Mount, Route
from uvicorn.routing.keys import client, cookie, header
from uvicorn.routing.reports import report
from uvicorn.routing.router import Router
from uvicorn.routing.shift import Shift
from uvicorn.routing.status import metrics

__all__ = ["Mount", "Route", "Router", "Shift", "client", "cookie", "header", "metrics", "report"]
