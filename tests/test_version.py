"""The version: the public release whose surface this package carries, and our own label (PEP 440)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import uvicorn

ROOT: Final = Path(uvicorn.__file__).parents[1]
OURS: Final = Version(uvicorn.__version__)


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/from-uvicorn.md"])
def test_documentation_page_mentions_only_the_current_version(page: str) -> None:
    named = re.findall(r"\d+\.\d+\.\d+\+bridge\.\d+", (ROOT / page).read_text())
    assert set(named) == {uvicorn.__version__}


def test_version_is_in_the_normalized_form_of_pep_440() -> None:
    assert str(OURS) == uvicorn.__version__


@pytest.mark.parametrize("requirement", ["", "<1", ">=0.30", ">=0.30,<1", "==0.54.0", "==0.54", "~=0.34", "!=0.53.0"])
def test_version_satisfies_each_requirement_that_the_public_release_satisfies(requirement: str) -> None:
    assert SpecifierSet(requirement).contains(OURS)


@pytest.mark.parametrize("requirement", ["==0.34.3", ">=0.34,<0.35", ">=0.55", ">0.54.0"])
def test_version_fails_each_requirement_that_the_public_release_fails(requirement: str) -> None:
    assert not SpecifierSet(requirement).contains(OURS)


def test_next_public_release_is_newer_than_this_version() -> None:
    assert Version("0.55.0") > OURS > Version("0.54.0")


def test_error_for_an_older_python_names_the_version_that_is_needed() -> None:
    program = "import sys; sys.version_info = (3, 10, 13); import uvicorn"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"ImportError: uvicorn {uvicorn.__version__} needs Python 3.11 or newer" in done.stderr
