"""One contestant on one load: start it, watch what it commits, and measure it until all is settled."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import asyncpg

from benchmarks.kafka import Topics, read_committed
from benchmarks.load import Load
from benchmarks.meters import Machine, Noise, peak_rss_mib
from benchmarks.oracle import Oracle, without_zeros
from benchmarks.site import PROGRAM, Connection, Cpu, Process, Site
from shared.contracts import purchases

# The measured window begins when this share of the load is committed: what was before is warm-up.
WARM_UP_SHARE = 0.1
WATCH_SECONDS = 0.02
# No progress for so long means that the contestant hangs.
STALL_SECONDS_MAX = 60.0
PEERS = Path(__file__).with_name("peers") / "target"
TOTALS_TOPIC = "bench.totals"


@dataclass(frozen=True)
class Result:
    """What one contestant did with one load in one round; CPU and WAL per event of the window."""

    contestant: str
    load: str
    round: int
    events: int
    seconds: float
    settled_seconds: float
    cpu_us: Cpu
    wal_bytes: float
    rss_mib: float
    right: bool
    noise: Noise

    @property
    def rate(self) -> float:
        """Events a second; a wrong answer is worth nothing, however fast."""
        return self.events / self.seconds if self.right else 0.0


class Contestant(ABC):
    """How a contestant is started, watched and checked."""

    name: ClassVar[str]
    # The slow one is measured for a time, not to the end of the load.
    seconds_max: float = float("inf")
    warm_up_events_max: int = sys.maxsize
    database: ClassVar[bool] = True

    def __init__(self, site: Site, load: Load, oracle: Oracle, topics: Topics) -> None:
        self.site = site
        self.load = load
        self.oracle = oracle
        self.topics = topics

    @abstractmethod
    def start(self) -> Process:
        """Start its process; its database is fresh."""

    @abstractmethod
    async def committed(self, connection: Connection) -> int:
        """How many events are done for good."""

    async def settled(self, connection: Connection) -> bool:  # noqa: ARG002 - others ask the database
        """Whether nothing is left to be done after the last event."""
        return True

    async def totals(self, connection: Connection) -> dict[str, int]:
        """Points per customer."""
        rows = await connection.fetch("SELECT customer_id, balance FROM accounts")
        return {row["customer_id"]: row["balance"] for row in rows}

    async def expected(self, connection: Connection) -> dict[str, int]:  # noqa: ARG002
        """The right answer."""
        return self.oracle.totals()

    async def clean_up(self) -> None:  # noqa: B027 - most leave nothing
        """Remove what the run leaves outside of its database."""


class Ours(Contestant):
    """The real worker of the points service."""

    name = "treue"

    def start(self) -> Process:
        command = [sys.executable, "-m", "services.points", "worker"]
        return self.site.start(self.name, command, self.site.points_environment(self.name))

    async def committed(self, connection: Connection) -> int:
        return await _offsets(connection)

    async def settled(self, connection: Connection) -> bool:
        return bool(await connection.fetchval("SELECT NOT EXISTS (SELECT FROM outbox)"))


class Naive(Contestant):
    """(a) A stock Faust agent, one transaction an event."""

    name = "faust"
    seconds_max = 8.0
    warm_up_events_max = 500

    def start(self) -> Process:
        arguments = [self.site.bootstrap, self.site.dsn(self.name), str(PROGRAM)]
        command = [sys.executable, "-m", "benchmarks.contestants.naive", *arguments]
        return self.site.start(self.name, command, {})

    async def committed(self, connection: Connection) -> int:
        found = await connection.fetchval("SELECT to_regclass('seen') IS NOT NULL")
        return int(await connection.fetchval("SELECT count(*) FROM seen")) if found else 0

    async def expected(self, connection: Connection) -> dict[str, int]:
        rows = await connection.fetch("SELECT event_id FROM seen")
        return self.oracle.totals(row["event_id"] for row in rows)


class Floor(Contestant):
    """(b) Bare aiokafka and one set-based insert of the same rows."""

    name = "floor"

    @property
    def rows(self) -> Path:
        """Where the rows are kept that a run of ours has made of this load."""
        return self.site.folder / f"rows-{self.load.name}.pickle"

    def start(self) -> Process:
        arguments = [self.site.bootstrap, self.site.dsn(self.name), str(self.rows)]
        command = [sys.executable, "-m", "benchmarks.contestants.floor", *arguments]
        return self.site.start(self.name, command, {})

    async def committed(self, connection: Connection) -> int:
        return await _offsets(connection)


class Streams(Contestant):
    """(c) Kafka Streams, exactly once: dedupe, sum, output topic; its state is no SQL ledger."""

    name = "streams"
    database = False
    # One thread is the quickest on two shared cores; 500 ms is about what a batch of ours takes.
    threads, commit_ms = "1", "500"

    def start(self) -> Process:
        self._application = f"streams-{time.time_ns():x}"
        state = self.site.folder / "streams-state"
        shutil.rmtree(state, ignore_errors=True)
        java = ["java", "-Xms512m", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
        path = ["-cp", f"{PEERS}/peers-1.jar:{PEERS}/libs/*", "treue.peers.StreamsPoints"]
        topics = [purchases.TOPIC, TOTALS_TOPIC]
        arguments = [self.site.bootstrap, self._application, *topics, str(state)]
        command = [*java, *path, *arguments, self.threads, self.commit_ms]
        return self.site.start(self.name, command, {})

    async def committed(self, connection: Connection) -> int:  # noqa: ARG002
        return await self.topics.consumed(self._application, purchases.TOPIC)

    async def totals(self, connection: Connection) -> dict[str, int]:  # noqa: ARG002
        return await read_committed(self.site.bootstrap, TOTALS_TOPIC)

    async def clean_up(self) -> None:
        await self.topics.forget(await self.topics.names(self._application))


async def _offsets(connection: Connection) -> int:
    found = await connection.fetchval(
        "SELECT sum(next_offset)::bigint FROM offsets WHERE topic = $1", purchases.TOPIC
    )
    return found or 0


async def measure(contestant: Contestant, number: int) -> Result:
    """Run one contestant once."""
    site = contestant.site
    dsn = await site.fresh_database(contestant.name)
    connection = await asyncpg.connect(dsn)
    try:
        with contestant.start() as process:
            result = await _watch(contestant, process, connection, number)
        await contestant.clean_up()
    finally:
        await connection.close()
    return result


@dataclass(frozen=True)
class Sight:
    """Everything the meters show at one moment."""

    at: float
    events: int
    cpu: Cpu
    wal: int
    machine: Machine

    @classmethod
    async def take(cls, site: Site, process: Process, connection: Connection, events: int) -> Sight:
        """The clock is read first: it belongs to the progress just seen."""
        at = time.perf_counter()
        cpu = site.cpu(process.pid)
        wal = await connection.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        return cls(at, events, cpu, int(wal), Machine.read())


async def _watch(
    contestant: Contestant, process: Process, connection: Connection, number: int
) -> Result:
    total = len(contestant.load.records)
    warm_up = min(total * WARM_UP_SHARE, contestant.warm_up_events_max)
    look = Look(contestant, process, connection)

    async def sight() -> Sight:
        return await Sight.take(contestant.site, process, connection, look.done)

    await look.until(lambda: look.done >= warm_up)
    first = await sight()
    end = first.at + contestant.seconds_max
    await look.until(lambda: look.done >= total or time.perf_counter() >= end)
    last = await sight()
    if look.done >= total:
        while not await contestant.settled(connection):
            process.check()
            await asyncio.sleep(WATCH_SECONDS)
    settled = await sight()
    rss = peak_rss_mib(process.pid)
    if look.done < total:
        process.stop()  # it must not go on while its answer is compared
    return await _result(contestant, connection, number, (first, last, settled), rss)


class Look:
    """Progress, looked at every few milliseconds."""

    def __init__(self, contestant: Contestant, process: Process, connection: Connection) -> None:
        self._contestant = contestant
        self._process = process
        self._connection = connection
        self.done = 0

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until ``reached()``; raises if the contestant ends or hangs."""
        moved = time.perf_counter()
        while True:
            done = await self._contestant.committed(self._connection)
            if done > self.done:
                self.done, moved = done, time.perf_counter()
            if reached():
                return
            self._process.check()
            if time.perf_counter() - moved > STALL_SECONDS_MAX:
                raise RuntimeError(f"{self._contestant.name} made no progress after {self.done}")
            await asyncio.sleep(WATCH_SECONDS)


async def _result(
    contestant: Contestant,
    connection: Connection,
    number: int,
    sights: tuple[Sight, Sight, Sight],
    rss: float,
) -> Result:
    first, last, settled = sights
    events = last.events - first.events
    used = settled.cpu - first.cpu
    expected = await contestant.expected(connection)
    return Result(
        contestant=contestant.name,
        load=contestant.load.name,
        round=number,
        events=events,
        seconds=last.at - first.at,
        settled_seconds=settled.at - first.at,
        cpu_us=used.per(events),
        wal_bytes=(settled.wal - first.wal) / events,
        rss_mib=rss,
        right=without_zeros(await contestant.totals(connection)) == expected,
        noise=Noise.between(first.machine, settled.machine, used.total),
    )
