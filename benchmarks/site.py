"""Where a round happens: the servers, a fresh database for each contestant, and what is measured of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias
from urllib.parse import urlsplit

import asyncpg

from benchmarks.load import ROOT
from benchmarks.meters import tree_cpu
from shared.stack.servers import Servers

PROGRAM = Path(__file__).with_name("purchases.yaml")
TEMPLATE = "bench_template"
WORKER_PORT, API_PORT = 19411, 19401

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True)
class Cpu:
    """CPU seconds so far, told apart by who used them."""

    contestant: float
    postgres: float
    broker: float
    bench: float

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(
            self.contestant - other.contestant,
            self.postgres - other.postgres,
            self.broker - other.broker,
            self.bench - other.bench,
        )

    def per(self, events: int) -> Cpu:
        """Microseconds an event."""
        each = 1e6 / events
        return Cpu(
            self.contestant * each, self.postgres * each, self.broker * each, self.bench * each
        )

    @property
    def total(self) -> float:
        """All of it."""
        return self.contestant + self.postgres + self.broker + self.bench


class Site:
    """The running servers and this run's scratch folder."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.bootstrap = servers.bootstrap
        self.folder = folder
        self._dsn = servers.dsn
        assert servers.postgres.process is not None  # noqa: S101 - both were just started
        assert servers.kafka.process is not None  # noqa: S101
        self._postgres = servers.postgres.process.pid
        self._broker = servers.kafka.process.pid
        self._keys = folder / "keys.json"
        self._keys.write_text(json.dumps({"keys": []}))

    def dsn(self, database: str) -> str:
        """Superuser's address of one database."""
        return urlsplit(self._dsn)._replace(path=f"/{database}").geturl()

    def points_environment(self, database: str) -> dict[str, str]:
        """What the points service is told by `treue up` too."""
        settings = {
            "DATABASE": self.dsn(database),
            "KAFKA": self.bootstrap,
            "PROGRAM": str(PROGRAM),
            "HOST": "127.0.0.1",
            "PORT": str(API_PORT),
            "WORKER_PORT": str(WORKER_PORT),
            "KEYS_FILE": str(self._keys),
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "WARNING",
        }
        return {f"TREUE_POINTS_{name}": value for name, value in settings.items()}

    async def make_template(self) -> None:
        """A database with the points service's schema, copied for every contestant."""
        await self._renew(TEMPLATE, "template1")
        environment = self.points_environment(TEMPLATE)
        self.run([sys.executable, "-m", "services.points", "migrate"], environment)

    async def fresh_database(self, name: str) -> str:
        """An empty ledger named ``name``, with the WAL at a checkpoint; returns its address."""
        await self._renew(name, TEMPLATE)
        return self.dsn(name)

    async def drop(self, name: str) -> None:
        """Remove a contestant's database."""
        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        finally:
            await connection.close()

    async def _renew(self, name: str, template: str) -> None:
        await self.drop(name)
        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()

    def run(self, command: list[str], environment: Mapping[str, str]) -> None:
        """Run a command to its end; its output shows only when it fails."""
        done = subprocess.run(
            command,
            env=os.environ | environment,
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[:4])} failed:\n{done.stdout}{done.stderr}")

    def start(self, name: str, command: list[str], environment: Mapping[str, str]) -> Process:
        """Start a contestant; what it prints goes to its log."""
        log = self.folder / f"{name}.log"
        return Process(name, command, os.environ | environment, log)

    def cpu(self, contestant: int) -> Cpu:
        """What everyone has used by now."""
        return Cpu(
            tree_cpu(contestant),
            tree_cpu(self._postgres),
            tree_cpu(self._broker),
            time.process_time(),
        )


class Process:
    """A contestant's process, stopped in any case when its block ends."""

    def __init__(
        self, name: str, command: list[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask it to end, then make it."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """Raise if it has ended by itself."""
        code = self._process.poll()
        if code is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"{self.name} ended with {code}:\n{tail}")
