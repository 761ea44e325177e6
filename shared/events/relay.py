"""The outbox relay: publishes what was committed, in order, at once, and again until the broker has it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Any

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from shared.db import statements
from shared.db.pool import CONNECT_SECONDS_MAX, TRANSIENT
from shared.db.types import Connection
from shared.events import kafka
from shared.events.dead_letters import unpack_headers
from shared.events.health import Health, told
from shared.events.metrics import StreamMetrics
from shared.events.model import Outbound
from shared.events.parcel import unpack

log = structlog.get_logger()
sql = statements.load(Path(__file__).parent / "sql" / "relay.sql")

ROWS_MAX = 16
POLL_SECONDS = 1.0
# What is published stays in the outbox for so many rows, or until nothing has come for so long.
PUBLISHED_ROWS_MAX = 16
REST_SECONDS = 0.05
RETRY_SECONDS_MIN = 0.25
RETRY_SECONDS_MAX = 4.0
PUBLISH_SECONDS_MAX = 30.0
STATEMENT_SECONDS_MAX = 30.0
# Longer than a publication may take, during which the session is idle.
IDLE_SESSION = "45s"
CLOSE_SECONDS_MAX = 2.0
COMPONENT = "relay"


@lru_cache(maxsize=200_000)
def _partition(key: bytes, count: int) -> int:
    """Kafka's default partitioner for keyed records, as Java's clients compute it."""
    return int((murmur2(key) & 0x7FFFFFFF) % count)


class Relay:
    """Owned by one process of a service at a time; the others' commits wake it by NOTIFY.

    What this process commits is handed to it (``take``) and need not be read back, as long as the ids of the rows
    follow one another: nothing can stand between them then. Where they do not, it looks into the outbox.
    """

    def __init__(
        self, *, dsn: str, bootstrap: str, service: str, health: Health, metrics: StreamMetrics
    ) -> None:
        self._dsn = dsn
        self._bootstrap = bootstrap
        self._service = service
        self._health = health
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._handed: deque[Outbound] = deque()
        self._look = True
        self._owner = False
        self._stopping = False
        self._delay = RETRY_SECONDS_MIN

    @property
    def owner(self) -> bool:
        """Whether this process publishes."""
        return self._owner

    def wake(self) -> None:
        """Something was committed: look now."""
        self._look = True
        self._wake.set()

    def take(self, rows: Sequence[Outbound]) -> None:
        """Rows of the outbox that this process has just committed."""
        if len(self._handed) + len(rows) > ROWS_MAX:
            # The broker is slow, or away: memory is bounded, and the outbox has them all.
            self._handed.clear()
            self._look = True
        else:
            self._handed.extend(rows)
        self._wake.set()

    def stop(self) -> None:
        """Finish what is being published, then return from ``run``."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Publish until stopped, through every absence of the database or the broker."""
        while not self._stopping:
            try:
                await self._session()
            except (*TRANSIENT, KafkaError) as error:
                await self._pause(error)
            except Exception as error:
                # A mistake of ours, or the libraries': what is committed still has to go out, so go on trying.
                log.exception("relay failed and begins again")
                await self._pause(error)

    async def _pause(self, error: BaseException) -> None:
        """Told once, by the health: it would else be said at every try of a long outage."""
        self._health.down(COMPONENT, told(error))
        await asyncio.sleep(self._delay)
        self._delay = min(self._delay * 2, RETRY_SECONDS_MAX)

    def _works(self) -> None:
        self._health.up(COMPONENT)
        self._delay = RETRY_SECONDS_MIN

    async def _session(self) -> None:
        conn = await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_SECONDS_MAX,
            command_timeout=STATEMENT_SECONDS_MAX,
            # A deletion lost in a crash only means that events are published twice.
            server_settings={
                "application_name": f"treue-{self._service}-relay",
                "synchronous_commit": "off",
                # A process that hangs shall not keep the others from publishing.
                "idle_session_timeout": IDLE_SESSION,
            },
        )
        try:
            await conn.add_listener("outbox", lambda *_: self.wake())
            while not await conn.fetchval(sql.own_relay):
                self._works()
                await asyncio.sleep(POLL_SECONDS)
                if self._stopping:
                    return
            # A producer that failed once may never recover (aiokafka #1017): each session has its own.
            producer = kafka.producer(self._bootstrap, f"treue-{self._service}-relay")
            try:
                await producer.start()
                self._owner = True
                self._works()
                await self._pump(conn, producer)
            finally:
                await _close(producer)
        finally:
            # Before any pause: who waits for the next session owns nothing.
            self._owner = False
            conn.terminate()

    async def _pump(self, conn: Connection, producer: AIOKafkaProducer) -> None:
        """Publish what is handed in, and what is found where that leaves a gap; each second it looks anyway."""
        done: list[int] = []
        last, looked = 0, -inf
        self._look = True
        while not self._stopping:
            self._wake.clear()
            rows = self._next(last, done)
            if self._look or time.monotonic() - looked >= POLL_SECONDS:
                self._look = False
                self._handed.clear()
                looked = time.monotonic()
                rows = [
                    Outbound(number, topic, keys, unpack(payloads, packed), headers)
                    for number, topic, keys, payloads, headers, packed in await conn.fetch(
                        sql.pending, done, ROWS_MAX
                    )
                ]
                done = []
                if len(rows) == ROWS_MAX:
                    self._look = True
            if rows:
                async with asyncio.timeout(PUBLISH_SECONDS_MAX):
                    await self._publish(producer, rows)
                done += [row.id for row in rows]
                last = max(last, rows[-1].id)
            rest = REST_SECONDS if done else POLL_SECONDS
            rests = not rows and not self._look and not await self._woken(rest)
            if len(done) >= PUBLISHED_ROWS_MAX or (done and rests):
                await conn.execute(sql.forget, done)
                done = []
        if done:
            await conn.execute(sql.forget, done)

    async def _woken(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _next(self, last: int, done: Sequence[int]) -> list[Outbound]:
        """The handed rows that follow the last published one without a gap; asks for a look where they do not."""
        rows: list[Outbound] = []
        while self._handed and not self._look:
            row = self._handed.popleft()
            if row.id == last + 1:
                rows.append(row)
                last = row.id
            elif row.id not in done:
                self._look = True
        return rows

    async def _publish(self, producer: AIOKafkaProducer, rows: Sequence[Outbound]) -> None:
        acknowledged: list[Any] = []
        for row in rows:
            topic = row.topic
            count = len(await producer.partitions_for(topic))
            if row.headers is not None:
                for key, value, headers in zip(row.keys, row.payloads, row.headers, strict=True):
                    acknowledged.append(
                        await producer.send(topic, value, key=key, headers=unpack_headers(headers))
                    )
                continue
            lanes: dict[int, Any] = {}
            for key, value in zip(row.keys, row.payloads, strict=True):
                partition = _partition(key, count)
                batch = lanes.get(partition)
                if batch is None or batch.append(key=key, value=value, timestamp=None) is None:
                    if batch is not None:
                        acknowledged.append(
                            await producer.send_batch(batch, topic, partition=partition)
                        )
                    batch = lanes[partition] = producer.create_batch()
                    batch.append(key=key, value=value, timestamp=None)
            for partition, batch in lanes.items():
                acknowledged.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*acknowledged)
        for row in rows:
            self._metrics.published.labels(row.topic).inc(len(row.keys))


async def _close(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            await producer.stop()
    except (TimeoutError, KafkaError, OSError):
        # What it could not send is still in the outbox; neither its sockets nor its sender shall stay behind.
        await producer.client.close()
        with suppress(TimeoutError, KafkaError, asyncio.CancelledError):
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await producer._sender.close()  # noqa: SLF001 - stop() has no way to give up
