"""Run the load (wrk, or a program with the same report) on its CPU, parse the report, and detect disturbances."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass

from machine import cpu_seconds, on_cpu, process_seconds, resident_mib
from servers import Trial

# When others had more of the CPUs than this, a run is repeated; and how often, at most.
DISTURBED = 0.05
ATTEMPTS = 3

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}

# How long before the load ends the processes are looked at: they must still be there, and the connections open.
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Cpus:
    """The CPUs of server and load; None means any."""

    server: int | None
    load: int | None


@dataclass(frozen=True)
class Load:
    """The result of one run.

    `cpu_microseconds` is the server's CPU time per request. `new_client_milliseconds` is the longest wait of a new
    client for its response, if there were new clients. `disturbance` is the share of the two CPUs that other processes
    used, or the greater of the two shares.
    """

    requests_per_second: float
    p99_milliseconds: float
    errors: int
    server_mib: float = 0.0
    cpu_microseconds: float = 0.0
    disturbance: float = 0.0
    new_client_milliseconds: float = 0.0


class _Observation:
    """Measurements of the server and of the CPUs during the load."""

    def __init__(self, server: int, load: int, cpus: Cpus) -> None:
        self._pids = (server, load)
        self._cpus = (cpus.server, cpus.load)
        self._started = self._look()
        self.server_mib = 0.0
        self.server_share = 0.0
        self.disturbance = 0.0

    def finish(self) -> None:
        """Take the measurements while server and load still run."""
        self.server_mib = resident_mib(self._pids[0])
        seconds, *used = (now - before for now, before in zip(self._look(), self._started, strict=True))
        self.server_share = used[0] / seconds
        if None not in self._cpus:
            others = (cpu - process for cpu, process in zip(used[2:], used[:2], strict=True))
            self.disturbance = max(0.0, *others) / seconds

    def _look(self) -> tuple[float, ...]:
        cpus = (cpu_seconds(cpu) if cpu is not None else 0.0 for cpu in self._cpus)
        return (time.monotonic(), *map(process_seconds, self._pids), *cpus)


def run_load(server: int, port: int, connections: int, seconds: int, cpus: Cpus, trial: Trial) -> Load:
    """Run the load on the server with process id `server` for `seconds`. Raises ValueError if that fails."""
    with trial.load(port, connections, seconds) as command:
        return _load(command, server, seconds, cpus)


def _load(command: list[str], server: int, seconds: int, cpus: Cpus) -> Load:
    with on_cpu(cpus.load):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        observation = _Observation(server, process.pid, cpus)
        try:
            process.communicate(timeout=seconds - _LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            observation.finish()
        output = process.communicate(timeout=30)[0]
    finally:
        process.kill()
    return _read(output, observation)


def _read(output: str, observation: _Observation) -> Load:
    """Parse the report. Raises ValueError if it is malformed."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", output)
    if rate is None or p99 is None or not float(rate[1]):
        raise ValueError(f"expected a report of the load, got {output!r:.200}")
    errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    count = sum(map(int, (*(errors.groups() if errors else ()), *(refused.groups() if refused else ()))))
    new_clients = re.search(r"New clients: worst ([\d.]+) ms, (\d+) without an answer", output)
    count += int(new_clients[2]) if new_clients else 0
    return Load(
        float(rate[1]),
        float(p99[1]) * _UNITS[p99[2]],
        count,
        observation.server_mib,
        observation.server_share / float(rate[1]) * 1e6,
        observation.disturbance,
        float(new_clients[1]) if new_clients else 0.0,
    )
