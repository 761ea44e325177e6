"""How long it takes to build the three databases anew from Kafka, with every customer compared at the end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import uvloop

from benchmarks import load
from benchmarks.kafka import fill
from benchmarks.latency import stack
from benchmarks.load import ROOT
from shared.contracts import purchases

DRAIN_SECONDS_MAX = 3600


@dataclass(frozen=True)
class Outcome:
    """Entries of the ledger, seconds until the live stack had them, seconds of the rebuild, and its memory."""

    purchases: int
    entries: int
    live_seconds: float
    rebuild_seconds: float
    peak_mib: Mapping[str, float]
    equal: bool


def measure(folder: Path, count: int) -> Outcome:
    """A stack of its own takes ``count`` small purchases; then ``treue rebuild`` does it all again."""
    with stack(folder) as running:
        records = load.small(count).records
        began = time.perf_counter()
        uvloop.run(fill(running["kafka"], purchases.TOPIC, records))
        _treue("drain", "--timeout", str(DRAIN_SECONDS_MAX), "--dir", str(folder))
        live = time.perf_counter() - began
        entries = uvloop.run(_entries(running["postgres"]["points"]))
        told = json.loads(_treue("rebuild", "--json", "--dir", str(folder)))
        return Outcome(count, entries, live, told["seconds"], told["peak_mib"], told["equal"])


def _treue(*arguments: str) -> str:
    command = [sys.executable, "-m", "shared.cli.main", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode not in {0, 1}:
        raise SystemExit(f"treue {arguments[0]} ended with {done.returncode}")
    return done.stdout


async def _entries(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM entries")
        return count
    finally:
        await connection.close()
