"""A Faust transport that delivers whole fetched batches: one Faust event per (partition, records).

Stock Faust spends some 110 µs of scheduling on every message; this spends it on every batch. It also takes the
positions to read from out of PostgreSQL instead of Kafka's group, and commits to Kafka only as a hint for its
tools. It leans on private names of faust-streaming, which is therefore pinned to one exact version and checked
at import; tests/failure kills workers to prove what this file promises.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from weakref import WeakSet

import faust
from aiokafka.consumer.fetcher import Fetcher
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service
from mode.utils.futures import maybe_async

FAUST_VERSION = "0.15.3"
# Batches handed to the agents and not yet committed to PostgreSQL: the bound of what a worker holds in
# memory besides aiokafka's own fetch buffers, while the database is away.
BYTES_IN_FLIGHT_MAX = 32 * 1024 * 1024
BATCHES_IN_FLIGHT_MAX = 100
FETCH_WAIT_SECONDS = 1.0
ROOM_WAIT_SECONDS = 0.2
# However long the app wants to be left alone.
PACED_SECONDS_MAX = 0.025

_PRIVATE = (
    "_drain_messages",
    "_wait_next_records",
    "_new_offset",
    "_set_active_tps",
    "on_partitions_revoked",
    "perform_seek",
    "_new_consumer_thread",
)
if faust.__version__ != FAUST_VERSION:
    raise ImportError(f"faust-streaming {FAUST_VERSION} is needed, found {faust.__version__}")
for _name in _PRIVATE:
    if not hasattr(driver.Consumer, _name):
        raise ImportError(f"faust's Consumer has no {_name}: the batching transport does not fit")
if not hasattr(driver.AIOKafkaConsumerThread, "call_thread"):
    raise ImportError("faust's consumer thread has no call_thread: it cannot do without the thread")
if not hasattr(Fetcher, "_proc_fetch_request"):
    raise ImportError("aiokafka's Fetcher has no _proc_fetch_request: fetches cannot be paced")

# Partitions and their end offsets → the offset to read next.
Positions = Callable[[Mapping[TP, int]], Awaitable[Mapping[TP, int]]]


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Hands each fetched (partition, records) to the agents as one message whose value is the records."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._order: dict[TP, deque[int]] = defaultdict(deque)
        self._inflight: WeakSet[ConsumerMessage] = WeakSet()
        self._room = asyncio.Event()
        self._unproven: set[TP] = set()

    def _new_consumer_thread(self) -> PacedClient:
        return PacedClient(self, loop=self.loop, beacon=self.beacon)

    def ack(self, message: ConsumerMessage) -> bool:
        """Free the batch's place; Faust's bookkeeping goes on as usual."""
        result: bool = super().ack(message)
        self._inflight.discard(message)
        self._room.set()
        return result

    async def perform_seek(self) -> None:
        """Go to the positions stored in PostgreSQL, whatever Kafka thinks was committed."""
        await super().perform_seek()
        self._order.clear()
        assignment = {TP(tp.topic, tp.partition) for tp in self.assignment()}
        if not assignment:
            return
        ends = await self.highwaters(*assignment)
        ends = {TP(tp.topic, tp.partition): end for tp, end in ends.items()}
        for tp, offset in (await self.app.positions(ends)).items():
            await self._seek(tp, offset)
            self._read_offset[tp] = offset
            self._committed_offset[tp] = None
            self._unproven.add(tp)

    async def on_partitions_revoked(self, revoked: Iterable[TP]) -> None:
        """Forget the partitions; batches in flight finish, and the stored offset makes them harmless."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._order.pop(tp, None)

    def _new_offset(self, tp: TP) -> int | None:
        """The offset to commit: only ever the end of an unbroken run of acknowledged batches (faust #606)."""
        order, done, new = self._order[tp], self._acked_index[tp], None
        while order and order[0] in done:
            new = order.popleft() + 1
        if new is not None:
            self._acked[tp] = [offset for offset in self._acked[tp] if offset >= new]
            done.difference_update([offset for offset in done if offset < new])
        return new

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            await self._drain(fetcher)
        except asyncio.CancelledError:
            # Faust takes a stop in the middle of a rebalance for a crash.
            if not self.app.should_stop:
                raise

    async def _drain(self, fetcher: Any) -> None:
        while not self._over(fetcher):
            await self._wait_for_room(fetcher)
            records, _ = await self._wait_next_records(FETCH_WAIT_SECONDS)
            generation = self.app.consumer_generation_id
            if not records:
                await asyncio.sleep(0)
            elif not self.flow_active:
                # Fetched across a rebalance: go back, so that nothing is skipped.
                await self.perform_seek()
            else:
                await self._deliver(records, generation)

    def _over(self, fetcher: Any) -> bool:
        return bool(self._stopped.is_set() or fetcher._stopped.is_set())  # noqa: SLF001

    def _full(self) -> bool:
        """A batch that is dropped (a rebalance, a stop) leaves the set by itself, and its bytes with it."""
        held = list(self._inflight)
        if len(held) >= BATCHES_IN_FLIGHT_MAX:
            return True
        held_bytes: int = sum(m.serialized_value_size for m in held)
        return held_bytes >= BYTES_IN_FLIGHT_MAX

    async def _wait_for_room(self, fetcher: Any) -> None:
        while self._full() and self.flow_active:
            if self._over(fetcher):
                return
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), ROOM_WAIT_SECONDS)
            except TimeoutError:
                continue

    async def _deliver(self, records: Mapping[Any, list[Any]], generation: int) -> None:
        for key, fetched in records.items():
            tp = TP(key.topic, key.partition)
            position = self._read_offset[tp]
            batch = [r for r in fetched if position is None or r.offset >= position]
            if not batch:
                continue
            if await self._skips(tp, position, batch[0].offset):
                continue
            last = batch[-1]
            size = sum([len(r.value or b"") for r in batch])
            message = ConsumerMessage(
                tp.topic, tp.partition, last.offset, (last.timestamp or 0) / 1000.0,
                last.timestamp_type, (), None, batch, None, 0, size, tp, generation_id=generation,
            )  # fmt: skip
            self._inflight.add(message)
            # The streams' queues hold more than may be in flight, so this never waits.
            await self.callback(message)
            if not self.flow_active or generation != self.app.consumer_generation_id:
                return  # a rebalance: perform_seek rewinds to what PostgreSQL holds
            self._order[tp].append(last.offset)
            self._read_offset[tp] = last.offset + 1

    async def _skips(self, tp: TP, position: int | None, first: int) -> bool:
        """Whether a first batch after an assignment may have been fetched before it, from further on.

        What it skips would be lost for good: positions only ever grow. So it is asked for once more, from the
        position itself. If it begins there again, the offsets between are gone (retention, transaction marks).
        """
        if tp not in self._unproven:
            return False
        self._unproven.discard(tp)
        if position is None or first <= position:
            return False
        await self._seek(tp, position)
        return True


