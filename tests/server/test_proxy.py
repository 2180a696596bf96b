"""Requirement C7: forwarded fields are applied if they come from a trusted proxy, otherwise ignored."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.corpus import HANDSHAKE, chunked, request
from tests.helpers import Conversation, Recorder, hello, settle, until
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.errors import ConfigError
from uvicorn.interfaces.environ import build_environ
from uvicorn.server.proxy import TrustedPeers, build_trusted_peers

PROXY = ("10.0.0.1", 4711)


def client_of(trusted: str, forwarded_for: str, peer: tuple[str, int] | None = PROXY) -> tuple[str, int] | None:
    trusted_peers = TrustedPeers(trusted)
    first, again = (trusted_peers.client((forwarded_for.encode("latin-1"), b""), peer, "http")[0] for _ in range(2))
    assert first == again, "the remembered answer differs"
    return first


def scheme_of(*protocols: bytes) -> str:
    return TrustedPeers("*").client((b"", b",".join(protocols)), PROXY, "http")[1]


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.0/8", "1.1.1.1, 10.0.0.1", "*", "::1,10.0.0.1"])
def test_C7_listed_peer_is_trusted(text: str) -> None:
    assert TrustedPeers(text).trusts(PROXY)


@pytest.mark.parametrize("text", ["", "10.0.0.2", "11.0.0.0/8", "::1", "unix:", "unix:/run/app.sock"])
def test_C7_unlisted_peer_is_not_trusted(text: str) -> None:
    assert not TrustedPeers(text).trusts(PROXY)


@pytest.mark.parametrize("text", ["127.0.0.1", "127.0.0.0/8", "::ffff:127.0.0.1"])
def test_C7_trusted_ipv4_address_is_trusted_in_its_mapped_ipv6_form(text: str) -> None:
    assert TrustedPeers(text).trusts(("::ffff:127.0.0.1", 1))


def test_C7_peer_in_a_listed_ipv6_network_is_trusted() -> None:
    assert TrustedPeers("2001:db8::/32").trusts(("2001:db8::7", 1))
    assert not TrustedPeers("2001:db8::/32").trusts(("2001:db9::7", 1))


@pytest.mark.parametrize("text", ["unix:", "unix:/run/app.sock", "/run/app.sock", "*"])
def test_C7_listed_unix_socket_is_trusted(text: str) -> None:
    assert TrustedPeers(text).trusts(None, "/run/app.sock")


@pytest.mark.parametrize("text", ["", "127.0.0.1", "unix:/run/other.sock"])
def test_C7_unlisted_unix_socket_is_not_trusted(text: str) -> None:
    assert not TrustedPeers(text).trusts(None, "/run/app.sock")


def test_C7_cache_of_proxy_addresses_is_limited() -> None:
    trusted = TrustedPeers("10.0.0.0/8")
    for number in range(5000):
        trusted.trusts((f"11.0.{number >> 8}.{number & 255}", 1))
    assert len(trusted._known) <= 4096


def test_C7_cache_of_forwarded_values_is_bounded() -> None:
    trusted = TrustedPeers("10.0.0.0/8")
    for number in range(5000):
        trusted.client((b"11.0.%d.%d" % divmod(number, 256), b""), PROXY, "http")
    assert len(trusted._found) <= 4096


def test_C7_scheme_is_read_from_the_forwarded_field_of_each_request() -> None:
    trusted = TrustedPeers("10.0.0.0/8")
    schemes = [trusted.client((b"1.2.3.4", proto), PROXY, "http")[1] for proto in (b"https", b"http", b"", b"https")]
    assert schemes == ["https", "http", "http", "https"]


def test_C7_long_X_Forwarded_For_value_is_not_cached() -> None:
    trusted = TrustedPeers("10.0.0.0/8")
    assert trusted.client((b"1.2.3.4" + b", 10.0.0.1" * 50, b""), PROXY, "http")[0] == ("1.2.3.4", 0)
    assert not trusted._found


async def test_C7_repeated_X_Forwarded_For_fields_form_one_list() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder, forwarded_allow_ips="*")
    conversation.send(request(b"GET / HTTP/1.1", b"x-forwarded-for: 9.9.9.9", b"X-Forwarded-For: 1.2.3.4, unknown"))
    conversation.send(request(b"GET / HTTP/1.1", b"x-forwarded-for: 9.9.9.9", b"x-forwarded-for: 1.2.3.4"))
    await settle()
    assert [message["client"][0] for message in recorder.messages] == ["127.0.0.1", "9.9.9.9"]
    await conversation.lose()


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        ("1.2.3.4", ("1.2.3.4", 0)),
        ("1.2.3.4:567", ("1.2.3.4", 567)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
        ("[2001:DB8::1]:567", ("2001:db8::1", 567)),
        # From the right, past proxies that are trusted.
        ("9.9.9.9, 1.2.3.4", ("1.2.3.4", 0)),
        ("9.9.9.9, 1.2.3.4, 10.0.0.7", ("1.2.3.4", 0)),
        ("10.0.0.9, 10.0.0.7", ("10.0.0.9", 0)),
        # Nobody can be named beyond what is no address.
        ("1.2.3.4, unknown", PROXY),
        ("1.2.3.4, unknown, 10.0.0.7", ("10.0.0.7", 0)),
        ("1.2.3.4, ", PROXY),
        ("", PROXY),
        ("1.2.3.4:port", PROXY),
        ("1.2.3.4:123456", PROXY),
        ("[::1", PROXY),
        ("[::1]5", PROXY),
        ("1.2.3.4\xb2", PROXY),
        # A zone may be any text, and would be one in a log.
        ('fe80::1%" 200 OK', PROXY),
    ],
)
def test_C7_client_is_the_last_address_that_is_not_a_trusted_proxy(forwarded_for: str, client: tuple[str, int]) -> None:
    assert client_of("10.0.0.0/8", forwarded_for) == client


def test_C7_client_is_the_first_forwarded_address_if_all_peers_are_trusted() -> None:
    assert client_of("*", "9.9.9.9, 1.2.3.4") == ("9.9.9.9", 0)


def test_C7_at_most_a_hundred_X_Forwarded_For_addresses_are_parsed() -> None:
    assert client_of("*", "9.9.9.9, " + ", ".join(["::1"] * 100)) == ("::1", 0)


@pytest.mark.parametrize(
    ("protocols", "scheme"),
    [
        ((b"https",), "https"), ((b"HTTPS",), "https"), ((b"wss",), "https"), ((b"ws",), "http"),
        ((b"http, https",), "https"), ((b"https", b"http"), "http"), ((b"gopher",), "http"), ((b"",), "http"),
    ],
)  # fmt: skip
def test_C7_scheme_is_the_last_value_of_X_Forwarded_Proto(protocols: tuple[bytes, ...], scheme: str) -> None:
    assert scheme_of(*protocols) == scheme


@pytest.mark.parametrize("text", ["localhost", "10.0.0.1/8", "1.2.3", "10.0.0.0/33"])
def test_C7_a_malformed_trusted_address_is_rejected(text: str) -> None:
    with pytest.raises(ConfigError, match="forwarded_allow_ips: found .*, expected an address, a network"):
        TrustedPeers(text)


def test_C7_variable_FORWARDED_ALLOW_IPS_applies_if_the_option_is_not_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.1")
    assert build_trusted_peers("").trusts(PROXY)
    assert not build_trusted_peers("10.0.0.2").trusts(PROXY)


def test_C7_a_proxy_on_this_machine_is_trusted_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    trusted = build_trusted_peers("")
    assert trusted.trusts(("127.0.0.1", 1)) and trusted.trusts(("::1", 1))
    assert not trusted.trusts(PROXY)


FORWARDED = request(b"GET / HTTP/1.1", b"x-forwarded-for: 1.2.3.4:5", b"x-forwarded-proto: https")


async def ask(stream: bytes, **settings: Any) -> list[tuple[object, object]]:
    recorder = Recorder(hello)
    conversation = Conversation(recorder, **settings)
    conversation.send(stream)
    await settle()
    await conversation.lose()
    return [(message["client"], message["scheme"]) for message in recorder.messages]


async def test_C7_forwarded_fields_of_a_trusted_peer_are_applied() -> None:
    assert await ask(FORWARDED, forwarded_allow_ips="*") == [(("1.2.3.4", 5), "https")]


async def test_C7_forwarded_fields_of_an_untrusted_peer_are_ignored() -> None:
    [(client, scheme)] = await ask(FORWARDED, forwarded_allow_ips="10.9.9.9")
    assert client != ("1.2.3.4", 5)
    assert scheme == "http"


async def test_C7_forwarded_fields_are_ignored_when_switched_off() -> None:
    [(client, scheme)] = await ask(FORWARDED, forwarded_allow_ips="*", proxy_headers=False)
    assert client != ("1.2.3.4", 5)


async def test_C7_requests_on_one_proxy_connection_may_have_different_clients() -> None:
    other = request(b"GET / HTTP/1.1", b"x-forwarded-for: 5.6.7.8")
    plain = request()
    seen = await ask(FORWARDED + FORWARDED + other + plain, forwarded_allow_ips="*")
    assert seen[:2] == [(("1.2.3.4", 5), "https")] * 2
    assert seen[2] == (("5.6.7.8", 0), "http")
    assert seen[3] not in seen[:3]


@pytest.mark.parametrize("kind", ["consumer", "consumer in a thread"])
async def test_C7_consumer_receives_the_forwarded_client_of_each_request(kind: str) -> None:
    messages: list[Any] = []

    def record(message: Any) -> None:
        messages.append(message)
        message["reply_channel"].send({"status": 204})

    async def consumer(message: Any) -> None:
        record(message)

    app = consumer if kind == "consumer" else record
    conversation = Conversation(app, interface="consumer", forwarded_allow_ips="*")
    conversation.send(FORWARDED + request())
    await until(lambda: len(conversation.responses()) == 2)
    seen = [(keys["client"], keys["scheme"]) for message in messages for keys in (message, message["content"])]
    assert seen == [(("1.2.3.4", 5), "https")] * 2 + [(("127.0.0.1", 51234), "http")] * 2
    await conversation.lose()


async def test_C7_asgi_application_sees_the_forwarded_client_of_each_request() -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append((scope["client"], scope["scheme"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    conversation = Conversation(app, forwarded_allow_ips="*")
    conversation.send(FORWARDED + request())
    await settle()
    assert scopes == [(("1.2.3.4", 5), "https"), (("127.0.0.1", 51234), "http")]
    await conversation.lose()


async def test_C7_a_warning_about_a_request_names_the_client_behind_the_proxy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    conversation = Conversation(hello, forwarded_allow_ips="*")
    conversation.send(chunked(b"malformed\r\n", b"x-forwarded-for: 1.2.3.4:5"))
    await settle()
    assert [record.getMessage() for record in caplog.records] == ["1.2.3.4:5 refused: malformed chunk line (400)"]
    await conversation.lose()


async def test_C7_warning_about_a_malformed_head_names_the_proxy(caplog: pytest.LogCaptureFixture) -> None:
    conversation = Conversation(hello, forwarded_allow_ips="*")
    conversation.send(FORWARDED + b"malformed\r\n")
    await settle()
    assert [record.getMessage() for record in caplog.records] == [
        "127.0.0.1:51234 refused: malformed request line (400)"
    ]
    await conversation.lose()


@pytest.mark.parametrize("interface", ["channels", "asgi3"])
async def test_C7_websocket_behind_a_proxy_has_the_forwarded_client_and_scheme(interface: str) -> None:
    seen: list[tuple[object, object]] = []

    async def channels(message: Any, channels: Any) -> None:
        if message["channel"] == "websocket.connect":
            seen.append((message["client"], message["scheme"]))

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["client"], scope["scheme"]))

    conversation = Conversation(
        channels if interface == "channels" else asgi, interface=interface, forwarded_allow_ips="*"
    )
    forwarded = (b"x-forwarded-for: 1.2.3.4:5", b"x-forwarded-proto: https")
    conversation.send(request(b"GET / HTTP/1.1", *HANDSHAKE, *forwarded))
    await settle()
    assert seen == [(("1.2.3.4", 5), "wss")]
    await conversation.lose()


@pytest.mark.any_loop
def test_C7_environ_has_the_forwarded_client_instead_of_the_proxy() -> None:
    endpoint = Endpoint("http", client=("10.0.0.1", 4711), server=("10.0.0.2", 80))
    exchange = HTTPExchange(HTTPGateway(), endpoint, "GET", b"/", "1.1", ((), ()), False)
    own = build_environ(exchange)
    exchange.forwarded = ("1.2.3.4", 0), "https"
    environ = build_environ(exchange)
    changed = {key: environ.get(key) for key in own if environ.get(key) != own[key]}
    assert changed == {"REMOTE_ADDR": "1.2.3.4", "REMOTE_PORT": None, "wsgi.url_scheme": "https"}
    assert build_environ(HTTPExchange(HTTPGateway(), endpoint, "GET", b"/", "1.1", ((), ()), False)) == own


# Unix sockets (S7)


@pytest.mark.parametrize(
    ("folder_mode", "mode", "trusted"),
    [(0o755, 0o660, True), (0o755, 0o666, False), (0o750, 0o666, True), (0o700, 0o600, True), (0o755, 0o662, False)],
)
def test_unix_socket_is_trusted_by_default_unless_all_users_can_connect(
    folder_mode: int, mode: int, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    # Not below pytest's own folders, which are closed to others.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, folder_mode)
        path = os.path.join(folder, "app.sock")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
            os.chmod(path, mode)
            assert build_trusted_peers("").trusts(None, path) is trusted


@pytest.mark.parametrize("path", ["", "/not/there.sock", "\0abstract"])
def test_unix_socket_with_unknown_permissions_is_not_trusted_by_default(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    assert not build_trusted_peers("").trusts(None, path)


def test_unix_sockets_listed_as_trusted_need_no_permission_check(tmp_path: Path) -> None:
    assert build_trusted_peers("unix:").trusts(None, "/run/app.sock")
