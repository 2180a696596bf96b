"""`--reload`: one worker, restarted when a file changes.

A library watches the files: watchfiles if it is installed, otherwise werkzeug's reloader, which scans every 0.3
seconds. This module restarts the worker, keeps its socket open meanwhile so that requests wait instead of failing, and
combines changes at about the same time into one restart.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from uvicorn.server.supervisor import Supervisor
from uvicorn.server.worker_handle import Worker

logger = logging.getLogger("uvicorn.error")

INCLUDED: Final = ("*.py",)
EXCLUDED: Final = (".*", ".py[cod]", ".sw.*", "~*")


class Selection:
    """The files to watch: those in `folders` whose name or path matches one of `includes` and none of `excludes`.

    A pattern that is the path of a folder matches all files in it.
    """

    def __init__(self, folders: Sequence[str], includes: Sequence[str], excludes: Sequence[str]) -> None:
        self.folders = [Path(folder).resolve() for folder in folders or (".",)]
        self.includes = includes
        self._includes = [*INCLUDED, *includes]
        # As with today's users' tool: what is included by name is no longer excluded by default.
        self._excludes = [*(pattern for pattern in EXCLUDED if pattern not in includes), *excludes]
        self._includes = [pattern for pattern in self._includes if pattern not in excludes]

    def included(self) -> Iterator[str]:
        """Return the existing files that match `includes` of the user, without the default patterns."""
        for folder in self.folders:
            for pattern in self.includes:
                yield from (str(path) for path in folder.rglob(pattern.removeprefix("/")))

    def __contains__(self, name: str) -> bool:
        path = Path(name)
        if not any(path.is_relative_to(folder) for folder in self.folders):
            return False
        return _fits(path, self._includes) and not _fits(path, self._excludes)


def _fits(path: Path, patterns: Sequence[str]) -> bool:
    for pattern in patterns:
        if fnmatch.fnmatch(path.name, pattern) or path.match(pattern):
            return True
        folder = Path(pattern)
        if folder.is_dir() and path.is_relative_to(folder.resolve()):
            return True
    return False


class Reloader(Supervisor):
    """Restarts its one worker after each change. If a worker cannot start, it waits for the next change."""

    kind = "reloader"

    def __init__(self, *arguments: Any, selection: Selection, interval: float, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._selection = selection
        self._interval = interval
        self._watch = _watcher()
        self._watcher_name = "WatchFiles" if self._watch is _watch_by_events else "StatReload"
        self._changes: list[str] = []
        self._broken = False

    def run(self) -> int:
        """Serve until a stop signal; return the exit code."""
        stop = threading.Event()
        threading.Thread(
            target=self._watch,
            args=(self._selection, self._interval, self._changed, stop),
            name="reloader",
            daemon=True,
        ).start()
        try:
            return super().run()
        finally:
            stop.set()

    def _log_start(self) -> None:
        logger.info("Will watch for changes in these directories: %s", list(map(str, self._selection.folders)))
        logger.info("Started reloader process [%d] using %s", os.getpid(), self._watcher_name)

    def _changed(self, path: str) -> None:
        self._changes.append(path)
        self.wake()

    def _fill_up(self) -> None:
        if self._workers or self._stopping:
            return
        if self._broken and not self._changes:
            return
        # What has changed until now is what the new worker reads.
        self._changes.clear()
        self._broken = False
        super()._fill_up()

    def _look_after(self) -> None:
        super()._look_after()
        for worker in self._workers:
            if self._changes and not worker.stopped:
                logger.warning("%s detected changes in %r. Reloading...", self._watcher_name, _shown(self._changes[0]))
                self._stop(worker)

    def _change_count(self, by: int) -> None:
        logger.warning("--reload uses one worker only")

    def _has_ended(self, worker: Worker, status: int) -> None:
        if worker.stopped or self._stopping:
            return
        logger.error("the worker has ended with exit code %d; waiting for a file to change", status)
        self._broken = True


def _shown(path: str) -> str:
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path


def _watcher() -> Callable[[Selection, float, Callable[[str], None], threading.Event], None]:
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        return _watch_by_looking
    return _watch_by_events


def _watch_by_events(
    selection: Selection, interval: float, changed: Callable[[str], None], stop: threading.Event
) -> None:
    import watchfiles

    steps = watchfiles.watch(
        *selection.folders,
        watch_filter=lambda change, path: (
            path in selection or (change == watchfiles.Change.added and os.path.isdir(path))
        ),
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
                    # A new folder: what was put into it before it was watched has no event of its own.
                    for name in filter(selection.__contains__, map(str, Path(path).rglob("*"))):
                        changed(name)
    except OSError as error:
        # The system may watch so many files and no more.
        logger.warning("cannot watch files: %s; scanning them one by one instead", error)
        _watch_by_looking(selection, interval, changed, stop)


def _watch_by_looking(
    selection: Selection, interval: float, changed: Callable[[str], None], stop: threading.Event
) -> None:
    from werkzeug._reloader import StatReloaderLoop

    class Looking(StatReloaderLoop):
        def run_step(self) -> None:
            if selection.includes:
                self.extra_files = {*map(str, selection.folders), *selection.included()}
            known = set(self.mtimes)
            super().run_step()
            for name in self.mtimes.keys() - known:
                if name in selection:
                    selected.add(name)
                    if known:
                        changed(name)
            # What has been moved away is new when it is moved back.
            for name in [name for name in selected if not os.path.exists(name)]:
                selected.remove(name)
                self.mtimes.pop(name, None)
                changed(name)

        def trigger_reload(self, filename: str) -> None:
            # What it does otherwise is to exit.
            self.mtimes[filename] = os.stat(filename).st_mtime
            if filename in selected:
                changed(filename)

    selected: set[str] = set()
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    for folder in map(str, selection.folders):
        if folder.startswith(tuple(prefixes)):
            logger.warning(
                "changes in %s, which is below Python's own folders, are not seen; install watchfiles", folder
            )
    with Looking(extra_files=map(str, selection.folders)) as loop:
        while not stop.wait(interval):
            try:
                loop.run_step()
            except OSError:
                pass  # A file has gone while it was looked at.
