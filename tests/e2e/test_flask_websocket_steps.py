"""The steps of docs/flask-websockets.md lead from a flask-sock handler to a coroutine, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from tests.e2e.example_site import CLEAN, example
from tests.e2e.server_process import LONGEST_WAIT, run_command
from tests.e2e.story import STORIES

STORY: Final = STORIES[1]
STEPS: Final = STORY.steps


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the site at the start and after each step."""
    return STORY.sites(tmp_path_factory.mktemp("sites"))


@pytest.mark.parametrize("step", STEPS)
def test_check_option_accepts_the_routing_table_of_the_flask_guide(step: int, sites: list[Path]) -> None:
    done = run_command(sites[step], "live:app", "--check", env=CLEAN)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("step", range(3))
def test_browser_page_works_after_each_step_of_the_flask_websocket_guide(
    step: int, sites: list[Path], browser: Chromium
) -> None:
    with example(sites[step], "live:app" if step else "shout:app") as server:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/")
        server.wait_for_line("/shout", "stdout")
        for said in ("hello", "naïve <b>"):
            page.fill("#text", said)
            page.press("#text", "Enter")
        expect(page.locator("#heard li")).to_have_text(["HELLO", "NAÏVE <B>"], timeout=LONGEST_WAIT * 1000)
        page.close()
