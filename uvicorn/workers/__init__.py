"""Worker for gunicorn: `gunicorn -k uvicorn.workers.UvicornWorker app:hello_world`."""

from __future__ import annotations

from uvicorn.workers.worker import UvicornWorker

#: The name in the first README.
ASGIWorker = UvicornWorker

__all__ = ["ASGIWorker", "UvicornWorker"]
