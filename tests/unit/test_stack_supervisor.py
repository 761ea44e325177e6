from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.stack import processes
from shared.stack.processes import NotReady, Spec
from shared.stack.supervisor import BackOff, Supervisor, recorded

QUICK = BackOff(first_seconds=0.05, last_seconds=0.2, healthy_seconds=30)
LIVES = "import time; time.sleep(60)"
# A process that asks to be killed: it takes no notice of SIGTERM.
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1); time.sleep(60)"
)


def python(folder: Path, code: str, name: str = "fake", **other: Any) -> Spec:
    return Spec(
        name=name,
        argv=(sys.executable, "-c", code),
        log=folder / f"{name}.log",
        cwd=folder,
        **other,
    )


class Told:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, **particulars: Any) -> None:
        self.events.append((event, particulars))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [particulars for name, particulars in self.events if name == event]


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("pause", "lived", "expected"),
    [
        (None, 0, 0.2),
        (0.2, 0, 0.4),
        (0.4, 29, 0.8),
        (6.4, 1, 10.0),
        (10.0, 1, 10.0),
        (10.0, 30, 0.2),
    ],
)
def test_pauses_double_up_to_a_bound_and_are_forgotten_after_health(
    pause: float | None, lived: float, expected: float
) -> None:
    assert BackOff().after(pause, lived) == expected


async def test_a_killed_process_comes_back_and_the_fact_is_recorded(tmp_path: Path) -> None:
    told = Told()
    supervisor = Supervisor(tmp_path, told, back_off=QUICK)
    child = supervisor.start(python(tmp_path, LIVES))
    await supervisor.until_ready(child, 10)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.pid not in (None, first))
    record = child.record()
    assert record["restarts"] == 1
    assert record["last_exit"]["code"] == -signal.SIGKILL
    assert told.of("exit") == [{"name": "fake", "code": -9, "pause": 0.05}]
    await supervisor.stop(["fake"])
    assert child.state == "stopped"
    assert processes.find(tmp_path) == []
    supervisor.close()


async def test_one_that_keeps_dying_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, Told(), back_off=QUICK)
    spec = python(tmp_path, "raise SystemExit('the cupboard is bare')", ready=lambda: False)
    child = supervisor.start(spec)
    with pytest.raises(NotReady, match=r"(?s)fake ended with exit code 1.*the cupboard is bare"):
        await supervisor.until_ready(child, 20)
    await supervisor.stop(["fake"])
    supervisor.close()


async def test_one_that_is_never_ready_is_waited_for_only_so_long(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, Told())
    child = supervisor.start(python(tmp_path, LIVES, ready=lambda: False))
    with pytest.raises(NotReady, match=r"is not ready after 0\.3 s"):
        await supervisor.until_ready(child, 0.3)
    await supervisor.stop(["fake"])
    supervisor.close()


async def test_a_program_that_does_not_exist_is_an_ending_like_any_other(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, Told(), back_off=QUICK)
    spec = Spec(name="fake", argv=("/no/such/program",), log=tmp_path / "log", cwd=tmp_path)
    child = supervisor.start(spec)
    with pytest.raises(NotReady, match="cannot be started"):
        await supervisor.until_ready(child, 20)
    await supervisor.stop(["fake"])
    supervisor.close()


async def test_what_does_not_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    told = Told()
    supervisor = Supervisor(tmp_path, told)
    log = tmp_path / "fake.log"
    spec = python(tmp_path, STUBBORN, stop_seconds=0.3, ready=lambda: log.read_text() != "")
    child = supervisor.start(spec)
    await supervisor.until_ready(child, 10)
    await supervisor.stop(["fake"])
    assert told.of("killed") == [{"name": "fake", "after": 0.3}]
    assert processes.find(tmp_path) == []
    supervisor.close()


async def test_stopping_during_a_pause_starts_nothing_more(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, Told(), back_off=BackOff(first_seconds=60, last_seconds=60))
    child = supervisor.start(python(tmp_path, "raise SystemExit(3)"))
    await until(lambda: child.state == "waiting")
    await asyncio.wait_for(supervisor.stop(["fake"]), 2)
    assert child.pid is None
    supervisor.close()


async def test_a_step_runs_to_its_end_or_says_why_not(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, Told())
    await supervisor.once(python(tmp_path, "print('done')", "good"), 10)
    assert (tmp_path / "good.log").read_text() == "done\n"
    with pytest.raises(NotReady, match=r"(?s)bad ended with exit code 1.*no such table"):
        await supervisor.once(python(tmp_path, "raise SystemExit('no such table')", "bad"), 10)
    with pytest.raises(NotReady, match="did not end within"):
        await supervisor.once(python(tmp_path, LIVES, "slow"), 0.3)
    assert processes.find(tmp_path) == []
    supervisor.close()


async def test_every_change_is_announced(tmp_path: Path) -> None:
    states: list[str] = []
    supervisor: Supervisor

    def changed() -> None:
        states.extend(record["state"] for record in supervisor.records())

    supervisor = Supervisor(tmp_path, Told(), changed, QUICK)
    child = supervisor.start(python(tmp_path, LIVES))
    await supervisor.until_ready(child, 10)
    await supervisor.stop(["fake"])
    supervisor.close()
    assert list(dict.fromkeys(states)) == ["starting", "ready", "stopping", "stopped"]


def test_processes_are_found_by_marker_and_by_record_but_never_by_number_alone(
    tmp_path: Path,
) -> None:
    mine = processes.spawn(python(tmp_path, LIVES, "mine"), tmp_path)
    other = processes.spawn(python(tmp_path, LIVES, "other"), tmp_path / "elsewhere")
    try:
        assert [(one.pid, one.name) for one in processes.find(tmp_path)] == [(mine.pid, "mine")]
        begun = processes.started(other.pid)
        assert begun is not None
        right = {"name": "other", "pid": other.pid, "started": begun}
        # The number was given to someone else since: an older record must not hit it.
        reused = {"name": "other", "pid": other.pid, "started": begun - 3600}
        found = processes.find(tmp_path, recorded([right]))
        assert {one.name for one in found} == {"mine", "other"}
        found = processes.find(tmp_path, recorded([reused, {"name": "none", "pid": None}]))
        assert {one.name for one in found} == {"mine"}
        assert processes.sweep(tmp_path) == []
        assert mine.wait(5) == -signal.SIGTERM
        assert other.poll() is None
    finally:
        for process in (mine, other):
            process.kill()
            process.wait()


def test_a_log_is_turned_over_when_it_has_grown(tmp_path: Path) -> None:
    spec = python(tmp_path, "print('new')")
    spec.log.write_bytes(b"x" * (processes.LOG_BYTES_MAX + 1))
    processes.spawn(spec, tmp_path).wait()
    assert spec.log.read_text() == "new\n"
    assert spec.log.with_name("fake.log.1").stat().st_size > processes.LOG_BYTES_MAX
