"""Requests per second of an async hello world: ours against its peers and against the floor.

Every figure that counts is a ratio taken round by round, between servers that ran within seconds of each other:
rates drift with the machine and the hour, the ratios hardly do. README.md says how to read the output.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from environments import BENCH, CHECKOUT, CannotRun, Environment
from load import Cpus, Load, run_wrk
from servers import free_port, running

_GRANIAN = Environment("granian", "granian", ("granian[uvloop]",))
_HOST = "127.0.0.1"

# When others had more of the CPUs than this, a run is repeated; and how often, at most.
_DISTURBED = 0.05
_ATTEMPTS = 3


@dataclass(frozen=True)
class Contender:
    """`command` is a program of the environment and its arguments, in which `{port}` stands for the port."""

    name: str
    environment: Environment
    command: tuple[str, ...]
    is_peer: bool = True

    def command_line(self, port: int) -> list[str]:
        """What to run."""
        program, *arguments = (part.replace("{port}", str(port)) for part in self.command)
        return [self.environment.program(program), *arguments]


def _granian(interface: str, app: str) -> tuple[str, ...]:
    options = ("--host", _HOST, "--port", "{port}", "--workers", "1", "--http", "1", "--loop", "uvloop")
    return ("granian", "--interface", interface, *options, "--log-level", "warning", "--no-access-log", app)


CONTENDERS = (
    Contender(
        "ours",
        Environment("ours", "uvicorn", from_checkout=True),
        ("uvicorn", "--host", _HOST, "--port", "{port}", "--no-access-log", "--log-level", "warning",
         "--app-dir", str(CHECKOUT / "examples" / "hello"), "app:hello_world"),
        is_peer=False,
    ),
    Contender(
        "floor",
        Environment("floor", "uvloop", ("uvloop", "httptools")),
        ("python", str(BENCH / "floor.py"), "{port}"),
        is_peer=False,
    ),
    Contender("granian-rsgi", _GRANIAN, _granian("rsgi", "hello_rsgi:app")),
    Contender("granian-asgi", _GRANIAN, _granian("asginl", "hello_asgi:app")),
    Contender(
        "public-uvicorn",
        Environment("public-uvicorn", "uvicorn", ("uvicorn[standard]",)),
        ("uvicorn", "--host", _HOST, "--port", "{port}", "--no-access-log", "--log-level", "warning",
         "--lifespan", "off", "hello_asgi:app"),
    ),
    Contender(
        "gunicorn-asgi",
        # Not gunicorn[fast]: where its parser has no wheel of the right age, pip takes an older gunicorn and is silent.
        Environment("gunicorn", "gunicorn", ("gunicorn", "uvloop")),
        ("gunicorn", "-k", "asgi", "-w", "1", "-b", _HOST + ":{port}", "--asgi-lifespan", "off",
         "--no-control-socket", "--log-level", "warning", "hello_asgi:app"),
    ),
)  # fmt: skip


class Results:
    """Loads by contender, one for each round, all at one number of connections."""

    def __init__(self) -> None:
        self.loads: dict[str, list[Load]] = {}
        self.failures: dict[str, str] = {}

    def median(self, name: str, figure: Callable[[Load], float]) -> float | None:
        """The median of a figure; None if there is none."""
        loads = self.loads.get(name)
        return statistics.median(map(figure, loads)) if loads else None

    def ratio(self, name: str, other: str) -> float | None:
        """The median of the ratios of two contenders' rates in each round."""
        pairs = list(zip(self.loads.get(name, ()), self.loads.get(other, ()), strict=False))
        ratios = (one.requests_per_second / two.requests_per_second for one, two in pairs)
        return statistics.median(ratios) if pairs else None

    def least_peer_p99(self) -> float | None:
        """The best of the peers' 99th percentiles."""
        found = [_p99(self, contender.name) for contender in CONTENDERS if contender.is_peer]
        return min((p99 for p99 in found if p99 is not None), default=None)


