"""The Faust app of a worker: its agents hand whole batches to lanes, and lanes to the runner."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import faust
import structlog
from mode import CrashingSupervisor
from yarl import URL

from shared.events.runner import Runner
from shared.events.transport import Batch, Transport

log = structlog.get_logger()

# A transaction takes what has queued, up to these; nothing waits for more to come.
ROWS_MAX = 2000
BYTES_MAX = 16 * 1024 * 1024
# Two lanes: while PostgreSQL works on one batch, Python decides the next. Partitions never change their lane.
LANES = 2
SESSION_SECONDS = 6.0
FINISH_SECONDS_MAX = 2.0
FINISH_POLL_SECONDS = 0.02


class App(faust.App):  # type: ignore[misc]
    """A Faust app that reads its positions out of PostgreSQL and starts its background work first."""

    def __init__(self, name: str, *, bootstrap: str, client_id: str) -> None:
        super().__init__(
            name,
            broker=URL(f"kafka://{bootstrap}"),
            broker_client_id=client_id,
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

    def consume(self, topics: tuple[str, ...]) -> None:
        """Declare one agent a topic."""
        for name in topics:
            topic = self.topic(name, schema=Batch(), value_serializer="raw", key_serializer="raw")
            self.agent(
                topic, name=f"{self.conf.id}-{name}", supervisor_strategy=CrashingSupervisor
            )(self._lanes.agent)


class Lanes:
    """Queues between the agents and the runner: what has queued in a lane becomes one transaction."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._queues: list[asyncio.Queue[Any]] = []
        self._busy = 0

    async def agent(self, stream: Any) -> None:
        """The body of every agent: it decides nothing, keeps no event, and acknowledges nothing."""
        if not self._queues:
            self._queues = [asyncio.Queue() for _ in range(LANES)]
            for queue in self._queues:
                self._app.add_future(self._run(queue))
        async for event in stream.noack().events():
            self._queues[event.message.partition % LANES].put_nowait(event)
            # A kept reference would make Faust wait for this batch for ever when it stops.
            del event

    async def finish(self, seconds: float) -> None:
        """Wait for the batches that are being applied, at most so long; the app takes no new ones any more."""
        deadline = time.monotonic() + seconds
        while self._busy and time.monotonic() < deadline:  # noqa: ASYNC110 - rare, and short
            await asyncio.sleep(FINISH_POLL_SECONDS)

    async def _run(self, queue: asyncio.Queue[Any]) -> None:
        runner = self._app._runner()  # noqa: SLF001 - same module
        while True:
            events = [await queue.get()]
            if self._app.should_stop:
                return
            rows = len(events[0].value)
            size = _bytes(events[0])
            while not queue.empty() and rows < ROWS_MAX and size < BYTES_MAX:
                event = queue.get_nowait()
                events.append(event)
                rows += len(event.value)
                size += _bytes(event)
            self._busy += 1
            try:
                await self._apply(runner, events)
            finally:
                self._busy -= 1
            events.clear()

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


def _bytes(event: Any) -> int:
    return sum(len(record.value or b"") for record in event.value)
