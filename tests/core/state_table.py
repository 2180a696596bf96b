"""The state tables in the docstrings of `uvicorn.core`, as test cases."""

from __future__ import annotations

import re
from enum import IntEnum
from types import ModuleType

import pytest
from _pytest.mark.structures import ParameterSet


def state_cases(module: ModuleType, states: type[IntEnum]) -> list[ParameterSet]:
    """(state, event, effects, state after) for every cell of the table in the docstring of `module`.

    A cell without a state keeps the state; `-` is an event that never happens.
    """
    lines = [re.split(r"\s{2,}", line.strip()) for line in (module.__doc__ or "").splitlines() if line[:4].isspace()]
    (_, *columns), *rows = lines
    assert columns == [state.name for state in states]
    cases = []
    for event, *cells in rows:
        for column, cell in zip(columns, cells, strict=True):
            *effects, last = cell.split(", ")
            if last not in columns:
                effects.append(last)
            after = states[last] if last in columns else states[column]
            if cell != "-":
                cases.append(pytest.param(states[column], event, effects, after, id=f"{column}-{event}"))
    return cases
