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
from shared.db.closing import Writer
from shared.db.types import Connection, as_text

sql = statements.load(Path(__file__).parents[1] / "sql" / "spending.sql")

# Beside FLAG_SPENT: a lot of it was below 0 once, so that whatever is written may change who pays for it.
FLAG_OWES = 8


class Purse(NamedTuple):
    """A locked account with what can be spent of it, and the hold it was asked for."""

    account: Account
    lots: list[Spendable]
    hold: Hold | None


class Change(NamedTuple):
    """What a command does, decided and not yet written: the hold, its lines, and the account as they are then.

    ``made``: the hold is new. ``due``: when time has to be told of the account's lots, if the hold changes that.
    """

    hold: Hold
    account: Account
    rows: Sequence[EntryRow] = ()
    due: datetime | None = None
    made: bool = False


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
    hold = _hold(row, account.customer_id)
    return Purse(account, await _lots(conn, account, at, row["lots"]), hold)


async def lock_free(
    conn: Connection, customers: Collection[str], holds: Collection[UUID], at: datetime
) -> tuple[dict[str, Purse], dict[UUID, Hold]]:
    """Lock the accounts of these customers and holds until commit, with what they have then; by customer.

    Those that somebody else has locked are left out, for nobody is waited for, and so are their holds. A merged
    customer's is their own account and not the one as which they live on.
    """
    locked = await conn.fetch(sql.lock_free, customers, holds)
    purses = {row["account_id"]: Purse(_account(row), [], None) for row in locked}
    found: dict[UUID, Hold] = {}
    if holds:
        for row in await conn.fetch(sql.holds, holds):
            purse = purses.get(row["account_id"])
            if purse is not None:
                found[row["hold_id"]] = _hold(row, purse.account.customer_id)
    if purses:
        also = [part.lot_id for hold in found.values() for part in hold.parts]
        for row in await conn.fetch(sql.spendable_lots, list(purses), at, also):
            purses[row["account_id"]].lots.append(Spendable(*row[1:]))
    return {purse.account.customer_id: purse for purse in purses.values()}, found


async def _lots(
    conn: Connection, account: Account, at: datetime, also: Sequence[UUID]
) -> list[Spendable]:
    rows = await conn.fetch(sql.spendable_lots, [account.id], at, also)
    return [Spendable(*row[1:]) for row in rows]


async def store(conn: Writer, changes: Sequence[Change], now: datetime) -> None:
    """Write holds as they stand, the lines they bring (a link of the chain), and the accounts as they are then.

    Of several changes of an account, the last one tells where it stands.
    """
    rows = [row for change in changes for row in change.rows]
    made = [(change.account.id, change.hold) for change in changes if change.made]
    stands = [change.hold for change in changes if not change.made]
    moved: dict[int, tuple[Account, datetime | None]] = {}
    for change in changes:
        account, due = change.account, change.due
        before = moved.get(account.id)
        if before is not None and before[1] is not None:
            due = before[1] if due is None else min(due, before[1])
        if before is not None or change.rows or due is not None:
            moved[account.id] = account, due
    await conn.execute(
        sql.store_changes,
        UUID(bytes=urandom(16)),
        b"".join([digest(row) for row in rows]),
        as_text([hold.id for _, hold in made]),
        as_text([account_id for account_id, _ in made]),
        [hold.state for _, hold in made],
        as_text([hold.points for _, hold in made]),
        as_text([hold.captured for _, hold in made]),
        [as_text([part.lot_id for part in hold.parts]) for _, hold in made],
        [as_text([part.points for part in hold.parts]) for _, hold in made],
        [hold.order_id for _, hold in made],
        [hold.redemption_id for _, hold in made],
        [hold.held_at for _, hold in made],
        [hold.expires_at for _, hold in made],
        [hold.ended_at for _, hold in made],
        as_text([hold.id for hold in stands]),
        [hold.state for hold in stands],
        as_text([hold.captured for hold in stands]),
        as_text([hold.restored for hold in stands]),
        [hold.ended_at for hold in stands],
        as_text([account.id for account, _ in moved.values()]),
        as_text([account.seq for account, _ in moved.values()]),
        as_text([account.balance for account, _ in moved.values()]),
        as_text([account.flags for account, _ in moved.values()]),
        [due for _, due in moved.values()],
        now,
        as_text([row.entry_id for row in rows]),
        as_text([row.account_id for row in rows]),
        as_text([row.seq for row in rows]),
        [row.kind for row in rows],
        as_text([row.points for row in rows]),
        as_text([row.balance_after for row in rows]),
        as_text([row.lot_id for row in rows]),
        [row.occurred_at for row in rows],
        [row.available_at for row in rows],
        [row.expires_at for row in rows],
        [row.order_id for row in rows],
        as_text([row.event_key for row in rows]),
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
    return None if row is None else _hold(row, row["customer_id"])


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


def _hold(row: asyncpg.Record, customer_id: str) -> Hold:
    return Hold(
        id=row["hold_id"],
        customer_id=customer_id,
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
