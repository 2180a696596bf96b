"""The steps of each page that changes an example site are short, apply exactly, and can be taken back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.story import STORIES, Story, files

EACH_STEP = pytest.mark.parametrize(
    ("story", "step"), [pytest.param(one, step, id=f"{one.page}-{step}") for one in STORIES for step in one.steps]
)


@EACH_STEP
def test_each_step_of_a_migration_changes_fewer_than_15_lines(story: Story, step: int) -> None:
    assert story.changed_lines(step) < 15


@EACH_STEP
def test_each_step_of_a_migration_explains_how_to_go_back(story: Story, step: int) -> None:
    assert "\n**Go back:**" in story.section(step)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.page)
def test_migration_steps_can_be_undone_in_reverse_order(story: Story, tmp_path: Path) -> None:
    sites = story.sites(tmp_path)
    site = shutil.copytree(sites[0], tmp_path / "site")
    for step in story.steps:
        story.apply(site, step)
        assert files(site) == files(sites[step]), step
    for step in reversed(story.steps):
        story.apply(site, step, "-R")
        assert files(site) == files(sites[step - 1]), step


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.page)
def test_migration_guide_has_as_many_go_back_paragraphs_as_diffs(story: Story) -> None:
    assert story.steps == range(1, story.text.count("\n**Go back:**") + 1)
