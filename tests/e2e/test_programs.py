"""Programs that start this package by themselves, as their users start, use and stop them.

`scripts/programs` tries more of them, each in an environment of its own, and compares with the public release.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.program_table import PROGRAMS
from tests.e2e.programs import Program, clean, try_program
from tests.e2e.server_process import environment

#: Those that start quickly and that need no more packages than other tests.
QUICK: Final = {"fastapi run", "fastapi dev", "litestar run", "gunicorn, uvicorn-worker"}


@pytest.mark.parametrize("program", [program for program in PROGRAMS if program.name in QUICK], ids=lambda it: it.name)
def test_program_built_on_uvicorn_exits_with_0_after_ctrl_c(program: Program, tmp_path: Path) -> None:
    outcome = try_program(program, Path(sys.executable).parent, tmp_path, clean(environment()))
    assert outcome.fault == "" and "Traceback" not in outcome.text, outcome.text
    assert (outcome.exit_code, outcome.left_processes) == (0, False), outcome.text
