"""Holds whose time is over are written down as such and told: late, and true without it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from services.points.handlers.spending import Spending
from services.points.ledger import spending as ledger
from shared.contracts import points
from shared.db.types import Pool
from shared.events.model import Work
from shared.events.runner import sql as stream
from shared.program import Program

SOURCE = "/services/points"
BATCH_HOLDS = 200


async def time_out(
    pool: Pool, wake: Callable[[], None], program: Program, now: datetime, batch: int = BATCH_HOLDS
) -> None:
    """Time out all holds that are due, each in a transaction of its own: one account is locked at a time."""
    spending = Spending(program)
    found = batch
    while found == batch:
        async with pool.acquire() as conn:
            due = await ledger.timed_out(conn, now, batch)
            found = 0
            for hold_id in due:
                async with conn.transaction():
                    work = Work(conn, now, SOURCE)
                    found += await spending.time_out(work, hold_id)
                    keys = [message.key for message in work.messages]
                    payloads = [message.payload for message in work.messages]
                    if keys:
                        await conn.execute(stream.add_outbox, points.TOPIC, keys, payloads, None)
                        await conn.execute(stream.notify_outbox)
        if due:
            wake()
