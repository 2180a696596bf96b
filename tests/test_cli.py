"""The command line, but for what takes a process of its own (`tests/e2e/test_command_line.py`)."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, cast

import pytest

import uvicorn
from uvicorn.cli import command, main
from uvicorn.keywords import FIELDS
from uvicorn.server.listener import Address
from uvicorn.settings import (
    ADDRESS,
    APPLICATION,
    LIMITS,
    LOGGING,
    OTHER,
    PROCESSES,
    PROXY,
    TIMEOUTS,
    TLS,
    WEBSOCKETS,
    Limits,
)

# Values of text settings that may not be any text.
_TEXTS = {"metrics": "127.0.0.1:9100", "uds_mode": "640", "loop": "asyncio"}

ALL_FIELDS = list(FIELDS.values())
keyword = {field: name for name, field in FIELDS.items()}.__getitem__
Run = Callable[..., tuple[int, str, str]]

APP = """
async def hello(message, channels):
    await channels["reply"].send({"status": 200, "content": b"hello"})
"""

# Stops the server as Ctrl-C would, as soon as it has started.
STOPPING_APP = """
import signal


class Stopping:
    async def startup(self):
        signal.raise_signal(signal.SIGINT)

    async def __call__(self, message, channels): ...


app = Stopping()
"""

FAILING_APP = """
class Failing:
    async def startup(self):
        raise RuntimeError("no database")

    async def __call__(self, message, channels): ...


