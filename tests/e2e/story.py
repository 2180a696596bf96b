"""Diffs of a page of docs, applied to a site and taken back; gunicorn with its own workers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.e2e.server_process import ServerProcess, running_server

ROOT: Final = Path(__file__).parents[2]


class Story:
    """A page that changes a site step by step. `example` is the site before the first step, or after the last one."""

    def __init__(self, page: str, example: str, *beside: str, ends_with_example: bool = False) -> None:
        """`beside` are patterns of names in `example` that are not part of the story."""
        self.page = page
        self.text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        self._example = ROOT / "examples" / example
        self._ignore = shutil.ignore_patterns("__pycache__", *beside)
        self._ends_with_example = ends_with_example
        self._diffs: list[str] = re.findall(r"^```diff\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    @property
    def steps(self) -> range:
        """The numbers of the steps, from 1."""
        return range(1, len(self._diffs) + 1)

    def sites(self, folder: Path) -> list[Path]:
        """Make the site before the first step and after each step in `folder`."""
        sites = [folder / str(number) for number in (0, *self.steps)]
        if self._ends_with_example:
            shutil.copytree(self._example, sites[-1], ignore=self._ignore)
            for step in reversed(self.steps):
                self.apply(shutil.copytree(sites[step], sites[step - 1]), step, "-R")
        else:
            shutil.copytree(self._example, sites[0], ignore=self._ignore)
            for step in self.steps:
                self.apply(shutil.copytree(sites[step - 1], sites[step]), step)
        return sites

    def section(self, step: int) -> str:
        """Return the text of a step."""
        (found,) = re.findall(rf"^## {step}\. .*?(?=^## |\Z)", self.text, re.MULTILINE | re.DOTALL)
        return str(found)

    def changed_lines(self, step: int) -> int:
        """Return the number of lines that a step adds and removes, blank lines included, as `git diff --stat` does."""
        command = ["git", "apply", "--numstat", "-"]
        done = subprocess.run(command, input=self._diffs[step - 1], text=True, capture_output=True, check=True)
        return sum(int(count) for line in done.stdout.splitlines() for count in line.split()[:2])

    def apply(self, site: Path, step: int, *options: str) -> None:
        """Apply the diff of a step as a reader does; with `-R` take it back."""
        done = subprocess.run(
            ["git", "apply", "--verbose", *options, "-"],
            cwd=site,
            input=self._diffs[step - 1],
            text=True,
            capture_output=True,
            check=False,
            # Inside a repository git would skip files that it ignores.
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(site.parent)},
        )
        # git also applies a hunk at another line than the one in its header.
        assert done.returncode == 0 and "offset" not in done.stderr, done.stderr


class _Gunicorn(ServerProcess):
    @property
    def port(self) -> int:
        found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", self.stderr)
        assert found is not None, self.stderr
        return int(found.group(1))


@contextmanager
def plain_gunicorn(site: Path, app: str, env: dict[str, str]) -> Iterator[ServerProcess]:
    """Serve by gunicorn with its own workers."""
    arguments, program = (app, "--threads", "4"), ("-m", "gunicorn")
    with running_server(site, *arguments, env=env, program=program, addresses=0, kind=_Gunicorn) as server:
        server.wait_for_line("Booting worker")
        yield server


def files(site: Path) -> dict[str, bytes]:
    """Return path to content, without what Python and a site write."""
    return {
        str(path.relative_to(site)): path.read_bytes()
        for path in site.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }


STORIES: Final = (
    Story("migrating-flask.md", "flask"),
    Story("flask-websockets.md", "flask/sock"),
    Story("migrating-django.md", "django", "README.md", "management", "*.sqlite3", "uploads", ends_with_example=True),
)
