"""Rule M17: an application is at the same place under every host of the Router and at every depth of nesting."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.adapters.hosts import hosted
from tests.waits import LONGEST_WAIT

# Of tests/routing/sites.py, which makes its Django the only one of its process.
SITES: Final = ("flask", "django", "starlette", "channels", "consumer")
STYLE: Final = (Path(__file__).parent / "static" / "site.css").read_bytes()

BASE: Final = "/base"
#: How the root path reaches the host: the server has no root path, a proxy has cut it off the path, or the path has it.
ROOTS: Final = ("none", "cut", "kept")
NESTED: Final = ("", "/one", "/one/two")
#: Hosts whose root path is a setting have a server for each.
OURS: Final = {"our server": ("uvicorn", "table"), "gunicorn worker": ("gunicorn with our worker", "table")}
OTHERS: Final = {
    "WSGIAdapter on gunicorn": ("gunicorn gthread", "wsgi"),
    "WSGIAdapter on waitress": ("waitress", "wsgi"),
    "ASGI3Adapter on hypercorn": ("hypercorn", "asgi"),
}


class Client:
    """Asks one host; the connection stays."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_WAIT)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(self, path: str, fields: dict[str, str]) -> tuple[int, Any, bytes]:
        """Status, head and content."""
        self._connection.request("GET", path, headers=fields)
        response = self._connection.getresponse()
        return response.status, response.headers, response.read()


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[tuple[str, str], Client]]:
    """A client of each host at each root path."""
    with ExitStack() as running:
        found: dict[tuple[str, str], Client] = {}
        for host, (name, attribute) in OURS.items():
            for root in ROOTS:
                environment = {"UVICORN_ROOT_PATH": BASE, "UVICORN_ROOT_PATH_CUT": "yes" if root == "cut" else "no"}
                server = hosted(name, f"tests.routing.sites:{attribute}", environment if root != "none" else {})
                found[host, root] = Client(running.enter_context(server).port)
        for host, (name, attribute) in OTHERS.items():
            client = Client(running.enter_context(hosted(name, f"tests.routing.sites:{attribute}")).port)
            found |= {(host, root): client for root in ROOTS}
        yield found
        for client in found.values():
            client.close()


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("entry", ["route", "mount"])
@pytest.mark.parametrize("nested", NESTED)
@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("host", [*OURS, *OTHERS])
def test_M17_site_gets_the_correct_root_path_on_every_server(
    clients: dict[tuple[str, str], Client], host: str, root: str, nested: str, entry: str, site: str
) -> None:
    client = clients[host, root]
    root_path = BASE if root != "none" else ""
    sent = BASE if root == "kept" else ""
    fields = {}
    if host in OTHERS and root_path:
        fields = {"x-prefix": BASE} | ({"x-kept": "yes"} if root == "kept" else {})
    at = f"{nested}/{entry}/{site}"
    place = root_path + nested + (f"/mount/{site}" if entry == "mount" else "")

    status, _, content = client.get(f"{sent}{at}/where", fields)
    assert status == 200, content
    assert json.loads(content) == {"root": place, "path": f"{root_path}{at}/where", "made": f"{root_path}{at}/where"}

    status, head, _ = client.get(f"{sent}{at}/go", fields)
    assert (status, urlsplit(head["location"]).path) in [(code, f"{root_path}{at}/where") for code in (302, 307)]

    if entry == "mount":
        status, _, content = client.get(f"{sent}{at}/static/site.css", fields)
        assert (status, content) == (200, STYLE)

    if site == "django":
        status, head, _ = client.get(f"{sent}{at}/admin/", fields)
        assert status == 302
        assert head["location"] == f"{root_path}{at}/admin/login/?next={root_path}{at}/admin/"
