"""Results of rounds: medians, ratios of each round, tables, and verdicts about targets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from load import DISTURBED, Load


class Results:
    """The loads of each contender, one for each round, at one number of connections."""

    def __init__(self) -> None:
        self.loads: dict[str, list[Load]] = {}
        self.failures: dict[str, str] = {}

    def median(self, name: str, figure: Callable[[Load], float]) -> float | None:
        """Return the median of a figure, or None if it was not measured."""
        loads = self.loads.get(name)
        return statistics.median(map(figure, loads)) if loads else None

    def ratio(self, name: str, other: str) -> float | None:
        """Return the median of the ratios of two contenders' rates in each round."""
        return self._ratio(name, other, lambda one, two: one.requests_per_second / two.requests_per_second)

    def cpu_ratio(self, name: str, other: str) -> float | None:
        """Return the median ratio of the requests per second of the server's CPU time."""
        return self._ratio(name, other, lambda one, two: two.cpu_microseconds / (one.cpu_microseconds or float("inf")))

    def ratio_to_best(self, name: str, others: Sequence[str]) -> float | None:
        """Return the smallest of the ratios to several others; None if none of them has run."""
        ratios = [ratio for other in others if (ratio := self.ratio(name, other)) is not None]
        return min(ratios, default=None)

    def p99(self, name: str) -> float | None:
        """Return the 99th percentile of the latency, in milliseconds."""
        return self.median(name, lambda load: load.p99_milliseconds)

    def mib(self, name: str) -> float | None:
        """Return the resident memory under load."""
        return self.median(name, lambda load: load.server_mib) or None

    def new_clients(self, name: str) -> float | None:
        """Return the longest wait of a new client, in milliseconds."""
        return self.median(name, lambda load: load.new_client_milliseconds) or None

    def _ratio(self, name: str, other: str, of: Callable[[Load, Load], float]) -> float | None:
        pairs = list(zip(self.loads.get(name, ()), self.loads.get(other, ()), strict=False))
        return statistics.median(of(one, two) for one, two in pairs) if pairs else None


@dataclass(frozen=True)
class Target:
    """A required ratio. `measured` and `bound` are None if their contenders did not run.

    `connections` is None for any number. With `by_cpu` it is measured by CPU time. An aim cannot be missed.
    """

    scenario: str
    connections: int | None
    what: str
    relation: str
    bound: Callable[[Results], float | None]
    measured: Callable[[Results], float | None]
    by_cpu: Callable[[Results], float | None] | None = None
    is_aim: bool = False

    def verdict(self, results: Results) -> str:
        """Return the verdict as one line."""
        bound, measured = self.bound(results), self.measured(results)
        kind = "aim   " if self.is_aim else "target"
        line = (
            f"{self.scenario:<8} {self.what:<28} {kind} {self.relation} {_figure(bound)}, measured {_figure(measured)}"
        )
        if self.by_cpu is not None:
            line += f" ({_figure(self.by_cpu(results))} by CPU)"
        if bound is None or measured is None or self.is_aim:
            return line
        met = measured >= bound if self.relation == ">=" else measured <= bound
        return line if met else f"{line}  MISSED"


def rate_target(
    scenario: str, connections: int | None, other: str, least: float, ours: str = "ours", is_aim: bool = False
) -> Target:
    """Return a target for our rate as a multiple of another's."""
    return Target(
        scenario,
        connections,
        f"{ours} / {other}",
        ">=",
        lambda results: least,
        lambda results: results.ratio(ours, other),
        lambda results: results.cpu_ratio(ours, other),
        is_aim,
    )


def best_target(scenario: str, others: Sequence[str], least: float, ours: str = "ours") -> Target:
    """Return a target for our rate as a multiple of the best other's."""
    return Target(
        scenario,
        None,
        f"{ours} / the best",
        ">=",
        lambda results: least,
        lambda results: results.ratio_to_best(ours, others),
    )


def _figure(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _row(name: str, version: str, floor: str, results: Results) -> list[str]:
    loads = results.loads[name]
    errors = sum(load.errors for load in loads)
    disturbed = sum(load.disturbance > DISTURBED for load in loads)
    return [
        f"{name} {version}",
        _figure(results.median(name, lambda load: load.requests_per_second), 0),
        _figure(results.ratio("ours", name)),
        *([_figure(results.ratio(name, floor))] if floor else []),
        _figure(results.p99(name)),
        _figure(results.median(name, lambda load: load.cpu_microseconds) or None, 1),
        _figure(results.cpu_ratio("ours", name)),
        _figure(results.mib(name), 0),
        *([_figure(results.new_clients(name), 0)] if results.new_clients(name) else []),
        f"{errors:,}" if errors else "",
        f"{disturbed} of {len(loads)}" if disturbed else "",
    ]


def table(versions: Mapping[str, str], floor: str, results: Results, counted: str) -> str:
    """Return a table of contenders from the fastest to the slowest, then the failed ones with their reasons.

    `floor` is a second contender that the others are compared with, besides ours; it may be empty.
    """
    head = ["contender", f"{counted}/s", "ours/it", *([f"it/{floor}"] if floor else [])]
    ran = sorted(results.loads, key=lambda name: results.median(name, lambda load: -load.requests_per_second) or 0)
    new = ["new ms"] if any(map(results.new_clients, ran)) else []
    rows = [[*head, "p99 ms", "CPU us", "by CPU", "MiB", *new, "errors", "disturbed"]]
    rows += [_row(name, versions[name], floor, results) for name in ran]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return "\n".join(lines + [f"{name}: {why}" for name, why in results.failures.items()])
