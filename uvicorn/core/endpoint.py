"""The addresses and the event loop of a connection."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any, final

from uvicorn import forks

if TYPE_CHECKING:
    import asyncio


@final
class Endpoint:
    """The addresses and event loop that all exchanges of a connection share."""

    __slots__ = (
        "above", "client", "context", "counts", "entry", "environ", "environ_template", "forks", "loop", "root_path",
        "root_path_cut", "scheme", "seen", "server", "template", "thread",
    )  # fmt: skip

    def __init__(
        self,
        scheme: str = "http",
        root_path: str = "",
        server: tuple[str, int] | None = None,
        client: tuple[str, int] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        root_path_cut: str = "auto",
    ) -> None:
        self.scheme = scheme
        self.root_path = root_path
        #: Whether a proxy has removed the root path from request targets: yes, no, or auto (see `is_cut`).
        self.root_path_cut = root_path_cut
        self.server = server
        self.client = client
        #: For the interface: the message or scope to copy for each request of the connection.
        self.template: dict[str, Any] | None = None
        #: For `build_environ`: its argument `own`, and the environ to copy for each request with that argument.
        self.environ_template: tuple[Mapping[str, Any], dict[str, Any]] | None = None
        #: The keys that a WSGI host has added to the environ, for applications behind `WSGIAdapter`.
        self.environ: dict[str, Any] | None = None
        self.loop = loop
        #: The context variables of the connection; each handler starts with a copy of them.
        self.context: Context | None = None
        # Endpoints are created on the thread that serves the connection.
        self.thread = threading.get_ident()
        self.forks = forks.forks
        #: A Router's entry, or a side of a Shift. Empty for the connection's own endpoint.
        self.entry: object = ""
        #: The counts of the entry's requests, after the first counted request.
        self.counts: Any = None
        #: `via` without the entry.
        self.above = ""
        #: What `seen_by` has returned last.
        self.seen: Endpoint | None = None

    def seen_by(self, entry: object, root_path: str) -> Endpoint:
        """Return a copy of this endpoint with the given entry and root path."""
        seen = self.seen
        if seen is not None:
            if seen.entry is entry and seen.root_path == root_path:
                return seen
            seen.release()
        seen = Endpoint(self.scheme, root_path, self.server, self.client, self.loop, self.root_path_cut)
        seen.environ, seen.thread, seen.forks = self.environ, self.thread, self.forks
        seen.entry, seen.above = entry, self.via
        self.seen = seen
        return seen

    def release(self) -> None:
        """Drop the context variables."""
        self.context = None
        if self.seen is not None:
            self.seen.release()

    @property
    def via(self) -> str:
        """The route for a log line, such as `" via /shop"`."""
        name = str(self.entry) if self.entry else ""
        return f"{self.above} via {name}" if name else self.above

    @property
    def is_parents(self) -> bool:
        """Whether the connection belongs to the parent process."""
        return self.forks != forks.forks

    def is_cut(self, path: str) -> bool:
        """Return whether a proxy has removed the root path from `path`."""
        if self.root_path_cut == "auto":
            return not is_below(path, self.root_path)
        return self.root_path_cut == "yes"


def is_below(path: str, root_path: str) -> bool:
    """Return whether `path` is `root_path` or below. "/apple" is not below "/app"."""
    length = len(root_path)
    return path.startswith(root_path) and (len(path) == length or path[length] == "/")
