"""Requests per second of an async hello world on WSGI hosts: through our `WSGIAdapter`, and through a2wsgi's.

`plain` is a WSGI hello world on the same host. gunicorn's sync worker closes each connection, so that a good part of
its time goes into new ones.
"""

from __future__ import annotations

from contenders import HOSTS, OURS_ON_HOSTS, gthread, gunicorn, waitress
from environments import Environment
from results import rate_target
from rounds import Contender, Scenario, both_loads, run_program


def _scenarios(
    name: str, title: str, environment: Environment, commands: list[tuple[str, ...]]
) -> tuple[Scenario, Scenario]:
    """Return scenarios for three applications on one host: plain, ours and a2wsgi's, with `commands` in this order."""
    plain, ours, a2wsgi = commands
    contenders = (
        Contender("ours", OURS_ON_HOSTS, ours, is_peer=False),
        Contender("plain", environment, plain, is_peer=False),
        Contender("a2wsgi", environment, a2wsgi),
    )
    targets = (rate_target("S4", 64, "plain", 0.80), rate_target("S4", 64, "a2wsgi", 1.8))
    return both_loads(name, f"Async hello world on {title}", contenders, targets, targets, floor="plain")


_APPS = ("hello_wsgi:app", "hello_bridge:wsgi_app", "hello_a2wsgi:wsgi_app")

SCENARIOS = (
    *_scenarios("sync", "gunicorn sync", HOSTS["gunicorn"], [gunicorn("sync", app) for app in _APPS]),
    *_scenarios("gthread", "gunicorn gthread", HOSTS["gunicorn"], [gthread(app) for app in _APPS]),
    *_scenarios("waitress", "waitress", HOSTS["waitress"], [waitress(app) for app in _APPS]),
)

if __name__ == "__main__":
    run_program(SCENARIOS, __doc__, [64])
