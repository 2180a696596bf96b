"""What a user says, as settings, addresses and an interface."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest

import uvicorn
from tests.helpers import hello
from uvicorn.errors import ConfigError, ImportFromStringError, InterfaceError
from uvicorn.keywords import FIELDS, build_settings
from uvicorn.server.listener import Address
from uvicorn.settings import Limits, Settings

# Values of text settings that may not be any text.
_TEXTS = {"metrics": "127.0.0.1:9100", "uds_mode": "640", "loop": "asyncio"}

ALL_FIELDS = list(FIELDS.values())
ALL_KEYWORDS = list(FIELDS)
keyword = {field: name for name, field in FIELDS.items()}.__getitem__
NUMBERS = [
    field for field in ALL_FIELDS if isinstance(field.default, (int, float)) and not isinstance(field.default, bool)
]


def complaint(**options: Any) -> str:
    """What is said about `options`, which cannot be used."""
    with pytest.raises(ConfigError) as caught:
        uvicorn.Config(hello, **options)
    return str(caught.value)


def value_of(settings: Settings, field: Field[Any]) -> Any:
    return getattr(settings.limits if field in fields(Limits) else settings, field.name)


def other_value(field: Field[Any]) -> Any:
    """A value that a setting may have, and that is not its default."""
    if isinstance(field.default, bool):
        return not field.default
    if isinstance(field.default, str):
        return field.metadata["choices"][-1] if "choices" in field.metadata else _TEXTS.get(field.name, "/mounted")
    default: Any = field.default
    return default + 7


# Settings


def test_omitted_settings_have_their_defaults() -> None:
    assert build_settings({}) == Settings()


def test_setting_with_the_value_None_gets_its_default_value() -> None:
    assert {name for name in ALL_KEYWORDS if build_settings({name: None}) != Settings()} == set()


def test_every_setting_gets_the_value_that_the_caller_passes() -> None:
    values = {
        keyword(field): value_of(build_settings({keyword(field): other_value(field)}), field) for field in ALL_FIELDS
    }
    assert values == {keyword(field): other_value(field) for field in ALL_FIELDS}


def test_every_setting_accepts_its_default_value() -> None:
    names = {keyword(field) for field in ALL_FIELDS if build_settings({keyword(field): field.default}) != Settings()}
    assert names == set()


def test_every_setting_has_a_different_keyword() -> None:
    assert len(set(ALL_KEYWORDS)) == len(ALL_KEYWORDS)


def test_number_below_the_minimum_of_its_setting_is_rejected() -> None:
    lows = {keyword(field): field.metadata["low"] for field in NUMBERS}
    assert {name: complaint(**{name: low - 1}) for name, low in lows.items()} == {
        name: f"{name}: expected a number not below {low:g}, got {low - 1!r}" for name, low in lows.items()
    }


@pytest.mark.parametrize("value", ["10", True, [], float("nan")])
def test_numeric_setting_rejects_a_value_that_is_not_a_number(value: Any) -> None:
    complaints = {keyword(field): complaint(**{keyword(field): value}) for field in NUMBERS}
    assert {name for name, text in complaints.items() if not text.startswith(f"{name}: expected a number ")} == set()


def test_setting_for_a_count_rejects_a_fraction() -> None:
    assert "backlog: expected a number" in complaint(backlog=2.5)


def test_setting_in_seconds_may_be_an_integer() -> None:
    assert uvicorn.Config(hello, timeout_keep_alive=7).settings.keep_alive_seconds == 7


@pytest.mark.parametrize("value", [1, "yes", "false"])
def test_boolean_setting_rejects_numbers_and_text(value: Any) -> None:
    assert complaint(access_log=value) == f"access_log: expected True or False, got {value!r}"


def test_error_for_an_unknown_choice_lists_the_choices() -> None:
    assert complaint(lifespan="never") == "lifespan: expected one of auto, on, off, got 'never'"


def test_error_for_an_unknown_event_loop_lists_the_known_event_loops() -> None:
    assert complaint(loop="trio") == "loop: expected one of auto, uvloop, asyncio, or 'module:factory', got 'trio'"


def test_text_setting_rejects_a_number() -> None:
    assert complaint(root_path=3) == "root_path: expected text, got 3"


@pytest.mark.parametrize("root_path", ["api", "api/v1"])
def test_error_for_a_malformed_root_path_shows_a_valid_root_path(root_path: str) -> None:
    assert complaint(root_path=root_path).startswith("root_path: expected a path such as '/api'")


def test_error_for_a_misspelled_setting_suggests_the_right_setting() -> None:
    assert complaint(acces_log=False) == "unknown setting 'acces_log'; did you mean 'access_log'?"


def test_error_for_an_unknown_setting_lists_the_settings() -> None:
    assert complaint(zzz=1).startswith("unknown setting 'zzz'; expected one of access_log, app_dir, backlog, bind, ")


# Addresses


def addresses(**options: Any) -> tuple[Address, ...]:
    return uvicorn.Config(hello, **options).addresses


def test_default_address_is_port_8000_of_127_0_0_1() -> None:
    assert addresses() == (Address("127.0.0.1", 8000),)


def test_address_with_only_a_host_has_the_default_port() -> None:
    assert addresses(host="0.0.0.0") == (Address("0.0.0.0", 8000),)


def test_address_with_only_a_port_has_the_default_host() -> None:
    assert addresses(port=0) == (Address("127.0.0.1", 0),)


def test_single_bind_value_gives_one_address() -> None:
    assert addresses(bind="127.0.0.1:8001") == (Address("127.0.0.1", 8001),)


def test_several_bind_values_give_several_addresses() -> None:
    assert addresses(bind=["127.0.0.1:8001", "unix:web.sock"]) == (
        Address("127.0.0.1", 8001),
        Address(path="web.sock"),
    )


def test_empty_bind_option_means_the_default_address() -> None:
    assert addresses(bind=()) == (Address("127.0.0.1", 8000),)


def test_keyword_uds_gives_the_address_of_a_unix_socket() -> None:
    assert addresses(uds="web.sock") == (Address(path="web.sock"),)


def test_keyword_fd_gives_the_address_of_an_open_descriptor() -> None:
    assert addresses(fd=0) == (Address(descriptor=0),)


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ({"host": "0.0.0.0", "port": 80, "uds": "web.sock"}, Address(path="web.sock")),
        ({"host": "0.0.0.0", "port": 80, "fd": 3}, Address(descriptor=3)),
        ({"uds": "web.sock", "fd": 3}, Address(descriptor=3)),
    ],
)
def test_fd_option_overrides_uds_and_uds_overrides_host_and_port(options: dict[str, Any], address: Address) -> None:
    assert addresses(**options) == (address,)


@pytest.mark.parametrize(
    "options",
    [
        {"port": 8001, "bind": ":8002"},
        {"uds": "web.sock", "bind": ":8002"},
        {"fd": 3, "bind": ":8002"},
    ],
)
def test_bind_combined_with_port_or_uds_or_fd_is_rejected(options: dict[str, Any]) -> None:
    assert complaint(**options).startswith("more than one kind of address: expected only one of ")


def test_port_may_be_given_as_text() -> None:
    made = uvicorn.Config(hello, port="8001", log_config=None)  # type: ignore[arg-type]
    assert (made.port, made.addresses) == (8001, (Address(port=8001),))


def test_host_that_is_not_text_is_rejected() -> None:
    assert complaint(host=5) == "host: expected a name or an IP address as text, got 5"


@pytest.mark.parametrize("port", [-1, 65536, "80a", "", "-1", True, 80.0])
def test_invalid_port_is_rejected(port: Any) -> None:
    assert complaint(port=port) == f"port: expected a number from 0 to 65535, got {port!r}"


@pytest.mark.parametrize("options", [{"uds": ""}, {"bind": ""}, {"fd": -1}])
def test_empty_address_is_rejected(options: dict[str, Any]) -> None:
    assert complaint(**options)


def test_config_opens_a_socket_for_each_address(tmp_path: Path) -> None:
    config = uvicorn.Config(hello, port=0)
    [sock] = config.open_sockets()
    with sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


# The application


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a module `shop` in it; imported modules are forgotten afterwards."""
    (tmp_path / "shop.py").write_text("async def serve(message, channels): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_config_load_keeps_the_application_object_unchanged() -> None:
    assert uvicorn.Config(hello).load().app is hello


@pytest.mark.usefixtures("folder")
def test_application_is_imported_from_the_current_folder_by_default() -> None:
    assert uvicorn.Config("shop:serve").load().name == "channels"


def test_application_is_imported_from_app_dir(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert uvicorn.Config("shop:serve", app_dir=str(folder)).load().name == "channels"


def test_relative_app_dir_becomes_an_absolute_path_at_the_start_of_sys_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    uvicorn.Config("shop:serve", app_dir=folder.name).load()
    assert sys.path[0] == str(folder)


def test_current_folder_is_appended_to_sys_path_if_app_dir_is_not_set(folder: Path) -> None:
    uvicorn.Config("shop:serve").load()
    assert sys.path[-1] == str(folder)


def test_deleted_current_folder_is_reported_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="the current folder has been deleted; .* pass --app-dir"):
        uvicorn.Config("shop:serve").load()


@pytest.mark.usefixtures("folder")
def test_second_load_of_a_config_does_not_change_sys_path() -> None:
    config = uvicorn.Config("shop:serve")
    config.load()
    before = len(sys.path)
    config.load()
    assert len(sys.path) == before


@pytest.mark.usefixtures("folder")
def test_application_is_not_imported_before_config_load() -> None:
    uvicorn.Config("shop:serve")
    assert "shop" not in sys.modules


@pytest.mark.usefixtures("folder")
def test_error_for_a_misspelled_application_suggests_the_right_name() -> None:
    with pytest.raises(ImportFromStringError, match="did you mean 'serve'?"):
        uvicorn.Config("shop:sreve").load()


@pytest.mark.usefixtures("folder")
def test_error_for_an_unknown_interface_names_the_application() -> None:
    Path("mill.py").write_text("def grind(): ...\n")
    with pytest.raises(InterfaceError, match="'mill:grind'"):
        uvicorn.Config("mill:grind").load()


def test_interface_that_a_config_loads_has_the_settings_of_the_config() -> None:
    config = uvicorn.Config(hello, root_path="/shop")
    assert config.load().settings.root_path == "/shop"


# Logging


def test_default_log_config_logs_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    uvicorn.Config(hello).configure_logging()
    logging.getLogger("uvicorn.error").info("listening")
    assert capsys.readouterr().err.endswith(" INFO    listening\n")


def test_default_log_config_writes_access_lines_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    uvicorn.Config(hello).configure_logging()
    logging.getLogger("uvicorn.access").info("a line")
    output = capsys.readouterr()
    assert (output.out[-7:], output.err) == ("a line\n", "")


@pytest.mark.parametrize("level", ["warning", "WARNING", logging.WARNING])
def test_lines_below_the_log_level_are_not_logged(level: str | int, capsys: pytest.CaptureFixture[str]) -> None:
    uvicorn.Config(hello, log_level=level).configure_logging()
    for name in ("uvicorn.error", "uvicorn.app", "uvicorn.access"):
        logging.getLogger(name).info("hidden")
        logging.getLogger(name).warning("shown")
    output = capsys.readouterr()
    assert (output.out + output.err).count("shown") == 3
    assert "hidden" not in output.out + output.err


def test_debug_lines_are_not_logged_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    uvicorn.Config(hello).configure_logging()
    logging.getLogger("uvicorn.error").debug("hidden")
    assert capsys.readouterr().err == ""


def test_error_for_an_unknown_log_level_lists_the_levels() -> None:
    expected = "log level: expected one of critical, error, warning, info, debug, trace, got 'loud'"
    assert complaint(log_level="loud") == expected


def test_log_config_of_None_leaves_logging_unchanged() -> None:
    before = logging.getLogger("uvicorn").handlers[:]
    uvicorn.Config(hello, log_config=None).configure_logging()
    assert logging.getLogger("uvicorn").handlers == before


def test_default_log_config_does_not_disable_application_loggers(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("shop")
    uvicorn.Config(hello).configure_logging()
    assert not logger.disabled


OURS = ["uvicorn.error", "uvicorn.app", "uvicorn.access"]


@pytest.fixture
def switched_off() -> Iterator[Callable[..., Any]]:
    """Makes a factory of an application that switches these loggers off."""

    def factory(*names: str) -> Callable[[], Any]:
        def make() -> Any:
            for name in names:
                logging.getLogger(name).disabled = True
            return hello

        return make

    yield factory
    for name in OURS:
        logging.getLogger(name).disabled = False


def test_logging_configuration_of_the_application_does_not_disable_uvicorn_loggers(
    switched_off: Callable[..., Any],
) -> None:
    # `logging.config.dictConfig` does that to all loggers that there are, unless it is told not to.
    uvicorn.Config(switched_off(*OURS), factory=True).load()
    assert [name for name in OURS if logging.getLogger(name).disabled] == []


def test_application_may_disable_a_single_uvicorn_logger(switched_off: Callable[..., Any]) -> None:
    uvicorn.Config(switched_off("uvicorn.access"), factory=True).load()
    assert [name for name in OURS if logging.getLogger(name).disabled] == ["uvicorn.access"]


def test_disabled_uvicorn_loggers_stay_disabled_if_log_config_is_None(
    switched_off: Callable[..., Any],
) -> None:
    uvicorn.Config(switched_off(*OURS), factory=True, log_config=None).load()
    assert [name for name in OURS if logging.getLogger(name).disabled] == OURS


# What users read from it


def test_config_host_and_port_are_the_values_that_the_caller_passes() -> None:
    config = uvicorn.Config(hello, host="localhost", port=9000)
    assert (config.host, config.port, config.is_ssl) == ("localhost", 9000, False)


def test_config_host_and_port_have_default_values_with_a_unix_socket() -> None:
    config = uvicorn.Config(hello, uds="app.sock")
    assert (config.host, config.port) == ("127.0.0.1", 8000)


def test_config_with_a_certificate_serves_https() -> None:
    assert uvicorn.Config(hello, ssl_certfile="chain.pem").is_ssl


@pytest.mark.parametrize("delay", [0, -1, float("nan"), True, "1"])
def test_invalid_reload_delay_is_rejected(delay: Any) -> None:
    assert "reload_delay: expected a number of seconds above 0" in complaint(reload=True, reload_delay=delay)
