"""The worker for gunicorn, as in `gunicorn -k uvicorn.workers.UvicornWorker app:hello_world`."""

from __future__ import annotations

from typing import Any, ClassVar

from uvicorn.workers.worker import UvicornWorker


class UvicornH11Worker(UvicornWorker):
    """UvicornWorker with asyncio's own event loop, for existing configurations."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"loop": "asyncio", "http": "h11"}


#: The name in the first README.
ASGIWorker = UvicornWorker

__all__ = ["ASGIWorker", "UvicornH11Worker", "UvicornWorker"]
