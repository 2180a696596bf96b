"""The original import path of the worker: `gunicorn -k uvicorn.worker.UvicornWorker`."""

from uvicorn.workers import ASGIWorker, UvicornWorker

__all__ = ["ASGIWorker", "UvicornWorker"]
