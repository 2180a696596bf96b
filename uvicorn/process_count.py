"""The number of processes that serve the application."""

from __future__ import annotations

import os

#: Number of processes that serve the application; 0 until our server sets it.
count = 0


def are_several() -> bool:
    """Return whether several processes are known to serve the application."""
    if count:
        return count > 1
    # The number of processes in other servers.
    workers = os.environ.get("WEB_CONCURRENCY", "")
    return workers.isdigit() and int(workers) > 1
