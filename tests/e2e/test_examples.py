"""The example sites, served and used as their READMEs say; their folders are not written to."""

from __future__ import annotations

import csv
import hashlib
import http.client
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.e2e.example_site import CLEAN, PASSWORD, Browser, example
from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, run_command, running_server

ROOT = Path(__file__).parents[2]
HELLO, FLASK, DJANGO = ROOT / "examples/hello", ROOT / "examples/flask", ROOT / "examples/django"

LARGE = bytes(range(256)) * 12_000

FIVE_THOUSAND_ENTRIES = """
from guestbook.models import Entry
Entry.objects.all().delete()
Entry.objects.bulk_create(Entry(id=number, name="Ada", text=f"entry, {number}") for number in range(1, 5001))
"""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def first_line(server: ServerProcess, path: str) -> bytes:
    """Read the first line of a stream, then disconnect."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LONGEST_WAIT)
    try:
        connection.request("GET", path)
        with connection.getresponse() as response:
            return response.readline()
    finally:
        connection.close()


@pytest.fixture(scope="module", params=["frontpage:app", "mixed:app"])
def flask_site(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with example(FLASK, request.param) as server:
        yield server


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of Django's database and uploads."""
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def manage(data: str) -> Callable[..., str]:
    """Run one of Django's commands; the database and an administrator exist."""

    def run(*arguments: str) -> str:
        variables = {"EXAMPLE_DATA": data, "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
        done = run_command(DJANGO, *arguments, env=CLEAN | variables, program=("-W", "error", "manage.py"))
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("migrate")
    run("createsuperuser", "--noinput", "--username", "admin", "--email", "admin@example.com")
    return run


@pytest.fixture(scope="module", params=["project.wsgi:application", "project.asgi:app"])
def django_site(request: pytest.FixtureRequest, data: str, manage: Callable[..., str]) -> Iterator[ServerProcess]:
    with example(DJANGO, request.param, EXAMPLE_DATA=data) as server:
        yield server


def test_hello_example_answers() -> None:
    with example(HELLO, "app:hello_world") as server:
        assert server.get() == (200, "Hello, world")


def test_flask_front_page_shows_the_worker_thread_and_the_source_code(flask_site: ServerProcess) -> None:
    page = Browser(flask_site).get("/")
    assert page.status == 200
    assert "uvicorn-worker-" in page.text
    assert (FLASK / "mixed.py").read_text().strip() in page.text


def test_flask_pages_have_no_broken_links(flask_site: ServerProcess) -> None:
    browser = Browser(flask_site)
    links = set(re.findall(r'(?:href|src)="(/[^"]*)"', browser.get("/").text)) - {"/ticks"}
    assert links == {"/", "/notes", "/upload", "/squares.csv", "/static/style.css"}
    assert {link: browser.get(link).status for link in links} == dict.fromkeys(links, 200)


def test_flask_form_shows_its_success_message_once(flask_site: ServerProcess) -> None:
    browser = Browser(flask_site)
    page = browser.submit("/notes", {"text": "naïve <b>"})
    assert (page.status, page.url) == (200, "/notes")
    assert b"<li>na\xc3\xafve &lt;b&gt;</li>" in page.content
    assert "has been added" in page.text
    assert "has been added" not in browser.get("/notes").text


def test_flask_form_upload_arrives(flask_site: ServerProcess) -> None:
    page = Browser(flask_site).submit("/upload", {}, LARGE)
    assert [text in page.text for text in ("large.bin", str(len(LARGE)), sha256(LARGE))] == [True] * 3


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_flask_raw_upload_arrives(flask_site: ServerProcess, chunked: bool) -> None:
    pieces = (LARGE[start : start + 100_000] for start in range(0, len(LARGE), 100_000))
    headers = {"transfer-encoding": "chunked"} if chunked else {}
    connection = http.client.HTTPConnection("127.0.0.1", flask_site.port, timeout=LONGEST_WAIT)
    connection.request("PUT", "/upload", pieces if chunked else LARGE, headers, encode_chunked=chunked)
    with connection.getresponse() as response:
        assert f'"sha256":"{sha256(LARGE)}","size":{len(LARGE)}' in response.read().decode()
    connection.close()


def test_flask_streams_the_complete_csv_file(flask_site: ServerProcess) -> None:
    page = Browser(flask_site).get("/squares.csv")
    rows = list(csv.reader(io.StringIO(page.content.decode())))
    assert page.headers["transfer-encoding"] == "chunked"
    assert rows == [["number", "square"], *([str(number), str(number**2)] for number in range(1, 50_001))]


def test_flask_answers_an_unknown_path_with_its_404_page(flask_site: ServerProcess) -> None:
    page = Browser(flask_site).get("/nowhere")
    assert page.status == 404
    assert "There is nothing at <code>/nowhere</code>" in page.text


@pytest.mark.parametrize(("folder", "app"), [(FLASK, "mixed:app"), (DJANGO, "project.asgi:app")])
def test_flask_and_django_examples_send_a_stream_of_ticks(folder: Path, app: str, tmp_path: Path) -> None:
    with example(folder, app, EXAMPLE_DATA=str(tmp_path)) as server:
        assert first_line(server, "/ticks") == b"tick 1\n"


def test_django_example_passes_the_system_checks(manage: Callable[..., str]) -> None:
    assert "no issues" in manage("check")


def test_django_example_has_all_migrations(manage: Callable[..., str]) -> None:
    assert "No changes detected" in manage("makemigrations", "--check")


@pytest.mark.parametrize("path", ["/static/guestbook/style.css", "/static/admin/css/base.css"])
def test_django_example_serves_its_static_files(django_site: ServerProcess, path: str) -> None:
    page = Browser(django_site).get(path)
    assert (page.status, page.headers.get_content_type()) == (200, "text/css")


def test_django_admin_redirects_anonymous_users_to_the_login(django_site: ServerProcess) -> None:
    assert Browser(django_site).get("/admin/").url == "/admin/login/?next=/admin/"


def test_django_admin_shows_the_model_after_login(django_site: ServerProcess) -> None:
    page = Browser(django_site).submit("/admin/login/?next=/admin/", {"username": "admin", "password": PASSWORD})
    assert page.url == "/admin/"
    assert '<a href="/admin/guestbook/entry/"' in page.text


def test_django_admin_adds_an_entry(django_site: ServerProcess) -> None:
    browser = Browser(django_site)
    browser.submit("/admin/login/?next=/admin/", {"username": "admin", "password": PASSWORD})
    page = browser.submit("/admin/guestbook/entry/add/", {"name": "Grace", "text": "by the admin"})
    assert page.url == "/admin/guestbook/entry/"
    assert "was added successfully" in page.text


def test_django_rejects_a_form_without_its_csrf_token(django_site: ServerProcess) -> None:
    page = Browser(django_site).submit("/", {"name": "Eve", "text": "hi", "csrfmiddlewaretoken": "x" * 64})
    assert page.status == 403


def test_django_form_redirects_to_a_page_that_shows_the_entry(django_site: ServerProcess) -> None:
    page = Browser(django_site).submit("/", {"name": "Ada", "text": "naïve <b>"})
    assert (page.status, page.url) == (200, "/")
    assert b"<p>na\xc3\xafve &lt;b&gt;</p>" in page.content
    assert "has been added" in page.text


def test_django_asynchronous_view_reads_the_database(django_site: ServerProcess) -> None:
    browser = Browser(django_site)
    browser.submit("/", {"name": "Ada", "text": "the newest"})
    assert json.loads(browser.get("/recent").content)["entries"][0] == {"name": "Ada", "text": "the newest"}


def test_django_returns_an_uploaded_file_unchanged(django_site: ServerProcess) -> None:
    browser = Browser(django_site)
    page = browser.submit("/", {"name": "Ada", "text": "with a file"}, LARGE)
    link = re.search("/entries/[0-9]+/file", page.text)
    assert link is not None
    file = browser.get(link.group())
    assert file.headers["content-length"] == str(len(LARGE))
    assert sha256(file.content) == sha256(LARGE)


def test_django_streams_the_complete_csv_file(django_site: ServerProcess, manage: Callable[..., str]) -> None:
    manage("shell", "-c", FIVE_THOUSAND_ENTRIES)
    page = Browser(django_site).get("/entries.csv")
    rows = list(csv.reader(io.StringIO(page.content.decode())))
    assert page.headers["transfer-encoding"] == "chunked"
    assert rows == [["id", "name", "text"], *([str(n), "Ada", f"entry, {n}"] for n in range(5000, 0, -1))]


@contextmanager
def make_run(venv: Path) -> Iterator[ServerProcess]:
    """Run `make run` in a session of its own, with the environment of these tests."""
    (venv / "bin").symlink_to(Path(sys.executable).parent)
    for stamp in ("installed", "installed-run"):
        (venv / stamp).touch()
    # The flags of a `make test` that runs this are not for this one.
    code = f"import os; os.setsid(); os.execvp('make', ['make', 'run', 'VENV={venv}', 'HOST=127.0.0.1', 'PORT=0'])"
    with running_server(ROOT, env=CLEAN | {"MAKEFLAGS": ""}, program=("-c", code)) as server:
        try:
            yield server
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.process.pid, signal.SIGKILL)


def test_make_run_serves_the_chat_example(tmp_path: Path) -> None:
    with make_run(tmp_path) as server:
        assert 'href="/chat"' in server.get()[1]
        assert "WebSocket Chat" in server.get("/chat")[1]
        with connect(f"ws://127.0.0.1:{server.port}/chat", open_timeout=LONGEST_WAIT) as client:
            client.send("hello")
            assert client.recv(LONGEST_WAIT) == "hello"


def test_make_run_serves_the_flask_example(tmp_path: Path) -> None:
    with make_run(tmp_path) as server:
        assert first_line(server, "/ticks") == b"tick 1\n"
        assert "It works." in Browser(server).get("/").text


def test_make_run_command_stops_without_an_error_on_ctrl_c(tmp_path: Path) -> None:
    with make_run(tmp_path) as server:
        os.killpg(server.process.pid, signal.SIGINT)
        server.wait()
        assert "Finished server process" in server.stderr.splitlines()[-1]
