"""Measurements of processes and CPUs from Linux. On other systems the figures are 0 and nothing is pinned."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PROC = Path("/proc")


@contextmanager
def on_cpu(cpu: int | None) -> Iterator[None]:
    """Start processes in this context on `cpu` only, with all their threads; None means any CPU."""
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    # Inherited from its first instruction on, which setting it for a running process would not be.
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process and its descendants; shared pages count for each of them."""
    kib = 0
    for process in _family(pid):
        with suppress(OSError, StopIteration):
            lines = (process / "status").read_text().splitlines()
            kib += int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])
    return kib / 1024


def process_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants."""
    ticks = 0
    for process in _family(pid):
        with suppress(OSError):
            # The name, in brackets, may have spaces in it; user and system time are fields 14 and 15.
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def cpu_seconds(cpu: int) -> float:
    """Return the time that a CPU has spent on processes, or that its hypervisor has taken; without interrupts."""
    with suppress(OSError, StopIteration):
        lines = (_PROC / "stat").read_text().splitlines()
        fields = next(line for line in lines if line.startswith(f"cpu{cpu} ")).split()
        user, nice, system, steal = (int(fields[i]) for i in (1, 2, 3, 8))
        return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _family(pid: int) -> Iterator[Path]:
    process = _PROC / str(pid)
    yield process
    with suppress(OSError):
        for task in (process / "task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))
