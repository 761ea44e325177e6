"""One batch, one transaction: ledger rows, consumed offsets, outgoing events and dead letters commit together."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from shared import clock
from shared.contracts.catalogue import DEAD_LETTERS
from shared.db import statements
from shared.db.closing import Closing
from shared.db.pool import TRANSIENT
from shared.db.types import Connection, Pool
from shared.errors import Poison, TreueError
from shared.events import dead_letters, parcel
from shared.events.decode import Decoder
from shared.events.health import Health
from shared.events.metrics import StreamMetrics
from shared.events.model import (
    Event,
    Handler,
    Message,
    Outbound,
    Record,
    Route,
    Verdict,
    Work,
)

log = structlog.get_logger()
sql = statements.load(Path(__file__).parent / "sql" / "runner.sql")

RETRY_SECONDS_MIN = 0.05
RETRY_SECONDS_MAX = 5.0
# Two owners of a partition may write the same rows at once; the loser finds them on its next try.
RACES_MAX = 3
# When everything turns invalid it is not the events that are wrong: stop before all of it is buried.
POISON_IN_A_ROW_MAX = 5000

Partition = tuple[str, int]
# Names of our own: reading an enum's member costs more than the rest of a comparison.
APPLIED, POISON = Verdict.APPLIED, Verdict.POISON


@dataclass(slots=True)
class Item:
    """A record with what decoding made of it: an event, a reason for the dead letters, or neither (ignored)."""

    record: Record
    partition: Partition
    event: Event[Any] | None = None
    field: str = ""
    reason: str = ""
    verdict: Verdict = APPLIED


class FencedError(TreueError):
    """A position was not where this batch begins: never read before, or another owner was quicker."""


class Runner:
    """Applies batches of records by the routes of one service. Safe to call for different partitions at once.

    ``packs``: what waits in the outbox shall be small, for it goes to disk; in a replay it is read back at once.
    """

    def __init__(
        self,
        *,
        service: str,
        routes: Sequence[Route],
        ignored: Iterable[str],
        pool: Pool,
        health: Health,
        metrics: StreamMetrics,
        committed: Callable[[Sequence[Outbound]], None],
        now: Callable[[], datetime] = clock.now,
        packs: bool = False,
    ) -> None:
        self.service = service
        self._pool = pool
        self._health = health
        self._metrics = metrics
        self._committed = committed
        self._now = now
        self._packs = packs
        self._stopping = False
        self._handlers: dict[tuple[str, str], Handler] = {
            (r.topic, r.event_type): r.handler for r in routes
        }
        topics = sorted({route.topic for route in routes})
        self._decoders = {t: Decoder(t, routes, frozenset(ignored)) for t in topics}
        self._poison_run: Counter[Partition] = Counter()
        self.stopped: set[Partition] = set()
        # What ``Work.rebuilding`` says of the batches to come.
        self.rebuilding = False
        self.owns_relay: Callable[[], bool] = lambda: True
        self._ahead: tuple[AsyncExitStack, Connection] | None = None
        self._beginning = False

    def stop(self) -> None:
        """Give up waiting: what is not committed is read again by the next owner."""
        self._stopping = True

    async def positions(self, ends: Mapping[Any, int]) -> dict[Any, int]:
        """Where to read on in each partition of ``ends`` (its end offsets). Waits while PostgreSQL is away."""
        delay = RETRY_SECONDS_MIN
        while True:
            try:
                rows = await self._pool.fetch(sql.positions)
                stored = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
                result = {tp: stored.get((tp.topic, tp.partition), 0) for tp in ends}
                for tp, end in ends.items():
                    if result[tp] > end:
                        log.error("topic ends before our position: reading it again from the start",
                                  topic=tp.topic, partition=tp.partition, stored=result[tp], end=end)  # fmt: skip
                        await self._pool.execute(sql.rewind, tp.topic, tp.partition)
                        result[tp] = 0
            except TRANSIENT as error:
                delay = await self._wait(error, delay)
            else:
                self._health.up("postgres")
                return result
            if self._stopping:
                return {}

    async def begin(self) -> None:
        """Begin the next transaction ahead of its records, by one who waits for more of them anyway."""
        if self._ahead is None and not self._beginning:
            self._beginning = True
            # Where it cannot be begun, the records will wait for that, and say so.
            with suppress(*TRANSIENT):
                self._ahead = await self._open()
            self._beginning = False

    async def let_go(self) -> None:
        """No records came: whoever asked for a transaction has no use for it any more."""
        if self._ahead is not None:
            (stack, _), self._ahead = self._ahead, None
            with suppress(*TRANSIENT):
                await stack.aclose()

    async def _open(self) -> tuple[AsyncExitStack, Connection]:
        async with AsyncExitStack() as stack:
            conn = await stack.enter_async_context(self._pool.acquire())
            await stack.enter_async_context(conn.transaction())
            return stack.pop_all(), conn

    async def process(self, records: Sequence[Record]) -> bool:
        """Apply records of any partitions, in order. False when stopping came first: nothing was committed."""
        items = [self._decode(record) for record in records]
        return await self._apply(items)

    def _decode(self, record: Record) -> Item:
        partition = (record.topic, record.partition)
        try:
            return Item(record, partition, self._decoders[record.topic](record))
        except Poison as poison:
            return Item(record, partition, None, poison.field, poison.reason, Verdict.POISON)

    async def _apply(self, items: Sequence[Item]) -> bool:
        delay, races = RETRY_SECONDS_MIN, 0
        fenced = False
        while not self._stopping:
            try:
                await self._commit(items, fenced=fenced)
            except FencedError:
                fenced = True
            except asyncpg.UniqueViolationError as error:
                races += 1
                if races >= RACES_MAX:
                    return await self._halve(items, error)
            except TRANSIENT as error:
                delay = await self._wait(error, delay)
            except Exception as error:  # noqa: BLE001 - a bug must not stop the stream: it is isolated
                return await self._halve(items, error)
            else:
                self._health.up("postgres")
                return True
        return False

    async def _wait(self, error: BaseException, delay: float) -> float:
        self._metrics.retries.labels(type(error).__name__).inc()
        if not isinstance(error, (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)):
            self._health.down("postgres", f"{type(error).__name__}: {error}")
        await asyncio.sleep(delay)
        return min(delay * 2, RETRY_SECONDS_MAX)

    async def _halve(self, items: Sequence[Item], error: Exception) -> bool:
        if len(items) > 1:
            middle = len(items) // 2
            return await self._apply(items[:middle]) and await self._apply(items[middle:])
        item = items[0]
        if item.verdict is Verdict.POISON:
            # Burying itself fails: nothing may be dropped, so the process shall stop, loudly.
            raise error
        record = item.record
        log.error("an event could not be applied: it goes to the dead letters", exc_info=error,
                      topic=record.topic, partition=record.partition, offset=record.offset)  # fmt: skip
        reason = f"{type(error).__name__}: {error}"[:1000]
        buried = Item(record, item.partition, None, "", reason, Verdict.POISON)
        return await self._apply([buried])

    async def _commit(self, items: Sequence[Item], *, fenced: bool) -> None:
        """Apply in one transaction. Positions are checked as they are moved, at the end: a round trip less.

        Where that finds another's hand (``fenced``), they are locked first and what was done is left out.
        """
        began = time.perf_counter()
        (stack, conn), self._ahead = self._ahead or await self._open(), None
        async with stack:
            if fenced:
                items = await self._skip_done(conn, items)
                if not items:
                    return
            closing = None if fenced else Closing(conn)
            work = Work(
                conn,
                self._now(),
                f"/services/{self.service}",
                rebuilding=self.rebuilding,
                closing=closing,
            )
            await self._handle(work, items)
            sent = await self._write(work, items)
        if sent:
            self._committed(sent)
        self._metrics.batch_seconds.observe(time.perf_counter() - began)
        self._metrics.batch_rows.observe(len(items))
        self._count(items)

    async def _skip_done(self, conn: Connection, items: Sequence[Item]) -> Sequence[Item]:
        """Lock the positions and leave out what was committed before: a replay, or another owner was quicker."""
        partitions = sorted({item.partition for item in items})
        columns = [p[0] for p in partitions], [p[1] for p in partitions]
        await conn.execute(sql.begin_offsets, *columns)
        rows = await conn.fetch(sql.lock_offsets, *columns)
        stored = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
        return [item for item in items if item.record.offset >= stored.get(item.partition, 0)]

    async def _handle(self, work: Work, items: Sequence[Item]) -> None:
        groups: dict[Handler, list[Event[Any]]] = defaultdict(list)
        for item in items:
            event = item.event
            if event is not None:
                if event.verdict is not APPLIED:
                    event.verdict, event.field, event.reason = APPLIED, "", ""
                groups[self._handlers[item.partition[0], event.type]].append(event)
        # In the order of the table, so that batches which meet take their locks in one order.
        for handler in dict.fromkeys(self._handlers.values()):
            if handler in groups:
                await work.flush()
                await handler(work, groups[handler])
        for item in items:
            event = item.event
            if event is not None and (event.verdict is not APPLIED or item.verdict is not APPLIED):
                item.verdict, item.field, item.reason = event.verdict, event.field, event.reason

    async def _write(self, work: Work, items: Sequence[Item]) -> Sequence[Outbound]:
        """Dead letters, outgoing events and positions: what every batch leaves beside its ledger rows.

        Returns what has gone to the outbox.
        """
        sent: list[Outbound] = []
        buried = [item for item in items if item.verdict is Verdict.POISON]
        if buried:
            sent.append(await self._bury(work, buried))
        topics: dict[str, list[Message]] = defaultdict(list)
        for message in work.messages:
            topics[message.topic].append(message)
        columns = _positions(items)
        if work.closing is None:
            await work.conn.execute(sql.move_offsets, *columns)
        else:
            topic, messages = topics.popitem() if topics else (None, [])
            keys, payloads = [m.key for m in messages], [m.payload for m in messages]
            first = {item.partition: item.record.offset for item in reversed(items)}
            firsts = [first[key] for key in zip(columns[0], columns[1], strict=True)]
            packed = None
            if self._packs and parcel.worth_it(payloads):
                packed = await parcel.pack(payloads)
            stored = payloads if packed is None else []
            moved = await work.closing.fetchrow(
                sql.move_on, *columns, firsts, topic, keys, stored, packed
            )
            if moved is None or moved["moved"] != len(first):
                raise FencedError
            if topic is not None:
                sent.append(Outbound(moved["sent"], topic, keys, payloads))
        for topic, messages in topics.items():
            keys, payloads = [m.key for m in messages], [m.payload for m in messages]
            sent.append(await _hand(work, topic, keys, payloads))
        if sent and not self.owns_relay():
            await work.conn.execute(sql.notify_outbox)
        return sent

    async def _bury(self, work: Work, items: Sequence[Item]) -> Outbound:
        letters = [
            dead_letters.letter(self.service, i.record, i.field, i.reason, work.now) for i in items
        ]
        await work.conn.execute(sql.add_dead_letters, *dead_letters.columns(letters))
        keys = [letter.key or b"" for letter in letters]
        payloads = [letter.value or b"" for letter in letters]
        headers = [letter.headers for letter in letters]
        return await _hand(work, DEAD_LETTERS, keys, payloads, headers)

    def _count(self, items: Sequence[Item]) -> None:
        seen = Counter(
            [
                # A member's hash would be computed in Python each time; its text has its hash at hand.
                (
                    item.partition[0],
                    item.event.type if item.event else "",
                    str.__str__(item.verdict),
                )
                for item in items
            ]
        )
        for (topic, kind, verdict), count in seen.items():
            self._metrics.events.labels(topic, kind, verdict).inc(count)
        self._count_poison(items)

    def _count_poison(self, items: Sequence[Item]) -> None:
        """Stop a partition on which nothing but dead letters has come for long."""
        run = self._poison_run
        for item in items:
            if item.verdict is POISON:
                run[item.partition] += 1
                if run[item.partition] == POISON_IN_A_ROW_MAX:
                    self._stop_partition(item.partition, item.reason)
            elif run:
                run.pop(item.partition, None)

    def _stop_partition(self, partition: Partition, reason: str) -> None:
        self.stopped.add(partition)
        self._health.down(
            f"{partition[0]}/{partition[1]}",
            f"stopped after {POISON_IN_A_ROW_MAX} dead letters in a row, the last: {reason}; "
            "mend the producer or this version, then restart the worker",
        )


async def _hand(
    work: Work,
    topic: str,
    keys: Sequence[bytes],
    payloads: Sequence[bytes],
    headers: Sequence[str] | None = None,
) -> Outbound:
    """Put a row into the outbox."""
    number = await work.conn.fetchval(sql.add_outbox, topic, keys, payloads, headers)
    return Outbound(number, topic, keys, payloads, headers)


def _positions(items: Sequence[Item]) -> tuple[list[Any], ...]:
    """Topic, partition, next offset and the number of each verdict, as columns with a row a partition."""
    ends = {item.partition: item.record.offset + 1 for item in items}
    counts = {key: dict.fromkeys(Verdict, 0) for key in ends}
    for partition, number in Counter([item.partition for item in items]).items():
        counts[partition][APPLIED] = number
    for item in items:
        if item.verdict is not APPLIED:
            counts[item.partition][APPLIED] -= 1
            counts[item.partition][item.verdict] += 1
    return (
        [key[0] for key in ends],
        [key[1] for key in ends],
        list(ends.values()),
        *([counts[key][verdict] for key in ends] for verdict in Verdict),
    )
