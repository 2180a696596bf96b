"""What a slow client has yet to take: how much of it nothing awaits, and when it is too much."""

from __future__ import annotations

import pytest

from uvicorn.core.exchange import HTTPGateway
from uvicorn.core.unsent import UnsentSends
from uvicorn.core.websocket_session import WebSocketGateway


class Client:
    """A client that has been slow since a send of 100 bytes, and the connection to it."""

    def __init__(self) -> None:
        self.unsent = 100
        self.sends = UnsentSends(100)

    def send(self, size: int, awaited: bool = False) -> None:
        self.sends.add(size)
        self.unsent += size
        if awaited:
            self.sends.last_send()()

    def take(self, size: int) -> None:
        self.unsent -= size

    def shortage(self, size: int = 0, *, unawaited: int = 1000, most: int = 10_000, messages: int = 0) -> str:
        return self.sends.shortage(size, self.unsent, unawaited, most, messages)


def test_unsent_bytes_of_unawaited_sends_are_bounded() -> None:
    client = Client()
    assert client.shortage(900) == ""
    assert client.shortage(901) == "over 1000 unread bytes that were not awaited"
    client.send(900)
    assert client.shortage() == ""
    assert client.shortage(1) == "over 1000 unread bytes that were not awaited"


def test_unsent_messages_of_unawaited_sends_are_bounded() -> None:
    client = Client()
    for _ in range(5):
        assert client.shortage(1, messages=5) == ""
        client.send(1)
    assert client.shortage(1, messages=5) == "over 5 unread messages that were not awaited"
    assert client.shortage(1) == ""


def test_awaited_send_does_not_count_towards_the_limit_of_unawaited_sends() -> None:
    client = Client()
    for _ in range(20):
        assert client.shortage(400, messages=1) == ""
        client.send(400, awaited=True)
    assert client.shortage(900, messages=1) == ""
    assert client.shortage(901) == "over 1000 unread bytes that were not awaited"


def test_awaiting_the_last_send_clears_the_count_of_unawaited_sends() -> None:
    client = Client()
    client.sends.last_send()()
    assert client.shortage(1000, messages=1) == ""


def test_client_that_reads_bytes_lowers_the_count_of_unsent_bytes() -> None:
    client = Client()
    client.send(900)
    client.take(500)
    assert client.shortage(500, messages=1) == "over 1 unread messages that were not awaited"
    assert client.shortage(501) == "over 1000 unread bytes that were not awaited"
    client.take(500)
    assert client.shortage(1000, messages=1) == ""


def test_partly_read_awaited_send_adds_nothing_to_the_unawaited_bytes() -> None:
    client = Client()
    client.send(5000, awaited=True)
    client.send(900)
    client.take(100 + 4000)
    assert client.shortage(100) == ""
    assert client.shortage(101) == "over 1000 unread bytes that were not awaited"


def test_sends_may_be_awaited_late_and_in_any_order() -> None:
    client = Client()
    client.send(800)
    first = client.sends.last_send()
    client.send(800)
    client.sends.last_send()()
    assert client.shortage(100) == ""
    client.take(100)
    first()
    assert client.shortage(1000, messages=1) == ""
    client.take(800)
    assert client.shortage(1000, messages=1) == ""
    client.take(800)
    assert client.shortage(1000, messages=1) == ""


def test_awaiting_a_send_that_the_client_has_read_changes_no_count() -> None:
    client = Client()
    client.send(10)
    last = client.sends.last_send()
    client.take(110)
    last()
    client.send(1000)
    assert client.shortage(messages=2) == ""
    assert client.shortage(1) == "over 1000 unread bytes that were not awaited"


def test_pings_of_the_server_do_not_count_as_unsent_messages() -> None:
    client = Client()
    client.sends.add_other(10)
    client.unsent += 10
    assert client.shortage(messages=1) == ""


def test_awaited_and_unawaited_sends_share_one_limit_of_unsent_bytes() -> None:
    client = Client()
    client.sends.last_send()()
    for _ in range(9):
        client.send(1000, awaited=True)
    assert client.shortage(900) == ""
    assert client.shortage(901) == "over 10000 unread bytes"


@pytest.mark.parametrize("awaited", [True, False])
def test_sends_after_an_oversized_send_have_the_full_limit_of_unread_bytes(awaited: bool) -> None:
    client = Client()
    assert client.shortage(50_000) == ""
    client.send(50_000, awaited)
    assert client.shortage(900) == ""
    client.take(30_000)
    assert client.shortage(1000) == ""
    client.send(1000)
    assert client.shortage(1) == "over 1000 unread bytes that were not awaited"


def test_second_oversized_unawaited_send_exceeds_the_limit() -> None:
    client = Client()
    for size in (2000, 3000):
        assert client.shortage(size) == ""
        client.send(size)
    assert client.shortage(4000) == "over 1000 unread bytes that were not awaited"


def test_oversized_send_is_not_counted_after_the_client_has_read_it() -> None:
    client = Client()
    client.send(50_000, awaited=True)
    client.take(50_100)
    for _ in range(10):
        client.send(1000, awaited=True)
    assert client.shortage(1) == "over 10000 unread bytes"


def test_last_send_is_None_for_a_gateway_without_flow_control() -> None:
    assert HTTPGateway().last_send() is None
    assert WebSocketGateway().last_send() is None
