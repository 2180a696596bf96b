"""The tests of docs/testing.md pass, as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

# The tests of the page need both.
import django  # noqa: F401
import pytest
import starlette  # noqa: F401

from tests.test_docs import DOCS, blocks

FILES: Final = {
    found[1]: code for code in blocks(DOCS / "testing.md", "python") if (found := re.match(r"# (\w+\.py)\n", code))
}


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.startswith("test_")))
def test_tests_on_the_testing_page_pass(name: str, tmp_path: Path) -> None:
    for file, code in FILES.items():
        (tmp_path / file).write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert f"{FILES[name].count('def test_')} passed" in done.stdout


def test_django_example_passes_the_tests_shown_on_the_testing_page(tmp_path: Path) -> None:
    site = shutil.copytree(DOCS.parent / "examples" / "django", tmp_path / "site")
    (site / "guestbook" / "tests.py").write_text(FILES["tests.py"])
    command = [sys.executable, "manage.py", "test"]
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "project.settings", "UVICORN_BROADCAST_URL": "memory://"}
    done = subprocess.run(command, cwd=site, env=environ, capture_output=True, text=True)
    assert (done.returncode, "Ran 3 tests" in done.stderr) == (0, True), done.stderr
