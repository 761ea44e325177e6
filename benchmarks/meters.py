"""CPU of process trees, WAL and the machine's own state, read from /proc and PostgreSQL."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
# Our own servers are idle before a round: what is busy then is foreign.
CALM_CORES_MAX = 0.3
CALM_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Stat:
    """The few numbers of /proc/PID/stat that count here; CPU in seconds."""

    parent: int
    own: float
    reaped: float


def _stat(pid: int) -> Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    user, system, child_user, child_system = (int(value) for value in fields[11:15])
    return Stat(int(fields[1]), (user + system) / TICK, (child_user + child_system) / TICK)


def tree_cpu(root: int) -> float:
    """CPU seconds of a process, its living descendants, and those it has reaped."""
    stats = {
        int(entry.name): _stat(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit()
    }
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        if stat:
            children.setdefault(stat.parent, []).append(pid)
    total, todo = 0.0, [root]
    while todo:
        pid = todo.pop()
        stat = stats.get(pid)
        if stat:
            total += stat.own + stat.reaped
            todo += children.get(pid, [])
    return total


def peak_rss_mib(pid: int) -> float:
    """The most memory the process has held so far."""
    try:
        text = (PROC / str(pid) / "status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if "VmHWM" in line), 0.0)


@dataclass(frozen=True)
class Machine:
    """CPU seconds of the whole machine since boot, and the wall clock they were read at."""

    at: float
    busy: float
    stolen: float

    @classmethod
    def read(cls) -> Machine:
        """As of now."""
        first = (PROC / "stat").read_text().splitlines()[0].split()[1:]
        user, nice, system, _idle, _wait, irq, soft, steal = (
            int(value) / TICK for value in first[:8]
        )
        return cls(time.perf_counter(), user + nice + system + irq + soft, steal)


@dataclass(frozen=True)
class Noise:
    """What else the machine did during a measurement, in cores."""

    foreign: float
    steal: float
    loadavg: float

    @classmethod
    def between(cls, before: Machine, after: Machine, accounted: float) -> Noise:
        """``accounted`` is the CPU our own processes used in that time."""
        seconds = max(after.at - before.at, 1e-9)
        foreign = max(0.0, after.busy - before.busy - accounted) / seconds
        return cls(foreign, (after.stolen - before.stolen) / seconds, os.getloadavg()[0])


class Patience:
    """Waits for other work on the machine to end, but not for ever: ``seconds`` in all."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    def wait(self) -> None:
        """Return when the machine has been calm for a moment, or when patience is spent."""
        while self._left > 0:
            before = Machine.read()
            time.sleep(CALM_LOOK_SECONDS)
            self._left -= CALM_LOOK_SECONDS
            if Noise.between(before, Machine.read(), 0.0).foreign < CALM_CORES_MAX:
                return


def machine_name() -> str:
    """CPU model and number of cores."""
    lines = (PROC / "cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "?")
    return f"{os.cpu_count()} × {model}"