@dataclass(frozen=True)
class Target:
    """`bound` and `measured` may be None: then what they need did not run."""

    scenario: str
    connections: int
    what: str
    relation: str
    bound: Callable[[Results], float | None]
    measured: Callable[[Results], float | None]

    def verdict(self, results: Results) -> str:
        """One line."""
        bound, measured = self.bound(results), self.measured(results)
        line = f"{self.scenario}  {self.what:<30} target {self.relation} {_figure(bound)}, measured {_figure(measured)}"
        if bound is None or measured is None:
            return line
        met = measured >= bound if self.relation == ">=" else measured <= bound
        return line if met else f"{line}  MISSED"


def _rate(scenario: str, connections: int, other: str, least: float) -> Target:
    """A target for the rate of ours as a multiple of another's."""
    return Target(
        scenario,
        connections,
        f"ours / {other}",
        ">=",
        lambda results: least,
        lambda results: results.ratio("ours", other),
    )


def _p99(results: Results, name: str) -> float | None:
    return results.median(name, lambda load: load.p99_milliseconds)


def _mib(results: Results, name: str) -> float | None:
    return results.median(name, lambda load: load.server_mib) or None


TARGETS = (
    _rate("S1", 64, "floor", 0.60),
    _rate("S1", 64, "public-uvicorn", 2.2),
    _rate("S1", 64, "granian-rsgi", 1.25),
    _rate("S1", 64, "granian-asgi", 1.6),
    _rate("S2", 200, "granian-rsgi", 1.0),
    Target(
        "S2", 200, "p99 ms, against the best peer", "<=", Results.least_peer_p99, lambda results: _p99(results, "ours")
    ),
    Target("S2", 200, "resident MiB", "<=", lambda results: 32.0, lambda results: _mib(results, "ours")),
)


