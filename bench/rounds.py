"""Contenders in turn, in several short rounds, under load: what every benchmark on a socket is made of.

Every figure that counts is a ratio taken round by round, between servers that ran within seconds of each other:
rates drift with the machine and the hour, the ratios hardly do. README.md says how to read the output.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TextIO

from environments import BENCH, CannotRun, Environment
from load import ATTEMPTS, DISTURBED, Cpus, Load, run_load
from results import Results, Target, table
from servers import Question, Trial, free_port, running

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Contender:
    """A server to measure. In `command`, a program of its environment, `{port}` stands for the port.

    `trial` replaces the scenario's trial.
    """

    name: str
    environment: Environment
    command: tuple[str, ...]
    is_peer: bool = True
    trial: Trial | None = None

    def command_line(self, port: int) -> list[str]:
        """Return the command to run."""
        program, *arguments = (part.replace("{port}", str(port)) for part in self.command)
        return [self.environment.program(program), *arguments]


@dataclass(frozen=True)
class Scenario:
    """One trial of several contenders, one of which is called `ours`.

    `floor` is a second contender that the table compares with, besides ours; `counted` names the unit of the rates.
    """

    name: str
    title: str
    contenders: tuple[Contender, ...]
    targets: tuple[Target, ...] = ()
    trial: Trial = field(default_factory=Question)
    floor: str = ""
    counted: str = "requests"


def both_loads(
    name: str,
    title: str,
    contenders: tuple[Contender, ...],
    varied: tuple[Target, ...],
    repeated: tuple[Target, ...] = (),
    question: Question | None = None,
    floor: str = "",
) -> tuple[Scenario, Scenario]:
    """Return the main scenario, with varied heads, and the same with one head, called `NAME-one-head`."""
    question = question or Question()
    one_head = replace(question, varied=False)
    return (
        Scenario(name, f"{title}, varied heads", contenders, varied, question, floor),
        Scenario(f"{name}-one-head", f"{title}, one head", contenders, repeated, one_head, floor),
    )


class Benchmark:
    """The rounds of one scenario, and their CPUs."""

    def __init__(self, scenario: Scenario, options: argparse.Namespace, cpus: Cpus) -> None:
        self.scenario = scenario
        self.options = options
        self.contenders = [one for one in scenario.contenders if not options.only or one.name in options.only]
        self.cpus = cpus
        self.versions: dict[str, str] = {}
        self.not_installed: dict[str, str] = {}

    def install(self, made: dict[Environment, str | CannotRun]) -> None:
        """Create the environments, except those that were `made` for another scenario."""
        for contender in self.contenders:
            environment = contender.environment
            if environment not in made:
                try:
                    made[environment] = environment.make()
                except CannotRun as error:
                    made[environment] = error
            version = made[environment]
            if isinstance(version, str):
                self.versions[contender.name] = version
            else:
                self.not_installed[contender.name] = f"cannot be installed: {version}"

    def measure(self, connections: int) -> Results:
        """Run all rounds at one number of connections. A contender that fails once is left out afterwards."""
        results = Results()
        results.failures.update(self.not_installed)
        for number in range(self.options.rounds):
            # A different one begins each time: what a neighbour on the machine does hits all of them alike.
            turn = number % len(self.contenders)
            for contender in self.contenders[turn:] + self.contenders[:turn]:
                if contender.name not in results.failures:
                    self._measure_one(contender, connections, results)
            self._progress(connections, number + 1, results)
        return results

    def report(self, connections: int, results: Results) -> str:
        """Print the table, and a line for each target at this number of connections."""
        options, scenario = self.options, self.scenario
        title = f"\n{scenario.title}, {connections} connections, {options.rounds} rounds of {options.seconds} s, "
        parts = [
            title + f"Python {self.contenders[0].environment.python_version()}",
            table(self.versions, scenario.floor, results, scenario.counted),
        ]
        targets = [target for target in scenario.targets if target.connections in (None, connections)]
        lines = [target.verdict(results) for target in targets]
        return "\n\n".join([*parts, "\n".join(lines)] if lines else parts)

    def _measure_one(self, contender: Contender, connections: int, results: Results) -> None:
        port = free_port()
        trial = contender.trial or self.scenario.trial
        try:
            with running(contender.command_line(port), port, self.cpus.server, trial) as pid:
                if self.options.warm_up:
                    run_load(pid, port, connections, self.options.warm_up, self.cpus, trial)
                load = self._least_disturbed(pid, port, connections, trial)
        except (CannotRun, ValueError) as error:
            results.failures[contender.name] = f"cannot be run: {error}"
            results.loads.pop(contender.name, None)
        else:
            results.loads.setdefault(contender.name, []).append(load)

    def _least_disturbed(self, pid: int, port: int, connections: int, trial: Trial) -> Load:
        """Return the first run without a disturbance, or the best of a few."""
        best: Load | None = None
        for _ in range(ATTEMPTS):
            load = run_load(pid, port, connections, self.options.seconds, self.cpus, trial)
            if best is None or load.disturbance < best.disturbance:
                best = load
            if best.disturbance <= DISTURBED:
                break
        assert best is not None
        return best

    def _progress(self, connections: int, number: int, results: Results) -> None:
        rates = (f"{name} {loads[-1].requests_per_second:,.0f}" for name, loads in results.loads.items())
        title = self.scenario.title
        print(f"{title}, {connections} connections, round {number}: {', '.join(rates)}", file=sys.stderr)


def _cpus() -> Cpus:
    """Return a CPU for the server and another for the load; print it if there is no choice."""
    if not hasattr(os, "sched_getaffinity"):
        print("This system does not pin processes to CPUs: expect more noise, and do not compare with the targets.")
        return Cpus(None, None)
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) == 1:
        print(
            "This machine has one CPU, which server and load share: the ratios are nearer to 1 than the targets' are."
        )
        return Cpus(None, None)
    return Cpus(cpus[0], cpus[1])


def _options(
    scenarios: Sequence[Scenario],
    what: str | None,
    connections: Sequence[int],
    arguments: Sequence[str] | None,
    seconds: int,
) -> argparse.Namespace:
    names = list(dict.fromkeys(one.name for scenario in scenarios for one in scenario.contenders))
    several = " and ".join(map(str, connections))
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds at each number of connections (5)")
    parser.add_argument(
        "--seconds", type=int, default=seconds, help="of load on each contender in a round (%(default)s)"
    )
    parser.add_argument("--warm-up", type=int, default=1, help="seconds of load before those (1)")
    parser.add_argument(
        "--connections", type=int, nargs="+", default=list(connections), help=f"at one time ({several})"
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", choices=names,
        help="run this contender only; may be repeated: " + ", ".join(names),
    )  # fmt: skip
    if len(scenarios) > 1:
        choices = [scenario.name for scenario in scenarios]
        parser.add_argument(
            "--scenario", action="append", metavar="NAME", choices=choices,
            help="run this scenario only; may be repeated: " + ", ".join(choices),
        )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.seconds < 1 or options.warm_up < 0 or min(options.connections) < 1:
        parser.error("expected at least one round, one second and one connection")
    return options


def _lock() -> TextIO | None:
    """Return a file that only one run can hold, or None: two runs would disturb each other."""
    path = BENCH / ".environments" / "lock"
    path.parent.mkdir(exist_ok=True)
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def run(
    scenarios: Sequence[Scenario],
    what: str | None,
    connections: Sequence[int],
    arguments: Sequence[str] | None = None,
    seconds: int = 3,
) -> int:
    """Run and print the scenarios that `arguments` (by default the command line's) select; `what` is for the help.

    Returns 0, 1 if our server did not run, or 2 if nothing could run. Missed targets do not count: machines differ.
    """
    options = _options(scenarios, what, connections, arguments, seconds)
    lock = _lock()
    if lock is None:
        print("another run of this benchmark is under way: wait for its end", file=sys.stderr)
        return 2
    # So that servers are killed then, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    chosen = getattr(options, "scenario", None)
    cpus = _cpus()
    benchmarks = [Benchmark(one, options, cpus) for one in scenarios if not chosen or one.name in chosen]
    # What `--only` leaves nothing of is not measured.
    benchmarks = [benchmark for benchmark in benchmarks if benchmark.contenders]
    try:
        for benchmark in benchmarks:
            benchmark.scenario.trial.prepare()
    except CannotRun as error:
        print(error, file=sys.stderr)
        return 2
    made: dict[Environment, str | CannotRun] = {}
    for benchmark in benchmarks:
        benchmark.install(made)
    failed = False
    for benchmark in benchmarks:
        for count in options.connections:
            results = benchmark.measure(count)
            print(benchmark.report(count, results), flush=True)
            failed = failed or "ours" in results.failures
    lock.close()
    return int(failed)


def run_program(scenarios: Sequence[Scenario], what: str | None, connections: Sequence[int], seconds: int = 3) -> None:
    """Call `run`, and exit with its result."""
    try:
        sys.exit(run(scenarios, what, connections, seconds=seconds))
    except KeyboardInterrupt:
        sys.exit(130)
