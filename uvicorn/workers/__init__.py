"""gunicorn's worker: `gunicorn -k uvicorn.workers.UvicornWorker app:hello_world`."""

from __future__ import annotations

from uvicorn.workers.worker import UvicornWorker

#: What the first README calls it.
ASGIWorker = UvicornWorker

__all__ = ["ASGIWorker", "UvicornWorker"]
