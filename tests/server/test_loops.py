"""The choice of the event loop, and exits of tasks on it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from uvicorn.errors import ConfigError
from uvicorn.server.loops import loop_factory, run


def loop_module(name: str) -> str:
    """Return the library of the event loop called `name`."""
    found: list[str] = []

    async def main() -> None:
        found.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])

    run(main(), name)
    return found[0]


@pytest.fixture
def without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make importing uvloop fail."""
    monkeypatch.setitem(sys.modules, "uvloop", None)


@pytest.fixture
def with_uvloop() -> None:
    pytest.importorskip("uvloop")


def test_loop_option_asyncio_selects_the_standard_event_loop() -> None:
    assert loop_module("asyncio") == "asyncio"


class OwnLoop(asyncio.SelectorEventLoop):
    """An event loop of the user."""


def test_loop_option_accepts_a_factory_as_module_and_attribute() -> None:
    assert loop_factory(f"{__name__}:OwnLoop") is OwnLoop


@pytest.mark.parametrize("name", ["asyncio:missing", "missing_module:loop", "asyncio:", "uvicorn:__version__"])
def test_unusable_loop_factory_raises_ConfigError(name: str) -> None:
    with pytest.raises(ConfigError, match=f"loop '{name}'"):
        loop_factory(name)


@pytest.mark.usefixtures("with_uvloop")
def test_loop_option_uvloop_selects_the_uvloop_event_loop() -> None:
    assert loop_module("uvloop") == "uvloop"


@pytest.mark.usefixtures("with_uvloop")
def test_loop_option_auto_selects_uvloop_if_uvloop_is_installed() -> None:
    assert loop_module("auto") == "uvloop"


@pytest.mark.usefixtures("without_uvloop")
def test_loop_option_auto_selects_asyncio_if_uvloop_is_not_installed() -> None:
    assert loop_module("auto") == "asyncio"


@pytest.mark.usefixtures("without_uvloop")
def test_missing_uvloop_is_reported_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="install uvloop, or pass --loop asyncio"):
        loop_factory("uvloop")


def test_error_for_an_unknown_loop_option_lists_the_known_names() -> None:
    with pytest.raises(
        ConfigError, match="^loop: expected one of auto, uvloop, asyncio, or 'module:factory', got 'trio'$"
    ):
        loop_factory("trio")


async def test_calling_run_in_a_running_event_loop_raises_RuntimeError() -> None:
    async def main() -> None: ...

    # Without the check, asyncio warns about a coroutine and a task that were never awaited.
    with pytest.raises(RuntimeError, match=r"runs in this thread already; await uvicorn.Server\(.*\).serve\(\)"):
        run(main(), "auto")


@pytest.mark.usefixtures("without_uvloop")
def test_main_coroutine_is_closed_if_the_event_loop_cannot_be_created() -> None:
    ran = False

    async def main() -> None:
        nonlocal ran
        ran = True

    # A coroutine that is dropped without having been closed is a RuntimeWarning, which fails the test.
    with pytest.raises(ConfigError):
        run(main(), "uvloop")
    assert not ran


@pytest.mark.parametrize("name", ["asyncio", "auto"])
def test_exception_of_the_main_coroutine_is_raised_to_the_caller(name: str) -> None:
    async def main() -> None:
        raise LookupError("nothing here")

    with pytest.raises(LookupError, match="nothing here"):
        run(main(), name)


def test_event_loop_is_closed_when_the_main_coroutine_ends() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())

    run(main())
    assert loops[0].is_closed()


@pytest.mark.parametrize("name", ["asyncio", "auto"])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_SystemExit_in_a_task_does_not_end_the_event_loop(name: str, error: BaseException) -> None:
    ended: list[BaseException | None] = []

    async def exiting() -> None:
        raise error

    async def main() -> None:
        # As a server does: a Ctrl-C is a call of its own, and never an exception.
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        task = asyncio.ensure_future(exiting())
        await asyncio.wait((task,))
        ended.append(task.exception())
        loop.remove_signal_handler(signal.SIGINT)

    run(main(), name)
    assert ended == [error]


@pytest.mark.parametrize("name", ["asyncio", "auto"])
def test_SystemExit_of_the_main_coroutine_is_raised_to_the_caller(name: str) -> None:
    async def main() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        run(main(), name)


@pytest.mark.parametrize("name", ["asyncio", "auto"])
def test_ctrl_c_ends_the_event_loop_if_the_program_has_no_handler_for_it(name: str) -> None:
    async def main() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        run(main(), name)
