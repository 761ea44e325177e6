"""Holds and what they take: one small function per named statement of sql/spending.sql."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from os import urandom
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg

from services.points.domain.chaining import digest
from services.points.domain.settlement import Moved, Reserve
from services.points.domain.spending import Hold, Part, Spendable
from services.points.ledger.customers import follow
from services.points.ledger.entries import FLAG_MERGED, Account, EntryRow
from shared.db import statements
from shared.db.types import Connection

sql = statements.load(Path(__file__).parents[1] / "sql" / "spending.sql")

LOOKS_MAX = 2
# Beside FLAG_SPENT: a lot of it was below 0 once, so that whatever is written may change who pays for it.
FLAG_OWES = 8
_COLUMNS: tuple[tuple[object, ...], ...] = ((),) * len(EntryRow._fields)


class Purse(NamedTuple):
    """A locked account with what can be spent of it, and the hold it was asked for."""

    account: Account
    lots: Sequence[Spendable]
    hold: Hold | None


async def lock_customer(conn: Connection, customer_id: str, at: datetime) -> Purse | None:
    """Lock a customer's account until commit, with what it has at that instant; None for an unknown one.

    That of a merged customer is the account as which they live on.
    """
    purse = await _lock(conn, None, customer_id, at)
    if purse is None or not purse.account.flags & FLAG_MERGED:
        return purse
    heir = (await follow(conn, {customer_id: purse.account}))[customer_id]
    return await _lock(conn, None, heir.customer_id, at)


async def lock_hold(conn: Connection, hold_id: UUID, at: datetime) -> Purse | None:
    """The same for the account of a hold; None for an unknown one."""
    return await _lock(conn, hold_id, None, at)


async def _lock(
    conn: Connection, hold_id: UUID | None, customer_id: str | None, at: datetime
) -> Purse | None:
    for _ in range(LOOKS_MAX):
        rows = await conn.fetch(sql.lock_spending, hold_id, customer_id, at)
        if not rows:
            return None
        if rows[0]["fresh"]:
            return _purse(rows)
    # Nobody can have changed it since: it is locked.
    raise asyncpg.LockNotAvailableError(f"the account of {hold_id or customer_id} changes locked")


async def store(
    conn: Connection,
    hold: Hold,
    account: Account,
    rows: Sequence[EntryRow] = (),
    due: datetime | None = None,
) -> None:
    """Write a hold as it stands, the lines it brings (a link of the chain), the account's position and flags.

    ``due`` is when time has to be told of the account's lots, where the hold changes that.
    """
    batch = UUID(bytes=urandom(16)) if rows else None
    await conn.execute(
        sql.store_hold,
        batch,
        b"".join([digest(row) for row in rows]),
        hold.id,
        account.id,
        hold.state,
        hold.points,
        hold.captured,
        hold.restored,
        [part.lot_id for part in hold.parts],
        [part.points for part in hold.parts],
        hold.order_id,
        hold.redemption_id,
        hold.held_at,
        hold.expires_at,
        hold.ended_at,
        account.seq,
        account.balance,
        account.flags,
        due,
        *(zip(*rows, strict=True) if rows else _COLUMNS),
    )


async def set_flags(conn: Connection, accounts: Collection[Account]) -> None:
    """Store the accounts' flags."""
    await conn.execute(sql.set_flags, [a.id for a in accounts], [a.flags for a in accounts])


async def account_ids(conn: Connection, customers: Collection[str]) -> dict[str, int]:
    """The account of each customer that has one; nothing is locked."""
    rows = await conn.fetch(sql.account_ids, list(customers))
    return {row["customer_id"]: row["account_id"] for row in rows}


async def find_hold(conn: Connection, hold_id: UUID) -> Hold | None:
    """A hold as it was last written; nothing is locked."""
    row = await conn.fetchrow(sql.hold, hold_id)
    return None if row is None else _hold(row, row["points"], row["expires_at"])


async def known_holds(conn: Connection, holds: Sequence[UUID]) -> set[UUID]:
    """Which of these holds there are, declined ones among them."""
    return {row["hold_id"] for row in await conn.fetch(sql.known_holds, holds)}


async def holds_of_order(
    conn: Connection, account: Account, order_id: str
) -> Sequence[asyncpg.Record]:
    """Holds for an order that are live or captured and not given back in full, the oldest first."""
    return await conn.fetch(sql.holds_of_order, account.id, order_id)


async def timed_out(conn: Connection, now: datetime, count: int) -> Sequence[UUID]:
    """Holds whose time is over and that are not written down as such; not locked."""
    return [row["hold_id"] for row in await conn.fetch(sql.timed_out, now, count)]


async def owing(conn: Connection, accounts: Collection[Account]) -> set[int]:
    """Ids of those accounts in which a lot was ever below 0, or something was covered."""
    rows = await conn.fetch(sql.owing, [account.id for account in accounts])
    return {row["account_id"] for row in rows}


async def replayed_lines(
    conn: Connection, accounts: Collection[int]
) -> Mapping[int, Sequence[Moved]]:
    """All lines of accounts but those that only tell what time does, by account."""
    found: dict[int, list[Moved]] = defaultdict(list)
    for row in await conn.fetch(sql.replayed_lines, list(accounts)):
        found[row["account_id"]].append(Moved(*row))
    return found


async def reserves(conn: Connection, accounts: Collection[int]) -> Mapping[int, Sequence[Reserve]]:
    """What holds of these accounts ever reserved, by account."""
    found: dict[int, list[Reserve]] = defaultdict(list)
    for account_id, *reserve in await conn.fetch(sql.reserves, list(accounts)):
        found[account_id].append(Reserve(*reserve))
    return found


def _purse(rows: Sequence[asyncpg.Record]) -> Purse:
    head = rows[0]
    account = Account(
        head["account_id"],
        head["customer_id"],
        head["seq"],
        head["balance"],
        head["revision"],
        (),
        head["flags"],
    )
    lots = [
        Spendable(
            row["lot_id"],
            row["points"],
            row["reserved"],
            row["occurred_at"],
            row["available_at"],
            row["expires_at"],
        )
        for row in rows
        if row["lot_id"] is not None
    ]
    held = head["hold_id"] is not None
    return Purse(
        account, lots, _hold(head, head["hold_points"], head["hold_expires_at"]) if held else None
    )


def _hold(row: asyncpg.Record, points: int, expires_at: datetime) -> Hold:
    return Hold(
        id=row["hold_id"],
        customer_id=row["customer_id"],
        state=row["state"],
        points=points,
        captured=row["captured"],
        restored=row["restored"],
        parts=[Part(*part) for part in zip(row["lots"], row["parts"], strict=True)],
        order_id=row["order_id"],
        redemption_id=row["redemption_id"],
        held_at=row["held_at"],
        expires_at=expires_at,
        ended_at=row["ended_at"],
    )
