"""Which files `--reload` watches, and how long it waits for requests."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import watchfiles

import uvicorn
from tests.helpers import hello
from uvicorn.errors import ConfigError
from uvicorn.server.reloader import Selection, _watch_by_events, _watch_by_looking, reload_folders
from uvicorn.supervisors import ChangeReload


@pytest.mark.parametrize("name", ["app.py", "package/module.py", "deep/er/still.py"])
def test_reloader_watches_python_files(tmp_path: Path, name: str) -> None:
    assert str(tmp_path / name) in Selection([str(tmp_path)], [], [])


@pytest.mark.parametrize("name", ["page.html", ".hidden.py", "app.pyc", "~app.py"])
def test_reloader_ignores_hidden_temporary_compiled_and_non_python_files(tmp_path: Path, name: str) -> None:
    assert str(tmp_path / name) not in Selection([str(tmp_path)], [], [])


def test_reloader_ignores_files_outside_the_watched_folders(tmp_path: Path) -> None:
    assert str(tmp_path / "app.py") not in Selection([str(tmp_path / "folder")], [], [])


def test_reloader_watches_files_that_match_an_include_pattern(tmp_path: Path) -> None:
    assert str(tmp_path / "page.html") in Selection([str(tmp_path)], ["*.html"], [])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("shop/templates/shop/page.html", True), ("templates/mail.txt", True), ("shop/page.html", False)],
)
def test_reloader_of_a_django_site_watches_its_templates(
    name: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "project.settings")
    assert (str(tmp_path / name) in Selection([str(tmp_path)], [], [])) is expected


def test_reloader_of_a_folder_with_manage_py_watches_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    (tmp_path / "manage.py").touch()
    assert str(tmp_path / "templates" / "page.html") in Selection([str(tmp_path)], [], [])


def test_reloader_without_django_settings_ignores_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    assert str(tmp_path / "templates" / "page.html") not in Selection([str(tmp_path)], [], [])


def test_the_reloader_ignores_files_that_are_excluded(tmp_path: Path) -> None:
    assert str(tmp_path / "app.py") not in Selection([str(tmp_path)], [], ["app.py"])


def test_reloader_ignores_all_files_below_an_excluded_folder(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    assert str(tmp_path / "tests" / "deep" / "app.py") not in Selection([str(tmp_path)], [], [str(tmp_path / "tests")])


def test_include_pattern_overrides_the_same_pattern_in_the_default_excludes(tmp_path: Path) -> None:
    assert str(tmp_path / ".env") in Selection([str(tmp_path)], [".*"], [])


def test_exclude_pattern_overrides_the_same_pattern_in_the_default_includes(tmp_path: Path) -> None:
    assert str(tmp_path / "app.py") not in Selection([str(tmp_path)], [], ["*.py"])


def test_reloader_reports_python_files_that_a_new_folder_contains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the folder itself causes an event, because its files may exist before the folder is watched."""
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


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: `app` with `app/pages`, and `lib`."""
    for name in ("app/pages", "lib"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("folders", "includes", "excludes", "watched"),
    [
        ([], [], [], ["."]),
        (["lib"], [], [], ["lib"]),
        (["lib", "lib", "./lib"], [], [], ["lib"]),
        (["lib", "missing"], [], [], ["lib"]),
        (["app", "app/pages", "lib"], [], [], ["app", "lib"]),
        ([], ["lib"], [], ["lib"]),
        ([], ["l*"], [], ["lib"]),
        (["app", "lib"], [], ["lib"], ["app"]),
        (["app/pages", "lib"], [], ["ap*"], ["lib"]),
        (["app"], ["*.html", ".*"], ["*.py"], ["app"]),
    ],
)
def test_reload_folders_have_no_duplicates_and_no_subfolders(
    tree: Path, folders: list[str], includes: list[str], excludes: list[str], watched: list[str]
) -> None:
    assert reload_folders(folders, includes, excludes) == [(tree / name).resolve() for name in watched]


def test_reloader_watches_the_current_folder_if_no_reload_dir_exists(
    tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="uvicorn.error"):
        assert reload_folders(["missing"], [], []) == [tree]
    assert caplog.messages == [
        "Provided reload directories ['missing'] did not contain valid directories, watching current working directory."
    ]


class Steps(threading.Event):
    """A stop event that runs one step before each scan but the first, and then stops."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        super().__init__()
        self._left = list(steps)

    def wait(self, timeout: float | None = None) -> bool:
        if self._left:
            self._left.pop(0)()
            return False
        return True


def test_scan_reports_a_python_file_that_is_created_or_changed_or_removed(tree: Path) -> None:
    module = tree / "app" / "module.py"
    changed: list[str] = []
    steps = Steps(
        lambda: module.write_text("one"),
        lambda: (tree / "page.html").write_text("one"),
        lambda: os.utime(module, (1, 1)),
        module.unlink,
    )
    _watch_by_looking(Selection([str(tree)], [], []), 0.0, changed.append, steps)
    assert changed == [str(module)] * 3


def test_scan_ignores_virtual_environments_and_broken_links(tree: Path) -> None:
    (tree / "venv").mkdir()
    (tree / "venv" / "pyvenv.cfg").touch()
    changed: list[str] = []
    steps = Steps(
        lambda: (tree / "venv" / "module.py").touch(),
        lambda: (tree / "link.py").symlink_to("nowhere"),
    )
    _watch_by_looking(Selection([str(tree)], [], []), 0.0, changed.append, steps)
    assert changed == []


def test_ChangeReload_does_not_change_the_grace_period_if_it_rejects_an_application() -> None:
    config = uvicorn.Config(hello, log_config=None, reload=True)
    with pytest.raises(ConfigError, match="module:attribute"):
        ChangeReload(config).run()
    assert config.timeout_graceful_shutdown == 30
