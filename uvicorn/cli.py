"""The command line `uvicorn module:attribute`, generated from the settings."""

from __future__ import annotations

import importlib
import pickle
import platform
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field
from typing import Any, BinaryIO

import click
from click.core import ParameterSource

from uvicorn import __version__, importer
from uvicorn.errors import ConfigError, StartupError
from uvicorn.keywords import FIELDS
from uvicorn.logging import LOG_LEVELS, reports_in
from uvicorn.other_servers import HTTP_PROTOCOLS, REFUSED, WS_PROTOCOLS
from uvicorn.server import STARTUP_FAILURE
from uvicorn.server.listener import DEFAULT_HOST, DEFAULT_PORT
from uvicorn.server.process_end import ProcessEnd
from uvicorn.serving import serve_as_worker
from uvicorn.settings import ADDRESS, APPLICATION, LIMITS, LOGGING, OTHER, PROCESSES, PROXY, TIMEOUTS, TLS, WEBSOCKETS

_GROUPS = (ADDRESS, APPLICATION, PROCESSES, WEBSOCKETS, LOGGING, TLS, PROXY, TIMEOUTS, LIMITS, OTHER)

# Exit codes that scripts can distinguish from STARTUP_FAILURE: a configuration error, an aborted shutdown.
_USAGE_ERROR, _ABORTED = 2, 1

_ROUTES, _CHECK = "--routes", "--check"


class _Option(click.Option):
    def __init__(self, *names: str, group: str, **attributes: Any) -> None:
        super().__init__(list(names), show_envvar=False, **attributes)
        self.group = group

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        # Ranges such as x>=0 make the help hard to read.
        extra.pop("range", None)
        return extra


class _Command(click.Command):
    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        prog_name = prog_name or "uvicorn"
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        process_end = ProcessEnd() if args is None else None
        with _ended_by(process_end), errors_reported():
            extra.setdefault("obj", process_end)
            status = super().main(args, prog_name, complete_var, False, **extra)
            sys.exit(status if isinstance(status, int) else 0)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        sources = {name: ctx.get_parameter_source(name) for name in ("bind", "host", "port", "uds", "fd")}
        typed = {name for name, source in sources.items() if source is ParameterSource.COMMANDLINE}
        if typed:
            # A host and a port may come from different sources.
            kept = typed | ({"host", "port"} if typed <= {"host", "port"} else set())
            for name in sources.keys() - kept:
                ctx.params[name] = None
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group in _GROUPS:
            records = [
                record
                for option in self.get_params(ctx)
                if isinstance(option, click.Option) and getattr(option, "group", OTHER) == group
                if (record := option.get_help_record(ctx))
            ]
            if records:
                with formatter.section(group):
                    formatter.write_dl(records, col_max=34)


class _Number(click.IntRange):
    name = "number"


def _setting_option(keyword: str, field: Field[Any]) -> _Option:
    name = keyword.replace("_", "-")
    low = field.metadata["low"]
    attributes: dict[str, Any] = {"group": field.metadata["group"], "help": field.metadata["help"]}
    if name == "ws-per-message-deflate":
        # Other servers define this option with a value.
        return _Option(f"--{name}", type=bool, default=True, show_default=True, metavar="BOOLEAN", **attributes)
    if isinstance(field.default, bool):
        return _Option(f"--{name}/--no-{name}", default=field.default, **attributes)
    if "choices" in field.metadata:
        attributes["type"] = click.Choice(field.metadata["choices"])
    elif isinstance(field.default, float):
        attributes.update(type=click.FloatRange(min=low), metavar="SECONDS")
    elif isinstance(field.default, int):
        attributes.update(type=_Number(min=int(low)), metavar="N")
    else:
        attributes["metavar"] = "TEXT"
    # None stands for a default that depends on other options.
    default = None if "with_reload" in field.metadata else field.default
    return _Option(f"--{name}", default=default, show_default=bool(default), **attributes)


