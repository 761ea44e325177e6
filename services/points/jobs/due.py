"""Unlocked and expired points are written down and published: some accounts at a time, and some time after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from services.points.handlers.due import tell
from services.points.ledger import due
from services.points.ledger.entries import QUIET
from shared.contracts import points
from shared.db.types import Connection, Pool
from shared.events.model import Work
from shared.events.runner import sql as stream
from shared.program import Program

SOURCE = "/services/points"
# Accounts told of in one transaction; the next one goes on where it ended, also after a crash.
BATCH_ACCOUNTS = 100


async def tell_due(
    pool: Pool,
    wake: Callable[[], None],
    program: Program,
    now: datetime,
    *,
    settle: timedelta = QUIET,
    batch: int = BATCH_ACCOUNTS,
) -> None:
    """Tell of all accounts that are due, but rest as long as each batch took: the stream has precedence.

    An account that was told of is due no more for a while, so every round finds others. Those to which old
    purchases are just being written are put off.
    """
    found = batch
    while found == batch:
        began = time.perf_counter()
        async with pool.acquire() as conn, conn.transaction():
            found = await _tell_some(conn, program, now, settle, batch)
        wake()
        if found == batch:
            await asyncio.sleep(time.perf_counter() - began)


async def _tell_some(
    conn: Connection, program: Program, now: datetime, settle: timedelta, count: int
) -> int:
    locked = await due.lock_due(conn, now, settle, count)
    await due.postpone(conn, [a.account for a in locked if a.loading], now + QUIET)
    accounts = [a.account for a in locked if not a.loading]
    if accounts:
        work = Work(conn, now, SOURCE)
        await tell(work, program, accounts)
        await due.set_due(conn, accounts, now)
        if work.messages:
            keys = [message.key for message in work.messages]
            payloads = [message.payload for message in work.messages]
            await conn.execute(stream.add_outbox, points.TOPIC, keys, payloads, None)
            # The relay may be another process's: it wakes with the commit.
            await conn.execute(stream.notify_outbox)
    return len(locked)
