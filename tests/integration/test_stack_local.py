"""``treue up``, ``status`` and ``down`` as people use them, with everything killed that can be."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import asyncpg
import pytest

from shared.db.roles import owner_of
from shared.stack import credentials, processes
from shared.stack.layout import Layout, Ports

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

TREUE = (sys.executable, "-m", "shared.cli.main")
READY_SECONDS_MAX = 90.0
SERVICES = ("points", "tiers", "rewards")
NAMES = {"supervisor", "kafka", "postgres"} | {
    f"{service}-{role}" for service in SERVICES for role in ("worker", "api")
}


def free_base() -> int:
    for _ in range(200):
        base = random.randrange(10000, 30000, 100)
        if all(processes.is_free(port) for port in Ports(base).named().values()):
            return base
    raise AssertionError("no free ports")


class Stack:
    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder)
        self.base = free_base()
        self.env = {**os.environ, "TREUE_DIR": str(folder), "COLUMNS": "200"}

    def run(self, *arguments: str, expect: int = 0) -> str:
        done = subprocess.run(
            [*TREUE, *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=READY_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def up(self, *arguments: str) -> str:
        return self.run("up", "--detach", "--port-base", str(self.base), *arguments)

    @contextmanager
    def foreground(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        command = [*TREUE, "up", "--port-base", str(self.base), *arguments]
        with subprocess.Popen(command, env=self.env, stderr=subprocess.PIPE, text=True) as started:
            assert started.stderr is not None
            try:
                assert any("Ctrl-C stops" in line for line in started.stderr)
                yield started
            finally:
                started.terminate()

    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.layout.stack_json.read_text())
        return content

    def pids(self) -> dict[str, int]:
        found: dict[str, int] = self.json()["pids"]
        return found

    def names(self) -> list[str]:
        return sorted(
            one.name
            for one in processes.find(self.layout.dir)
            if one.name != processes.POSTGRES_CHILD
        )

    def status(self) -> dict[str, Any]:
        done = subprocess.run(
            [*TREUE, "status", "--json"], env=self.env, capture_output=True, text=True, check=False
        )
        report: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if report["healthy"] else 1)
        return report


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    one = Stack(tmp_path_factory.mktemp("local") / "stack")
    yield one
    one.run("down")
    assert processes.find(one.layout.dir) == []


def query(dsn: str, statement: str) -> Any:
    async def ask() -> Any:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(ask())


def owners(stack: Stack) -> str:
    """The address of who may make tables in the database of points."""
    passwords = credentials.ensure(stack.layout)
    return passwords.dsn(owner_of("points"), Ports(stack.base).postgres, "points")


# The tests of this module are one story and build on each other, because a start costs seconds.


def test_up_starts_everything_and_tells_how_to_reach_it(stack: Stack) -> None:
    told = stack.up()
    assert "Ready" in told
    content = stack.json()
    assert set(content["pids"]) == NAMES
    assert stack.names() == sorted(NAMES)
    assert stack.layout.stack_json.stat().st_mode & 0o077 == 0
    for service in SERVICES:
        for url in (content[f"{service}_url"], content["worker_urls"][service]):
            with urlopen(f"{url}/readyz", timeout=5) as answer:  # noqa: S310 - our own http
                assert answer.status == 200
        assert query(content["postgres"][service], "SELECT current_user") == service
        for statement in ("CREATE TABLE mine (n int)", "DELETE FROM schema_migrations"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                query(content["postgres"][service], statement)
    query(owners(stack), "CREATE TABLE test_kept AS SELECT 42 AS answer")


def test_status_is_green_and_names_everything(stack: Stack) -> None:
    report = stack.status()
    assert report["healthy"]
    assert {one["name"] for one in report["processes"]} == NAMES
    assert {one["restarts"] for one in report["processes"]} == {0}
    for service in SERVICES:
        assert report["services"][service]["outbox"] == 0
        assert set(report["services"][service]["lag"].values()) == {0}
    assert "All is healthy" in stack.run("status")


def test_a_second_up_says_it_is_running_and_disturbs_nothing(stack: Stack) -> None:
    before = stack.pids()
    assert "already running" in stack.run("up", "--detach", expect=1)
    assert stack.pids() == before


def test_another_stack_on_the_same_ports_is_told_who_has_them(stack: Stack, tmp_path: Path) -> None:
    other = Stack(tmp_path)
    told = other.run("up", "--detach", "--port-base", str(stack.base), expect=1)
    assert f"port {stack.base + 92} (kafka) is taken by java (pid {stack.pids()['kafka']})" in told
    assert other.names() == []


def test_whatever_is_killed_comes_back_and_is_counted(stack: Stack) -> None:
    before = stack.pids()
    victims = ("kafka", "postgres", "points-worker", "tiers-api")
    for name in victims:
        os.kill(before[name], signal.SIGKILL)
    until(lambda: any(one["restarts"] for one in stack.status()["processes"]))
    until(lambda: bool(stack.status()["healthy"]))
    processes_now = {one["name"]: one for one in stack.status()["processes"]}
    for name in victims:
        assert processes_now[name]["restarts"] >= 1
        assert processes_now[name]["last_exit"] is not None
        assert stack.pids()[name] == processes_now[name]["pid"] != before[name]
    assert processes_now["postgres"]["restarts"] == 1
    assert processes_now["rewards-api"]["pid"] == before["rewards-api"]
    assert stack.names() == sorted(NAMES)


def test_after_a_killed_supervisor_up_clears_and_starts_once_with_the_data(stack: Stack) -> None:
    os.kill(stack.pids()["supervisor"], signal.SIGKILL)
    until(lambda: stack.status()["processes"][0]["state"] == "dead")
    assert len(stack.names()) == len(NAMES) - 1
    with stack.foreground("--no-workers") as started:
        assert stack.names() == sorted(name for name in NAMES if not name.endswith("-worker"))
        assert query(owners(stack), "SELECT answer FROM test_kept") == 42
        assert stack.status()["healthy"]
        started.send_signal(signal.SIGINT)
        assert started.wait(20) == 0
    assert stack.names() == []
    assert not stack.layout.stack_json.exists()
    assert {one["state"] for one in stack.status()["processes"]} == {"stopped"}


def test_a_killed_foreground_up_takes_its_stack_along(stack: Stack) -> None:
    with stack.foreground("--no-workers") as started:
        started.kill()
    until(lambda: stack.names() == [], 20)


def test_down_finds_everything_after_a_killed_supervisor(stack: Stack) -> None:
    stack.up("--no-workers")
    os.kill(stack.pids()["supervisor"], signal.SIGKILL)
    begun = time.monotonic()
    stack.run("down")
    assert time.monotonic() - begun < 15
    assert processes.find(stack.layout.dir) == []
    assert "Nothing was running" in stack.run("down")


def test_a_mistake_in_the_program_stops_it_before_anything_starts(
    stack: Stack, tmp_path: Path
) -> None:
    program = tmp_path / "wrong.yaml"
    program.write_text("program: demo\nname: Demo\ncurrency: XXQ\n")
    told = stack.run("up", "--detach", "--program", str(program), expect=1)
    assert f"{program}:3" in told
    assert stack.names() == []
    assert not stack.layout.program.exists()


def test_down_with_wipe_leaves_nothing(stack: Stack) -> None:
    assert "the data is gone" in stack.run("down", "--wipe")
    assert not stack.layout.dir.exists()
    assert "No stack has been started" in stack.run("down")