def _print_version(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        python = f"{platform.python_implementation()} {platform.python_version()}"
        click.echo(f"Running uvicorn {__version__} with {python} on {platform.system()}")
        ctx.exit()


def _split_headers(ctx: click.Context, option: click.Parameter, values: Sequence[str]) -> list[list[str]]:
    pairs = [value.partition(":") for value in values]
    for value, (name, colon, _) in zip(values, pairs, strict=True):
        if not (name and colon):
            raise click.BadParameter(f"expected NAME:VALUE, got {value!r}", ctx, option)
    return [[name, rest] for name, _, rest in pairs]


def _remember(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    # `Config` has no such keyword.
    if value:
        ctx.meta[option.opts[0]] = value


def _reject(ctx: click.Context, option: click.Parameter, value: object) -> None:
    if value:
        raise click.UsageError(f"unsupported option {option.opts[0]}: {REFUSED[option.name or '']}", ctx)


def _serve(app: str, **options: Any) -> int:
    if options["log_config"] is None:
        # The option was not given; for `Config`, None means: do not configure logging.
        del options["log_config"]
    # The command imports from the current folder by default.
    options["app_dir"] = options["app_dir"] or ""
    asked = click.get_current_context().meta
    if _ROUTES in asked or _CHECK in asked:
        return _print_routes(app, options, _CHECK in asked)
    # Looked up when it is called: programs and their tests replace `run` in that module.
    importlib.import_module("uvicorn.main").run(app, **options)
    return 0


def _print_routes(app: str, options: dict[str, Any], check: bool) -> int:
    # Imported late: a server does not need it.
    from uvicorn.check import report
    from uvicorn.config import Config

    try:
        config = Config(app, **options)
        lines, status = report(config.load_app(), config.settings, repr(app), check=check)
    except ConfigError as error:
        if not check:
            raise
        _print_cause(error)
        lines, status = [str(error)], 1
    for line in lines:
        click.echo(line)
    return status


def work(descriptors: str, payload: BinaryIO) -> None:
    """Run a worker process. `payload` has the pickled configuration."""
    process_end = ProcessEnd()
    with _ended_by(process_end), errors_reported():
        main_script = pickle.load(payload)
        if main_script is not None:
            _run_main_script(main_script)
        try:
            config, target = pickle.load(payload)
        except AttributeError as error:
            raise ConfigError(
                f"workers: a worker process cannot unpickle the configuration: {error}; define the "
                "configuration's classes and functions in an importable module"
            ) from None
        numbers = [int(number) for number in descriptors.split(",")]
        sys.exit(serve_as_worker(config, target, numbers, process_end))


def _run_main_script(preparation: dict[str, Any]) -> None:
    # Imported late: few programs need it.
    from multiprocessing import process, spawn

    # Processes cannot be started meanwhile; multiprocessing raises the error that explains it.
    this_process: Any = process.current_process()
    this_process._inheriting = True
    try:
        # Runs the main script as `__mp_main__`.
        spawn.prepare(preparation)
    finally:
        del this_process._inheriting


command = _Command(
    # The command's name in a click group of another program; by itself the command is named uvicorn.
    "main",
    callback=_serve,
    help="Serve APP, given as MODULE:ATTRIBUTE, such as app:hello_world; MODULE alone means its 'application' or "
    "'app'.\n\nEvery option can also be set by an environment variable: UVICORN_PORT for --port.",
    context_settings={"auto_envvar_prefix": "UVICORN", "max_content_width": 100},
    params=[
        click.Argument(["app"], envvar="UVICORN_APP"),
        _Option(
            "--bind", "-b", group=ADDRESS, multiple=True, metavar="ADDRESS",
            help="Address to listen on: HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N; may be repeated.",
        ),
        _Option("--host", group=ADDRESS, metavar="HOST", help=f"Host name or IP address.  [default: {DEFAULT_HOST}]"),
        _Option(
            "--port", group=ADDRESS, type=_Number(0, 65535), metavar="N",
            help=f"Port; 0 picks a free one.  [default: {DEFAULT_PORT}]",
        ),
        _Option("--uds", group=ADDRESS, metavar="PATH", help="Unix socket to listen on."),
        _Option("--fd", group=ADDRESS, type=_Number(0), metavar="N", help="Inherited socket to listen on."),
        _Option(
            "--app-dir", group=APPLICATION, metavar="FOLDER",
            help="Folder to import APP from.  [default: the current folder]"
        ),
        _Option(
            "--workers", "-w", group=PROCESSES, type=_Number(0), metavar="N",
            help="Number of worker processes.  [default: $WEB_CONCURRENCY, or 1]",
        ),
        _Option("--reload", group=PROCESSES, is_flag=True, help="Restart when a file changes; for development."),
        _Option(
            "--reload-dir", "reload_dirs", group=PROCESSES, multiple=True, metavar="FOLDER",
            type=click.Path(exists=True, file_okay=False),
            help="Folder to watch; may be repeated.  [default: the current folder]",
        ),
        _Option(
            "--reload-include", "reload_includes", group=PROCESSES, multiple=True, metavar="PATTERN",
            help="Files to watch besides *.py; may be repeated.",
        ),
        _Option(
            "--reload-exclude", "reload_excludes", group=PROCESSES, multiple=True, metavar="PATTERN",
            help="Files to ignore besides .*, .py[cod], .sw.*, ~*; may be repeated.",
        ),
        _Option(
            "--reload-delay", group=PROCESSES, type=click.FloatRange(min=0.01), metavar="SECONDS", default=0.25,
            show_default=True, help="Time between two scans for changes.",
        ),
        _Option("--factory", group=APPLICATION, is_flag=True, help="APP is a factory: call it to get the application."),
        _Option(
            _ROUTES, group=APPLICATION, is_flag=True, expose_value=False, allow_from_autoenv=False, callback=_remember,
            help="Print which application serves which path, and exit."
        ),
        _Option(
            _CHECK, group=APPLICATION, is_flag=True, expose_value=False, allow_from_autoenv=False, callback=_remember,
            help="Print the table of --routes and its mistakes, and exit; a mistake makes the exit code 1."
        ),
        _Option(
            "--env-file", group=APPLICATION, metavar="FILE",
            help="File with environment variables to set; needs python-dotenv."
        ),
        _Option(
            "--http", group=OTHER, default="auto", metavar="NAME",
            help=f"No effect, for compatibility: {', '.join(HTTP_PROTOCOLS)}.",
        ),
        _Option(
            "--ws", group=WEBSOCKETS, default="auto", metavar="NAME",
            help="none disables WebSockets; for compatibility also "
            f"{', '.join(name for name in WS_PROTOCOLS if name != 'none')}.",
        ),
        _Option(
            "--reset-contextvars", group=OTHER, is_flag=True,
            help="No effect, for compatibility: every handler has its own context variables.",
        ),
        _Option(
            "--header", "headers", group=OTHER, multiple=True, metavar="NAME:VALUE", callback=_split_headers,
            help="Header field added to every response; may be repeated.",
        ),
        _Option(
            "--log-config", group=LOGGING, metavar="FILE", help="Logging configuration: .json, .yaml or .ini."
        ),
        _Option(
            "--use-colors/--no-use-colors", group=LOGGING, default=None,
            help="Colour log lines.  [default: only on a terminal]",
        ),
        _Option(
            "--h11-max-incomplete-event-size", group=OTHER, type=int, metavar="N",
            help="No effect, for compatibility; see --max-request-line-bytes and --max-header-bytes.",
        ),
        _Option("--http2", group=OTHER, hidden=True, is_flag=True, callback=_reject),
        _Option(
            "--log-level", group=LOGGING, type=click.Choice(LOG_LEVELS, case_sensitive=False),
            help="Minimum level to log.  [default: info]",
        ),
        *map(_setting_option, FIELDS, FIELDS.values()),
        _Option(
            "--version", group=OTHER, is_flag=True, expose_value=False, is_eager=True, allow_from_autoenv=False,
            help="Print the version.",
            callback=_print_version,
        ),
    ],
)  # fmt: skip

#: The command, as the installed script calls it, and as `uvicorn.main`.
main = command


@contextmanager
def _ended_by(process_end: ProcessEnd | None) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if process_end is not None:
            process_end.main_returns(error)
        raise


@contextmanager
def errors_reported() -> Iterator[None]:
    """Print usage, configuration and startup errors, and raise SystemExit."""
    try:
        yield
    except click.UsageError as error:
        _exit_with(_usage_error(error))
    except ConfigError as error:
        _print_cause(error)
        _exit_with(str(error))
    except StartupError as error:
        _exit_with(str(error), STARTUP_FAILURE)
    except click.exceptions.Abort:
        sys.exit(_ABORTED)


def _usage_error(error: click.UsageError) -> str:
    message = error.format_message().rstrip(".")
    if isinstance(error, click.BadParameter) and error.ctx is not None and error.param is not None:
        name = error.param.name or ""
        if error.ctx.get_parameter_source(name) is ParameterSource.ENVIRONMENT:
            message += f", from the environment variable UVICORN_{name.upper()}"
    return message if "--help" in message else f"{message}; see uvicorn --help"


def _exit_with(message: str, status: int = _USAGE_ERROR) -> None:
    click.echo(f"uvicorn: {message}", err=True)
    sys.exit(status)


def _print_cause(error: ConfigError) -> None:
    if error.__cause__ is not None:
        report = traceback.TracebackException.from_exception(error.__cause__)
        hidden = ("<frozen importlib", importer.__file__, importlib.__file__)
        for part in reports_in(report):
            frames = [frame for frame in part.stack if not frame.filename.startswith(hidden)]
            part.stack = traceback.StackSummary.from_list(frames)
        click.echo("".join(report.format()).rstrip(), err=True)
