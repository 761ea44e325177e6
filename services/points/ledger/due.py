"""Accounts for which time has something to tell: found, locked, and told when to be looked at next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg

from services.points.domain.expiry import Hold
from services.points.ledger.entries import QUIET, Account
from shared.db import statements
from shared.db.types import Connection

sql = statements.load(Path(__file__).parents[1] / "sql" / "due.sql")

# What happened so long ago and is written now is loaded, not lived.
OLD = timedelta(days=1)
# So that no run of the job sees an account twice.
AGAIN = timedelta(seconds=45)


class DueAccount(NamedTuple):
    """A locked account; ``loading`` says that something old has just been written to it."""

    account: Account
    loading: bool


async def lock_due(
    conn: Connection, now: datetime, settle: timedelta, count: int
) -> Sequence[DueAccount]:
    """Lock accounts that are due and nobody else's; ``settle`` is how long they must have been left alone."""
    rows = await conn.fetch(sql.lock_due, now + QUIET - settle, count)
    return [
        DueAccount(
            Account(
                row["account_id"],
                row["customer_id"],
                row["seq"],
                row["balance"],
                row["revision"],
                (),
                row["flags"],
            ),
            row["recorded_at"] is not None
            and row["recorded_at"] > now - settle
            and row["occurred_at"] < row["recorded_at"] - OLD,
        )
        for row in rows
    ]


async def due_lines(
    conn: Connection, accounts: Collection[Account], now: datetime
) -> Sequence[asyncpg.Record]:
    """All lines of the lots of which something may have to be told, by account and seq."""
    return await conn.fetch(sql.due_lines, [a.id for a in accounts], now)


async def held_parts(
    conn: Connection, accounts: Collection[int], lots: Collection[UUID], since: datetime
) -> Mapping[UUID, Sequence[Hold]]:
    """What holds that ended after ``since`` had reserved of these lots."""
    found: dict[UUID, list[Hold]] = defaultdict(list)
    for row in await conn.fetch(sql.held_parts, accounts, since, lots):
        found[row["lot_id"]].append(Hold(row["held_at"], row["ended_at"], row["points"]))
    return found


async def set_due(conn: Connection, accounts: Collection[Account], now: datetime) -> None:
    """Look at these accounts again when their next lot unlocks or expires, if any does."""
    await conn.execute(sql.set_due, now + AGAIN, now, [a.id for a in accounts])


async def postpone(conn: Connection, accounts: Collection[Account], at: datetime) -> None:
    """Look at these accounts at ``at``."""
    if accounts:
        await conn.execute(sql.postpone, at, [a.id for a in accounts])
