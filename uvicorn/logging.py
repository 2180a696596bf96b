"""The default logging configuration and its formatters."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from copy import copy, deepcopy
from functools import partial
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias

import click

from uvicorn.errors import ConfigError
from uvicorn.escape import escaped, escaped_lines
from uvicorn.log_limit import LogLimit

if TYPE_CHECKING:
    from configparser import RawConfigParser

    LogConfig: TypeAlias = dict[str, Any] | str | os.PathLike[str] | RawConfigParser | IO[str]

TRACE_LOG_LEVEL: Final = 5

#: Level names; `trace` is more detailed than `debug`.
LOG_LEVELS: Final = {"critical": 50, "error": 40, "warning": 30, "info": 20, "debug": 10, "trace": TRACE_LOG_LEVEL}

#: Passed to `logging.config.dictConfig` unless another one is given: everything to stderr, access lines to stdout.
LOGGING_CONFIG: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "default": {
            "()": "uvicorn.logging.DefaultFormatter",
            "fmt": "%(asctime)s %(levelname)s %(message)s",
            "use_colors": None,
        },
        "access": {
            "()": "uvicorn.logging.AccessFormatter",
            # `size` counts bytes of content. `ending` is ` (outcome)` or empty.
            "fmt": (
                '%(asctime)s %(client_addr)s - "%(request_line)s" %(status_code)s %(size)d %(duration).1fms%(ending)s'
            ),
        },
    },
    "handlers": {
        "default": {"class": "uvicorn.logging.LineHandler", "formatter": "default", "stream": "ext://sys.stderr"},
        "access": {"class": "uvicorn.logging.LineHandler", "formatter": "access", "stream": "ext://sys.stdout"},
    },
    "loggers": {
        "uvicorn": {"handlers": ["default"], "level": "INFO", "propagate": False},
        # Applications log to this name, and existing configurations refer to it.
        "uvicorn.error": {"level": "INFO"},
        "uvicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}

# Characters of an exception's message: room for a validation report; longer ones mostly quote the request.
_LONGEST_MESSAGE: Final = 4000

_PHRASES: Final = {status.value: f" {status.phrase}" for status in HTTPStatus}


def _colouring(colours: Mapping[int, str]) -> dict[int, Callable[[str], str]]:
    return {number: partial(click.style, fg=colour) for number, colour in colours.items()}


def configure_logging(config: LogConfig | None, use_colors: bool | None) -> None:
    """Set up logging from a dict, a file or a ConfigParser. Raises ConfigError."""
    if config is None:
        return
    if isinstance(config, (str, os.PathLike)):
        path = os.fspath(config)
        try:
            if not path.endswith((".json", ".yaml", ".yml")):
                logging.config.fileConfig(path, disable_existing_loggers=False)
                return
            with open(path) as file:
                if path.endswith(".json"):
                    config = json.load(file)
                else:
                    import yaml

                    config = yaml.safe_load(file)
        except ImportError:
            raise ConfigError("log_config: a .yaml file needs PyYAML; pip install PyYAML, or use .json") from None
        except OSError as error:
            raise ConfigError(f"log_config: {os.path.abspath(path)!r} cannot be read: {error.strerror}") from None
        except Exception as error:
            raise ConfigError(
                f"log_config: {path!r} is not a logging configuration ({type(error).__name__}: {error}); "
                "expected a .json or .yaml file for dictConfig, or an .ini file for fileConfig"
            ) from None
    if not isinstance(config, dict):
        try:
            logging.config.fileConfig(config, disable_existing_loggers=False)
        except Exception as error:
            raise ConfigError(
                "log_config: expected a dict, the name of a file, an open .ini file or a ConfigParser, "
                f"got {config!r:.60} ({type(error).__name__}: {error})"
            ) from None
        return
    if use_colors is not None:
        config = deepcopy(config)
        for name in ("default", "access"):
            if "()" in config.get("formatters", {}).get(name, {}):
                config["formatters"][name]["use_colors"] = use_colors
    try:
        logging.config.dictConfig(config)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise ConfigError(f"log_config: dictConfig rejects the configuration: {error}{cause}") from None


def restore_loggers() -> None:
    """If all loggers of this package are disabled, enable them again."""
    # By default `dictConfig` disables all existing loggers, which is rarely intended.
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "uvicorn.app", "uvicorn.access")]
    if all(logger.disabled for logger in loggers):
        for logger in loggers:
            logger.disabled = False


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether `stream` is a terminal."""
    # The parent process may have closed the stream.
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


