"""`Shift` passes each request to an old or to a new application."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, final

from uvicorn.core.counts import Counts, Place
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import WAITING, HTTPExchange
from uvicorn.errors import ConfigError
from uvicorn.interfaces.base import Interface
from uvicorn.log_limit import LogLimit
from uvicorn.routing.applications import OwningInterface
from uvicorn.routing.entries import Entry, Unservable, mapped
from uvicorn.routing.keys import KeyFunction
from uvicorn.routing.trial import TrialGateway, check_fallback
from uvicorn.routing.weight import Timer, WeightFunction, check_weight, is_new
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.app")

_FALLING_BACK: Final = ("GET", "HEAD")


@final
@dataclass(frozen=True, eq=False, repr=False)
class Shift(Unservable):
    """`Shift(old, new, weight=5, key=cookie("visitor"))` passes five percent of the visitors to `new`.

    `weight` is a percentage, or a function that returns the percentage. A thread calls the function every second.
    Before the first result, the weight is 0.

    `key` is `cookie(name)`, `header(name)`, `client()`, or a function of the request's head. Requests with equal keys
    get the same application. Requests without a key go to `old`, unless the weight is 100. Shifts with equal `name` and
    `weight` agree on each key. The default `name` is the entry's path.

    `fallback` lists status codes. If `new` responds to GET or HEAD without content with such a code, or with the field
    `x-uvicorn-pass: 1`, `old` responds instead. Without `fallback`, the field has no effect.

    Raises ConfigError for an invalid argument, and InterfaceError for an unknown kind of application.
    """

    old: Any
    new: Any
    _: KW_ONLY
    weight: float | Callable[[], float] = 0
    key: KeyFunction | None = None
    name: str | None = None
    fallback: Iterable[int] | None = None
    # Shared by the copies that `mapped` makes: the function is called once a second for all of them.
    _function: WeightFunction | None = field(default=None, init=False)

    __uvicorn_no_kind__ = (
        "a Shift has two applications, of any kind; serve it with uvicorn or "
        "gunicorn -k uvicorn.workers.UvicornWorker, pass WSGIAdapter(shift) to a WSGI server, and ASGI3Adapter(shift) "
        "to an ASGI server"
    )

    def __post_init__(self) -> None:
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            raise ConfigError(f"Shift: name: expected text, got {self.name!r:.100}")
        if self.key is not None and (not callable(self.key) or inspect.iscoroutinefunction(self.key)):
            raise ConfigError(
                f"Shift: key: expected cookie(name), header(name), client() or a plain function, got {self.key!r:.100}"
            )
        object.__setattr__(self, "fallback", check_fallback(self.fallback))
        has_key = self.key is not None
        if inspect.iscoroutinefunction(self.weight):
            raise ConfigError(f"Shift: weight: expected a number or a plain function, got {self.weight!r:.100}")
        if callable(self.weight):
            object.__setattr__(self, "_function", WeightFunction(self.weight, has_key, self))
        else:
            try:
                check_weight(self.weight, has_key)
            except ConfigError as error:
                raise ConfigError(f"Shift: {error}") from None
        # Built to be checked: a mistake is an error when the module is imported.
        self.__uvicorn_interface__(Settings())

    def mapped(self, wrap: Callable[[Any], Any]) -> Shift:
        """Return a copy of this Shift with wrapped applications."""
        shift = copy(self)
        for side in ("old", "new"):
            object.__setattr__(shift, side, mapped(getattr(self, side), wrap))
        return shift

    def __uvicorn_interface__(self, settings: Settings) -> ShiftInterface:
        return ShiftInterface(self, self._function, settings)

    def __repr__(self) -> str:
        name = "" if self.name is None else f", name={self.name!r}"
        return f"Shift({self.old!r:.100}, {self.new!r:.100}{name})"


class Side(Entry):
    """The old or the new application of a Shift."""

    keyword = "Router(Route('/*', app, interface=...))"

    def __init__(self, side: str, app: Any) -> None:
        super().__init__(side, app, "")

    def place(self, where: str) -> None:
        """Set the Shift's path for error messages."""
        object.__setattr__(self, "where", f"Shift({where!r}): {self.path}")

    def __repr__(self) -> str:
        return getattr(self, "where", f"Shift: {self.path}")


@final
class ShiftInterface(OwningInterface):
    """Passes each exchange to the old or the new application."""

    name = "shift"

    def __init__(self, shift: Shift, function: WeightFunction | None, settings: Settings) -> None:
        self._old, self._new = Side("old", shift.old), Side("new", shift.new)
        super().__init__(shift, (self._old, self._new), settings)
        self._function = function
        self._weight = shift.weight if isinstance(shift.weight, (int, float)) else 0
        self._key = shift.key
        self._fallback = None if shift.fallback is None else frozenset(shift.fallback)
        self._name = shift.name or "*"
        self._given_name = shift.name
        self._timer: Timer | None = None
        self._failures = LogLimit()
        self._counts: Counts | None = None

    def place(self, entry: Entry) -> None:
        self._name = self._given_name or entry.path
        for side in (self._old, self._new):
            side.place(entry.path)

    def counted_in(self, counts: Counts, place: Place) -> None:
        super().counted_in(counts, place)
        self._counts = counts

    def _place_of(self, entry: Entry, place: Place) -> Place:
        side = f"{place.side}/{entry.path}" if place.side else entry.path
        return place._replace(endpoint=place.endpoint.seen_by(entry, ""), side=side)

    def begin(self) -> None:
        if self._function is not None:
            self._timer = Timer(self._function)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def serve_http(self, exchange: HTTPExchange) -> None:
        side, endpoint = self._choose(exchange), exchange.endpoint
        interface = self._place(exchange, side, endpoint)
        if self._fallback is None or side is self._old or exchange.has_content or exchange.method not in _FALLING_BACK:
            interface.serve_http(exchange)
            return

        def fall_back() -> None:
            if exchange.state is WAITING:
                exchange.thread_held = None
                if self._counts is not None:
                    self._counts.fell_back(exchange)
                self._place(exchange, self._old, endpoint).serve_http(exchange)

        trial = TrialGateway(exchange, self._fallback, fall_back).begin()
        interface.serve_http(trial)
        exchange.thread_held = exchange.thread_held or trial.thread_held

    def at(self, exchange: HTTPExchange) -> Interface:
        side = self._choose(exchange)
        if side is self._new and self._fallback is not None and not self.serves_websockets:
            # A trial, in which no connection can be taken over.
            return self
        return self._place(exchange, side, exchange.endpoint).at(exchange)

    def _choose(self, exchange: HTTPExchange) -> Side:
        weight = self._weight if self._function is None else self._function.weight
        is_for_new = weight == 100
        if 0 < weight < 100:
            key = self._key_of(exchange)
            is_for_new = bool(key) and is_new(weight, self._name, key)
        return self._new if is_for_new else self._old

    def _place(self, exchange: HTTPExchange, side: Side, endpoint: Endpoint) -> Interface:
        # Each interface keeps what it needs for the next request at an endpoint of its own.
        exchange.endpoint = endpoint.seen_by(side, endpoint.root_path)
        return self.interfaces[side]

    def _key_of(self, exchange: HTTPExchange) -> str:
        assert self._key is not None
        try:
            key = self._key(exchange)
            if key is None or isinstance(key, str):
                return key or ""
            raise TypeError(f"key function: expected text or None, got {key!r:.100}")
        except Exception as error:
            if self._failures.admits():
                logger.error("%s: the key function failed; the old application responds", exchange, exc_info=error)
            return ""
