"""The command-line options `--routes` and `--check`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from itertools import product
from types import CodeType
from typing import Any, Final, NamedTuple

from uvicorn.adapters import WSGIAdapter
from uvicorn.interfaces.detect import guessed_from
from uvicorn.interfaces.threaded import ThreadedInterface
from uvicorn.routing.entries import HTTP, WEBSOCKET, Default
from uvicorn.routing.keys import Key
from uvicorn.routing.leaves import Leaf, leaves_of
from uvicorn.routing.reports import aligned
from uvicorn.routing.shift import Shift
from uvicorn.settings import Settings

_HEADINGS: Final = ("entry", "protocol", "kind", "application", "lane")

# A segment and a method that no table has, to represent all others.
_OTHER_SEGMENT: Final = "/\ue000"
_OTHER_METHOD: Final = "OTHER"


class Finding(NamedTuple):
    """A mistake or a hint that `--check` prints."""

    where: str
    what: str
    remedy: str
    is_hint: bool = False

    def __str__(self) -> str:
        return f"{'hint: ' * self.is_hint}{self.where}: {self.what}; {self.remedy}"


def table_of(leaves: list[Leaf]) -> list[str]:
    lines = aligned([_HEADINGS, *map(_row, leaves)])
    if any(leaf.is_django for leaf in leaves):
        lines = [
            f"{line}   outside of Django's middleware"
            if leaf is not None and not leaf.is_django and not isinstance(leaf.interface, ThreadedInterface)
            else line
            for line, leaf in zip(lines, (None, *leaves), strict=True)
        ]
    pools = {leaf.interface for leaf in leaves if isinstance(leaf.interface, ThreadedInterface)}
    threads = sum(pool.calls_at_a_time for pool in pools)
    return [*lines, (f"up to {threads} threads a process" if threads else "no threads") + _connections(leaves)]


def _connections(leaves: list[Leaf]) -> str:
    # If the site uses these modules, they have been imported.
    conf, threads = sys.modules.get("django.conf"), sys.modules.get("uvicorn.django.threads")
    if conf is None:
        return ""
    most: dict[object, int] = {}
    for leaf in leaves:
        for wrapper in leaf.wrappers:
            if threads is not None and isinstance(wrapper, threads.DjangoThreads):
                most[wrapper] = 2 * wrapper.threads
        if leaf.is_django and isinstance(leaf.interface, ThreadedInterface):
            most[leaf.interface] = leaf.interface.calls_at_a_time
    databases = len(conf.settings.DATABASES) if most else 0
    return f"; Django: up to {sum(most.values()) * databases} database connections a process" if databases else ""


def _row(leaf: Leaf) -> tuple[str, ...]:
    entry, interface = leaf.entry, leaf.interface
    host = next((entry.host for _, entry in leaf.places if entry.host is not None), None)
    path = (host or "") + leaf.path + (" (mounted)" if entry is not None and entry.moves_root else "")
    protocol = "any"
    if entry is not None:
        protocol = ", ".join(sorted(entry.methods)) if entry.methods is not None else entry.protocol or "any"
    lane = "loop"
    if isinstance(interface, ThreadedInterface):
        lane = f"{interface.calls_at_a_time} threads" if interface.calls_at_a_time else "its executor"
    if not leaf.sides:
        return path, protocol, interface.name, name_of(leaf.app), lane
    application = " ".join((*(side for _, side, _ in leaf.sides), name_of(leaf.app)))
    if not leaf.is_first:
        return "", "", "", application, lane
    shift, _, depth = leaf.sides[-1]
    if depth == len(leaf.places):
        lane = f"{lane:10}   {_share(shift)}"
    return path, protocol, "shift", application, lane


def _share(shift: Shift) -> str:
    weight = f"{name_of(shift.weight)}()" if callable(shift.weight) else f"{shift.weight:g}"
    if shift.key is None:
        return f"{weight} %"
    return f"{weight} % by {shift.key.description if isinstance(shift.key, Key) else name_of(shift.key)}"


def name_of(app: Any) -> str:
    """Return a `module:name` that describes `app`."""
    if inspect.isroutine(app) or inspect.isclass(app):
        return f"{app.__module__}:{app.__qualname__}"
    # In the order in which imports have ended: the module that has made the object comes first.
    for module_name, module in list(sys.modules.items()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is app and not name.startswith("_"):
                return f"{module_name}:{name}"
    return f"{type(app).__module__}:{type(app).__qualname__}"


def findings(app: Any, leaves: list[Leaf], settings: Settings) -> Iterator[Finding]:
    for leaf in leaves:
        if leaf.is_first:
            yield from (*_unreachable(leaf), *_below_root(leaf, settings), *_slashed_twin(leaf))
        yield from (*_websockets(leaf, settings), *_guessed(leaf))
    yield from _session_cookies(leaves)
    yield from _django_checks()
    if isinstance(app, WSGIAdapter):
        yield from _on_wsgi_hosts(leaves)


def _unreachable(leaf: Leaf) -> Iterator[Finding]:
    if leaf.places and not any(_reaches(leaf, *request) for request in _requests(leaf)):
        yield Finding(
            repr(leaf.entry),
            "no request can reach this entry",
            "remove this entry, or the entries that take its requests",
        )


def _requests(leaf: Leaf) -> Iterator[tuple[str, str, str, str]]:
    prefix = "".join(leaf.above)
    entries = [entry for _, entry in leaf.places]
    hosts = {entry.host for entry in entries if entry.host is not None} or {""}
    methods = set().union(*(entry.methods or () for entry in entries)) or {_OTHER_METHOD}
    for path, host in product((prefix, prefix + _OTHER_SEGMENT), hosts):
        yield path, host, WEBSOCKET, "GET"
        for method in methods:
            yield path, host, HTTP, method


def _reaches(leaf: Leaf, path: str, host: str, protocol: str, method: str) -> bool:
    for router, entry in leaf.places:
        if router.find(path, host=host, protocol=protocol, method=method) is not entry:
            return False
        if entry.moves_root:
            path = path[len(entry.prefix) :]
    return True


def _below_root(leaf: Leaf, settings: Settings) -> Iterator[Finding]:
    if leaf.places and settings.root_path:
        entry = leaf.places[0][1]
        if entry.prefix.split("/")[1:2] == settings.root_path.split("/")[1:2]:
            guesses = settings.root_path_cut == "auto"
            yield Finding(
                repr(entry),
                f"its path begins like the root path {settings.root_path!r}"
                + (", so --root-path-cut auto may misread its requests" if guesses else ""),
                "write entries without the root path" + (", or pass --root-path-cut yes or no" if guesses else ""),
                is_hint=not guesses,
            )


def _websockets(leaf: Leaf, settings: Settings) -> Iterator[Finding]:
    entry = leaf.entry
    interface = leaf.interface
    has_websockets = interface.serves_websockets or interface.takes_over
    if entry is not None and entry.protocol == WEBSOCKET and not has_websockets:
        yield Finding(
            str(leaf),
            f"an application of the kind {interface.name} has no WebSockets and gets handshakes as GET requests",
            "remove protocol='websocket', or name an application of another kind",
        )
    elif interface.name == "channels" and not settings.ws_implicit_accept and settings.ws:
        words = _words_of(leaf.app)
        takes = entry is not None and entry.protocol == WEBSOCKET or "websocket.connect" in words
        if words and takes and "accept" not in words:
            yield Finding(
                str(leaf),
                "the connect handler never accepts, and a handshake without a decision is rejected",
                "send {'accept': True}, or leave out --no-ws-implicit-accept",
            )


def _words_of(app: Any) -> set[str]:
    function = inspect.unwrap(app if inspect.isroutine(app) else type(app).__call__)
    code = getattr(function, "__code__", None)
    found: set[str] = set()
    waiting: list[Any] = [code]
    while waiting:
        match waiting.pop():
            case CodeType() as code:
                found.update(code.co_names)
                waiting += code.co_consts
            case str(text):
                found.add(text)
            case tuple(parts):
                waiting += parts
    return found


def _guessed(leaf: Leaf) -> Iterator[Finding]:
    entry = leaf.entry
    names = guessed_from(leaf.app) if entry is None or entry.interface == "auto" else ()
    if names:
        yield Finding(
            str(leaf),
            f"taken for the kind {leaf.interface.name} because of its parameters ({', '.join(names)})",
            "if this is wrong, name the kind by interface=..." if entry is not None else "pass --interface",
            is_hint=True,
        )


def _slashed_twin(leaf: Leaf) -> Iterator[Finding]:
    if leaf.places and leaf.places[-1][1].is_exact:
        router, entry = leaf.places[-1]
        twin = entry.path.removesuffix("/") if entry.path.endswith("/") else f"{entry.path}/"
        other = router.find(twin, host=entry.host or "", protocol=entry.protocol or HTTP)
        if other is not None and not isinstance(other, Default) and other.app is not entry.app:
            yield Finding(
                repr(entry),
                f"{twin!r} is taken by {other!r}",
                f"add an entry for {twin!r} if both are the same page",
                is_hint=True,
            )


def _session_cookies(leaves: list[Leaf]) -> Iterator[Finding]:
    first: dict[tuple[object, ...], Leaf] = {}
    for leaf in leaves:
        config = getattr(leaf.app, "config", None)
        if not isinstance(config, dict) or not config.get("SECRET_KEY") or "SESSION_COOKIE_NAME" not in config:
            continue
        path = config.get("SESSION_COOKIE_PATH") or config.get("APPLICATION_ROOT")
        other = first.setdefault((config["SESSION_COOKIE_NAME"], config.get("SESSION_COOKIE_DOMAIN"), path), leaf)
        if other.app is not leaf.app and other.app.config["SECRET_KEY"] != config["SECRET_KEY"]:
            yield Finding(
                f"{other} and {leaf}",
                f"both have the session cookie {config['SESSION_COOKIE_NAME']!r}, and each empties the other's session",
                "set another SESSION_COOKIE_NAME in one of them, or the same SECRET_KEY in both",
            )


def _django_checks() -> Iterator[Finding]:
    apps, checks = sys.modules.get("django.apps"), sys.modules.get("django.core.checks")
    if apps is not None and checks is not None and apps.apps.ready:
        for message in checks.run_checks():
            if str(message.id).startswith("uvicorn.") and not message.is_silenced():
                is_hint = not message.is_serious()
                remedy = str(message.hint).rstrip(".")
                yield Finding(message.id, message.msg.rstrip("."), remedy[:1].lower() + remedy[1:], is_hint)


def _on_wsgi_hosts(leaves: list[Leaf]) -> Iterator[Finding]:
    for leaf in filter(lambda leaf: leaf.is_first, leaves):
        entry = leaf.entry
        if entry is not None and entry.threads is not None:
            yield Finding(
                repr(entry),
                "threads= has no effect on a WSGI host, which calls WSGI applications on threads of its own",
                "set the number of threads of that host",
                is_hint=True,
            )
        if entry is not None and entry.protocol == WEBSOCKET:
            yield Finding(repr(entry), "a WSGI host has no WebSockets", "serve the Router with uvicorn", is_hint=True)


def report(app: Any, settings: Settings, source: str, *, check: bool) -> tuple[list[str], int]:
    """Return the command's output lines and its exit code."""
    leaves = leaves_of(app, settings, source)
    lines = table_of(leaves)
    if not check:
        return lines, 0
    found = sorted(findings(app, leaves, settings), key=lambda finding: finding.is_hint)
    return [*lines, *map(str, found)], int(any(not finding.is_hint for finding in found))
