"""The worker's first import path: `gunicorn -k uvicorn.worker.UvicornWorker`."""

from uvicorn.workers import ASGIWorker, UvicornWorker

__all__ = ["ASGIWorker", "UvicornWorker"]
