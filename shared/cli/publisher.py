"""Lines to Kafka, in whole batches per partition, each acknowledged by the broker before we call it sent.

Batches are built here and not message by message in aiokafka: one future and one queue entry for
hundreds of events is what makes the difference between thousands and tens of thousands a second.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from shared.cli.quiet import silence
from shared.cli.routing import Rejected, route
from shared.cli.words import counted
from shared.contracts.catalogue import TOPICS
from shared.contracts.envelope import CONTENT_TYPE
from shared.errors import UsageError

BATCH_BYTES = 256 * 1024
BATCHES_IN_FLIGHT_MAX = 48
CONNECT_SECONDS_MAX = 10.0
# A broker that restarts on a busy machine takes its time; one that was never there is told at once.
STALL_SECONDS_MAX = 60.0
KEYS_CACHED_MAX = 200_000
REJECTED_KEPT_MAX = 1000
RECORD_OVERHEAD_BYTES = 1024
# What a broker takes for topics that are none of ours, unless it was told otherwise.
OTHER_BYTES_MAX = 1_000_000
HEADERS = [("content-type", CONTENT_TYPE.encode())]

_SIZE_MAX = {spec.name: spec.max_message_bytes - RECORD_OVERHEAD_BYTES for spec in TOPICS}


@dataclass(slots=True)
class Result:
    """What became of the lines so far."""

    lines: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    rejected_count: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def complete(self) -> bool:
        """Whether every line is an event that the broker has acknowledged."""
        return not self.rejected_count and self.acknowledged == self.accepted


class Publisher:
    """An idempotent producer fed with lines; use it as an async context manager.

    Order is kept per key. What is not yet acknowledged is bounded by batches, so a slow broker slows
    the reading instead of filling the memory.
    """

    def __init__(self, bootstrap: str) -> None:
        self.result = Result()
        self._bootstrap = bootstrap
        self._partitions: dict[str, int] = {}
        self._keys: dict[bytes, int] = {}
        self._open: dict[tuple[str, int], Any] = {}
        self._in_flight: set[asyncio.Future[Any]] = set()
        self._progress_at = time.monotonic()

    async def __aenter__(self) -> Self:
        silence()
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=max(_SIZE_MAX.values()),
            client_id="treue-publish",
        )
        try:
            await asyncio.wait_for(self._producer.start(), CONNECT_SECONDS_MAX)
        except (KafkaError, OSError, TimeoutError):
            await self._close()
            raise UsageError(
                f"Kafka at {self._bootstrap} does not answer; start the stack with `treue up`"
            ) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _close(self) -> None:
        # What is still unacknowledged after a failure would make stop() wait for ever.
        with suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(self._producer.stop(), 1.0 if self._in_flight else 10.0)
        await self._producer.client.close()

    async def publish(self, lines: Sequence[bytes], raw: str | None = None) -> None:
        """Take over whole lines; returns when they are in batches, not when they are acknowledged.

        With ``raw`` every line goes to that topic as it is, without a key.
        """
        result = self.result
        for line in lines:
            result.lines += 1
            if not line or line.isspace():
                continue
            try:
                topic, key = (raw, None) if raw is not None else route(line)
                if len(line) > _SIZE_MAX.get(topic, OTHER_BYTES_MAX):
                    raise Rejected(f"has {len(line):,} bytes; {topic} takes no record of that size")
            except Rejected as why:
                self.reject(str(why))
                continue
            await self.send(topic, key, line)

    def reject(self, why: str) -> None:
        """Note that the line just counted is not published."""
        self.result.rejected_count += 1
        if len(self.result.rejected) < REJECTED_KEPT_MAX:
            self.result.rejected.append((self.result.lines, why))

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = HEADERS,
    ) -> None:
        """Add one record to the batch of its partition; a full batch goes on its way."""
        place = (topic, await self._partition(topic, key))
        batch = self._open.get(place)
        if batch is None:
            batch = self._open[place] = self._producer.create_batch()
        if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
            await self._dispatch(place)
            batch = self._open[place] = self._producer.create_batch()
            batch.append(timestamp=None, key=key, value=value, headers=headers)
        self.result.accepted[topic] += 1

    async def _partition(self, topic: str, key: bytes | None) -> int:
        count = self._partitions.get(topic)
        if count is None:
            count = self._partitions[topic] = await self._partition_count(topic)
        if key is None:
            return self.result.lines % count
        number = self._keys.get(key)
        if number is None:
            if len(self._keys) >= KEYS_CACHED_MAX:
                self._keys.clear()
            number = self._keys[key] = murmur2(key) & 0x7FFFFFFF
        return number % count

    async def _partition_count(self, topic: str) -> int:
        try:
            partitions = await asyncio.wait_for(
                self._producer.partitions_for(topic), CONNECT_SECONDS_MAX
            )
        except (KafkaError, TimeoutError):
            raise UsageError(
                f"the broker at {self._bootstrap} has no topic {topic!r}; `treue up` creates ours"
            ) from None
        return len(partitions)

    async def _dispatch(self, place: tuple[str, int]) -> None:
        batch = self._open.pop(place)
        topic, partition = place
        count = batch.record_count()
        if not self._in_flight:
            self._progress_at = time.monotonic()
        while len(self._in_flight) >= BATCHES_IN_FLIGHT_MAX:
            await self._wait_for_progress()
        sending = asyncio.ensure_future(
            self._producer.send_batch(batch, topic, partition=partition)
        )
        await self._wait_until(sending)
        acknowledgement = sending.result()
        self._in_flight.add(acknowledgement)
        acknowledgement.add_done_callback(lambda done: self._acknowledged(done, topic, count))

    def _acknowledged(self, done: asyncio.Future[Any], topic: str, count: int) -> None:
        self._in_flight.discard(done)
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._progress_at = time.monotonic()
            self.result.acknowledged[topic] += count
        else:
            self.result.errors[f"{topic}: {error}"] += count

    async def _wait_until(self, task: asyncio.Future[Any]) -> None:
        while not task.done():
            self._check_stalled()
            await asyncio.wait({task}, timeout=0.5)

    async def _wait_for_progress(self) -> None:
        self._check_stalled()
        await asyncio.wait(self._in_flight, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)

    def _check_stalled(self) -> None:
        if time.monotonic() - self._progress_at > STALL_SECONDS_MAX:
            waiting = self.result.accepted.total() - self.result.acknowledged.total()
            raise UsageError(
                f"Kafka at {self._bootstrap} has acknowledged nothing for {STALL_SECONDS_MAX:.0f}"
                f" seconds ({counted(waiting, 'event')} waiting); see `treue status`, then publish the same"
                " file again: what has arrived already is recognised"
            )

    async def flush(self) -> None:
        """Send what has queued, full batch or not."""
        for place in list(self._open):
            await self._dispatch(place)

    async def finish(self) -> Result:
        """Send the rest and wait until the broker has answered for everything."""
        await self.flush()
        while self._in_flight:
            await self._wait_for_progress()
        return self.result
