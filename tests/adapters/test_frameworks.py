"""Applications of real frameworks answer here as they do under gunicorn.

Compared are status, reason, fields in their order, and content. Not compared are Date, Server, Connection, and framing,
which belong to the server; and tokens, session keys and expiry dates, which are new each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import pytest

from tests.adapters.hosts import Host, hosted
from tests.adapters.site_requests import DJANGO_REQUESTS, REQUESTS, Conversation, masked
from tests.adapters.wire import Answer, ask

FRAMEWORKS: Final = ["flask", "django", "bottle", "falcon", "pyramid"]

WAYS: Final = {
    "gunicorn": ("gunicorn gthread", "bare"),
    "direct": ("uvicorn", "bare"),
    "below channels": ("uvicorn", "below_channels"),
    "double bridge": ("gunicorn gthread", "double"),
}

OURS: Final = [way for way in WAYS if way != "gunicorn"]

_OF_THE_SERVER: Final = ("date", "server", "connection", "transfer-encoding", "content-length")


class Site:
    """One framework's site, served in each way."""

    def __init__(self, framework: str, hosts: dict[str, Host]) -> None:
        self.framework = framework
        self.hosts = hosts
        self._references: dict[str, list[Answer]] = {}

    def reference(self, name: str, conversation: Conversation) -> list[Answer]:
        """The response of gunicorn."""
        if name not in self._references:
            self._references[name] = conversation(self.hosts["gunicorn"].port)
        return self._references[name]


@pytest.fixture(scope="module", params=FRAMEWORKS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    # Flask lists allowed methods in the order of a set.
    env = {"FRAMEWORK": request.param, "PYTHONHASHSEED": "0"}
    with ExitStack() as stack:
        hosts = {
            way: stack.enter_context(hosted(host, f"tests.frameworks.served:{name}", env))
            for way, (host, name) in WAYS.items()
        }
        yield Site(request.param, hosts)


def comparable(answer: Answer, has_length: bool) -> dict[str, Any]:
    """Return the parts of a response that have to be equal."""
    return {
        "status": f"{answer.status} {answer.reason}",
        "fields": [masked(f"{name}: {value}") for name, value in answer.fields if name not in _OF_THE_SERVER],
        "length": answer.values("content-length") if has_length else [],
        "content": masked(answer.content.decode("latin-1")) if len(answer.content) < 100000 else answer.content,
        "complete": answer.complete,
    }


# Our parser knows the methods that are registered, and answers 501 to others before any application sees them.
_REFUSED: Final = [("direct", "a method of its own"), ("below channels", "a method of its own")]

CASES: Final = [(way, name) for way in OURS for name in REQUESTS if (way, name) not in _REFUSED]


@pytest.mark.parametrize(("way", "name"), CASES)
def test_every_request_gets_the_same_response_as_under_gunicorn(site: Site, way: str, name: str) -> None:
    compare(site, way, name, REQUESTS[name])


@pytest.mark.parametrize("site", ["django"], indirect=True)
@pytest.mark.parametrize("name", DJANGO_REQUESTS)
@pytest.mark.parametrize("way", OURS)
def test_django_site_gives_the_same_responses_as_under_gunicorn(site: Site, way: str, name: str) -> None:
    compare(site, way, name, DJANGO_REQUESTS[name])


def compare(site: Site, way: str, name: str, conversation: Conversation) -> None:
    reference = site.reference(name, conversation)
    answers = conversation(site.hosts[way].port)
    assert [answer.status for answer in answers] == [wanted.status for wanted in reference]
    for answer, wanted in zip(answers, reference, strict=True):
        # Pyramid leaves its exceptions to the server, whose page is its own.
        if site.framework != "pyramid" or wanted.status != 500:
            has_length = bool(wanted.values("content-length"))
            assert comparable(answer, has_length) == comparable(wanted, has_length)


@pytest.mark.parametrize("way", WAYS)
def test_a_response_that_fails_midway_never_looks_complete(site: Site, way: str) -> None:
    assert not ask(site.hosts[way].port, "/fail-midway").complete
