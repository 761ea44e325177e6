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

# Beside FLAG_SPENT: a lot of it was below 0 once, so that whatever is written may change who pays for it.
FLAG_OWES = 8


class Purse(NamedTuple):
    """A locked account with what can be spent of it, and the hold it was asked for."""

    account: Account
    lots: Sequence[Spendable]
    hold: Hold | None


async def lock_customer(conn: Connection, customer_id: str, at: datetime) -> Purse | None:
    """Lock a customer's account until commit, with what it has at that instant; None for an unknown one.

    That of a merged customer is the account as which they live on.
    """
    row = await conn.fetchrow(sql.lock_customer, customer_id)
    if row is None:
        return None
    account = _account(row)
    if account.flags & FLAG_MERGED:
        # Merged while we waited.
        account = (await follow(conn, {customer_id: account}))[customer_id]
    return Purse(account, await _lots(conn, account, at, ()), None)


async def lock_hold(conn: Connection, hold_id: UUID, at: datetime) -> Purse | None:
    """The same for the account of a hold; None for an unknown one."""
    row = await conn.fetchrow(sql.lock_hold, hold_id)
    if row is None:
        return None
    account = _account(row)
    return Purse(account, await _lots(conn, account, at, row["lots"]), _hold(row))


async def _lots(
    conn: Connection, account: Account, at: datetime, also: Sequence[UUID]
) -> Sequence[Spendable]:
    rows = await conn.fetch(sql.spendable_lots, account.id, at, also)
    return [Spendable(*row) for row in rows]


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
    stands = (
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
    )
    if not rows:
        head = (account.flags, due, account.id, hold.id)
        await conn.execute(sql.store_hold, *head, *stands[2:])
        return
    first = rows[0]
    await conn.execute(
        sql.store_hold_and_lines,
        UUID(bytes=urandom(16)),
        b"".join([digest(row) for row in rows]),
        *stands,
        account.seq,
        account.balance,
        account.flags,
        due,
        first.kind,
        first.occurred_at,
        first.recorded_at,
        [row.entry_id for row in rows],
        [row.seq for row in rows],
        [row.points for row in rows],
        [row.balance_after for row in rows],
        [row.lot_id for row in rows],
        [row.available_at for row in rows],
        [row.expires_at for row in rows],
        [row.reason for row in rows],
        [row.explanation for row in rows],
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
    return None if row is None else _hold(row)


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


def _account(row: asyncpg.Record) -> Account:
    return Account(
        row["account_id"],
        row["customer_id"],
        row["seq"],
        row["balance"],
        row["revision"],
        (),
        row["flags"],
    )


def _hold(row: asyncpg.Record) -> Hold:
    return Hold(
        id=row["hold_id"],
        customer_id=row["customer_id"],
        state=row["state"],
        points=row["points"],
        captured=row["captured"],
        restored=row["restored"],
        parts=[Part(*part) for part in zip(row["lots"], row["parts"], strict=True)],
        order_id=row["order_id"],
        redemption_id=row["redemption_id"],
        held_at=row["held_at"],
        expires_at=row["expires_at"],
        ended_at=row["ended_at"],
    )
