"""Keys by which a Shift chooses an application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from uvicorn.core.exchange import HTTPExchange
from uvicorn.errors import ConfigError
from uvicorn.fields import is_token
from uvicorn.routing.table import field_value

#: Returns the key in a request's head; None or empty text if the head has no key.
KeyFunction = Callable[[HTTPExchange], str | None]


@final
@dataclass(frozen=True)
class Key:
    """A key function and its description for `--routes`."""

    description: str
    function: KeyFunction

    def __call__(self, head: HTTPExchange) -> str | None:
        return self.function(head)


def cookie(name: str) -> Key:
    """Make a key for `Shift` from the cookie `name`. Raises ConfigError for an invalid name."""
    _check_name("cookie", name)
    wanted = name.encode()

    def find(head: HTTPExchange) -> str | None:
        names, values = head.fields
        for field, value in zip(names, values, strict=True):
            if field == b"cookie":
                for pair in value.split(b";"):
                    found, _, text = pair.partition(b"=")
                    if found.strip() == wanted:
                        return text.strip().decode("latin-1")
        return None

    return Key(f"cookie {name}", find)


def header(name: str) -> Key:
    """Make a key for `Shift` from the header `name`. Raises ConfigError for an invalid name."""
    _check_name("header", name)
    wanted = name.lower().encode()
    return Key(f"header {name.lower()}", lambda head: field_value(head.fields, wanted))


def client() -> Key:
    """Make a key for `Shift` from the client's address. Behind a proxy, set --forwarded-allow-ips."""
    return Key("client", lambda head: None if head.client is None else head.client[0])


def _check_name(where: str, name: object) -> None:
    if not isinstance(name, str) or not is_token(name.encode("utf-8", "replace")):
        raise ConfigError(f"{where}: expected a name such as 'visitor', got {name!r:.100}")
