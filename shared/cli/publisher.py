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

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from shared.cli.quiet import silence
from shared.contracts.catalogue import NOT_YET, TOPIC_OF, TOPICS
from shared.contracts.envelope import CONTENT_TYPE, SPEC_VERSION
from shared.errors import UsageError

BATCH_BYTES = 256 * 1024
BATCHES_IN_FLIGHT_MAX = 48
CONNECT_SECONDS_MAX = 10.0
# A broker that restarts on a busy machine takes its time; one that was never there is told at once.
STALL_SECONDS_MAX = 60.0
KEYS_CACHED_MAX = 200_000
REJECTED_KEPT_MAX = 1000
RECORD_OVERHEAD_BYTES = 1024
HEADERS = [("content-type", CONTENT_TYPE.encode())]

_SIZE_MAX = {spec.name: spec.max_message_bytes - RECORD_OVERHEAD_BYTES for spec in TOPICS}


class _Addressee(msgspec.Struct, gc=False):
    customer_id: str | None = None
    order_id: str | None = None


class _Addressed(msgspec.Struct, gc=False):
    id: str
    source: str
    type: str
    specversion: str
    data: _Addressee


class _Envelope(msgspec.Struct):
    id: str
    source: str
    type: str
    specversion: str
    data: msgspec.Raw = msgspec.Raw(b"")


_fast = msgspec.json.Decoder(_Addressed).decode
_slow = msgspec.json.Decoder(_Envelope).decode
_mapping = msgspec.json.Decoder(dict[str, Any]).decode


class Rejected(Exception):
    """A line that is no event of ours; the text says why."""


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


def route(line: bytes) -> tuple[str, bytes]:
    """Topic and key of one CloudEvent. Raises Rejected if its envelope is not in order.

    Only the envelope is judged here: what is wrong inside ``data`` is for the services to say, and
    their dead letters keep the original bytes.
    """
    try:
        event = _fast(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _route_slowly(line)
    topic = _topic(event.type, event.specversion, event.id, event.source)
    return topic, (event.data.customer_id or event.data.order_id or event.id).encode()


def _route_slowly(line: bytes) -> tuple[str, bytes]:
    try:
        event = _slow(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(f"no CloudEvent in JSON: {error}") from None
    topic = _topic(event.type, event.specversion, event.id, event.source)
    key: object = None
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        data = _mapping(bytes(event.data))
        key = data.get("customer_id") or data.get("order_id")
    return topic, (key if isinstance(key, str) else event.id).encode()


def _topic(event_type: str, specversion: str, event_id: str, source: str) -> str:
    if specversion != SPEC_VERSION:
        raise Rejected(f"specversion: must be {SPEC_VERSION!r}, is {specversion[:50]!r}")
    if not event_id:
        raise Rejected("id: is empty")
    if not source:
        raise Rejected("source: is empty")
    topic = TOPIC_OF.get(event_type)
    if topic is None:
        raise Rejected(f"type: {event_type[:100]!r} is unknown; known are {', '.join(_known())}")
    return topic


def _known() -> list[str]:
    return sorted(name for name in TOPIC_OF if name.startswith("treue.purchase") or name in NOT_YET)


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
                if len(line) > _SIZE_MAX.get(topic, BATCH_BYTES):
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
                f" seconds ({waiting:,} events wait); see `treue status`, then publish the same"
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
