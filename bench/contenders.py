"""How servers are told to serve: the command lines that several benchmarks share."""

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
    """Ours, and the public index's."""
    return ("uvicorn", *_LISTEN, *_QUIET, *options, app)


def public_uvicorn(app: str, parser: str = "httptools") -> tuple[str, ...]:
    """The public index's; `parser` is httptools, which it takes unless told otherwise, or zttp."""
    return uvicorn(app, "--lifespan", "off", "--http", parser)


def granian(interface: str, app: str, *options: str) -> tuple[str, ...]:
    """`interface` is rsgi, asgi, asginl (ASGI without lifespan) or wsgi."""
    how = ("--workers", "1", "--http", "1", "--loop", "uvloop", "--log-level", "warning", "--no-access-log")
    return ("granian", "--interface", interface, *_LISTEN, *how, *options, app)


def gunicorn(worker: str, app: str, *options: str) -> tuple[str, ...]:
    """`worker` is sync, gthread or asgi."""
    how = ("-k", worker, "-w", "1", "-b", HOST + ":{port}", "--no-control-socket", "--log-level", "warning")
    return ("gunicorn", *how, *options, app)


def gthread(app: str) -> tuple[str, ...]:
    """Gunicorn's threads. Keep-alive for longer than a run, so that idle connections are not cut in the middle."""
    return gunicorn("gthread", app, "--threads", THREADS, "--keep-alive", "75")


def waitress(app: str) -> tuple[str, ...]:
    """Connections are limited to 100 by default."""
    listen = (f"--listen={HOST}:{{port}}", f"--threads={THREADS}", "--connection-limit=1000")
    return ("waitress-serve", *listen, app)
