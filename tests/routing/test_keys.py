"""Keys of a Shift (rule M41)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers import Conversation, until
from tests.routing.apps import asgi3_app, channels_app, wsgi_app
from tests.routing.test_interface import answers, get
from uvicorn import Shift, client, cookie, header
from uvicorn.errors import ConfigError
from uvicorn.routing.keys import KeyFunction
from uvicorn.routing.weight import is_new

#: Visitors whose share of the hash, with the name `*`, is below 50 percent, and not.
NEW = next(f"v{number}" for number in range(100) if is_new(50, "*", f"v{number}"))
OLD = next(f"v{number}" for number in range(100) if not is_new(50, "*", f"v{number}"))


@pytest.mark.parametrize("make", [cookie, header])
@pytest.mark.parametrize("name", ["", "a b", "a=b", None])
def test_M41_key_with_an_invalid_cookie_or_field_name_is_rejected(make: Callable[[Any], Any], name: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{make.__name__}: expected a name such as 'visitor', got "):
        make(name)


KEYS: dict[str, tuple[KeyFunction, bytes]] = {
    "a cookie": (cookie("v"), b"cookie: a=b; v=%s; c=d"),
    "a cookie in the second field": (cookie("v"), b"cookie: a=v; vv=1\r\ncookie: v=%s"),
    "a field": (header("X-Visitor"), b"x-visitor: %s"),
    "a function": (lambda head: dict(head.headers)[b"x-id"].decode(), b"x-id: %s"),
}


@pytest.mark.parametrize("kind", KEYS)
async def test_M41_the_key_of_a_visitor_selects_the_old_or_the_new_application(kind: str) -> None:
    key, field = KEYS[kind]
    shift = Shift(wsgi_app, channels_app, weight=50, key=key)
    requests = [get("/x", field % visitor.encode()) for visitor in (NEW, OLD)]
    assert [answer[0] for answer in await answers(shift, *requests)] == ["channels", "wsgi"]


async def test_M41_client_address_may_be_the_key_of_a_visitor() -> None:
    by_address = {is_new(50, "*", address): address for address in (f"10.0.0.{number}" for number in range(1, 30))}
    conversation = Conversation(Shift(asgi3_app, channels_app, weight=50, key=client()))
    found = []
    for is_for_new in (False, True):
        connection, transport = conversation.connect((by_address[is_for_new], 1))
        connection.data_received(get("/x"))
        await until(lambda transport=transport: transport.writes)  # type: ignore[misc]
        found.append(b'"channels"' in b"".join(transport.writes))
    assert found == [False, True]
