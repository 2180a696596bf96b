"""The surface of this package beside that of the public release, which is installed in an environment of its own."""

from __future__ import annotations

import importlib
import re
from typing import Any, Final

import pytest

import uvicorn
from tests.public_names import ROWS, Row
from tests.public_release import differences, surface
from tests.public_release.environment import ROOT, public_release

# A line of fewer letters would match every other.
_FEWEST_LETTERS: Final = 4


def same(theirs: Any, ours: Any) -> bool:
    """Whether two values of a keyword that was left out mean the same: 0, "", False and None do."""
    return bool(theirs == ours or not (theirs or ours))


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    return public_release()


def test_Config_defaults_differ_from_the_public_release_only_where_listed(
    theirs: dict[str, Any],
) -> None:
    made = uvicorn.Config("shop:app")
    names = theirs["keywords"].keys() - {"env_file", "log_config"}
    values = {name: (theirs["keywords"][name], getattr(made, name)) for name in names}
    assert {name: pair for name, pair in values.items() if not same(*pair)} == {
        name: row[:2] for name, row in differences.KEYWORDS.items()
    }


def test_flags_differ_from_the_public_release_only_where_listed(theirs: dict[str, Any]) -> None:
    ours = surface.flags()
    found = {
        name: {part for part, value in flag.items() if ours[name][part] != value}
        for name, flag in theirs["flags"].items()
    }
    assert {name: parts for name, parts in found.items() if parts} == {
        name: row[0] for name, row in differences.FLAGS.items()
    }


def test_flag_accepts_every_value_that_the_public_release_accepts(
    theirs: dict[str, Any],
) -> None:
    ours = surface.flags()
    for name in differences.FLAGS:
        for part in ("spellings", "choices"):
            assert set(theirs["flags"][name][part]) <= set(ours[name][part])


def test_every_public_name_that_a_module_defines_can_be_imported(theirs: dict[str, Any]) -> None:
    missing: dict[str, set[str]] = {}
    for module, names in theirs["names"].items():
        if module in ("uvicorn.__main__", "uvicorn._ansi"):
            continue
        found = importlib.import_module(module)
        defined = {name for name in names if not name.startswith(("_", "import "))}
        if lacking := {name for name in defined if not hasattr(found, name)}:
            missing[module] = lacking
    assert missing == {name: set(row) for name, row in differences.NAMES.items() if name != "uvicorn._ansi"}


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.module}-{row.works}" for row in ROWS])
def test_every_name_in_the_compatibility_table_exists_in_the_public_release(row: Row, theirs: dict[str, Any]) -> None:
    names = {name.removeprefix("import ") for name in theirs["names"][row.module]}
    assert set(row.names.split()) - names == set()


def pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, line.split("*"))))


def test_log_lines_differ_from_the_public_release_only_where_listed(theirs: dict[str, Any]) -> None:
    ours = [line for line in surface.lines() if len(re.findall("[A-Za-z]", line)) >= _FEWEST_LETTERS]
    missing = {
        line
        for line in theirs["lines"]
        # Ours may say more, or have a value in place of a word.
        if not any(pattern(line).match(one) or pattern(one).fullmatch(line) for one in ours)
    }
    assert missing == set(differences.LINES)


def test_migration_page_lists_the_differences_from_the_public_release() -> None:
    page = ROOT / "docs" / "from-uvicorn.md"
    assert differences.tables() in page.read_text(), "run: python -m tests.public_release.differences"


def test_log_lines_of_startup_and_shutdown_match_the_public_release(theirs: dict[str, Any]) -> None:
    waited_for = {
        "Started server process [*]",
        "Waiting for application startup.",
        "Application startup complete.",
        "Uvicorn running on * (Press CTRL+C to quit)",
        "Shutting down",
        "Waiting for connections to close. (CTRL+C to force quit)",
        "Waiting for background tasks to complete. (CTRL+C to force quit)",
        "Waiting for application shutdown.",
        "Application shutdown complete.",
        "Finished server process [*]",
        "Started reloader process [*] using *",
        "Will watch for changes in these directories: *",
    }
    assert waited_for - set(theirs["lines"]) == waited_for - set(surface.lines()) == set()
