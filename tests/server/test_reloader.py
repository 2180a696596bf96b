"""Which files count for `--reload`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from uvicorn.server.reloader import Selection, _watch_by_events


@pytest.mark.parametrize("name", ["app.py", "package/module.py", "deep/er/still.py"])
def test_reloader_watches_python_files(tmp_path: Path, name: str) -> None:
    assert str(tmp_path / name) in Selection([str(tmp_path)], [], [])


@pytest.mark.parametrize("name", ["page.html", ".hidden.py", "app.pyc", "~app.py"])
def test_reloader_does_not_watch_other_files_in_its_folder(tmp_path: Path, name: str) -> None:
    assert str(tmp_path / name) not in Selection([str(tmp_path)], [], [])


def test_reloader_does_not_watch_files_outside_its_folders(tmp_path: Path) -> None:
    assert str(tmp_path / "app.py") not in Selection([str(tmp_path / "folder")], [], [])


def test_the_reloader_watches_files_that_are_included(tmp_path: Path) -> None:
    assert str(tmp_path / "page.html") in Selection([str(tmp_path)], ["*.html"], [])


def test_the_reloader_ignores_files_that_are_excluded(tmp_path: Path) -> None:
    assert str(tmp_path / "app.py") not in Selection([str(tmp_path)], [], ["app.py"])


def test_excluded_folder_excludes_all_files_in_it(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    assert str(tmp_path / "tests" / "deep" / "app.py") not in Selection([str(tmp_path)], [], [str(tmp_path / "tests")])


def test_included_pattern_replaces_an_equal_default_exclude(tmp_path: Path) -> None:
    assert str(tmp_path / ".env") in Selection([str(tmp_path)], [".*"], [])


def test_excluded_pattern_replaces_an_equal_default_include(tmp_path: Path) -> None:
    assert str(tmp_path / "app.py") not in Selection([str(tmp_path)], [], ["*.py"])


def test_files_created_in_a_new_folder_before_it_is_watched_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event for the folder is all that there is: which files come before the watch is a matter of luck."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "module.py").touch()
    (folder / "page.html").touch()

    def one_event(*folders: Path, watch_filter: Any, **options: Any) -> list[set[tuple[watchfiles.Change, str]]]:
        assert watch_filter(watchfiles.Change.added, str(folder))
        assert not watch_filter(watchfiles.Change.modified, str(folder))
        return [{(watchfiles.Change.added, str(folder))}]

    monkeypatch.setattr(watchfiles, "watch", one_event)
    changed: list[str] = []
    _watch_by_events(Selection([str(tmp_path)], [], []), 0.1, changed.append, threading.Event())
    assert changed == [str(folder / "module.py")]