class Benchmark:
    """The rounds, and where they run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.contenders = [one for one in CONTENDERS if not options.only or one.name in options.only]
        self.cpus = _cpus()
        self.versions: dict[str, str] = {}
        self.not_installed: dict[str, str] = {}

    def install(self) -> None:
        """Make the environments."""
        for contender in self.contenders:
            try:
                self.versions[contender.name] = contender.environment.make()
            except CannotRun as error:
                self.not_installed[contender.name] = f"cannot be installed: {error}"

    def measure(self, connections: int) -> Results:
        """All rounds at one number of connections. Who fails once is out."""
        results = Results()
        results.failures.update(self.not_installed)
        for number in range(self.options.rounds):
            # A different one begins each time: what a neighbour on the machine does hits all of them alike.
            turn = number % len(self.contenders)
            for contender in self.contenders[turn:] + self.contenders[:turn]:
                if contender.name not in results.failures:
                    self._measure_one(contender, connections, results)
            _progress(connections, number + 1, results)
        return results

    def _measure_one(self, contender: Contender, connections: int, results: Results) -> None:
        port = free_port()
        try:
            with running(contender.command_line(port), port, self.cpus.server) as pid:
                if self.options.warm_up:
                    run_wrk(pid, port, connections, self.options.warm_up, self.cpus)
                load = self._least_disturbed(pid, port, connections)
        except (CannotRun, ValueError) as error:
            results.failures[contender.name] = f"cannot be run: {error}"
            results.loads.pop(contender.name, None)
        else:
            results.loads.setdefault(contender.name, []).append(load)

    def _least_disturbed(self, pid: int, port: int, connections: int) -> Load:
        """The first run that nothing else interfered with, or the best of a few."""
        best: Load | None = None
        for _ in range(_ATTEMPTS):
            load = run_wrk(pid, port, connections, self.options.seconds, self.cpus)
            if best is None or load.disturbance < best.disturbance:
                best = load
            if best.disturbance <= _DISTURBED:
                break
        assert best is not None
        return best


def _cpus() -> Cpus:
    """A CPU for the server and another one for wrk, unless there is no choosing, which is said."""
    if not hasattr(os, "sched_getaffinity"):
        print("This system does not pin processes to CPUs: expect more noise, and do not compare with the targets.")
        return Cpus(None, None)
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) == 1:
        print("This machine has one CPU, which server and wrk share: the ratios are nearer to 1 than the targets' are.")
        return Cpus(None, None)
    return Cpus(cpus[0], cpus[1])


def _progress(connections: int, number: int, results: Results) -> None:
    rates = (f"{name} {loads[-1].requests_per_second:,.0f}" for name, loads in results.loads.items())
    print(f"{connections} connections, round {number}: {', '.join(rates)}", file=sys.stderr)


def _figure(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _row(contender: Contender, version: str, results: Results) -> list[str]:
    name = contender.name
    loads = results.loads[name]
    errors = sum(load.errors for load in loads)
    disturbed = sum(load.disturbance > _DISTURBED for load in loads)
    return [
        f"{name} {version}",
        _figure(results.median(name, lambda load: load.requests_per_second), 0),
        _figure(results.ratio("ours", name)),
        _figure(results.ratio(name, "floor")),
        _figure(_p99(results, name)),
        _figure(results.median(name, lambda load: load.cpu_microseconds) or None, 1),
        _figure(_mib(results, name), 0),
        f"{errors:,}" if errors else "",
        f"{disturbed} of {len(loads)}" if disturbed else "",
    ]


def table(benchmark: Benchmark, results: Results) -> str:
    """Contenders from the fastest to the slowest; behind them those that failed, and why."""
    rows = [["contender", "requests/s", "ours/it", "it/floor", "p99 ms", "CPU us", "MiB", "errors", "disturbed"]]
    ran = [one for one in benchmark.contenders if one.name in results.loads]
    ran.sort(key=lambda one: results.median(one.name, lambda load: -load.requests_per_second) or 0)
    rows += [_row(one, benchmark.versions[one.name], results) for one in ran]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return "\n".join(lines + [f"{name}: {why}" for name, why in results.failures.items()])


def report(benchmark: Benchmark, connections: int, results: Results) -> str:
    """The table, and a line for each target at this number of connections."""
    options = benchmark.options
    title = f"\nHello world, {connections} connections, {options.rounds} rounds of {options.seconds} s, "
    parts = [title + f"Python {sys.version.split()[0]}", table(benchmark, results)]
    lines = [target.verdict(results) for target in TARGETS if target.connections == connections]
    return "\n\n".join([*parts, "\n".join(lines)] if lines else parts)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds at each number of connections (5)")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of load on each contender in a round (3)")
    parser.add_argument("--warm-up", type=int, default=1, help="seconds of load before those (1)")
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 200], help="at one time (64 and 200)")
    parser.add_argument(
        "--only", action="append", metavar="NAME", choices=[one.name for one in CONTENDERS],
        help="run this contender only; may be repeated: " + ", ".join(one.name for one in CONTENDERS),
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.seconds < 1 or options.warm_up < 0 or min(options.connections) < 1:
        parser.error("expected at least one round, one second and one connection")
    return options


def _lock() -> TextIO | None:
    """A file that only one run can hold; None if another one does. The two would spoil each other's figures."""
    path = BENCH / ".environments" / "lock"
    path.parent.mkdir(exist_ok=True)
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 if ours did not run, or 2 if nothing could be run. A missed target is no failure: machines differ."""
    options = _options(arguments)
    if shutil.which("wrk") is None:
        print("wrk, which makes the load, is not installed: apt-get install wrk", file=sys.stderr)
        return 2
    lock = _lock()
    if lock is None:
        print("another run of this benchmark is under way: wait for its end", file=sys.stderr)
        return 2
    # So that servers are killed then, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    benchmark = Benchmark(options)
    benchmark.install()
    failed = False
    for connections in options.connections:
        results = benchmark.measure(connections)
        print(report(benchmark, connections, results), flush=True)
        failed = failed or "ours" in results.failures
    lock.close()
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
