"""Two owners of one partition at the same time: what one has committed, the other leaves out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from shared.contracts import purchases
from shared.events.model import Event, Record, Route, Work
from tests.fixtures.events import event, purchase, record
from tests.fixtures.streams import counts, running

pytestmark = pytest.mark.servers

PARTITIONS = 3
EACH = 7


async def slow(work: Work, events: Sequence[Event[Any]]) -> None:
    """A handler that two may be in at once, and that would notice no repetition by itself."""
    await work.conn.execute("SELECT pg_sleep(0.02)")
    for one in events:
        work.publish("treue.points", one.id, "test", one.id, work.now, one.data)


ROUTES = [Route(purchases.TOPIC, purchases.COMPLETED, purchases.PurchaseCompleted, slow)]


def feed(start: int = 0) -> list[Record]:
    return [
        record(event(purchase(f"o{partition}-{offset}")), offset, partition=partition)
        for partition in range(PARTITIONS)
        for offset in range(start, start + EACH)
    ]


@pytest.mark.parametrize("known", [False, True], ids=["first records ever", "known partitions"])
async def test_owners_at_once_apply_every_record_once(points_db: str, *, known: bool) -> None:
    async with AsyncExitStack() as stack:
        owners = [await stack.enter_async_context(running(points_db, ROUTES)) for _ in range(3)]
        pool = owners[0][1]
        start = EACH if known else 0
        if known:
            assert await owners[0][0].process(feed())
        batch = feed(start)
        # One of them holds older records besides: it was asleep when the others went on.
        batches = (batch, batch[: EACH + 2], feed() + batch if known else batch)
        await asyncio.gather(
            *(runner.process(some) for (runner, _), some in zip(owners, batches, strict=True))
        )
        assert (await counts(pool))["applied"] == PARTITIONS * (start + EACH)
        ends = await pool.fetch("SELECT next_offset FROM offsets")
        assert [row["next_offset"] for row in ends] == [start + EACH] * PARTITIONS
        sent = await pool.fetchval("SELECT sum(cardinality(keys)) FROM outbox")
        assert sent == PARTITIONS * (start + EACH)
