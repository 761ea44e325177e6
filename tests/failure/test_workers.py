"""Workers come, go, hang and are stopped: partitions and relay change hands, the end state does not change."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import asyncpg
import psutil  # type: ignore[import-untyped]
import pytest

from shared.stack import processes
from tests.fixtures import retail
from tests.fixtures.live import LiveStack, until
from tests.fixtures.shop import selling
from tests.fixtures.story import Story

pytestmark = [pytest.mark.stack, pytest.mark.servers]

PER_SECOND = 250.0
STOP_SECONDS_MAX = 10.0
# Kafka gives a silent member's partitions away after this; see App.
SESSION_SECONDS = 6.0
WORKERS = ("points-worker", "tiers-worker", "rewards-worker")


@dataclass(frozen=True)
class Second:
    """A second points worker, beside the stack's own."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ready(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ends(self, code: int) -> None:
        """It ends in time and with this code."""
        found = self.process.wait(STOP_SECONDS_MAX)
        assert found == code, self.log.read_text()[-4000:]


@contextmanager
def second(stack: LiveStack) -> Iterator[Second]:
    """As an operator would add one: the same settings, another port."""
    port = processes.free_ports(1)[0]
    theirs = psutil.Process(stack.pid("points-worker")).environ()
    env = {**os.environ, **{k: v for k, v in theirs.items() if k.startswith("TREUE_")}}
    env["TREUE_POINTS_WORKER_PORT"] = str(port)
    file = stack.layout.log("points-second")
    with file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.points", "worker"],
            cwd=stack.layout.run,
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Second(process, port, file)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def relay_owners(stack: LiveStack) -> list[int]:
    """Database sessions that hold the relay of points: never more than one."""

    async def ask() -> list[int]:
        conn = await asyncpg.connect(stack.json()["postgres"]["points"])
        try:
            rows = await conn.fetch(
                "SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                " WHERE l.locktype = 'advisory' AND l.granted"
                " AND a.application_name = 'treue-points-relay'"
            )
        finally:
            await conn.close()
        return [row["pid"] for row in rows]

    return asyncio.run(ask())


def publishes(stack: LiveStack) -> bool:
    return len(relay_owners(stack)) == 1


@pytest.mark.parametrize(("how", "part"), [(signal.SIGTERM, 11), (signal.SIGKILL, 12)])
def test_a_second_worker_joins_and_leaves(tale: Story, how: signal.Signals, part: int) -> None:
    stack, lines = tale.stack, retail.part(part)
    tale.told(lines)
    until(stack.all_ready, 30, "every part is ready")
    with selling(stack.json()["kafka"], lines, PER_SECOND), second(stack) as other:
        until(other.ready, 30, "the second worker has its partitions")
        time.sleep(1)
        os.kill(other.process.pid, how)
        other.ends(0 if how is signal.SIGTERM else -how)
    tale.holds()


def test_the_relay_moves_to_the_worker_that_is_left(tale: Story) -> None:
    stack, lines = tale.stack, retail.part(13)
    tale.told(lines)
    until(stack.all_ready, 30, "every part is ready")
    before = relay_owners(stack)
    assert len(before) == 1
    with second(stack) as other:
        until(other.ready, 30, "the second worker has its partitions")
        with selling(stack.json()["kafka"], lines, PER_SECOND):
            stack.kill("points-worker")
            until(lambda: relay_owners(stack) != before and publishes(stack), 10, "the relay moves")
        tale.holds()
        other.process.send_signal(signal.SIGTERM)
        other.ends(0)
    tale.holds()


def test_a_worker_hangs_longer_than_its_session(tale: Story) -> None:
    """When it wakes, another has its partitions and has written: what it holds must count no second time."""
    stack, lines = tale.stack, retail.part(14)
    tale.told(lines)
    until(stack.all_ready, 30, "every part is ready")
    with second(stack) as other:
        until(other.ready, 30, "the second worker has its partitions")
        with selling(stack.json()["kafka"], lines, PER_SECOND):
            time.sleep(1)
            hung = psutil.Process(stack.kill("points-worker", signal.SIGSTOP))
            time.sleep(SESSION_SECONDS + 3)
            hung.send_signal(signal.SIGCONT)
        until(stack.all_ready, 60, "every part is ready again")
        tale.holds()
    tale.holds()


def test_workers_stop_when_they_are_told_with_nothing_lost(tale: Story) -> None:
    stack, lines = tale.stack, retail.part(15)
    tale.told(lines)
    until(stack.all_ready, 30, "every part is ready")
    with selling(stack.json()["kafka"], lines, PER_SECOND):
        for name in WORKERS:
            time.sleep(1)
            pid = psutil.Process(stack.kill(name, signal.SIGTERM))
            psutil.wait_procs([pid], STOP_SECONDS_MAX)
            assert not pid.is_running(), f"{name} has not ended"
    tale.holds()
    exits = {
        one["name"]: one["last_exit"]["code"]
        for one in stack.status()["processes"]
        if one["last_exit"]
    }
    assert {exits[name] for name in WORKERS} == {0}
    stack.verify()
