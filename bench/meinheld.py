"""Requests per second under gunicorn: our worker, serving consumers, against Meinheld's, serving WSGI.

It is the comparison of the first README. Needs a Python on which Meinheld still works, which is 3.11.
"""

from __future__ import annotations

import shutil
import sys

from contenders import gunicorn
from environments import CannotRun, Environment
from results import Target, rate_target
from rounds import Contender, both_loads, run_program

_PYTHON = shutil.which("python3.11") or sys.executable

_OURS = Environment("ours-gunicorn", "uvicorn", ("gunicorn",), from_checkout=True, python=_PYTHON)
# 1.0.2 is its last release. It asks for a greenlet that no longer builds, and has assertions that no longer hold.
_MEINHELD = Environment(
    "meinheld",
    "meinheld",
    ("gunicorn", "greenlet", "setuptools", "wheel"),
    without_dependencies=("meinheld==1.0.2",),
    python=_PYTHON,
)

_WORKER = "uvicorn.workers.UvicornWorker"

CONTENDERS = (
    Contender("ours", _OURS, gunicorn(_WORKER, "hello_consumer:on_the_loop"), is_peer=False),
    Contender("ours-threads", _OURS, gunicorn(_WORKER, "hello_consumer:on_a_thread"), is_peer=False),
    Contender("meinheld", _MEINHELD, gunicorn("egg:meinheld#gunicorn_worker", "hello_wsgi:app")),
)


def _targets(least: float) -> tuple[Target, ...]:
    return tuple(rate_target("S9", 200, "meinheld", least, ours) for ours in ("ours", "ours-threads"))


SCENARIOS = both_loads("meinheld", "Under gunicorn", CONTENDERS, _targets(1.0), _targets(1.6))

if __name__ == "__main__":
    try:
        _MEINHELD.make()
    except CannotRun as error:
        print(f"skipped: Meinheld does not work on {_PYTHON}: {error}")
        sys.exit()
    run_program(SCENARIOS, __doc__, [200])