app = Failing()
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("UVICORN_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with an application in it; what the command line changes is put back afterwards."""
    (tmp_path / "shop.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.access")]
    kept = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]
    for logger, handlers, level, propagate in kept:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Type `uvicorn` and arguments: exit code, stdout, stderr."""

    def type_command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        output = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, output.out, output.err

    return type_command


def typed(*arguments: str) -> uvicorn.Config:
    """The configuration that arguments lead to."""
    context = command.make_context("uvicorn", ["shop:hello", *arguments])
    return uvicorn.Config(**context.params)


# Exit codes


def test_server_exits_with_code_0_after_an_interrupt(run: Run, folder: Path) -> None:
    (folder / "stopping.py").write_text(STOPPING_APP)
    assert run("stopping", "--port", "0")[0] == 0


def test_server_logs_its_shutdown_after_an_interrupt(run: Run, folder: Path) -> None:
    (folder / "stopping.py").write_text(STOPPING_APP)
    lines = [line.partition(" INFO    ")[2] for line in run("stopping", "--port", "0")[2].splitlines()]
    assert (lines[0], lines[-1]) == tuple(f"{what} server process [{os.getpid()}]" for what in ("Started", "Finished"))
    assert lines[-4:-1] == ["Shutting down", "Waiting for application shutdown.", "Application shutdown complete."]


def test_command_exits_with_code_3_if_the_application_startup_fails(run: Run, folder: Path) -> None:
    (folder / "failing.py").write_text(FAILING_APP)
    assert run("failing", "--port", "0")[0] == 3


def test_failed_application_startup_is_logged_with_its_traceback(run: Run, folder: Path) -> None:
    (folder / "failing.py").write_text(FAILING_APP)
    assert "RuntimeError: no database" in run("failing", "--port", "0")[2]


def test_last_printed_line_reports_a_failed_application_startup(run: Run, folder: Path) -> None:
    (folder / "failing.py").write_text(FAILING_APP)
    assert run("failing", "--port", "0")[2].splitlines()[-1] == ("uvicorn: the application's startup failed, see above")


# Mistakes: one line, exit code 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "Missing argument 'APP'; see uvicorn --help"),
        (("shp:hello",), "did you mean 'shop'?"),
        (("shop:helo",), "did you mean 'hello'?"),
        (("shop",), "has no 'application' or 'app'; it has hello; choose one, as in 'shop:hello'"),
        (("shop:hello", "warehouse:app"), "warehouse:app"),
        (("shop:hello", "--prot", "80"), "'--port'"),
        (("shop:hello", "--port"), "'--port'"),
        (("shop:hello", "--port", "http"), "'http'"),
        (("shop:hello", "--port", "65536"), "65536"),
        (("shop:hello", "--port", "-1"), "-1"),
        (("shop:hello", "--fd", "-1"), "-1"),
        (("shop:hello", "--bind", "127.0.0.1:http"), "expected a number from 0 to 65535"),
        (("shop:hello", "--bind", "::1:80"), "expected HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N"),
        (("shop:hello", "--host", "0.0.0.0", "--bind", ":80"), "more than one kind of address"),
        (("shop:hello", "--uds", "nowhere/web.sock"), "cannot listen on unix:nowhere/web.sock: "),
        (("shop:hello", "--log-level", "loud"), "'critical', 'error', 'warning', 'info', 'debug'"),
        (("shop:hello", "--loop", "trio"), "auto, uvloop, asyncio, or 'module:factory'"),
        (("shop:hello", "--loop", "trio:loop"), "loop 'trio:loop' cannot be imported: "),
        (("shop:hello", "--loop", "asyncio:no_loop"), "loop 'asyncio:no_loop' cannot be imported: "),
        (("shop:hello", "--interface", "rack"), "'channels', 'consumer', 'wsgi', 'asgi3'"),
        (("shop:hello", "--root-path", "api"), "such as '/api'"),
        (("shop:hello", "--access-log=maybe"), "--access-log"),
        (("shop:hello", "--timeout-header", "0"), "0.1"),
        (("shop:hello", "--timeout-keep-alive", "soon"), "'soon'"),
        (("shop:hello", "--max-header-fields", "0"), "0"),
        (("shop:hello", "--app-dir", "nowhere"), "nowhere"),
    ],
)
def test_configuration_error_is_printed_on_one_line(run: Run, arguments: tuple[str, ...], line: str) -> None:
    code, output, errors = run(*arguments)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("uvicorn: ")
    assert line in errors


def test_module_whose_app_and_application_are_of_different_kinds_is_rejected(run: Run, folder: Path) -> None:
    (folder / "both.py").write_text(
        "def application(environ, start_response): ...\nasync def app(message, channels): ...\n"
    )
    code, output, errors = run("both", "--port", "0")
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.endswith("choose 'both:application' or 'both:app'\n")


def test_port_in_use_is_reported_on_one_line(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert run("shop:hello", "--port", str(port)) == (
            2,
            "",
            f"uvicorn: cannot listen on 127.0.0.1:{port}: the address is in use by another program; "
            "stop it, or choose another address with --bind\n",
        )


def test_failed_import_of_a_module_prints_the_traceback_and_one_line(run: Run, folder: Path) -> None:
    (folder / "closed.py").write_text("def open_shop():\n    raise RuntimeError('no stock')\n\nopen_shop()\n")
    code, output, errors = run("closed:hello")
    # Newer interpreters underline the part of a line that failed.
    lines = [line for line in errors.splitlines() if line.strip(" ~^")]
    assert (code, output, lines) == (
        2,
        "",
        [
            "Traceback (most recent call last):",
            f'  File "{folder}/closed.py", line 4, in <module>',
            "    open_shop()",
            f'  File "{folder}/closed.py", line 2, in open_shop',
            "    raise RuntimeError('no stock')",
            "RuntimeError: no stock",
            "uvicorn: cannot import 'closed:hello': module 'closed' fails with RuntimeError: no stock",
        ],
    )


def test_syntax_error_in_the_application_module_is_printed_with_file_and_line(run: Run, folder: Path) -> None:
    (folder / "broken.py").write_text("def open_shop(:\n    pass\n")
    errors = run("broken:hello")[2]
    assert errors.startswith(f'  File "{folder}/broken.py", line 1\n    def open_shop(:\n')


def test_traceback_of_a_failing_module_shows_the_cause_of_the_exception(run: Run, folder: Path) -> None:
    (folder / "closed.py").write_text(
        "try:\n    {}['STOCK_URL']\nexcept KeyError as error:\n    raise RuntimeError('not configured') from error\n"
    )
    assert "KeyError: 'STOCK_URL'" in run("closed:hello")[2]


def test_invalid_environment_variable_is_reported_on_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVICORN_PORT", "http")
    code, output, errors = run("shop:hello")
    assert (code, errors.count("\n"), "'http'" in errors) == (2, 1, True)


def test_error_for_an_invalid_value_names_the_environment_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # What Kubernetes sets for a service that is called uvicorn.
    monkeypatch.setenv("UVICORN_PORT", "tcp://10.0.0.7:8000")
    assert "UVICORN_PORT" in run("shop:hello")[2]


# Options


def _other_value(field: Field[Any]) -> Any:
    """Return a valid value that is not the default."""
    if isinstance(field.default, bool):
        return not field.default
    if isinstance(field.default, str):
        return field.metadata["choices"][-1] if "choices" in field.metadata else _TEXTS.get(field.name, "/mounted")
    return cast(Any, field.default) + 7


def _value_in(config: uvicorn.Config, field: Field[Any]) -> Any:
    owner = config.settings.limits if field in fields(Limits) else config.settings
    return getattr(owner, field.name)


def _options(field: Field[Any]) -> list[str]:
    """Return the arguments that set `field` to its other value."""
    flag, value = "--" + keyword(field).replace("_", "-"), _other_value(field)
    if keyword(field) == "ws_per_message_deflate":
        return [flag, "false"]
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, str(value)]


def test_every_setting_has_a_command_line_option() -> None:
    parsed = {keyword(field): _value_in(typed(*_options(field)), field) for field in ALL_FIELDS}
    assert parsed == {keyword(field): _other_value(field) for field in ALL_FIELDS}


def test_every_setting_has_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = {}
    for field in ALL_FIELDS:
        with monkeypatch.context() as patch:
            patch.setenv("UVICORN_" + keyword(field).upper(), str(_other_value(field)))
            parsed[keyword(field)] = _value_in(typed(), field)
    assert parsed == {keyword(field): _other_value(field) for field in ALL_FIELDS}


@pytest.mark.parametrize(
    ("arguments", "addresses"),
    [
        ((), [Address("127.0.0.1", 8000)]),
        (("--port", "8001"), [Address("127.0.0.1", 8001)]),
        (("--host", "0.0.0.0"), [Address("0.0.0.0", 8000)]),
        (("--uds", "web.sock"), [Address(path="web.sock")]),
        (("--fd", "0"), [Address(descriptor=0)]),
        (("-b", ":8001", "--bind", "unix:web.sock"), [Address("0.0.0.0", 8001), Address(path="web.sock")]),
    ],
)
def test_options_host_and_port_and_uds_and_fd_and_bind_set_the_addresses(
    arguments: tuple[str, ...], addresses: list[Address]
) -> None:
    assert list(typed(*arguments).addresses) == addresses


def test_environment_variable_UVICORN_BIND_may_contain_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVICORN_BIND", "127.0.0.1:8001 unix:web.sock")
    assert list(typed().addresses) == [Address("127.0.0.1", 8001), Address(path="web.sock")]


def test_option_takes_precedence_over_its_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVICORN_PORT", "8001")
    assert list(typed("--port", "8002").addresses) == [Address("127.0.0.1", 8002)]


def test_bind_option_takes_precedence_over_the_port_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVICORN_PORT", "8001")
    assert list(typed("--bind", "127.0.0.1:8002").addresses) == [Address("127.0.0.1", 8002)]


def test_log_level_option_sets_the_level_of_the_uvicorn_logger() -> None:
    typed("--log-level", "debug")
    assert logging.getLogger("uvicorn").level == logging.DEBUG


def test_log_level_option_may_be_in_capitals() -> None:
    typed("--log-level", "DEBUG")
    assert logging.getLogger("uvicorn").level == logging.DEBUG


# What the command line says about itself


def test_version_option_prints_the_versions_of_uvicorn_and_python(run: Run) -> None:
    interpreter = f"{platform.python_implementation()} {platform.python_version()}"
    assert run("--version") == (
        0,
        f"Running uvicorn {uvicorn.__version__} with {interpreter} on {platform.system()}\n",
        "",
    )


def test_installed_package_has_the_version_of_the_source() -> None:
    assert importlib.metadata.version("uvicorn") == uvicorn.__version__, "run: pip install --no-deps -e ."


def test_environment_variable_UVICORN_VERSION_is_ignored(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a container image may well set for its own use.
    monkeypatch.setenv("UVICORN_VERSION", "1.2.3")
    assert "shp" in run("shp:hello")[2]


def test_help_option_exits_with_0(run: Run) -> None:
    assert run("--help")[0] == 0


def test_help_text_has_every_option(run: Run) -> None:
    flags = {"--" + keyword(field).replace("_", "-") for field in ALL_FIELDS}
    flags |= {"--bind", "--host", "--port", "--uds", "--fd", "--app-dir", "--log-level", "--help"}
    assert flags - set(run("--help")[1].replace(",", " ").split()) == set()


def test_help_text_lists_options_in_groups(run: Run) -> None:
    lines = run("--help")[1].splitlines()
    groups = [line.removesuffix(":") for line in lines if line and not line.startswith((" ", "Usage"))]
    assert groups == [ADDRESS, APPLICATION, PROCESSES, WEBSOCKETS, LOGGING, TLS, PROXY, TIMEOUTS, LIMITS, OTHER]


def test_help_text_does_not_list_APP_among_the_options(run: Run) -> None:
    lines = run("--help")[1].splitlines()
    assert [line for line in lines if line.strip() == "APP"] == []


def test_help_text_fits_a_narrow_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, run("--help")[1].splitlines())) <= 80
