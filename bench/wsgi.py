"""Requests per second of WSGI applications, off the event loop, on eight threads: ours against its peers.

`inline` is our own server calling the application on the event loop's thread, with everything else that it does for
a WSGI application: what remains of its rate is what the threads cost.
"""

from __future__ import annotations

from contenders import GRANIAN_FLASK, HOSTS, OURS_FLASK, THREADS, granian, gthread, uvicorn, waitress
from environments import Environment
from results import rate_target
from rounds import Contender, both_loads, run_program


def _ours(app: str) -> tuple[str, ...]:
    return uvicorn(app, "--threads", THREADS)


def _granian(app: str) -> tuple[str, ...]:
    return granian("wsgi", app, "--blocking-threads", THREADS)


_OURS = Contender("ours", OURS_FLASK, _ours("hello_wsgi:app"), is_peer=False)
_HELLO = (
    _OURS,
    Contender("ours-adapter", OURS_FLASK, _ours("hello_bridge:adapter"), is_peer=False),
    Contender("inline", OURS_FLASK, _ours("hello_inline:app"), is_peer=False),
    Contender("granian", GRANIAN_FLASK, _granian("hello_wsgi:app")),
    Contender("waitress", HOSTS["waitress"], waitress("hello_wsgi:app")),
    Contender("gunicorn-gthread", HOSTS["gunicorn"], gthread("hello_wsgi:app")),
    Contender(
        "uvicorn-a2wsgi",
        Environment("public-uvicorn-a2wsgi", "uvicorn", ("uvicorn[standard]", "a2wsgi")),
        uvicorn("hello_a2wsgi:asgi_app", "--lifespan", "off"),
    ),
)
_MIXED = (
    Contender("ours", OURS_FLASK, _ours("hello_bridge:mixed"), is_peer=False),
    Contender("router", OURS_FLASK, _ours("hello_bridge:routed"), is_peer=False),
    Contender("direct", OURS_FLASK, _ours("hello_wsgi:app"), is_peer=False),
)
_FLASK = (
    Contender("ours", OURS_FLASK, _ours("hello_flask:app"), is_peer=False),
    Contender("granian", GRANIAN_FLASK, _granian("hello_flask:app")),
    Contender("waitress", HOSTS["waitress"], waitress("hello_flask:app")),
)

SCENARIOS = (
    *both_loads(
        "hello",
        "WSGI hello world",
        _HELLO,
        (
            rate_target("S3v", 64, "granian", 0.60),
            rate_target("S3v", 64, "granian", 0.80, is_aim=True),
            rate_target("S3v", 64, "waitress", 5),
        ),
        (
            rate_target("S3", 64, "inline", 0.80),
            rate_target("S3", 64, "inline", 0.80, ours="ours-adapter"),
            rate_target("S3", 64, "granian", 1.0),
            rate_target("S3", 64, "waitress", 7),
            rate_target("S3", 64, "gunicorn-gthread", 10),
            rate_target("S3", 64, "uvicorn-a2wsgi", 15),
        ),
        floor="inline",
    ),
    *both_loads(
        "mixed",
        "WSGI hello world in a mixed site",
        _MIXED,
        (rate_target("S3r", 64, "direct", 0.55), rate_target("S3r", 64, "direct", 0.95, ours="router")),
        (rate_target("S3r", 64, "direct", 0.55), rate_target("S3r", 64, "direct", 0.95, ours="router")),
    ),
    *both_loads(
        "flask",
        "Flask hello world",
        _FLASK,
        (),
        (rate_target("S3", 64, "granian", 1.05), rate_target("S3", 64, "waitress", 3.5)),
    ),
)

if __name__ == "__main__":
    run_program(SCENARIOS, __doc__, [64])
