"""Feeds services that are built anew: each works on what waits for it while the others work on theirs.

The end state is a function of the set of events, so it does not matter how their batches meet. What waits is
bounded: events from outside are only read on while no service has much before it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.cli.whatif import Message, Process
from shared.contracts import points, tiers
from shared.contracts.catalogue import CONSUMES, DEAD_LETTERS
from shared.errors import TreueError
from shared.events.model import Record
from shared.events.replay import Ask

# Records that services hand each other have no place in Kafka; these partitions are nobody else's.
PIPE = 1_000_000
HANDED = (points.TOPIC, tiers.TOPIC)
# Time may let something happen that lets something happen: levels fall, so bonuses change.
ROUNDS_MAX = 10
# Records of one transaction, and how many may wait at a service before nothing more is read from outside.
BATCH_ROWS, WAITING_MAX = 2000, 6000

Place = tuple[str, int, int]


@dataclass(slots=True)
class Line:
    """What waits at a service: records, and whether time shall do its work or the service has more to tell."""

    name: str
    process: Process
    waiting: deque[Any] = field(default_factory=deque)
    offsets: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    job: bool = False
    more: bool = False
    busy: bool = False

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do, and nothing to tell."""
        return not (self.waiting or self.job or self.more or self.busy)

    def take(self) -> list[Any]:
        """Some of the records that wait, in order."""
        return [self.waiting.popleft() for _ in range(min(BATCH_ROWS, len(self.waiting)))]


class Rebuilt:
    """The three services, fed from outside; ``counts`` is what became of what was fed."""

    def __init__(self, processes: Mapping[str, Process], now: datetime) -> None:
        self.counts: Counter[str] = Counter()
        self._lines = {name: Line(name, process) for name, process in processes.items()}
        self._now = now
        self._moved = asyncio.Condition()
        self._failed: Exception | None = None
        self._told = False

    async def feed(self, records: Sequence[Record], buried: Iterable[Place] = ()) -> None:
        """Have records from outside applied soon. What is ``buried`` stays so, whatever we think now."""
        skipped = frozenset(buried)
        await self._until(lambda: all(len(o.waiting) < WAITING_MAX for o in self._lines.values()))
        for name, line in self._lines.items():
            line.waiting.extend(
                (
                    *(r.topic, r.partition, r.offset, r.key),
                    None if (r.topic, r.partition, r.offset) in skipped else r.value,
                    *(list(r.headers), r.timestamp),
                )
                for r in records
                if r.topic in CONSUMES[name]
            )
        self.counts["records"] += len(records)
        await self._tell()

    async def settled(self) -> None:
        """Wait until all that was fed is applied, and all that follows from it."""
        await self._until(lambda: all(line.idle for line in self._lines.values()))

    async def let_time_pass(self) -> None:
        """What time has done by now: points that ended, levels that ran out, and what follows from that."""
        for _ in range(ROUNDS_MAX):
            await self.settled()
            self._told = False
            for line in self._lines.values():
                line.job = True
            await self._tell()
            await self.settled()
            if not self._told:
                return

    async def end(self) -> None:
        """Let everybody finish what they have in hand, and nothing more."""
        self._failed = self._failed or TreueError("it has ended")
        await self._tell()

    async def serve(self, name: str) -> None:
        """Hand a service what waits for it, until cancelled; what goes wrong is raised by whoever waits."""
        line = self._lines[name]
        try:
            while True:
                await self._until(lambda: self._may_go_on(line))
                await self._ask(line)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._failed = self._failed or error
            await self._tell()

    def _may_go_on(self, line: Line) -> bool:
        """Records come first; what time has to tell waits until the others have little before them.

        So of two services that both have much to tell, one always goes on.
        """
        if line.waiting:
            return True
        others = (other for other in self._lines.values() if other is not line)
        return (line.job or line.more) and all(len(o.waiting) < WAITING_MAX for o in others)

    async def _ask(self, line: Line) -> None:
        taken = line.take()
        job = line.job and not taken
        line.busy, line.job = True, line.job and not job
        reply = await line.process.exchange(Ask(self._now, taken, job=job, rebuilding=True))
        line.busy, line.more = False, reply.more
        self._hand_on(reply.messages)
        await self._tell()

    def _hand_on(self, messages: Sequence[Message]) -> None:
        self.counts["dead letters"] += sum(topic == DEAD_LETTERS for topic, _, _ in messages)
        for topic, key, payload in messages:
            if topic not in HANDED:
                continue
            self._told = True
            for name, line in self._lines.items():
                if topic in CONSUMES[name]:
                    offset = line.offsets[topic]
                    line.offsets[topic] += 1
                    line.waiting.append((topic, PIPE, offset, key, payload, [], 0))

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self._failed is not None or holds())
        if self._failed is not None:
            raise self._failed


@asynccontextmanager
async def fed(processes: Mapping[str, Process], now: datetime) -> AsyncIterator[Rebuilt]:
    """The services at work, as long as the block."""
    rebuilt = Rebuilt(processes, now)
    tasks = [asyncio.create_task(rebuilt.serve(name)) for name in processes]
    try:
        yield rebuilt
    finally:
        # Nobody is cancelled in the middle of a frame: a process whose answer is not read would never end.
        await rebuilt.end()
        await asyncio.gather(*tasks)
