"""What is logged, where, and how it looks; by the names that logging configurations of today's users refer to.

The formatters know `%(levelprefix)s`, the level and a colon in eight columns; an access line has `%(client_addr)s` too,
`%(request_line)s`, `%(status_code)s`, `%(size)d` (bytes of content), `%(duration).1f` (milliseconds), `%(outcome)s` and
`%(ending)s` (the outcome in parentheses, after a space; empty for a complete response).
"""

from __future__ import annotations

import json
import logging
import logging.config
import os
import sys
import time
import traceback
from copy import copy, deepcopy
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias

import click

from uvicorn.errors import ConfigError
from uvicorn.escape import escaped, escaped_lines
from uvicorn.standard_streams import is_terminal

if TYPE_CHECKING:
    from configparser import RawConfigParser

    LogConfig: TypeAlias = dict[str, Any] | str | os.PathLike[str] | RawConfigParser | IO[str]

TRACE_LOG_LEVEL: Final = 5

#: Names of levels, `trace` being a finer `debug`.
LOG_LEVELS: Final = {"critical": 50, "error": 40, "warning": 30, "info": 20, "debug": 10, "trace": TRACE_LOG_LEVEL}

#: Passed to `logging.config.dictConfig` unless another one is given: everything to stderr, access lines to stdout.
LOGGING_CONFIG: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "default": {"()": "uvicorn.logging.DefaultFormatter", "fmt": "%(asctime)s %(levelname)s %(message)s"},
        "access": {
            "()": "uvicorn.logging.AccessFormatter",
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
        # By this name applications log too, and configurations are changed.
        "uvicorn.error": {"level": "INFO"},
        "uvicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}

_MINUTE: Final = 60.0

# Of an exception's message: a whole report of a validation; what is longer repeats what somebody has sent.
_LONGEST_MESSAGE: Final = 4000

_LEVEL_COLOURS: Final = {
    logging.DEBUG: "cyan",
    logging.INFO: "green",
    logging.WARNING: "yellow",
    logging.ERROR: "red",
    logging.CRITICAL: "bright_red",
}
_STATUS_COLOURS: Final = {1: "bright_white", 2: "green", 3: "yellow", 4: "red", 5: "bright_red"}
_PHRASES: Final = {status.value: f" {status.phrase}" for status in HTTPStatus}


def configure_logging(config: LogConfig | None, use_colors: bool | None) -> None:
    """Set up logging from a dict, from the name of a .json, .yaml or .ini file, or from an open .ini file or a
    ConfigParser that has read one; nothing if `config` is None.

    `use_colors`, unless it is None, is passed on to formatters named `default` and `access`. Raises ConfigError.
    """
    if config is None:
        return
    if isinstance(config, (str, os.PathLike)):
        path = os.fspath(config)
        try:
            if not path.endswith((".json", ".yaml", ".yml")):
                logging.config.fileConfig(path, disable_existing_loggers=False)
                return
            with open(path) as file:
                config = json.load(file) if path.endswith(".json") else _yaml().safe_load(file)
        except OSError as error:
            raise ConfigError(f"log_config: {os.path.abspath(path)!r} cannot be read: {error.strerror}") from None
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                f"log_config: {path!r} is no logging configuration: {type(error).__name__}: {error}; expected .json or "
                ".yaml for logging.config.dictConfig, or .ini for fileConfig"
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
        raise ConfigError(f"log_config: {error}{cause}") from None


def restore_loggers() -> None:
    """Switch our loggers on again if an application has switched all of them off.

    That is what `dictConfig` does to every logger that there is, unless it is told not to; it is hardly meant.
    """
    loggers = [logging.getLogger(name) for name in ("uvicorn.server", "uvicorn.app", "uvicorn.access")]
    if all(logger.disabled for logger in loggers):
        for logger in loggers:
            logger.disabled = False


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise ConfigError("log_config: a .yaml file needs PyYAML; pip install PyYAML, or give .json") from None
    return yaml


class LineHandler(logging.StreamHandler[TextIO]):
    """Says once a minute that nobody takes its lines, as on a full disk, and not with a traceback for each of them."""

    _told = -_MINUTE

    def handleError(self, record: logging.LogRecord) -> None:
        """A line could not be written."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif time.monotonic() - self._told > _MINUTE:
            self._told = time.monotonic()
            logging.getLogger("uvicorn.server").error("log lines are lost: %s", error.strerror)


class ColourizedFormatter(logging.Formatter):
    """Colours on a terminal, none in a pipe or a file, unless `use_colors` says so."""

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
        """Whether what is written to goes to a terminal."""
        return is_terminal(sys.stdout)

    def colored(self, text: str, **style: Any) -> str:
        """`text`, in a colour if colours are wanted."""
        return click.style(text, **style) if self.use_colors else text

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback if there is one.

        Control characters are escaped, line feeds in an exception's message too: only we end lines.
        """
        if record.exc_info:
            # Another formatter's text of the exception may stand there, and ours is not for others.
            record = copy(record)
            record.exc_text = None
        return super().format(record)

    def formatException(self, ei: Any) -> str:
        """The traceback as usual, but for messages: escaped, and cut after 4,000 characters."""
        kind, error, trace = ei
        if error is None:
            return super().formatException(ei)
        shown = traceback.TracebackException(kind, error, trace, compact=True)
        _escape_messages(shown)
        return "".join(shown.format()).removesuffix("\n")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, from a copy of the record: other handlers want it as it was."""
        shown = copy(record)
        shown.message = escaped_lines(record.message)
        self.decorate(shown)
        return super().formatMessage(shown)

    def decorate(self, record: logging.LogRecord) -> None:
        """Set what the format may refer to."""
        level = self.colored(record.levelname, fg=_LEVEL_COLOURS.get(record.levelno))
        record.levelprefix = f"{level}:{' ' * (8 - len(record.levelname))}"
        record.levelname = level + " " * (7 - len(record.levelname))


class DefaultFormatter(ColourizedFormatter):
    """For lines that go to stderr."""

    def should_use_colors(self) -> bool:
        """Whether stderr is a terminal."""
        return is_terminal(sys.stderr)


class AccessFormatter(ColourizedFormatter):
    """For the records of the logger `uvicorn.access`; what else is logged there is its message alone."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, from a copy of the record."""
        if isinstance(record.args, tuple) and len(record.args) == 5:
            return super().formatMessage(record)
        message = escaped_lines(record.message)
        return f"{record.asctime} {message}" if self.usesTime() else message

    def decorate(self, record: logging.LogRecord) -> None:
        """Set what the format may refer to."""
        super().decorate(record)
        assert isinstance(record.args, tuple)
        client, method, target, http_version, status = record.args
        number = int(str(status))
        record.client_addr = _on_one_line(str(client))
        record.request_line = self.colored(_on_one_line(f"{method} {target} HTTP/{http_version}"), bold=True)
        record.status_code = self.colored(f"{number}{_PHRASES.get(number, '')}", fg=_STATUS_COLOURS.get(number // 100))
        for name in ("size", "duration"):
            # Records that somebody else has made have none.
            record.__dict__.setdefault(name, 0)
        outcome = record.__dict__.setdefault("outcome", "complete")
        record.ending = "" if outcome == "complete" else f" ({_on_one_line(str(outcome))})"


def _on_one_line(text: str) -> str:
    # Our own records are: this is for those that somebody else has made.
    return text if text.isprintable() else escaped(text, _LONGEST_MESSAGE)


def _escape_messages(shown: traceback.TracebackException) -> None:
    """Escape what each exception of a chain says. Its frames are the program's own."""
    left, seen = [shown], set[int]()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        for name in ("_str", "msg", "filename"):
            if isinstance(text := getattr(one, name, None), str):
                setattr(one, name, escaped(text, _LONGEST_MESSAGE))
        if isinstance(text := getattr(one, "text", None), str):
            # The line of a SyntaxError.
            one.text = escaped(text.rstrip("\n"), _LONGEST_MESSAGE) + "\n"
        if isinstance(notes := getattr(one, "__notes__", None), list):
            one.__notes__ = [escaped(note, _LONGEST_MESSAGE) for note in notes]
        left += [other for other in (one.__cause__, one.__context__, *(one.exceptions or ())) if other is not None]
