"""`--watch-loop`: the line of the application that blocks the event loop is logged."""

from __future__ import annotations

import asyncio
import bdb
import inspect
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType, FunctionType
from typing import Any, TypeVar

import pytest

import uvicorn
from tests.helpers import hello, until
from uvicorn.errors import ConfigError
from uvicorn.server.loop_watch import MOST_PLACES, LoopWatch, Place, origins_of, place_in

LIMIT = 1.0
PAUSE = 0.6

Function = TypeVar("Function", bound=Callable[..., Any])


def in_file(file: str, function: Function) -> Function:
    """Let `function` seem to come from another file."""
    assert isinstance(function, FunctionType)
    function.__code__ = function.__code__.replace(co_filename=file)
    return function


def of_the_library(function: Function) -> Function:
    return in_file(os.__file__, function)


class Watched:
    """A watch without its thread: each call of `look` is a look of the thread at the caller."""

    def __init__(self, limit: float = LIMIT) -> None:
        self.now = 1.0
        self.watch = LoopWatch(limit, monotonic=lambda: self.now)

    @of_the_library
    def look(self, after: float = PAUSE) -> bool:
        self.now += after
        return self.watch.look()

    async def turn(self, after: float = 0) -> None:
        """Let the event loop run an iteration."""
        self.now += after
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def watched_loop(limit: float = LIMIT) -> Watched:
    watched = Watched(limit)
    begun = asyncio.Event()

    def begin() -> None:
        watched.watch.begin(sys._getframe(1))
        begun.set()

    asyncio.get_running_loop().call_soon(begin)
    await begun.wait()
    return watched


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "uvicorn.error"]


