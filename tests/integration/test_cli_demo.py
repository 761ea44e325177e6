"""``treue demo`` on a fresh folder, and again: the whole way, checked, told, and repeated without effect."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.events import event, purchase
from tests.integration.test_stack_local import free_base

pytestmark = [pytest.mark.stack, pytest.mark.timeout(280)]

PURCHASES = 400


def treue(folder: Path, *arguments: str, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "shared.cli.main", *arguments],
        env={**os.environ, "TREUE_DIR": str(folder), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    treue(tmp_path, "down", "--wipe")


def test_the_demonstration_runs_and_runs_again(folder: Path) -> None:
    base = str(free_base())
    told = treue(folder, "demo", "--limit", str(PURCHASES), "--port-base", base)
    assert f"{PURCHASES} (the first of 20,725)" in told
    cancelled = re.search(r"(\d+) with \d+ lines, told without an order: \d+ found all", told)
    assert cancelled is not None
    events = PURCHASES + int(cancelled[1])
    assert "were taken back for what was cancelled" in told
    assert "invariants over three databases, 0 violations" in told
    assert "One customer's story" in told
    assert "curl -H 'Authorization: Bearer " in told
    assert "known before" not in told
    before = treue(folder, "digest")

    again = treue(folder, "demo", "--limit", str(PURCHASES))
    assert f"{events}, all of them: recognised, they change nothing" in again
    assert treue(folder, "digest") == before

    report = json.loads(treue(folder, "verify", "--json"))
    assert report["ok"]
    assert report["drained"]
    assert report["violations"] == 0
    assert {check["service"] for check in report["checks"]} == {
        *("points", "tiers", "rewards", "between them")
    }
    assert report["invariants"] == len(report["checks"]) >= 20
    assert "No dead letters" in treue(folder, "dead-letters", "list")
    treue(folder, "demo", "--program", "programs/demo.yaml", expect=1)

    # While a worker stands still, what it has not read yet is no violation, and nobody says so.
    worker = json.loads((folder / "stack.json").read_text())["pids"]["tiers-worker"]
    os.kill(worker, signal.SIGSTOP)
    try:
        event_file = folder / "one.jsonl"
        event_file.write_text(json.dumps(event(purchase("new", "c-new"))))
        treue(folder, "publish", str(event_file))
        report = json.loads(treue(folder, "verify", "--json", expect=1))
        assert not report["drained"]
        assert report["violations"] == 0
        assert any("not consumed" in line for line in report["left"])
    finally:
        os.kill(worker, signal.SIGCONT)
    treue(folder, "drain", "--timeout", "60")
    assert json.loads(treue(folder, "verify", "--json"))["ok"]
    assert treue(folder, "digest") != before
