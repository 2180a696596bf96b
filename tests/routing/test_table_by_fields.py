"""From a head to its entry: rules M4, M5, M6."""

from __future__ import annotations

import random
from typing import Any

import pytest

from uvicorn.fields import split_pairs
from uvicorn.routing.entries import Entry, Route
from uvicorn.routing.table import NOT_FOUND, Table


def application(environ: Any, start_response: Any) -> list[bytes]:
    return []


SHOP = Route("/*", application, host="shop.example")
SIX = Route("/*", application, host="[::1]")
OTHER = Route("/*", application)


@pytest.mark.parametrize(
    ("field", "entry"),
    [
        (b"shop.example", SHOP),
        (b"SHOP.example.", SHOP),
        (b"Shop.Example:8080", SHOP),
        (b"shop.example.:80", SHOP),
        (b"[::1]:8000", SIX),
        (b"[::1]", SIX),
        (b"a.shop.example", OTHER),
        (b"", OTHER),
        (b"[", OTHER),
        (b"\xff:::", OTHER),
    ],
)
def test_M6_host_comparison_ignores_case_port_and_final_dot(field: bytes, entry: Entry) -> None:
    fields = split_pairs([[b"accept", b"*/*"], [b"host", field], [b"x-forwarded-host", b"shop.example"]])
    assert Table([SHOP, SIX, OTHER]).find_by_fields("/a", fields, "http", "GET") is entry


def test_M33_random_paths_and_hosts_match_a_route_or_give_404_or_405() -> None:
    chance = random.Random(33)
    table = Table([Route("/a/*", application, host="shop.example"), Route("/b", application, methods=("GET",))])
    for _ in range(5000):
        octets = chance.randbytes(chance.randint(0, 12))
        path = chance.choice(("", "/", "/a/", "/b")) + octets.decode("utf-8", "replace")
        fields = split_pairs([[b"host", chance.choice((octets, b"shop.example" + octets))]])
        for protocol in ("http", "websocket"):
            if table.find_by_fields(path, fields, protocol, octets.decode("latin-1")) is None:
                assert table.refusal(path, fields, protocol).status in (404, 405)


def test_M6_request_without_a_host_field_matches_routes_without_a_host() -> None:
    assert Table([SHOP, OTHER]).find_by_fields("/a", split_pairs([]), "http", "GET") is OTHER


NEW = Route("/a", application, methods=("POST",))


@pytest.mark.parametrize(("asked", "entry"), [(b"POST", NEW), (b" POST ", NEW), (b"PUT", OTHER), (b"post", OTHER)])
def test_M5_CORS_preflight_goes_to_the_route_for_the_requested_method(asked: bytes, entry: Entry) -> None:
    fields = split_pairs([[b"access-control-request-method", asked]])
    assert Table([NEW, OTHER]).find_by_fields("/a", fields, "http", "OPTIONS") is entry


def test_M5_plain_OPTIONS_request_goes_to_the_OPTIONS_route() -> None:
    options = Route("/a", application, methods=("OPTIONS",))
    assert Table([NEW, options]).find_by_fields("/a", split_pairs([]), "http", "OPTIONS") is options


def test_M4_405_response_lists_the_allowed_methods() -> None:
    table = Table([NEW, Route("/a/*", application, methods=("GET",))])
    answer = table.refusal("/a", split_pairs([]), "http")
    assert answer.status == 405
    assert (b"allow", b"GET, HEAD, POST") in tuple(answer.headers)
    assert answer.content == b"Method Not Allowed\n"


def test_M10_404_for_an_unknown_path_has_a_content_type_and_nosniff() -> None:
    assert Table([NEW]).refusal("/b", split_pairs([]), "http") is NOT_FOUND
    assert dict(tuple(NOT_FOUND.headers)) == {  # type: ignore[arg-type]
        b"content-type": b"text/plain; charset=utf-8",
        b"x-content-type-options": b"nosniff",
    }


def test_M10_handshake_without_a_matching_route_is_answered_with_404() -> None:
    assert Table([NEW]).refusal("/a", split_pairs([]), "websocket") is NOT_FOUND
