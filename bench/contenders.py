"""The command lines of the servers that several benchmarks share."""

from __future__ import annotations

from environments import Environment
from rounds import HOST

# As many as the targets are stated for; servers' own defaults range from 1 to 100.
THREADS = "8"

_LISTEN = ("--host", HOST, "--port", "{port}")
_QUIET = ("--no-access-log", "--log-level", "warning")

OURS = Environment("ours", "uvicorn", from_checkout=True)
GRANIAN = Environment("granian", "granian", ("granian[uvloop]",))
GRANIAN_FLASK = Environment("granian-flask", "granian", ("granian[uvloop]", "flask"))
# With both of its parsers in C: httptools and zttp.
PUBLIC_UVICORN = Environment("public-uvicorn", "uvicorn", ("uvicorn[standard]", "zttp"))

# WSGI hosts without ours, and ours with both of them.
HOSTS = {
    "gunicorn": Environment("gunicorn-a2wsgi", "gunicorn", ("gunicorn", "a2wsgi")),
    "waitress": Environment("waitress-a2wsgi", "waitress", ("waitress", "a2wsgi", "flask")),
}
OURS_ON_HOSTS = Environment("ours-on-hosts", "uvicorn", ("gunicorn", "waitress"), from_checkout=True)
OURS_FLASK = Environment("ours-flask", "uvicorn", ("flask",), from_checkout=True)


def uvicorn(app: str, *options: str) -> tuple[str, ...]:
    """Return the command of this package, or of the public release in its environment."""
    return ("uvicorn", *_LISTEN, *_QUIET, *options, app)


def public_uvicorn(app: str, parser: str = "httptools") -> tuple[str, ...]:
    """Return the public release's command; `parser` is httptools, its default, or zttp."""
    return uvicorn(app, "--lifespan", "off", "--http", parser)


def granian(interface: str, app: str, *options: str) -> tuple[str, ...]:
    """Return granian's command; `interface` is rsgi, asgi, asginl (ASGI without lifespan) or wsgi."""
    how = ("--workers", "1", "--http", "1", "--loop", "uvloop", "--log-level", "warning", "--no-access-log")
    return ("granian", "--interface", interface, *_LISTEN, *how, *options, app)


def gunicorn(worker: str, app: str, *options: str) -> tuple[str, ...]:
    """Return gunicorn's command; `worker` is sync, gthread or asgi."""
    how = ("-k", worker, "-w", "1", "-b", HOST + ":{port}", "--no-control-socket", "--log-level", "warning")
    return ("gunicorn", *how, *options, app)


def gthread(app: str) -> tuple[str, ...]:
    """Return gunicorn's command with threads. Its keep-alive outlasts a run, so that no idle connection is closed."""
    return gunicorn("gthread", app, "--threads", THREADS, "--keep-alive", "75")


def waitress(app: str) -> tuple[str, ...]:
    """Return waitress's command, with a higher limit than its default of 100 connections."""
    listen = (f"--listen={HOST}:{{port}}", f"--threads={THREADS}", "--connection-limit=1000")
    return ("waitress-serve", *listen, app)
