"""docs/gunicorn.md has all of gunicorn's settings in it, and says of each what is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from gunicorn.config import KNOWN_SETTINGS

from tests.e2e import test_gunicorn, test_gunicorn_logs, test_gunicorn_signals
from tests.e2e.gunicorn_process import COVERED
from uvicorn.workers import gunicorn_settings

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "gunicorn.md"
ROWS: Final = dict(re.findall(r"^\| `(\w+)` \| (yes|no|by gunicorn) \|", DOCUMENT.read_text(), re.MULTILINE))

#: Marks its tests when it is imported.
MODULES: Final = (test_gunicorn, test_gunicorn_logs, test_gunicorn_signals)


@pytest.mark.parametrize("name", sorted({setting.name for setting in KNOWN_SETTINGS}))
def test_every_setting_is_in_the_table(name: str) -> None:
    assert name in ROWS


@pytest.mark.parametrize("name", sorted(name for name, honoured in ROWS.items() if honoured == "yes"))
def test_a_setting_that_is_said_to_be_honoured_is_covered_by_a_test(name: str) -> None:
    assert name in COVERED


def test_settings_that_are_said_not_to_be_honoured_are_those_that_are_warned_of() -> None:
    assert {name for name, honoured in ROWS.items() if honoured == "no"} == set(gunicorn_settings.NOT_HONOURED)


@pytest.mark.parametrize("name", sorted(gunicorn_settings.NOT_HONOURED))
def test_the_table_says_why_a_setting_is_not_honoured(name: str) -> None:
    assert f"| `{name}` | no | {gunicorn_settings.NOT_HONOURED[name]} |" in DOCUMENT.read_text()