class LineHandler(logging.StreamHandler[TextIO]):
    """A stream handler that reports write errors at most once a minute."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._failures = LogLimit()

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif self._failures.admits():
            logging.getLogger("uvicorn.error").error("log lines cannot be written and are lost: %s", error.strerror)


class ColourizedFormatter(logging.Formatter):
    """A formatter with colours. If `use_colors` is None, only terminals get colours."""

    #: Functions that colour the name of a level; subclasses may have their own.
    level_name_colors: Mapping[int, Callable[[str], str]] = _colouring(
        {
            TRACE_LOG_LEVEL: "blue",
            logging.DEBUG: "cyan",
            logging.INFO: "green",
            logging.WARNING: "yellow",
            logging.ERROR: "red",
            logging.CRITICAL: "bright_red",
        }
    )

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        use_colors: bool | None = None,
    ) -> None:
        super().__init__(fmt, datefmt, style)
        self.use_colors = self.should_use_colors() if use_colors is None else use_colors

    def should_use_colors(self) -> bool:
        return is_terminal(sys.stdout)

    def colored(self, text: str, **style: Any) -> str:
        return click.style(text, **style) if self.use_colors else text

    def color_level_name(self, level_name: str, level_no: int) -> str:
        """Return `level_name` with the colour of its level."""
        colour = self.level_name_colors.get(level_no)
        return colour(level_name) if colour is not None else level_name

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info:
            # A copy without exc_text, which is a cache that all formatters share.
            record = copy(record)
            record.exc_text = None
        return super().format(record)

    def formatException(self, ei: Any) -> str:
        kind, error, trace = ei
        if error is None:
            return super().formatException(ei)
        shown = traceback.TracebackException(kind, error, trace, compact=True)
        for report in reports_in(shown):
            _escape_messages(report)
        return "".join(shown.format()).removesuffix("\n")

    def formatMessage(self, record: logging.LogRecord) -> str:
        # A copy, because other handlers need the original.
        shown = copy(record)
        shown.message = escaped_lines(record.message)
        self.decorate(shown)
        return super().formatMessage(shown)

    def decorate(self, record: logging.LogRecord) -> None:
        """Set the attributes of `record` that the format uses."""
        level = self.color_level_name(record.levelname, record.levelno) if self.use_colors else record.levelname
        record.levelprefix = f"{level}:{' ' * (8 - len(record.levelname))}"
        record.levelname = level + " " * (7 - len(record.levelname))


class DefaultFormatter(ColourizedFormatter):
    """The formatter for stderr."""

    def should_use_colors(self) -> bool:
        return is_terminal(sys.stderr)


class AccessFormatter(ColourizedFormatter):
    """The formatter for access log lines."""

    #: Functions that colour a status, by its first digit; subclasses may have their own.
    status_code_colours: Mapping[int, Callable[[str], str]] = _colouring(
        {1: "bright_white", 2: "green", 3: "yellow", 4: "red", 5: "bright_red"}
    )

    def get_status_code(self, status_code: int) -> str:
        """Return a status with its phrase, coloured if colours are enabled."""
        text = f"{status_code}{_PHRASES.get(status_code, '')}"
        colour = self.status_code_colours.get(status_code // 100) if self.use_colors else None
        return colour(text) if colour is not None else text

    def formatMessage(self, record: logging.LogRecord) -> str:
        if isinstance(record.args, tuple) and len(record.args) == 5:
            return super().formatMessage(record)
        # The line of another record has only the time and the message.
        message = escaped_lines(record.message)
        return f"{record.asctime} {message}" if self.usesTime() else message

    def decorate(self, record: logging.LogRecord) -> None:
        super().decorate(record)
        assert isinstance(record.args, tuple)
        client, method, target, http_version, status = record.args
        number = int(str(status))
        record.client_addr = _on_one_line(str(client))
        record.request_line = self.colored(_on_one_line(f"{method} {target} HTTP/{http_version}"), bold=True)
        record.status_code = self.get_status_code(number)
        for name in ("size", "duration"):
            # Records of other programs lack these attributes.
            record.__dict__.setdefault(name, 0)
        outcome = record.__dict__.setdefault("outcome", "complete")
        record.ending = "" if outcome == "complete" else f" ({_on_one_line(str(outcome))})"


def _on_one_line(text: str) -> str:
    # Our own records are printable; records of other programs may not be.
    return text if text.isprintable() else escaped(text, _LONGEST_MESSAGE)


def reports_in(report: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    """Yield `report` and the reports of its chained and grouped exceptions."""
    left, seen = [report], set[int]()
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            left += [other for other in (one.__cause__, one.__context__, *(one.exceptions or ())) if other is not None]
            yield one


def _escape_messages(report: traceback.TracebackException) -> None:
    for name in ("_str", "msg", "filename"):
        if isinstance(text := getattr(report, name, None), str):
            setattr(report, name, escaped(text, _LONGEST_MESSAGE))
    if isinstance(text := getattr(report, "text", None), str):
        # The line of a SyntaxError.
        report.text = escaped(text.rstrip("\n"), _LONGEST_MESSAGE) + "\n"
    if isinstance(notes := getattr(report, "__notes__", None), list):
        report.__notes__ = [escaped(note, _LONGEST_MESSAGE) for note in notes]
