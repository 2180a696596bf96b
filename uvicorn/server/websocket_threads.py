"""Limits the worker threads that serve WebSockets of WSGI applications (rule W6)."""

from __future__ import annotations

import logging
import resource
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, final

from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.error")

# For each WebSocket of a WSGI application: its connection, a socket pair, and the selector of simple-websocket.
_WEBSOCKET_DESCRIPTORS: Final = 4
# Files, listening sockets and the event loop.
_OTHER_DESCRIPTORS: Final = 50


@final
class WebSocketThreads:
    """Counts and limits the worker threads that serve WebSockets of WSGI applications."""

    def __init__(self, settings: Settings) -> None:
        self.most = most = settings.ws_threads
        # The same fraction as that of the other threads; 0 means no limit. Not `threads_per_client` itself: many users
        # may share one address, and WebSockets above the limit are rejected, while requests wait.
        share, threads = settings.threads_per_client, settings.threads
        self._most_of_client = max(1, most * share // threads) if 0 < share < threads else 0
        #: The number of threads.
        self.count = 0
        #: The number of handshakes that were rejected because of the limits.
        self.refused = 0
        self._counts: Counter[str] = Counter()
        self._is_checked = False

    def refusal(self, client: str) -> str:
        """If no thread is left for `client`, return the reason. Otherwise, return an empty string."""
        if self.count >= self.most:
            return f"{self.most} threads already serve WebSockets (503); raise --ws-threads"
        if client and 0 < self._most_of_client <= self._counts[client]:
            return (
                f"{self._most_of_client} threads already serve WebSockets of this client (503); "
                "raise --threads-per-client or --ws-threads"
            )
        return ""

    def begin(self, client: str) -> Callable[[], None]:
        """Count a new thread. Call the returned function once, when the thread ends."""
        self.check_descriptors()
        self.count += 1
        self._counts[client] += 1
        return partial(self._end, client)

    def _end(self, client: str) -> None:
        self.count -= 1
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]

    def check_descriptors(self) -> None:
        """Log one warning if this process may run out of descriptors."""
        if self._is_checked:
            return
        self._is_checked = True
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = _WEBSOCKET_DESCRIPTORS * self.most + _OTHER_DESCRIPTORS
        if limit != resource.RLIM_INFINITY and limit < needed:
            logger.warning(
                "%d WebSockets of WSGI applications may need %d descriptors, but the limit is %d; "
                "raise the limit (ulimit -n), or lower --ws-threads",
                self.most,
                needed,
                limit,
            )
