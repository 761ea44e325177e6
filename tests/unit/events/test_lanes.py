"""Which batches become one transaction, and when a second one runs beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from shared.events.app import GATHERING_PACE, MUCH_ROWS, PATIENCE_SECONDS, ROWS_MAX, Lanes
from tests.fixtures.events import record


class Probe:
    """Stands where the runner stands, and notes what runs beside what."""

    def __init__(self) -> None:
        self.running: list[set[int]] = []
        self.transactions: list[list[tuple[int, int]]] = []
        self.most = 0
        self.stopped: set[Any] = set()
        self.ahead = False

    async def begin(self) -> None:
        assert not self.ahead, "a transaction was begun that nobody used or let go"
        self.ahead = True

    async def let_go(self) -> None:
        self.ahead = False

    async def process(self, records: Sequence[Any]) -> bool:
        self.ahead = False
        partitions = {r.partition for r in records}
        assert not any(partitions & other for other in self.running), (
            "a partition is in two at once"
        )
        self.running.append(partitions)
        self.most = max(self.most, len(self.running))
        self.transactions.append([(r.partition, r.offset) for r in records])
        await asyncio.sleep(0.002)
        self.running.remove(partitions)
        return True


class Stream:
    """A stream of batches: (partition, first offset, count)."""

    def __init__(self, batches: Sequence[tuple[int, int, int]]) -> None:
        self._batches = batches

    def noack(self) -> Stream:
        return self

    async def events(self) -> Any:
        for partition, first, count in self._batches:
            records = [record(b"x", first + n, partition=partition) for n in range(count)]
            message = SimpleNamespace(
                tp=partition, topic="t", partition=partition, serialized_value_size=count
            )
            yield SimpleNamespace(message=message, value=records, ack=lambda: None)


async def run(batches: Sequence[tuple[int, int, int]], *, patient: bool = False) -> Probe:
    probe = Probe()
    tasks: list[asyncio.Task[None]] = []
    app = SimpleNamespace(
        should_stop=False,
        pace=GATHERING_PACE,
        _runner=lambda: probe,
        add_future=lambda coroutine: tasks.append(asyncio.create_task(coroutine)),
    )
    lanes = Lanes(app)  # type: ignore[arg-type]
    lanes.patient = frozenset({"t"} if patient else ())
    await lanes.agent(Stream(batches))
    wanted = sum(count for _, _, count in batches)
    async with asyncio.timeout(5):
        while sum(map(len, probe.transactions)) < wanted:  # noqa: ASYNC110 - it polls a plain list
            await asyncio.sleep(0.001)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return probe


async def test_what_has_queued_on_all_partitions_is_one_transaction() -> None:
    probe = await run([(0, 0, 3), (1, 0, 2), (0, 3, 1)])
    assert len(probe.transactions) == 1
    assert probe.transactions[0] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]


async def test_little_runs_alone_much_runs_two_at_once() -> None:
    assert (await run([(p, 0, 5) for p in range(6)])).most == 1
    assert (await run([(p, 0, ROWS_MAX) for p in range(6)])).most == 2


async def test_order_in_a_partition_holds_and_nothing_is_left_out() -> None:
    batches = [(p, first, 300) for first in range(0, 3000, 300) for p in range(3)]
    probe = await run(batches)
    for partition in range(3):
        seen = [o for tx in probe.transactions for p, o in tx if p == partition]
        assert seen == list(range(3000))
    assert all(len(tx) < ROWS_MAX + 300 for tx in probe.transactions)
    assert MUCH_ROWS < ROWS_MAX


async def test_the_patient_wait_for_company_but_not_for_ever() -> None:
    began = asyncio.get_running_loop().time()
    probe = await run([(p, 0, 5) for p in range(6)], patient=True)
    assert asyncio.get_running_loop().time() - began >= PATIENCE_SECONDS
    assert len(probe.transactions) == 1
    assert sorted(probe.transactions[0]) == [(p, o) for p in range(6) for o in range(5)]


async def test_many_of_the_patient_wait_for_nobody() -> None:
    assert (await run([(p, 0, ROWS_MAX) for p in range(6)], patient=True)).most == 2
