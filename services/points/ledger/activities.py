"""What customers do besides buying: one small function per named statement of sql/activities.sql."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg

from services.points.ledger.entries import Account, lock_accounts
from shared.db import statements
from shared.db.types import Connection

sql = statements.load(Path(__file__).parents[1] / "sql" / "activities.sql")


class ActivityRow(NamedTuple):
    """An activity as it was told, in the order of the statement ``add_activities``."""

    activity_id: UUID
    event_key: UUID
    account_id: int
    activity: str
    reference: str
    referrer_id: int | None
    event_id: str
    fingerprint: int
    occurred_at: datetime
    recorded_at: datetime
    data: str
    verdict: str | None


async def known_activities(
    conn: Connection, activities: Collection[UUID], events: Collection[UUID]
) -> Sequence[asyncpg.Record]:
    """Which of these activities or events have been told, with the fingerprint of what they said."""
    return await conn.fetch(sql.known_activities, activities, events)


async def add_activities(conn: Connection, rows: Sequence[ActivityRow], flag: int) -> None:
    """Record activities, and flag the accounts of those who were brought by somebody."""
    if rows:
        await conn.execute(sql.add_activities, *zip(*rows, strict=True), flag)


async def activities_of(
    conn: Connection, kinds: Collection[tuple[int, str]]
) -> Sequence[asyncpg.Record]:
    """All that persons (account, activity) did of a kind, by any of their ids, each with what its lot holds."""
    if not kinds:
        return ()
    return await conn.fetch(sql.activities_of, *zip(*kinds, strict=True))


async def referrers_of(conn: Connection, accounts: Collection[int]) -> set[int]:
    """Who says to have brought these customers; accounts."""
    rows = await conn.fetch(sql.referrals_about, accounts)
    return {row["referrer_id"] for row in rows}


async def referrals_of(conn: Connection, accounts: Collection[int]) -> Sequence[asyncpg.Record]:
    """All referrals that these customers are part of, on either side, with the friends' first purchases."""
    return await conn.fetch(sql.referrals_of, accounts)


async def referral_lots(conn: Connection, events: Collection[UUID]) -> Sequence[asyncpg.Record]:
    """What the lots of these referrals hold now."""
    return await conn.fetch(sql.referral_lots, events)


async def lock_by_account(
    conn: Connection, wanted: Iterable[int], held: Collection[Account]
) -> dict[int, Account]:
    """Accounts by id, locked: those in hand as they are, the others from the table."""
    found = {account.id: account for account in held}
    missing = [account for account in wanted if account not in found]
    if missing:
        rows = await conn.fetch(sql.customers_by_account, missing)
        more = await lock_accounts(conn, [row["customer_id"] for row in rows])
        found.update({account.id: account for account in more.values()})
    return found
