"""`uvicorn module:attribute`: the command line, made from the settings."""

from __future__ import annotations

import platform
import sys
import traceback
from collections.abc import Sequence
from dataclasses import Field
from typing import Any

import click

from uvicorn import __version__
from uvicorn.config import LOG_LEVELS, Config, keyword, setting_fields
from uvicorn.errors import ConfigError, StartupError
from uvicorn.server.listener import DEFAULT_HOST, DEFAULT_PORT
from uvicorn.server.loops import run as run_on_loop
from uvicorn.server.server import Server
from uvicorn.settings import ADDRESS, APPLICATION, LIMITS, LOGGING, OTHER, TIMEOUTS

_GROUPS = (ADDRESS, APPLICATION, LOGGING, TIMEOUTS, LIMITS, OTHER)

# What a user can mend, what the application did, and what did not get its time: exit codes that scripts can tell apart.
_USAGE_ERROR, _STARTUP_ERROR, _BROKEN_OFF = 2, 3, 1


class _Option(click.Option):
    """An option that knows its place in --help."""

    def __init__(self, *names: str, group: str, **attributes: Any) -> None:
        super().__init__(list(names), show_envvar=False, **attributes)
        self.group = group


class _Command(click.Command):
    """Prints its options in groups, and complaints in one line."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One section for each group of settings."""
        for group in _GROUPS:
            records = [
                record
                for option in self.get_params(ctx)
                if getattr(option, "group", OTHER) == group and (record := option.get_help_record(ctx))
            ]
            if records:
                with formatter.section(group):
                    formatter.write_dl(records, col_max=34)


def _setting_option(field: Field[Any]) -> _Option:
    name = keyword(field).replace("_", "-")
    low = field.metadata["low"]
    attributes: dict[str, Any] = {"group": field.metadata["group"], "help": field.metadata["help"]}
    if isinstance(field.default, bool):
        return _Option(f"--{name}/--no-{name}", default=field.default, **attributes)
    if "choices" in field.metadata:
        attributes["type"] = click.Choice(field.metadata["choices"])
    elif isinstance(field.default, float):
        attributes.update(type=click.FloatRange(min=low), metavar="SECONDS")
    elif isinstance(field.default, int):
        attributes.update(type=click.IntRange(min=int(low)), metavar="N")
    else:
        attributes["metavar"] = "TEXT"
    return _Option(f"--{name}", default=field.default, show_default=bool(field.default), **attributes)


def _print_version(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"uvicorn {__version__} with {platform.python_implementation()} {platform.python_version()}")
        ctx.exit()


def _serve(app: str, **options: Any) -> None:
    config = Config(app, **options)
    config.configure_logging()
    server = Server(config)
    run_on_loop(server.serve(), config.settings.loop)
    if server.broken_off:
        raise SystemExit(_BROKEN_OFF)


command = _Command(
    "uvicorn",
    callback=_serve,
    help="Serve APP, which is MODULE:ATTRIBUTE, such as app:hello_world; MODULE alone means its 'application' or "
    "'app'.\n\nEvery option can be given as an environment variable too: UVICORN_PORT for --port.",
    context_settings={"auto_envvar_prefix": "UVICORN", "max_content_width": 100},
    params=[
        click.Argument(["app"]),
        _Option(
            "--bind", "-b", group=ADDRESS, multiple=True, metavar="ADDRESS",
            help="HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N; may be repeated.",
        ),
        _Option("--host", group=ADDRESS, metavar="HOST", help=f"Address or name.  [default: {DEFAULT_HOST}]"),
        _Option(
            "--port", group=ADDRESS, type=click.IntRange(0, 65535), metavar="N",
            help=f"Port; 0 means any that is free.  [default: {DEFAULT_PORT}]",
        ),
        _Option("--uds", group=ADDRESS, metavar="PATH", help="Unix socket to listen on."),
        _Option("--fd", group=ADDRESS, type=click.IntRange(0), metavar="N", help="Inherited socket to listen on."),
        _Option(
            "--app-dir", group=APPLICATION, metavar="FOLDER", help="Where to look for APP.  [default: this folder]"
        ),
        _Option(
            "--log-level", group=LOGGING, type=click.Choice(LOG_LEVELS),
            help="Least severe lines to log.  [default: info]",
        ),
        *map(_setting_option, setting_fields()),
        _Option(
            "--version", group=OTHER, is_flag=True, expose_value=False, is_eager=True, help="Print the version.",
            callback=_print_version,
        ),
    ],
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: exits 0 after a graceful stop, 2 with one line on stderr for what the user can mend."""
    try:
        status = command.main(args=arguments, prog_name="uvicorn", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.UsageError as error:
        hint = "" if "--help" in error.format_message() else "; see uvicorn --help"
        _complain(error.format_message().rstrip(".") + hint)
    except ConfigError as error:
        if error.__cause__ is not None:
            _print_cause(error.__cause__)
        _complain(str(error))
    except StartupError as error:
        _complain(str(error), _STARTUP_ERROR)
    except click.exceptions.Abort:
        sys.exit(_BROKEN_OFF)


def _complain(what: str, status: int = _USAGE_ERROR) -> None:
    click.echo(f"uvicorn: {what}", err=True)
    sys.exit(status)


def _print_cause(error: BaseException) -> None:
    """The traceback of an exception in the user's module, from that module on."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((i for i, frame in enumerate(frames) if not _is_machinery(frame.filename)), len(frames))
    lines = traceback.format_list(frames[first:]) + traceback.format_exception_only(error)
    click.echo("".join(lines).rstrip(), err=True)


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename.endswith(
        ("uvicorn/importer.py", "importlib/__init__.py")
    )
