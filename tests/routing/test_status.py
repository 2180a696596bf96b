"""`report(token=...)` and `metrics(token=...)` as entries of a Router: the token, and their places."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.helpers import Conversation, Response, until
from tests.routing.apps import channels_app, wsgi_app
from tests.routing.test_interface import get
from tests.server.test_metrics import samples
from uvicorn import ASGI3Adapter, Mount, Route, Router, Shift, metrics, process_count, report
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.errors import ConfigError, InterfaceError
from uvicorn.interfaces.detect import build_interface
from uvicorn.routing.status import StatusEntry
from uvicorn.settings import Settings

TOKEN: Final = "0123456789abcdef"
AUTHORIZED: Final = b"authorization: Bearer " + TOKEN.encode()
ENTRIES: Final = [metrics(token=TOKEN), report(token=TOKEN)]


async def responses(app: Any, *requests: bytes) -> list[Response]:
    conversation = Conversation(app)
    await conversation.interface.startup()
    methods = [request.partition(b" ")[0].decode() for request in requests]
    for number, request in enumerate(requests, 1):
        conversation.send(request)
        await until(lambda number=number: len(conversation.responses(*methods)) == number)  # type: ignore[misc]
    await conversation.interface.shutdown(0)
    await conversation.lose()
    return conversation.responses(*methods)


async def response(app: Any, request: bytes) -> Response:
    [last] = await responses(app, request)
    return last


def site(entry: StatusEntry) -> Router:
    return Router(Route("/_status", entry), Route("/a", channels_app), default=wsgi_app)


@pytest.mark.parametrize("entry", ENTRIES, ids=repr)
async def test_K4_request_with_the_token_is_answered(entry: StatusEntry) -> None:
    answer = await response(site(entry), get("/_status", AUTHORIZED))
    assert answer.status == 200
    assert answer.header(b"cache-control") == b"no-store"


@pytest.mark.parametrize("entry", ENTRIES, ids=repr)
@pytest.mark.parametrize("scheme", [b"bearer", b"BEARER"])
async def test_K4_authorization_scheme_is_not_case_sensitive(entry: StatusEntry, scheme: bytes) -> None:
    assert (await response(site(entry), get("/_status", AUTHORIZED.replace(b"Bearer", scheme)))).status == 200


@pytest.mark.parametrize("entry", ENTRIES, ids=repr)
@pytest.mark.parametrize(
    "field",
    [
        b"x: y",
        b"authorization: ",
        b"authorization: Bearer",
        b"authorization: Bearer ",
        b"authorization: Bearer 0123456789abcdeF",
        b"authorization: Bearer 0123456789abcdef0",
        b"authorization: Bearer 0123456789abcde\xe9",
        b"authorization: Basic 0123456789abcdef",
        b"authorization: 0123456789abcdef",
    ],
)
async def test_K4_request_without_the_token_gets_the_404_of_an_unknown_path(entry: StatusEntry, field: bytes) -> None:
    refused, unknown = await responses(Router(Route("/_status", entry)), get("/_status", field), get("/other", field))
    assert refused.status == unknown.status == 404
    assert refused.content == unknown.content
    assert [name for name, _ in refused.headers] == [name for name, _ in unknown.headers]


@pytest.mark.parametrize("entry", ENTRIES, ids=repr)
async def test_K4_request_with_the_token_in_its_query_gets_404(entry: StatusEntry) -> None:
    assert (await response(site(entry), get(f"/_status?token={TOKEN}"))).status == 404


@pytest.mark.parametrize("entry", ENTRIES, ids=repr)
async def test_K4_unsupported_method_gets_405_with_the_token_and_404_without_it(entry: StatusEntry) -> None:
    requests = get("/_status", AUTHORIZED, method=b"DELETE"), get("/_status", method=b"DELETE")
    answers = await responses(site(entry), *requests)
    assert [answer.status for answer in answers] == [405, 404]
    assert answers[0].header(b"allow") == b"GET, HEAD"


@pytest.mark.parametrize("entry", ENTRIES, ids=repr)
async def test_K4_response_to_HEAD_has_no_content(entry: StatusEntry) -> None:
    answer = await response(site(entry), get("/_status", AUTHORIZED, method=b"HEAD"))
    assert (answer.status, answer.content) == (200, b"")


@pytest.mark.parametrize(
    "token", ["", "short", "fifteen-letters", "with a space in it", "x" * 16 + "\n", "ü" * 20, None, b"x" * 20]
)
@pytest.mark.parametrize("function", [metrics, report])
def test_K4_error_for_a_malformed_token_does_not_show_the_token(
    function: Callable[..., StatusEntry], token: Any
) -> None:
    with pytest.raises(ConfigError) as error:
        function(token=token)
    assert str(error.value).startswith(f"{function.__name__}: token: expected at least 16 letters")
    assert not token or str(token) not in str(error.value)


def test_token_is_not_shown_by_repr() -> None:
    assert repr(metrics(token=TOKEN)) == "metrics(token=...)"


PLACES: Final[dict[str, Callable[[StatusEntry], Any]]] = {
    "a nested Router": lambda entry: Router(Route("/*", site(entry))),
    "groups around the Router": lambda entry: BroadcastMiddleware(site(entry), url="memory://"),
    "a side of a Shift": lambda entry: Router(Route("/_status", Shift(entry, channels_app))),
}


@pytest.mark.parametrize("entry", ENTRIES, ids=repr)
@pytest.mark.parametrize("place", PLACES)
async def test_K4_status_page_is_served_from_every_place_in_a_site(entry: StatusEntry, place: str) -> None:
    assert (await response(PLACES[place](entry), get("/_status", AUTHORIZED))).status == 200


@pytest.mark.parametrize("entry", ENTRIES, ids=repr)
async def test_status_page_gives_503_on_a_host_that_does_not_count_requests(entry: StatusEntry) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    name, _, value = AUTHORIZED.partition(b": ")
    scope = {"type": "http", "method": "GET", "path": "/_status", "query_string": b"", "headers": [(name, value)]}
    await ASGI3Adapter(site(entry))({**scope, "http_version": "1.1"}, receive, send)
    assert sent[0]["status"] == 503
    assert sent[1]["body"] == b"Requests are counted only by uvicorn and by its gunicorn worker.\n"


@pytest.mark.parametrize("entry", ENTRIES, ids=repr)
def test_error_for_a_status_page_called_as_asgi_mentions_the_router(entry: StatusEntry) -> None:
    with pytest.raises(InterfaceError, match=r"applications for an entry of a Router"):
        entry({}, None, None)


async def test_metrics_count_the_requests_of_each_route() -> None:
    table = Router(Route("/metrics", metrics(token=TOKEN)), Mount("/shop", channels_app), default=wsgi_app)
    *_, last = await responses(table, get("/shop"), get("/"), get("/metrics", AUTHORIZED))
    found = samples(last.content)
    assert found["uvicorn_requests_total{entry=/shop,kind=channels,status=2xx}"] == 1
    assert found["uvicorn_requests_total{entry=*,kind=wsgi,status=2xx}"] == 1
    assert found["uvicorn_requests_in_flight{entry=/metrics,kind=metrics}"] == 1
    assert last.header(b"content-type") == b"text/plain; version=0.0.4; charset=utf-8"


async def test_metrics_route_is_rejected_with_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_count, "count", 2)
    with pytest.raises(
        ConfigError,
        match=r"^an application made by metrics\(\): expected one process, .*; .*--metrics 127.0.0.1:9100",
    ):
        Conversation(site(metrics(token=TOKEN)))


def test_interface_of_the_metrics_page_is_named_metrics() -> None:
    assert build_interface(metrics(token=TOKEN), Settings()).name == "metrics"
