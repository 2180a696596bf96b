"""Fault cases and their figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from .servers import Server, Workshop

MIB: Final = 1 << 20
Run = Callable[[Workshop], "list[Figure]"]


@dataclass(frozen=True)
class Figure:
    """One value of one run. It must stay below `bar`, or may reach it with `is_reached`."""

    name: str
    value: float
    unit: str
    bar: float
    bar_may_be_met: bool = False
    note: str = ""


@dataclass(frozen=True)
class Case:
    """A fault case. A run that takes longer than `seconds` has failed."""

    name: str
    what: str
    seconds: int
    run: Run


@dataclass
class Row:
    """The values of one figure in all runs; the value of a failed run is infinite."""

    figure: Figure
    values: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of all runs."""
        return statistics.median(self.values)

    @property
    def reached(self) -> bool:
        """Return whether the median meets the bar."""
        bar = self.figure.bar
        return self.median <= bar if self.figure.bar_may_be_met else self.median < bar

    def __str__(self) -> str:
        figure = self.figure
        sign = "<=" if figure.bar_may_be_met else "<"
        values = " ".join(f"{_number(value):>8}" for value in self.values)
        label = f"{figure.name} ({figure.unit})"
        verdict = "reached" if self.reached else "MISSED"
        return (
            f"  {label:<50} {values} | median {_number(self.median):>8} | {sign} {_number(figure.bar):>5} | {verdict}"
        )


CASES: Final[dict[str, Case]] = {}


def case(name: str, what: str, seconds: int) -> Callable[[Run], Run]:
    """Register a function as the case `name`."""

    def enter(run: Run) -> Run:
        CASES[name] = Case(name, what, seconds, run)
        return run

    return enter


def growth(server: Server, bar_mib: float, name: str = "RSS growth", note: str = "") -> Figure:
    """Return the server's peak RSS, less its RSS at `mark_idle`."""
    return Figure(name, server.peak_growth() / MIB, "MiB", bar_mib, note=note)


def _number(value: float) -> str:
    if math.isinf(value):
        return "failed"
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"
