"""What applications are given of a request's head."""

from __future__ import annotations

import pytest

from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.fields import Fields

pytestmark = pytest.mark.any_loop


def head(endpoint: Endpoint, target: bytes = b"/", fields: Fields = ((), ())) -> HTTPExchange:
    return HTTPExchange(HTTPGateway(), endpoint, "GET", target, "1.1", fields, has_content=False)


def test_request_returns_a_new_list_of_headers_each_time() -> None:
    made = head(Endpoint(), fields=((b"host", b"accept"), (b"x.example", b"*/*")))
    made.headers.clear()
    assert made.headers == [[b"host", b"x.example"], [b"accept", b"*/*"]]


def test_direct_request_gets_client_and_scheme_from_the_connection() -> None:
    made = head(Endpoint(scheme="https", client=("192.0.2.1", 5)))
    assert (made.client, made.scheme) == (("192.0.2.1", 5), "https")


def test_forwarded_request_gets_client_and_scheme_from_the_proxy() -> None:
    made = head(Endpoint(client=("192.0.2.1", 5)))
    made.forwarded = (("198.51.100.7", 0), "https")
    assert (made.client, made.scheme) == (("198.51.100.7", 0), "https")


@pytest.mark.parametrize(("target", "root_path"), [(b"/app/x", "/app"), (b"/other", ""), (b"*", "")])
def test_request_outside_the_root_path_has_an_empty_root_path(target: bytes, root_path: str) -> None:
    assert head(Endpoint(root_path="/app", root_path_cut="no"), target).root_path == root_path
