"""The number of processes that serve the application. With several, in-memory state is not shared."""

from __future__ import annotations

import os
from typing import Final

#: Number of processes that serve the application; 0 until our server sets it.
count = 0

# The environment variable for the number of processes in other servers.
_HOW_MANY: Final = "WEB_CONCURRENCY"


def are_several() -> bool:
    """Whether, as far as this process knows, other processes serve the application too."""
    if count:
        return count > 1
    workers = os.environ.get(_HOW_MANY, "")
    return workers.isdigit() and int(workers) > 1
