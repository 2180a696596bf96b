"""An exception behind an adapter on real hosts is 500 and one log entry, and the next request is served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.hosts import Host, hosted
from tests.adapters.wire import ask

WSGI_HOSTS = ["gunicorn sync", "gunicorn gthread", "waitress", "uvicorn", "hypercorn"]
ASGI_HOSTS = ["uvicorn", "hypercorn"]

# hypercorn answers in a thread of its own, and needs a prefix for a WSGI application.
PAIRS = [
    *((host, app) for host in WSGI_HOSTS for app in ("as_wsgi", "wsgi_as_wsgi", "wsgi_by_messages_as_wsgi")),
    *((host, app) for host in ASGI_HOSTS for app in ("as_asgi3", "wsgi_as_asgi3", "wsgi_by_messages_as_asgi3")),
    ("uvicorn", "middleware"),
]

ERRORS = ["ValueError", "TimeoutError", "ConnectionResetError", "SystemExit", "KeyboardInterrupt"]


@pytest.fixture(scope="module", params=PAIRS, ids=" ".join)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    name, app = request.param
    prefix = "wsgi:" if name == "hypercorn" and app.endswith("as_wsgi") else ""
    with hosted(name, f"tests.adapters.raising_apps:{app}", prefix=prefix) as host:
        yield host


def entries(host: Host, error: str) -> int:
    """Return how many tracebacks in the host's log end in the application's exception."""
    return sum(1 for line in host.stderr.splitlines() if line.strip(" |").startswith(f"{error}: raised-{error}"))


@pytest.mark.parametrize("error", ERRORS)
def test_exception_before_the_response_gives_500_and_is_logged_once_on_every_host(host: Host, error: str) -> None:
    before = entries(host, error)
    assert ask(host.port, f"/{error}").status == 500
    assert ask(host.port, "/").content == b"half"
    host.wait_until(lambda: entries(host, error) > before)
    assert entries(host, error) - before == 1


@pytest.mark.parametrize("error", ERRORS)
def test_exception_midway_aborts_the_response_and_is_logged_once_on_every_host(host: Host, error: str) -> None:
    before = entries(host, error)
    assert not ask(host.port, f"/{error}-midway").complete
    assert ask(host.port, "/").content == b"half"
    host.wait_until(lambda: entries(host, error) > before)
    assert entries(host, error) - before == 1
