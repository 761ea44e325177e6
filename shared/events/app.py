"""The Faust app of a worker: its agents hand whole batches to lanes, and lanes to the runner."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import faust
import structlog
from mode import CrashingSupervisor
from yarl import URL

from shared.events.runner import Runner
from shared.events.transport import Batch, Transport

log = structlog.get_logger()

# A transaction takes what has queued, up to these.
ROWS_MAX = 2000
BYTES_MAX = 16 * 1024 * 1024
LANES = 2
# From so many waiting records on, a second transaction is worth it.
MUCH_ROWS = 500
# In a trickle a transaction begins no sooner than this multiple of the last one's duration after it began: one
# where events come one by one, one where they come from a service that has gathered them already …
GATHERING_PACE, FOLLOWING_PACE = 2.0, 1.2
# … and never later than this.
PACE_SECONDS_MAX = 0.025
# How long events of a patient topic wait for others whose transaction they can share.
PATIENCE_SECONDS = 0.05
# The broker is asked for more so long before the next transaction may begin.
LEAD_SECONDS = 0.002
SESSION_SECONDS = 6.0
FINISH_SECONDS_MAX = 2.0
FINISH_POLL_SECONDS = 0.02


class App(faust.App):  # type: ignore[misc]
    """A Faust app that reads its positions out of PostgreSQL and starts its background work first."""

    def __init__(self, name: str, *, bootstrap: str, gathers: bool) -> None:
        super().__init__(
            name,
            broker=URL(f"kafka://{bootstrap}"),
            broker_client_id=name,
            web_enabled=False,
            store="memory://",
            topic_disable_leader=True,
            topic_allow_declare=False,
            key_serializer="raw",
            value_serializer="raw",
            consumer_auto_offset_reset="earliest",
            # Waiting for acknowledgements could last for ever, with PostgreSQL away or a partition stopped; what
            # is in flight when partitions go is made harmless by the positions in PostgreSQL.
            stream_wait_empty=False,
            stream_buffer_maxsize=1024,
            broker_max_poll_records=2000,
            consumer_max_fetch_size=4 * 1024 * 1024,
            broker_commit_interval=1.0,
            # An idle standby could otherwise never come back (aiokafka #1187).
            broker_max_poll_interval=1e6,
            broker_session_timeout=SESSION_SECONDS,
            broker_heartbeat_interval=SESSION_SECONDS / 4,
            broker_rebalance_timeout=30.0,
            broker_request_timeout=20.0,
            cython_optimizations=True,
            datadir="/tmp",  # noqa: S108 - nothing is written: there are no tables
        )
        self.runner: Runner | None = None
        # By the monotonic clock; read by the consumer.
        self.fetch_at = 0.0
        self.pace = GATHERING_PACE if gathers else FOLLOWING_PACE
        self._lanes = Lanes(self)
        self.before: Callable[[], Awaitable[None]] | None = None
        self.leaving: Callable[[], None] | None = None
        self.after: Callable[[], Awaitable[None]] | None = None
        self.finalize()
        self.transport = Transport(self.conf.broker_consumer, self)

    async def on_start(self) -> None:
        """Everything the first batch needs is there before the consumer asks for its positions."""
        if self.before is not None:
            await self.before()
        await super().on_start()

    async def on_stop(self) -> None:
        """What is being applied is finished; what has only queued is read again from its stored position."""
        if self.leaving is not None:
            self.leaving()
        await self._lanes.finish(FINISH_SECONDS_MAX)
        if self.runner is not None:
            self.runner.stop()
        await super().on_stop()
        if self.after is not None:
            await self.after()

    async def positions(self, ends: Mapping[Any, int]) -> Mapping[Any, int]:
        """Called by the transport after every assignment."""
        return await self._runner().positions(ends)

    def assigned(self) -> bool:
        """Whether the group has given this process its partitions (which may be none, for a standby)."""
        return self._assignment is not None

    def ends(self) -> dict[tuple[str, int], int]:
        """End offsets of the assigned partitions, as the last fetches saw them."""
        known = {
            (tp.topic, tp.partition): self.consumer.highwater(tp)
            for tp in self.consumer.assignment()
        }
        return {key: end for key, end in known.items() if end is not None}

    def _runner(self) -> Runner:
        if self.runner is None:
            raise RuntimeError("the app was started without a runner")
        return self.runner

    def consume(self, topics: Sequence[str], patient: Collection[str] = ()) -> None:
        """Declare one agent a topic; nobody waits for what comes of the ``patient`` ones."""
        self._lanes.patient = frozenset(patient)
        for name in topics:
            topic = self.topic(name, schema=Batch(), value_serializer="raw", key_serializer="raw")
            self.agent(
                topic, name=f"{self.conf.id}-{name}", supervisor_strategy=CrashingSupervisor
            )(self._lanes.agent)


class Lanes:
    """Queues between the agents and the runner: what has queued becomes one transaction.

    While little waits, one transaction runs at a time, and they are paced by how long they take: an event that
    comes alone is applied at once, a trickle in small batches, larger ones where the machine is slow or busy.
    Without this, every event of a trickle is a transaction of its own in every service, and they queue for the
    processor. When much waits, a second transaction runs beside the first: while PostgreSQL works on one,
    Python decides the other. A partition is in one transaction at a time. Events of patient topics begin none,
    but for those that have waited long: they go with the next that comes.
    """

    patient: frozenset[str] = frozenset()

    def __init__(self, app: App) -> None:
        self._app = app
        self._waiting: dict[Any, deque[Any]] = {}
        self._patient: dict[Any, deque[Any]] = {}
        self._release: asyncio.TimerHandle | None = None
        self._busy: set[Any] = set()
        self._changed: asyncio.Event | None = None
        self._next = 0.0
        self._cycle = 0.0

    async def agent(self, stream: Any) -> None:
        """The body of every agent: it decides nothing, keeps no event, and acknowledges nothing."""
        if self._changed is None:
            self._changed = asyncio.Event()
            for _ in range(LANES):
                self._app.add_future(self._run(self._changed))
        async for event in stream.noack().events():
            self._add(event)
            # A kept reference would make Faust wait for this batch for ever when it stops.
            del event

    def _add(self, event: Any) -> None:
        changed = self._changed
        if changed is None:
            raise RuntimeError("an event came before its agent")
        tp = event.message.tp
        if event.message.topic not in self.patient:
            self._waiting.setdefault(tp, deque()).append(event)
            changed.set()
            return
        self._patient.setdefault(tp, deque()).append(event)
        if _rows(self._patient.values()) >= MUCH_ROWS:
            self._join()
            changed.set()
        elif self._release is None:

            def release() -> None:
                self._join()
                changed.set()

            self._release = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, release)

    def _join(self) -> None:
        """The patient wait no longer: they stand with the others."""
        if self._release is not None:
            self._release.cancel()
            self._release = None
        while self._patient:
            tp, events = self._patient.popitem()
            self._waiting.setdefault(tp, deque()).extend(events)

    async def finish(self, seconds: float) -> None:
        """Wait for the batches that are being applied, at most so long; the app takes no new ones any more."""
        deadline = time.monotonic() + seconds
        while self._busy and time.monotonic() < deadline:  # noqa: ASYNC110 - rare, and short
            await asyncio.sleep(FINISH_POLL_SECONDS)

    async def _run(self, changed: asyncio.Event) -> None:
        runner = self._app._runner()  # noqa: SLF001 - same module
        while True:
            await changed.wait()
            if self._app.should_stop:
                return
            await self._pace(runner)
            events = self._take()
            if not events:
                changed.clear()
                await runner.let_go()
                continue
            began = time.monotonic()
            partitions = {event.message.tp for event in events}
            self._busy |= partitions
            self._ask(events, began)
            try:
                await self._apply(runner, events)
            finally:
                took = time.monotonic() - began
                self._cycle = min(self._app.pace * took, PACE_SECONDS_MAX)
                self._next = began + self._cycle
                self._ask(events, began)
                events.clear()
                self._busy -= partitions
                changed.set()

    def _ask(self, events: list[Any], began: float) -> None:
        """Say when more is wanted: in a trickle, just before the next transaction may begin."""
        few = _rows([events]) < MUCH_ROWS
        self._app.fetch_at = began + self._cycle - LEAD_SECONDS if few else 0.0

    async def _pace(self, runner: Runner) -> None:
        wait = self._next - time.monotonic()
        if wait > 0 and self._waiting and _rows(self._waiting.values()) < MUCH_ROWS:
            # The transaction is begun meanwhile: that is a round trip less when it has its events.
            began = time.monotonic()
            await runner.begin()
            await asyncio.sleep(wait - (time.monotonic() - began))

    def _take(self) -> list[Any]:
        """The next transaction's events, from all partitions at rest, the longest waiting first."""
        if self._waiting and self._patient:
            self._join()
        ready = [tp for tp in self._waiting if tp not in self._busy]
        if self._busy and _rows(self._waiting[tp] for tp in ready) < MUCH_ROWS:
            return []
        events: list[Any] = []
        rows = size = 0
        for tp in ready:
            if rows >= ROWS_MAX or size >= BYTES_MAX:
                break
            queue = self._waiting.pop(tp)
            while queue and rows < ROWS_MAX and size < BYTES_MAX:
                event = queue.popleft()
                events.append(event)
                rows += len(event.value)
                size += event.message.serialized_value_size
            if queue:
                self._waiting[tp] = queue  # to the end: the others come first next time
        return events

    async def _apply(self, runner: Runner, events: list[Any]) -> None:
        active = [e for e in events if (e.message.topic, e.message.partition) not in runner.stopped]
        records = [record for event in active for record in event.value]
        try:
            done = await runner.process(records)
        except Exception as error:
            log.exception("the runner gave up: the process stops, nothing was committed")
            await self._app.crash(error)
            raise
        if done:
            for event in active:
                event.ack()


def _rows(queues: Iterable[Iterable[Any]]) -> int:
    return sum(len(event.value) for queue in queues for event in queue)
