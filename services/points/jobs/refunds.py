"""Refunds and purchases that passed each other find each other: rare, late, and true afterwards as if in time.

A refund of an unknown purchase and that purchase may be recorded by two transactions at the same moment, neither
of which sees the other's row. Where the account of one customer stands between them, its lock prevents that; where
the refund names nobody, the table's. What is left takes no points: guests' purchases, and other customers'.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from services.points.handlers.refunds import meet_stragglers
from shared.contracts import points
from shared.db.types import Pool
from shared.events.model import Work
from shared.events.runner import sql as stream
from shared.program import Program

SOURCE = "/services/points"
BATCH_PURCHASES = 200


async def look_again(
    pool: Pool,
    wake: Callable[[], None],
    program: Program,
    now: datetime,
    batch: int = BATCH_PURCHASES,
) -> None:
    """Let refunds that wait for a purchase that is here find it, some of them in each transaction."""
    found = batch
    while found == batch:
        async with pool.acquire() as conn, conn.transaction():
            work = Work(conn, now, SOURCE)
            found = await meet_stragglers(work, program, batch)
            if work.messages:
                keys = [message.key for message in work.messages]
                payloads = [message.payload for message in work.messages]
                await conn.execute(stream.add_outbox, points.TOPIC, keys, payloads, None)
                await conn.execute(stream.notify_outbox)
        if found:
            wake()
