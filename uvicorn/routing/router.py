"""`Router` passes each request to one of several applications."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from itertools import chain
from typing import Any, Final, final
from weakref import WeakKeyDictionary

from uvicorn.channel import call_hook
from uvicorn.core.endpoint import is_below
from uvicorn.errors import ConfigError, InterfaceError
from uvicorn.fields import split_pairs
from uvicorn.interfaces.detect import detect_interface
from uvicorn.routing.entries import HTTP, WEBSOCKET, Default, Entry, mapped
from uvicorn.routing.interface import RouterInterface
from uvicorn.routing.shift import Shift
from uvicorn.routing.table import Table, host_name
from uvicorn.settings import Settings
from uvicorn.types import Message

_NO_KIND: Final = (
    "a Router has applications of several kinds; serve it with uvicorn or gunicorn -k uvicorn.workers.UvicornWorker, "
    "pass WSGIAdapter(router) to a WSGI server, and ASGI3Adapter(router) to an ASGI server"
)


@final
class Router:
    """`Router(*entries, default=app)` passes each request to the application of the most specific entry.

    `entries` are `Route` and `Mount` objects, in any order. `default` takes all other requests. Without a default,
    those requests get 404 or 405. Each distinct application is started once, in the order of the entries. Raises
    ConfigError if two entries take the same requests.
    """

    __slots__ = ("__weakref__", "_entries", "_table")

    #: Why it cannot be called through one interface; see `uvicorn.interfaces.detect`.
    __uvicorn_no_kind__ = _NO_KIND

    def __init__(self, *entries: Entry, default: Any = None) -> None:
        for entry in entries:
            if not isinstance(entry, Entry):
                raise ConfigError(f"Router: expected Route(...) or Mount(...), got {entry!r:.200}")
        self._table = Table(entries, None if default is None else Default(default))
        # Of calls as a channels application: the entry of each client, for events without a path.
        self._entries: WeakKeyDictionary[Any, Entry] = WeakKeyDictionary()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries in the given order, without the default."""
        return self._table.entries

    @property
    def applications(self) -> list[Any]:
        """The distinct applications, including nested ones, in the order of startup."""
        found: list[Any] = []
        for app in chain.from_iterable(_applications_in(entry.app) for entry in self._table.all):
            if app not in found:
                found.append(app)
        return found

    @property
    def default(self) -> Any:
        """The application for requests that no entry takes, or None without a default."""
        return None if self._table.default is None else self._table.default.app

    def find(self, path: str, *, host: str = "", protocol: str = HTTP, method: str = "GET") -> Entry | None:
        """Return the entry that takes a request, or None if no entry matches."""
        # `path` is decoded, and lacks the root path.
        return self._table.find(path, host_name(host), protocol, method)

    def mapped(self, wrap: Callable[[Any], Any]) -> Router:
        """Return a copy with wrapped applications. Calls `wrap` once for each one, except reports and metrics."""
        apps: list[Any] = []
        wrapped: list[Any] = []

        def once(app: Any) -> Any:
            if app not in apps:
                wrapped.append(wrap(app))
                apps.append(app)
            return wrapped[apps.index(app)]

        entries = [entry.with_app(mapped(entry.app, once)) for entry in self.entries]
        return Router(*entries, default=None if self.default is None else mapped(self.default, once))

    def __uvicorn_interface__(self, settings: Settings) -> RouterInterface:
        return RouterInterface(self, self._table, settings)

    def __call__(self, *arguments: Any) -> Coroutine[Any, Any, None]:
        """Pass a message to the matching channels application. Raises InterfaceError for other applications."""
        if len(arguments) == 2 and isinstance(arguments[1], Mapping) and "reply" in arguments[1]:
            return self._call_channels(*arguments)
        raise InterfaceError(_NO_KIND)

    async def startup(self) -> None:
        """Await the `startup` methods of the applications. After a failure, shut down the started ones."""
        async with AsyncExitStack() as started:
            for app in self.applications:
                await call_hook(app, "startup")
                started.push_async_callback(call_hook, app, "shutdown")
            # All startups have succeeded.
            started.pop_all()

    async def shutdown(self) -> None:
        """Await the `shutdown` methods of the applications, in reverse order."""
        for app in reversed(self.applications):
            await call_hook(app, "shutdown")

    async def _call_channels(self, message: Message, channels: Mapping[str, Any]) -> None:
        reply = channels["reply"]
        kind = message.get("channel", "http.request")
        path, root_path = message.get("path", ""), message.get("root_path") or ""
        if kind in ("http.request", "websocket.connect"):
            local = path[len(root_path) :] if is_below(path, root_path) else path
            protocol = HTTP if kind == "http.request" else WEBSOCKET
            fields = split_pairs(message.get("headers", ()))
            entry = self._table.find_by_fields(local, fields, protocol, message.get("method", "GET"))
            if entry is None:
                await reply.send(self._table.refusal(local, fields, protocol)._asdict())
                return
            self._entries[reply] = entry
        else:
            entry = self._entries.get(reply)
            if entry is None:
                return
        if not _takes_messages(entry):
            raise InterfaceError(f"channels middleware cannot call {entry!r}: {_NO_KIND}")
        if entry.moves_root and "root_path" in message:
            message = {**message, "root_path": root_path + entry.prefix}
        await entry.app(message, channels)

    def __repr__(self) -> str:
        shown = [repr(entry) for entry in self.entries]
        if self.default is not None:
            shown.append(f"default={self.default!r:.100}")
        return f"Router({', '.join(shown)})"


def _applications_in(app: Any) -> list[Any]:
    if isinstance(app, Shift):
        return [*_applications_in(app.old), *_applications_in(app.new)]
    return app.applications if isinstance(app, Router) else [app]


def _takes_messages(entry: Entry) -> bool:
    if entry.interface != "auto" or isinstance(entry.app, Router):
        return entry.interface in ("auto", "channels")
    try:
        return detect_interface(entry.app) == "channels"
    except InterfaceError:
        return False
