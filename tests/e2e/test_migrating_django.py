"""The steps of docs/migrating-django.md lead from a plain Django site to examples/django, and back."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.e2e.example_site import CLEAN, PASSWORD, Browser, Page
from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, run_command, running_server
from tests.e2e.story import STORIES, files, plain_gunicorn

STORY: Final = STORIES[2]
STEPS: Final = STORY.steps

PAGES: Final = [
    "/",
    "/recent",
    "/entries.csv",
    "/entries/1/file",
    "/entries/2/file",
    "/nowhere",
    "/static/guestbook/style.css",
    "/static/admin/css/base.css",
    "/admin/",
    "/admin/guestbook/entry/",
    "/admin/guestbook/entry/1/change/",
]
#: Fields that depend on the time, the server, the connection, or the length of a random token.
NOT_COMPARED: Final = {"date", "expires", "server", "connection", "transfer-encoding", "content-length"}
#: The lines that steps 4 and 6 add to the front page; without a login the first is blank.
ADDED: Final = rb'^    (<pre id="news".*?</script>)?\n|^    <a href="/ticks">.*?\n'

SEED: Final = """
from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.test import Client
from guestbook.models import Entry
Entry.objects.create(name="Ada", text="naïve <b>", file=ContentFile(bytes(range(256)) * 400, "ada.bin"))
Entry.objects.create(name="Grace", text="without a file")
client = Client()
client.force_login(get_user_model().objects.get())
print(client.cookies["sessionid"].value)
"""


class Data(NamedTuple):
    folder: Path
    session: str


Serve = Callable[[Path, Data], AbstractContextManager[ServerProcess]]


def manage(site: Path, data: Path, *arguments: str) -> str:
    variables = CLEAN | {"EXAMPLE_DATA": str(data), "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    done = run_command(site, *arguments, env=variables, program=("manage.py",))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the site at the start and after each step, made from the example by undoing one step after another."""
    return STORY.sites(tmp_path_factory.mktemp("sites"))


