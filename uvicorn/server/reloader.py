"""Restarts one worker when a file changes (`--reload`). The listening socket stays open."""

from __future__ import annotations

import fnmatch
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from uvicorn.server.supervisor import Supervisor
from uvicorn.server.worker_handle import Worker

logger = logging.getLogger("uvicorn.error")

INCLUDED: Final = ("*.py",)
EXCLUDED: Final = (".*", ".py[cod]", ".sw.*", "~*")
# Suffixes of Django's templates, in folders named `templates`.
TEMPLATES: Final = (".html", ".txt")


def reload_folders(folders: Sequence[Any], includes: Sequence[str], excludes: Sequence[str]) -> list[Path]:
    """Return the folders to watch, as absolute paths."""
    watched = {*_resolved(folders), *_folders_among(includes)}
    excluded = _folders_among(excludes)
    watched = {path for path in watched if excluded.isdisjoint((path, *path.parents))}
    watched = {path for path in watched if watched.isdisjoint(path.parents)}
    if folders and not watched:
        logger.warning(
            "Provided reload directories %s did not contain valid directories, watching current working directory.",
            list(map(os.fspath, folders)),
        )
    return sorted(watched) or [Path.cwd()]


def _folders_among(patterns: Sequence[str]) -> set[Path]:
    matches = [path for each in patterns if each and not os.path.isabs(each) for path in Path.cwd().glob(each)]
    return _resolved([*patterns, *(path for path in matches if not path.name.startswith("."))])


def _resolved(folders: Sequence[Any]) -> set[Path]:
    return {Path(folder).resolve() for folder in folders if os.path.isdir(folder)}


class Selection:
    """The files in `folders` that match `includes` but not `excludes`."""

    def __init__(self, folders: Sequence[str | Path], includes: Sequence[str], excludes: Sequence[str]) -> None:
        self.folders = [Path(folder).resolve() for folder in folders or (".",)]
        self._includes = [pattern for pattern in (*INCLUDED, *includes) if pattern not in excludes]
        # As in the public release, the user's `includes` replace equal default `excludes`.
        self._excludes = [*(pattern for pattern in EXCLUDED if pattern not in includes), *excludes]
        # Django keeps templates in memory, with DEBUG too; only its own reloader drops them. Most applications set the
        # variable themselves, so in the worker only.
        has_manage = any((folder / "manage.py").is_file() for folder in self.folders)
        self._includes_templates = has_manage or "DJANGO_SETTINGS_MODULE" in os.environ

    def __contains__(self, name: str) -> bool:
        path = Path(name)
        if not any(path.is_relative_to(folder) for folder in self.folders):
            return False
        is_template = self._includes_templates and "templates" in path.parts and path.suffix in TEMPLATES
        return (is_template or _fits(path, self._includes)) and not _fits(path, self._excludes)


def _fits(path: Path, patterns: Sequence[str]) -> bool:
    for pattern in patterns:
        if fnmatch.fnmatch(path.name, pattern) or path.match(pattern):
            return True
        folder = Path(pattern)
        if folder.is_dir() and path.is_relative_to(folder.resolve()):
            return True
    return False


class Reloader(Supervisor):
    """Restarts one worker after each change of a file."""

    kind = "reloader"
    level = logging.DEBUG

    def __init__(self, *arguments: Any, selection: Selection, interval: float, **more: Any) -> None:
        super().__init__(*arguments, **more)
        # A worker that a debugger has paused must not be killed.
        self._healthcheck_seconds = math.inf
        self._selection = selection
        self._interval = interval
        self._watch = _watch_by_events if find_spec("watchfiles") else _watch_by_looking
        self._watcher_name = "WatchFiles" if self._watch is _watch_by_events else "StatReload"
        self._changes: list[str] = []
        self._broken = False

    def run(self) -> int:
        stop = Event()
        arguments = (self._selection, self._interval, self._changed, stop)
        Thread(target=self._watch, args=arguments, name="reloader", daemon=True).start()
        try:
            return super().run()
        finally:
            stop.set()

    def _log_start(self) -> None:
        logger.info("Started reloader process [%d] using %s", os.getpid(), self._watcher_name)

    def _changed(self, path: str) -> None:
        self._changes.append(path)
        self.wake()

    def _adjust_workers(self) -> None:
        if self._workers or self._stopping:
            return
        if self._broken and not self._changes:
            return
        # The new worker reads all files that have changed until now.
        self._changes.clear()
        self._broken = False
        super()._adjust_workers()

    def _check_workers(self) -> None:
        super()._check_workers()
        for worker in self._workers:
            if self._changes and not worker.stopped:
                logger.warning("%s detected changes in %r. Reloading...", self._watcher_name, _shown(self._changes[0]))
                self._stop(worker)

    def _change_count(self, by: int) -> None:
        logger.warning("ignoring SIGTTIN and SIGTTOU, because --reload uses one worker")

    def _has_ended(self, worker: Worker, status: int) -> None:
        if worker.stopped or self._stopping:
            return
        logger.error("the worker has ended with exit code %d; waiting for a file to change", status)
        self._broken = True


def _shown(path: str) -> str:
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def _watch_by_events(selection: Selection, interval: float, changed: Callable[[str], None], stop: Event) -> None:
    from watchfiles import Change, watch

    steps = watch(
        *selection.folders,
        watch_filter=lambda change, path: path in selection or (change == Change.added and os.path.isdir(path)),
        step=50,
        debounce=round(interval * 1000) or 1,
        stop_event=stop,
        raise_interrupt=False,
    )
    try:
        for changes in steps:
            for _, path in changes:
                if path in selection:
                    changed(path)
                else:
                    # A new folder: files that were added before it was watched have no events.
                    for name in filter(selection.__contains__, map(str, Path(path).rglob("*"))):
                        changed(name)
    except OSError as error:
        # The system limits the number of watched files.
        logger.warning("cannot watch files: %s; scanning all files instead", error)
        _watch_by_looking(selection, interval, changed, stop)


def _watch_by_looking(selection: Selection, interval: float, changed: Callable[[str], None], stop: Event) -> None:
    chosen: dict[str, bool] = {}
    before = dict(_times(selection, chosen))
    while not stop.wait(interval):
        now = dict(_times(selection, chosen))
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                changed(name)
        before = now


def _times(selection: Selection, chosen: dict[str, bool]) -> Iterator[tuple[str, int]]:
    for top in selection.folders:
        for folder, folders, files in os.walk(top):
            # Installed packages: there are thousands, and they change in installations only.
            folders[:] = [name for name in folders if not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))]
            for name in files:
                path = os.path.join(folder, name)
                if path not in chosen:
                    chosen[path] = path in selection
                if chosen[path]:
                    # OSError if it has been removed since, or is a broken link.
                    with suppress(OSError):
                        yield path, os.stat(path).st_mtime_ns