def places(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the functions that are logged."""
    return [line.partition(" in ")[2].partition(": ")[0].partition(", ")[0] for line in lines(caplog)]


def line_of(function: Callable[..., Any], text: str) -> int:
    """Return the number of the line of `function` that has `text`."""
    source, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(source) if text in line)


def block(watched: Watched, looks: int = 3) -> None:
    for _ in range(looks):
        watched.look()


async def handler(watched: Watched) -> None:
    block(watched)


async def test_log_of_a_blocked_event_loop_has_file_and_line_and_handler_and_duration(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = await watched_loop()
    await asyncio.create_task(handler(watched))
    await watched.turn()
    watched.look()
    assert lines(caplog) == [
        f"{__file__}:{line_of(block, 'look()')} in block, called by handler: blocked the event loop for about 1.5 "
        "seconds; run such code in a thread (asyncio.to_thread)"
    ]


async def test_a_blocked_event_loop_is_logged_when_the_block_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    watched = await watched_loop()
    block(watched)
    assert lines(caplog) == []


async def test_function_that_blocks_the_event_loop_twice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    watched = await watched_loop()
    for _ in range(2):
        block(watched)
        await watched.turn()
        watched.look()
        await watched.turn()
    assert places(caplog) == ["block"]


@pytest.mark.parametrize(("seconds", "logged"), [(0.69 * LIMIT, []), (0.71 * LIMIT, ["block"])])
async def test_event_loop_blocked_for_less_than_70_percent_of_the_limit_is_not_logged(
    seconds: float, logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    watched = await watched_loop()
    block(watched, 2)
    await watched.turn(seconds - PAUSE)
    watched.look()
    assert places(caplog) == logged


async def test_logged_duration_includes_the_blocked_time_before_a_late_check(caplog: pytest.LogCaptureFixture) -> None:
    watched = await watched_loop()
    watched.look(1.0)
    await watched.turn(0.51)
    watched.look()
    assert [" for about 1.0 seconds" in line for line in lines(caplog)] == [True]


async def test_busy_event_loop_is_not_logged_if_its_iterations_are_short(caplog: pytest.LogCaptureFixture) -> None:
    watched = await watched_loop()
    for _ in range(100):
        block(watched, 1)
        await watched.turn()
    assert lines(caplog) == []


async def test_event_loop_blocked_for_ten_seconds_is_logged_before_the_block_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = await watched_loop(0.2)
    watched.look(0)
    watched.look(9.9)
    assert lines(caplog) == []
    watched.look(0.2)
    assert ": blocked the event loop for about 10.1 seconds so far; " in lines(caplog)[0]
    await watched.turn()
    watched.look()
    assert len(lines(caplog)) == 1


async def test_loop_watch_logs_the_function_that_blocked_longest_in_an_iteration(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = await watched_loop()
    watched.look()
    block(watched, 2)
    watched.look(1)
    await watched.turn()
    watched.look()
    assert places(caplog) == ["block"]


async def test_c_code_that_blocks_the_event_loop_with_the_interpreter_lock_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # The thread cannot look before the C code has ended; the test takes more than a nanosecond of the CPU.
    watched = await watched_loop(1e-9)
    watched.look(3.01)
    assert [line.partition(": ")[2].partition(";")[0] for line in lines(caplog)] == [
        "blocked the event loop for about 3.0 seconds"
    ]


async def test_suspended_process_is_not_logged_as_a_blocked_event_loop(caplog: pytest.LogCaptureFixture) -> None:
    watched = await watched_loop()
    watched.look(100 * LIMIT)
    await watched.turn()
    watched.look()
    assert lines(caplog) == []


@pytest.mark.parametrize("debugger", [bdb.__file__, "/venv/lib/python3.11/site-packages/debugpy/_vendored/pydevd.py"])
async def test_event_loop_stopped_in_a_debugger_is_not_logged_as_blocked(
    debugger: str, caplog: pytest.LogCaptureFixture
) -> None:
    watched = await watched_loop()
    watched.look()
    in_file(debugger, lambda: block(watched, 10))()
    watched.look(0)
    await watched.turn(0.1 * LIMIT)
    watched.look()
    assert lines(caplog) == []


async def test_loop_watch_ends_after_it_has_logged_100_places_in_the_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = await watched_loop()
    goes_on = True
    for number in range(MOST_PLACES):
        assert goes_on
        FunctionType(block.__code__.replace(co_firstlineno=10 * number + 1), globals())(watched, 3)
        await watched.turn()
        goes_on = watched.look()
    assert not goes_on
    assert len(lines(caplog)) == MOST_PLACES + 1
    assert lines(caplog)[-1] == "watch-loop: no further lines are reported, after 100 different ones"


async def test_idle_event_loop_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    watched = await watched_loop()
    looks: list[bool] = []
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    @of_the_library
    def look_in_a_thread() -> None:
        for _ in range(3):
            watched.now += LIMIT
            looks.append(watched.watch.look())
        loop.call_soon_threadsafe(done.set)

    threading.Thread(target=look_in_a_thread).start()
    await done.wait()
    assert (looks, lines(caplog)) == ([True] * 3, [])


def test_loop_watch_ends_when_the_thread_of_its_event_loop_has_ended() -> None:
    watchers: list[threading.Thread] = []

    async def watch() -> None:
        known = set(threading.enumerate())
        LoopWatch(0.05).start()
        await until(lambda: set(threading.enumerate()) - known)
        watchers.extend(set(threading.enumerate()) - known)

    thread = threading.Thread(target=asyncio.run, args=(watch(),))
    thread.start()
    thread.join()
    watchers[0].join(30)
    assert not watchers[0].is_alive()


def frames(*files: str) -> list[FrameType]:
    """Return frames of functions that call each other, the innermost first. Each is in a file of its own."""
    found: list[FrameType] = []
    scope: dict[str, Any] = {"sys": sys, "found": found}
    for number, file in reversed(list(enumerate(files))):
        body = f"f{number + 1}()" if number + 1 < len(files) else "found.append(sys._getframe())"
        exec(compile(f"def f{number}():\n    {body}", file, "exec"), scope)
    scope["f0"]()
    frame: FrameType | None = found.pop()
    for _ in files:
        assert frame is not None
        found.append(frame)
        frame = frame.f_back
    return found


OURS = uvicorn.__file__
BESIDE_OURS = f"{os.path.dirname(OURS)}_site/app.py"
LIBRARY = asyncio.tasks.__file__
FROZEN = "<frozen importlib._bootstrap>"
DEBIAN = "/usr/lib/python3/dist-packages/site.py"
PACKAGE = "/venv/lib/python3.11/site-packages/shop/client.py"
APP, MODEL = "/srv/app.py", "/srv/models.py"


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ([OURS, APP, LIBRARY], Place("f1", "f1", APP, 2)),
        ([OURS, APP, MODEL, PACKAGE, FROZEN], Place("f1", "f2", MODEL, 2)),
        ([PACKAGE, APP, PACKAGE, LIBRARY], Place("f1", "f1", APP, 2)),
        ([OURS, PACKAGE, PACKAGE, LIBRARY], Place("f1", "f2", PACKAGE, 2)),
        ([OURS, DEBIAN], Place("f1", "f1", DEBIAN, 2)),
        ([OURS, BESIDE_OURS, LIBRARY], Place("f1", "f1", BESIDE_OURS, 2)),
        ([OURS, LIBRARY, FROZEN], None),
        ([], None),
    ],
)  # fmt: skip
def test_logged_place_is_the_innermost_line_of_application_code(files: list[str], place: Place | None) -> None:
    found = frames(*files) if files else []
    assert place_in(found, origins_of(found)) == place


def test_log_line_of_a_blocking_function_names_the_calling_handler() -> None:
    shown = [str(Place("Site.view", function, "/srv/a\nb.py", 7)) for function in ("Site.view", "fetch")]
    assert shown == ["/srv/a\\nb.py:7 in Site.view", "/srv/a\\nb.py:7 in fetch, called by Site.view"]


async def test_server_logs_the_line_of_a_handler_that_blocks_its_event_loop(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Semaphore(0)
    watchers: set[threading.Thread] = set()
    look = LoopWatch.look

    def counted(watch: LoopWatch) -> bool:
        watchers.add(threading.current_thread())
        goes_on = look(watch)
        looked.release()
        return goes_on

    async def blocking_app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        # So many looks take longer than the limit.
        for _ in range(4):
            looked.acquire()
        await hello(message, channels)

    monkeypatch.setattr(LoopWatch, "look", counted)
    server = uvicorn.Server(uvicorn.Config(blocking_app, port=0, log_config=None, watch_loop=0.05))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    await until(lambda: watchers)
    reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    await reader.read()
    writer.close()
    await until(lambda: any("blocked the event loop" in line for line in lines(caplog)))
    server.should_exit = True
    await task
    (watcher,) = watchers
    watcher.join(30)
    line = line_of(blocking_app, "looked.acquire")
    (logged,) = [line for line in lines(caplog) if "blocked the event loop" in line]
    name = blocking_app.__qualname__
    assert (logged.partition(": blocked")[0], watcher.is_alive()) == (f"{__file__}:{line} in {name}", False)


@pytest.mark.parametrize(
    ("options", "seconds"),
    [({}, 0), ({"reload": True}, 0.2), ({"reload": True, "watch_loop": 0.0}, 0), ({"watch_loop": 1}, 1)],
)
def test_reload_option_enables_the_loop_watch_unless_watch_loop_is_given(
    options: dict[str, Any], seconds: float
) -> None:
    config = uvicorn.Config("app:app", log_config=None, **options)
    assert (config.watch_loop, config.settings.watch_loop_seconds) == (seconds, seconds)


def test_watch_loop_option_rejects_a_negative_number() -> None:
    with pytest.raises(ConfigError, match="^watch_loop: expected a number not below 0, got -1"):
        uvicorn.Config("app:app", log_config=None, watch_loop=-1)
