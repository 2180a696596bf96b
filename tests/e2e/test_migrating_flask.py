"""The steps of docs/migrating-flask.md lead from examples/flask to a site with live notes, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from tests.e2e.example_site import CLEAN, Browser, example
from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, run_command
from tests.e2e.story import STORIES, plain_gunicorn

STORY: Final = STORIES[0]
STEPS: Final = STORY.steps

PAGES: Final = ["/notes", "/upload", "/squares.csv", "/static/style.css", "/nowhere"]
#: What step 3 adds to the page of notes.
ADDED: Final = b"""<pre id="news" role="status"></pre>
<script>new WebSocket("live").onmessage = (event) => news.append(event.data + "\\n")</script>
"""

Answers = dict[str, tuple[int, str | None, bytes]]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the site at the start and after each step."""
    return STORY.sites(tmp_path_factory.mktemp("sites"))


def under_gunicorn(site: Path) -> AbstractContextManager[ServerProcess]:
    return plain_gunicorn(site, "frontpage:app", CLEAN)


@contextmanager
def served(sites: list[Path], step: int) -> Iterator[ServerProcess]:
    app = "frontpage:app" if step < 2 else "live:app"
    with example(sites[step], app, UVICORN_BROADCAST_URL="memory://") as server:
        yield server


def answers(server: ServerProcess) -> Answers:
    """Visit each page. Return the responses without the port."""

    def answer(path: str) -> tuple[int, str | None, bytes]:
        page = Browser(server).get(path)
        content = page.content.replace(ADDED, b"").replace(b":%d/" % server.port, b"/")
        return page.status, page.headers["content-type"], content

    return {path: answer(path) for path in PAGES}


@pytest.fixture(scope="module")
def at_the_start(sites: list[Path]) -> Answers:
    with under_gunicorn(sites[0]) as server:
        return answers(server)


@pytest.mark.parametrize("step", STEPS)
def test_flask_pages_are_the_same_after_each_migration_step(
    step: int, sites: list[Path], at_the_start: Answers
) -> None:
    with served(sites, step) as server:
        assert answers(server) == at_the_start


def test_migrated_flask_site_serves_the_original_pages_under_gunicorn(sites: list[Path], at_the_start: Answers) -> None:
    with under_gunicorn(sites[3]) as server:
        assert answers(server) == at_the_start


@pytest.mark.parametrize("step", [2, 3])
def test_check_option_accepts_the_routing_table_of_the_flask_migration(step: int, sites: list[Path]) -> None:
    done = run_command(sites[step], "live:app", "--check", env=CLEAN)
    assert done.returncode == 0, done.stdout + done.stderr


def test_migrated_flask_site_saves_a_note_under_gunicorn(sites: list[Path]) -> None:
    with under_gunicorn(sites[3]) as server:
        assert "<li>hello</li>" in Browser(server).submit("/notes", {"text": "hello"}).text


def test_browser_shows_a_new_note_on_an_open_page(browser: Chromium, sites: list[Path]) -> None:
    with served(sites, 3) as server:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/notes")
        server.wait_for_line("/live", "stdout")
        Browser(server).submit("/notes", {"text": "naïve <b>"})
        expect(page.locator("#news")).to_have_text("naïve <b>\n", timeout=LONGEST_WAIT * 1000)
        page.close()
