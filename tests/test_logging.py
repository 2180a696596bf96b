"""How log lines look, and the files that say so."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest

from uvicorn.errors import ConfigError
from uvicorn.logging import LOGGING_CONFIG, AccessFormatter, DefaultFormatter, configure_logging

LINE = '%s - "%s %s HTTP/%s" %d 5 1.2ms'
ARGUMENTS = ("127.0.0.1:1", "GET", "/tea", "1.1", 404)


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.access", "uvicorn.test")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def record(**attributes: Any) -> logging.LogRecord:
    made = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, LINE, ARGUMENTS, None)
    made.__dict__.update(attributes)
    return made


def test_access_line_contains_client_and_request_and_status_and_size_and_duration() -> None:
    fmt = "%(levelprefix)s|%(client_addr)s|%(request_line)s|%(status_code)s|%(size)d|%(duration).1f"
    line = AccessFormatter(fmt, use_colors=False).format(record(size=5, duration=1.23))
    assert line == "INFO:    |127.0.0.1:1|GET /tea HTTP/1.1|404 Not Found|5|1.2"


def test_access_log_record_without_size_and_duration_is_formatted_with_zeros() -> None:
    assert AccessFormatter("%(size)d %(duration)d", use_colors=False).format(record()) == "0 0"


@pytest.mark.parametrize(
    ("attributes", "ending"),
    [({}, ""), ({"outcome": "complete"}, ""), ({"outcome": "client disconnected"}, " (client disconnected)")],
)
def test_access_line_of_an_incomplete_response_ends_with_the_outcome(attributes: dict[str, str], ending: str) -> None:
    assert AccessFormatter("/tea%(ending)s", use_colors=False).format(record(**attributes)) == "/tea" + ending


def test_default_format_of_an_access_line_ends_with_the_outcome() -> None:
    assert LOGGING_CONFIG["formatters"]["access"]["fmt"].endswith("%(ending)s")


def test_access_formatter_accepts_a_record_that_is_no_access_line() -> None:
    made = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, "tea is %s", ("ready",), None)
    assert AccessFormatter("%(client_addr)s", use_colors=False).format(made) == "tea is ready"


def test_log_lines_are_coloured_on_terminals_only() -> None:
    fmt = "%(levelname)s %(request_line)s"
    assert "\x1b[" in AccessFormatter(fmt, use_colors=True).format(record())
    assert "\x1b[" not in AccessFormatter(fmt).format(record())
    assert "\x1b[" not in DefaultFormatter("%(levelname)s").format(record())


def test_formatter_does_not_change_the_record() -> None:
    made = record()
    AccessFormatter("%(levelname)s", use_colors=True).format(made)
    assert made.levelname == "INFO"


def test_log_levels_are_padded_to_seven_columns() -> None:
    assert DefaultFormatter("%(levelname)s|", use_colors=False).format(record()) == "INFO   |"


def test_formats_in_a_log_config_dict_are_used(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(
        {**LOGGING_CONFIG, "formatters": {name: {"format": "tea %(message)s"} for name in ("default", "access")}}, None
    )
    logging.getLogger("uvicorn.test").warning("x")
    assert capsys.readouterr().err == "tea x\n"


def test_formatter_subclass_may_replace_the_colours_of_levels() -> None:
    class Plain(DefaultFormatter):
        level_name_colors = {logging.INFO: str.lower}

    line = logging.LogRecord("uvicorn", logging.INFO, "", 0, "tea", (), None)
    assert Plain("%(levelprefix)s", use_colors=True).format(line) == "info:    "


def test_name_of_an_unknown_log_level_has_no_colour() -> None:
    assert DefaultFormatter(use_colors=True).color_level_name("LOUD", 33) == "LOUD"


def test_formatter_subclass_may_replace_the_colours_and_text_of_status_codes() -> None:
    class Marked(AccessFormatter):
        status_code_colours = {4: "<{}>".format}

        def get_status_code(self, status_code: int) -> str:
            return "status " + super().get_status_code(status_code)

    assert Marked("%(status_code)s", use_colors=True).format(record()) == "status <404 Not Found>"


def test_use_colors_option_turns_colours_on_in_the_formatters(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LOGGING_CONFIG, True)
    logging.getLogger("uvicorn.test").warning("x")
    assert "\x1b[" in capsys.readouterr().err
    assert LOGGING_CONFIG["formatters"]["default"]["use_colors"] is None


DICT = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"f": {"format": "from a file: %(message)s"}},
    "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
    "loggers": {"uvicorn": {"handlers": ["h"], "level": "INFO", "propagate": False}},
}
INI = """
[loggers]
keys=root,uvicorn
[handlers]
keys=h
[formatters]
keys=f
[logger_root]
handlers=
[logger_uvicorn]
handlers=h
level=INFO
qualname=uvicorn
propagate=0
[handler_h]
class=StreamHandler
formatter=f
args=()
[formatter_f]
format=from a file: %(message)s
"""


@pytest.fixture
def root_as_it_was() -> Iterator[None]:
    """An .ini file says something about the root logger, whether or not it wants to."""
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    root.handlers[:] = before


@pytest.mark.usefixtures("root_as_it_was")
@pytest.mark.parametrize(("name", "text"), [("a.json", json.dumps(DICT)), ("a.yaml", json.dumps(DICT)), ("a.ini", INI)])
def test_log_config_files_are_read(tmp_path: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text(text)
    configure_logging(tmp_path / name, None)
    logging.getLogger("uvicorn.test").warning("tea")
    assert capsys.readouterr().err == "from a file: tea\n"


def parsed(text: str) -> RawConfigParser:
    parser = RawConfigParser()
    parser.read_string(text)
    return parser


@pytest.mark.usefixtures("root_as_it_was")
@pytest.mark.parametrize("opened", [io.StringIO, parsed])
def test_log_config_may_be_an_open_file_or_a_config_parser(
    opened: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(opened(INI), None)
    logging.getLogger("uvicorn.test").warning("tea")
    assert capsys.readouterr().err == "from a file: tea\n"


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.ini"])
def test_invalid_log_config_file_raises_ConfigError(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{]")
    with pytest.raises(ConfigError, match=f"log_config: .*{name}' is not a logging configuration"):
        configure_logging(tmp_path / name, None)


@pytest.mark.parametrize("config", [None, [], 7], ids=repr)
def test_log_config_file_without_a_dict_raises_ConfigError(tmp_path: Path, config: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="log_config: expected a dict, the name of a file, an open .ini file"):
        configure_logging(tmp_path / "a.json", None)


def test_missing_log_config_file_raises_ConfigError(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"log_config: '.*missing.json' cannot be read: No such file"):
        configure_logging(tmp_path / "missing.json", None)


def test_invalid_log_config_dict_raises_ConfigError() -> None:
    with pytest.raises(ConfigError, match="log_config: "):
        configure_logging({"version": 1, "handlers": {"h": {"class": "no.such.Handler"}}}, None)


def test_failure_to_write_log_lines_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LOGGING_CONFIG, None)
    reading, writing = os.pipe()
    os.close(reading)
    access = logging.getLogger("uvicorn.access")
    [handler] = access.handlers
    assert isinstance(handler, logging.StreamHandler)
    with contextlib.suppress(BrokenPipeError), open(writing, "w") as stream:
        handler.setStream(stream)
        for _ in range(3):
            access.info("a line")
    lines = [line[24:] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["ERROR   log lines cannot be written and are lost: Broken pipe"]


# Text from outside


def formatted_failure(fail: Callable[[], object], message: str = "failed") -> str:
    """What the default formatter makes of an exception."""
    try:
        fail()
    except Exception:
        entry = logging.LogRecord("uvicorn.app", logging.ERROR, __file__, 1, message, (), sys.exc_info())
    return DefaultFormatter("%(message)s").format(entry)


def test_control_characters_in_an_exception_message_are_escaped_in_the_log() -> None:
    def fail() -> None:
        raise ValueError("bad\n2026-01-01 ERROR forged\x1b[2J")

    text = formatted_failure(fail)
    assert text.endswith("\nValueError: bad\\n2026-01-01 ERROR forged\\x1b[2J")
    assert "\n    fail()\n" in text


def test_message_of_every_exception_in_a_chain_is_escaped() -> None:
    def fail() -> None:
        try:
            raise KeyError("inner\rx")
        except KeyError as error:
            group = ExceptionGroup("outer\nx", [OSError("member\nx")])
            group.add_note("note\nx")
            raise group from error

    text = formatted_failure(fail)
    for message in ("inner\\rx", "outer\\nx", "OSError: member\\nx", "note\\nx"):
        assert message in text
    assert "\nx" not in text


def test_long_exception_message_is_truncated() -> None:
    def fail() -> None:
        raise ValueError("x" * 1_000_000)

    assert len(formatted_failure(fail)) < 5000


def test_traceback_without_control_characters_has_the_standard_format() -> None:
    def fail() -> None:
        raise ValueError("boom")

    text = formatted_failure(fail)
    try:
        fail()
    except ValueError:
        usual = traceback.format_exc()
    assert text.splitlines()[-3:] == usual.splitlines()[-3:]
    assert text.startswith("failed\nTraceback (most recent call last):\n")


def test_formatter_does_not_change_the_exception_in_a_record() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        entry = logging.LogRecord("uvicorn.app", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    kept = entry.exc_info
    DefaultFormatter("%(message)s").format(entry)
    assert (entry.exc_info, entry.exc_text) == (kept, None)


def test_log_message_keeps_line_feeds_and_escapes_other_control_characters() -> None:
    entry = logging.LogRecord("uvicorn.app", logging.ERROR, __file__, 1, "wsgi.errors: %s", ("a\nb\x1b[2J",), None)
    assert DefaultFormatter("%(message)s").format(entry) == "wsgi.errors: a\nb\\x1b[2J"


def test_source_line_of_a_syntax_error_is_escaped() -> None:
    def fail() -> None:
        compile("a = \x1b[2J", "from\noutside", "exec")

    text = formatted_failure(fail)
    assert "\x1b" not in text
    assert "from\\noutside" in text
