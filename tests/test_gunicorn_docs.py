"""docs/gunicorn.md lists every setting of gunicorn, and whether it is honoured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from gunicorn.config import KNOWN_SETTINGS

from tests.e2e import test_gunicorn, test_gunicorn_logs, test_gunicorn_signals
from tests.e2e.gunicorn_process import COVERED
from uvicorn.workers import gunicorn_settings

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "gunicorn.md"
ROWS: Final = dict(re.findall(r"^\| `(\w+)` \| (yes|no|by gunicorn) \|", DOCUMENT.read_text(), re.MULTILINE))

#: Marks its tests when it is imported.
MODULES: Final = (test_gunicorn, test_gunicorn_logs, test_gunicorn_signals)


def test_every_gunicorn_setting_has_a_row_on_the_gunicorn_page() -> None:
    assert {setting.name for setting in KNOWN_SETTINGS} - set(ROWS) == set()


def test_every_gunicorn_setting_that_the_docs_call_honoured_has_a_test() -> None:
    assert {name for name, honoured in ROWS.items() if honoured == "yes"} - set(COVERED) == set()


def test_gunicorn_settings_that_cause_a_warning_are_documented_as_ignored() -> None:
    assert {name for name, honoured in ROWS.items() if honoured == "no"} == set(gunicorn_settings.IGNORED)


def test_gunicorn_page_has_a_reason_for_each_ignored_setting() -> None:
    rows = {f"| `{name}` | no | {reason} |" for name, reason in gunicorn_settings.IGNORED.items()}
    text = DOCUMENT.read_text()
    assert {row for row in rows if row not in text} == set()