class PacedClient(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """aiokafka's consumer in the worker's own event loop; it asks the broker for more when ``fetch_at`` has come.

    Faust gives it a thread: each fetch then passes two queues, wakes two event loops and hands the interpreter's
    lock to and fro, a tenth of a worker's processor time in a trickle. What the thread was for, heartbeats while
    the worker computes, a batch is too short to need: tenths of a second, of SESSION_SECONDS.

    By itself aiokafka asks anew after each answer, in a trickle for every single record: each answer wakes the
    broker and the event loop for what would only wait for the next transaction.
    """

    # Nobody else's loop has to end before ours may go on.
    wait_for_shutdown = False
    # It begins and ends as any other service: what Faust's does from one loop to another is taken back.
    start, maybe_start, stop, crash = (
        Service.start,
        Service.maybe_start,
        Service.stop,
        Service.crash,
    )
    _stopped_set, _stop_children = Service._stopped_set, Service._stop_children  # noqa: SLF001
    _stop_futures, _stop_exit_stacks = Service._stop_futures, Service._stop_exit_stacks  # noqa: SLF001

    def __init__(
        self, consumer: BatchConsumer, *, loop: asyncio.AbstractEventLoop, beacon: Any
    ) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, beacon=beacon)

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call it here, for there is no thread."""
        return await maybe_async(fun(*args, **kwargs))

    async def on_start(self) -> None:
        """Pace the fetches, then start as ever."""
        await super().on_start()
        fetcher = self._consumer._fetcher  # noqa: SLF001 - nothing public paces it
        fetch = fetcher._proc_fetch_request  # noqa: SLF001

        async def paced(*args: Any) -> Any:
            wait = self.app.fetch_at - time.monotonic()
            if wait > 0:
                await asyncio.sleep(min(wait, PACED_SECONDS_MAX))
            return await fetch(*args)

        fetcher._proc_fetch_request = paced  # noqa: SLF001

    async def on_stop(self) -> None:
        """Leave the group."""
        if self._consumer is not None:
            await self._consumer.stop()


class Transport(driver.Transport):  # type: ignore[misc]
    """The aiokafka transport with our consumer."""

    Consumer = BatchConsumer


class Batch(faust.Schema):  # type: ignore[misc]
    """No Faust decoding at all: the value is the list of aiokafka records."""

    def loads_key(self, *_: Any, **__: Any) -> None:
        """Keys are read from the records."""
        return

    def loads_value(self, _: Any, message: Any, **__: Any) -> Any:
        """The records as they were fetched."""
        return message.value
