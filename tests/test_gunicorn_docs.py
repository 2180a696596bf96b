"""docs/gunicorn.md lists every setting of gunicorn, and whether it is honoured."""

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
def test_every_gunicorn_setting_is_in_the_table_of_docs_gunicorn_md(name: str) -> None:
    assert name in ROWS


@pytest.mark.parametrize("name", sorted(name for name, honoured in ROWS.items() if honoured == "yes"))
def test_a_gunicorn_setting_that_is_documented_as_honoured_is_covered_by_a_test(name: str) -> None:
    assert name in COVERED


def test_gunicorn_settings_documented_as_not_honoured_are_those_that_log_a_warning() -> None:
    assert {name for name, honoured in ROWS.items() if honoured == "no"} == set(gunicorn_settings.NOT_HONOURED)


@pytest.mark.parametrize("name", sorted(gunicorn_settings.NOT_HONOURED))
def test_docs_gunicorn_md_has_the_reason_why_a_setting_is_not_honoured(name: str) -> None:
    assert f"| `{name}` | no | {gunicorn_settings.NOT_HONOURED[name]} |" in DOCUMENT.read_text()
