"""The steps of docs/flask-websockets.md lead from a flask-sock handler to a coroutine, and back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from tests.e2e.example_site import CLEAN, example
from tests.e2e.server_process import LONGEST_WAIT, run_command
from tests.e2e.story import Story, files

EXAMPLE: Final = Path(__file__).parents[2] / "examples/flask/sock"
STORY: Final = Story("flask-websockets.md")
STEPS: Final = range(1, 3)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the site at the start and after each step."""
    folder = tmp_path_factory.mktemp("sites")
    shutil.copytree(EXAMPLE, folder / "0", ignore=shutil.ignore_patterns("__pycache__"))
    for step in STEPS:
        shutil.copytree(folder / str(step - 1), folder / str(step))
        STORY.apply(folder / str(step), step)
    return [folder / str(number) for number in range(3)]


def test_flask_websocket_guide_has_two_steps() -> None:
    assert STORY.steps == STEPS


@pytest.mark.parametrize("step", STEPS)
def test_each_step_of_the_flask_websocket_guide_changes_fewer_than_15_lines(step: int) -> None:
    assert STORY.changed_lines(step) < 15


@pytest.mark.parametrize("step", STEPS)
def test_each_step_of_the_flask_websocket_guide_explains_how_to_go_back(step: int) -> None:
    assert "\n**Go back:**" in STORY.section(step)


def test_reverting_the_flask_websocket_steps_one_by_one_restores_each_earlier_site(
    sites: list[Path], tmp_path: Path
) -> None:
    site = shutil.copytree(sites[2], tmp_path / "site")
    for step in reversed(STEPS):
        STORY.apply(site, step, "-R")
        assert files(site) == files(sites[step - 1]), step


@pytest.mark.parametrize("step", STEPS)
def test_routing_table_of_the_flask_websocket_guide_passes_the_check_option(step: int, sites: list[Path]) -> None:
    done = run_command(sites[step], "live:app", "--check", env=CLEAN)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("step", range(3))
def test_page_of_the_flask_websocket_guide_works_in_a_browser_after_each_step(
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