@pytest.fixture(scope="module")
def seeded(sites: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Make the initial data of the site, with a logged-in administrator and two entries."""
    folder = tmp_path_factory.mktemp("data")
    manage(sites[0], folder, "migrate")
    manage(sites[0], folder, "createsuperuser", "--noinput", "--username", "admin", "--email", "admin@example.com")
    return Data(folder, manage(sites[0], folder, "shell", "-c", SEED).split()[-1])


@pytest.fixture
def data(seeded: Data, tmp_path: Path) -> Data:
    """Return a copy of the data, which a test may change."""
    shutil.copytree(seeded.folder, tmp_path / "data")
    return seeded._replace(folder=tmp_path / "data")


def variables(data: Data) -> dict[str, str]:
    return CLEAN | {"EXAMPLE_DATA": str(data.folder), "UVICORN_BROADCAST_URL": "memory://"}


def under_gunicorn(site: Path, data: Data) -> AbstractContextManager[ServerProcess]:
    return plain_gunicorn(site, "project.wsgi:application", variables(data))


@contextmanager
def under_uvicorn(site: Path, data: Data, app: str = "project.asgi:app") -> Iterator[ServerProcess]:
    with running_server(site, app, env=variables(data)) as server:
        yield server
        assert server.stop() == 0
        assert not re.search("ERROR|Warning|Traceback", server.stderr), server.stderr


def by_wsgi(site: Path, data: Data) -> AbstractContextManager[ServerProcess]:
    return under_uvicorn(site, data, "project.wsgi:application")


def served(sites: list[Path], step: int, data: Data) -> AbstractContextManager[ServerProcess]:
    """Serve the site after a step by the command of that step."""
    serve: Serve = {1: under_gunicorn, 2: by_wsgi}.get(step, under_uvicorn)
    return serve(sites[step], data)


class Answer(NamedTuple):
    status: int
    url: str
    fields: list[tuple[str, str]]
    content: bytes


def answer(page: Page, port: int) -> Answer:
    """Return a response without random tokens, the port and added lines, so that it is equal at each step."""
    fields = [
        # The values of cookies are random.
        (name.lower(), value.partition("=")[0] if name.lower() == "set-cookie" else value)
        for name, value in page.headers.items()
        if name.lower() not in NOT_COMPARED
    ]
    content = re.sub(rb'(name="csrfmiddlewaretoken" value=)"\w+"', rb"\1", page.content)
    content = content.replace(b"127.0.0.1:%d" % port, b"127.0.0.1")
    if page.url == "/":
        content = re.sub(ADDED, b"", content, flags=re.MULTILINE)
    return Answer(page.status, page.url, sorted(fields), content)


def answers(server: ServerProcess, data: Data) -> dict[tuple[str, str], Answer]:
    """Visit each page without a login, then with one."""
    logged_in = {"cookie": f"sessionid={data.session}"}
    return {
        (path, user): answer(Browser(server, fields).get(path), server.port)
        for path in PAGES
        for user, fields in (("anonymous", {}), ("admin", logged_in))
    }


@pytest.fixture(scope="module")
def at_the_start(sites: list[Path], seeded: Data) -> dict[tuple[str, str], Answer]:
    with under_gunicorn(sites[0], seeded) as server:
        return answers(server, seeded)


def live(server: ServerProcess, headers: dict[str, str] | None = None) -> ClientConnection:
    root = f"127.0.0.1:{server.port}"
    return connect(f"ws://{root}/live", additional_headers=headers, open_timeout=LONGEST_WAIT)


def test_django_site_does_not_mention_uvicorn_before_the_migration(sites: list[Path]) -> None:
    assert [name for name, content in files(sites[0]).items() if b"uvicorn" in content] == []


@pytest.mark.parametrize("step", STEPS)
def test_django_pages_are_the_same_after_each_migration_step(
    step: int, sites: list[Path], data: Data, at_the_start: dict[tuple[str, str], Answer]
) -> None:
    with served(sites, step, data) as server:
        assert answers(server, data) == at_the_start


@pytest.mark.parametrize("serve", [under_gunicorn, by_wsgi])
def test_migrated_django_site_serves_the_original_pages_under_wsgi(
    serve: Serve, sites: list[Path], data: Data, at_the_start: dict[tuple[str, str], Answer]
) -> None:
    with serve(sites[6], data) as server:
        assert answers(server, data) == at_the_start


@pytest.mark.parametrize("step", STEPS)
def test_form_with_an_upload_works_after_each_django_migration_step(step: int, sites: list[Path], data: Data) -> None:
    with served(sites, step, data) as server:
        page = Browser(server).submit("/", {"name": "Eve", "text": f"step {step}"}, b"a file")
        newest = json.loads(Browser(server).get("/recent").content)["entries"][0]
    assert "has been added" in page.text
    assert newest == {"name": "Eve", "text": f"step {step}"}


@pytest.mark.parametrize("step", [4, 5, 6])
def test_websocket_receives_an_entry_saved_in_the_django_admin(step: int, sites: list[Path], data: Data) -> None:
    cookie = {"cookie": f"sessionid={data.session}"}
    with served(sites, step, data) as server, live(server, cookie) as page:
        browser = Browser(server)
        browser.submit("/admin/login/?next=/admin/", {"username": "admin", "password": PASSWORD})
        browser.submit("/admin/guestbook/entry/add/", {"name": "Grace", "text": "by the admin"})
        assert page.recv(LONGEST_WAIT) == "Grace: by the admin"


def test_django_site_rejects_the_websocket_of_an_anonymous_user(sites: list[Path], data: Data) -> None:
    with served(sites, 4, data) as server:
        with pytest.raises(InvalidStatus) as caught:
            live(server)
        assert caught.value.response.status_code == 403


@pytest.mark.parametrize("step", [3, 4, 5, 6])
def test_check_option_accepts_the_routing_table_of_each_django_migration_step(
    step: int, sites: list[Path], data: Data
) -> None:
    done = run_command(sites[step], "project.asgi:app", "--check", env=variables(data))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("step", [0, *STEPS])
def test_django_system_checks_pass_after_each_migration_step(step: int, sites: list[Path], data: Data) -> None:
    assert "no issues" in manage(sites[step], data.folder, "check")


def test_open_page_shows_an_entry_saved_in_the_django_admin(browser: Chromium, sites: list[Path], data: Data) -> None:
    with served(sites, 5, data) as server, browser.new_context(base_url=f"http://127.0.0.1:{server.port}") as context:
        context.set_default_timeout(LONGEST_WAIT * 1000)
        admin, front = context.new_page(), context.new_page()
        admin.goto("/admin/login/?next=/admin/guestbook/entry/add/")
        admin.fill("[name=username]", "admin")
        admin.fill("[name=password]", PASSWORD)
        admin.click("[type=submit]")
        expect(admin.locator("#header")).to_have_css("background-color", "rgb(65, 118, 144)")
        front.goto("/")
        server.wait_for_line("/live", "stdout")
        admin.fill("[name=name]", "Grace")
        admin.fill("[name=text]", "from a browser")
        admin.click("[name=_save]")
        expect(front.locator("#news")).to_have_text("Grace: from a browser\n", timeout=LONGEST_WAIT * 1000)
