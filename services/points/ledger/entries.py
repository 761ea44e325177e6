"""The write side: one small function per named statement of sql/entries.sql, each for a whole batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from os import urandom
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from services.points.domain.chaining import digest
from shared.contracts.tiers import TierMove
from shared.db import statements
from shared.db.closing import Writer
from shared.db.types import Connection

sql = statements.load(Path(__file__).parents[1] / "sql" / "entries.sql")
_moves = msgspec.json.Decoder(list[TierMove])
# New accounts can be made by another transaction between our two looks; each repetition sees one more of these.
LOOKS_MAX = 5
FEW_ROWS = 40
# While old purchases are loaded, what becomes of a lot is still open: time tells of its account this much later.
QUIET = timedelta(seconds=30)
# Lots end at midnights of the program's zone, and no midnight lies off a quarter of an hour.
QUARTER_SECONDS = 900
# Kinds of corrections by which an activity may come to count, or count no more, and keep other lots or not.
REDECIDED = frozenset({"withdrawn", "activity"})
# Why an account is settled after every write: it has refunds, it has spent or owes, a campaign of it has a cap.
FLAG_REFUNDS, FLAG_SPENT, FLAG_CAPPED = 1, 2, 4
# It was brought by another customer; credit was taken back for a blocked card; it lives on as another account.
FLAG_REFERRED, FLAG_WITHDRAWN, FLAG_MERGED = 64, 128, 256
# Others live on as it.
FLAG_HEIR = 512


@dataclass(slots=True)
class Account:
    """A locked account; ``seq`` and ``balance`` move with every entry that the batch appends.

    ``flags`` says what must be settled for it whenever something was written (``FLAG_*``); mostly nothing.
    """

    id: int
    customer_id: str
    seq: int
    balance: int
    revision: int
    timeline: Sequence[TierMove]
    flags: int = 0


class EntryRow(NamedTuple):
    """A line of the ledger; the names are those of the table's columns."""

    entry_id: UUID
    account_id: int
    seq: int
    kind: str
    points: int
    base: int
    bonus: int
    balance_after: int
    lot_id: UUID
    occurred_at: datetime
    recorded_at: datetime
    available_at: datetime
    expires_at: datetime | None
    shop: str | None
    order_id: str | None
    event_key: UUID
    event_id: str
    fingerprint: int
    net_spend: Decimal
    exact: str
    tier: str | None
    multiplier: str
    reason: str | None
    explanation: str
    actor: str | None = None
    active_from: datetime | None = None


BATCHED = (*EntryRow._fields, "batch")


class UncreditedRow(NamedTuple):
    """A purchase that earns nothing; the names are those of the table's columns."""

    purchase_id: UUID
    event_key: UUID
    why: str
    customer_id: str | None
    shop: str
    order_id: str
    event_id: str
    fingerprint: int
    net_spend: Decimal
    exact: str
    occurred_at: datetime
    recorded_at: datetime
    explanation: str
    card_number: str | None = None
    data: str | None = None


class Known(NamedTuple):
    """An order that has been recorded, and the event that told it; ``fingerprint`` of what it said."""

    purchase_id: UUID
    event_key: UUID
    fingerprint: int


async def lock_and_know(
    conn: Connection, customers: Collection[str], purchases: Sequence[UUID], events: Sequence[UUID]
) -> tuple[dict[str, Account], Sequence[Known], Collection[UUID]]:
    """The customers' accounts, made where missing, locked until commit; and which orders and events are known.

    The third are those of ``purchases`` that refunds have been told of.
    """
    wanted = sorted(customers)
    accounts: dict[str, Account] = {}
    known: list[Known] = []
    awaited: set[UUID] = set()
    for _ in range(LOOKS_MAX):
        for row in await conn.fetch(sql.lock_and_know, wanted, purchases, events):
            account_id, customer_id, seq, balance, revision, timeline, flags, *seen = row
            if account_id is None:
                if seen[1] is None:
                    awaited.add(seen[0])
                else:
                    known.append(Known(*seen))
                continue
            moves = _moves.decode(timeline) if timeline else ()
            accounts[customer_id] = Account(
                account_id, customer_id, seq, balance, revision, moves, flags
            )
        wanted = [customer for customer in wanted if customer not in accounts]
        if not wanted:
            return accounts, known, awaited
    raise asyncpg.LockNotAvailableError(f"accounts appear and vanish: {wanted[:3]}")


async def lock_accounts(conn: Connection, customers: Collection[str]) -> dict[str, Account]:
    """The customers' accounts, made where missing, locked until commit."""
    accounts, _, _ = await lock_and_know(conn, customers, (), ())
    return accounts


async def append(
    conn: Connection,
    rows: Sequence[EntryRow],
    accounts: Collection[Account],
    last: Writer | None = None,
) -> None:
    """Append lines and store the accounts' new position and sum; a known line raises UniqueViolationError.

    Lines that go together are a link of the session's chain.

    Many go by COPY, which costs both sides a third less than arrays (asyncpg looks at every element of an array
    twice); few go with the accounts in one statement, which spares two round trips, by ``last`` where it is given.
    """
    if not rows:
        return
    due = _dues(rows)
    ids = {row.account_id for row in rows}
    moves = ((a.id, a.seq, a.balance, due.get(a.id)) for a in accounts if a.id in ids)
    moved = list(zip(*moves, strict=True))
    batch = UUID(bytes=urandom(16))
    link = batch, b"".join([digest(row) for row in rows])
    if len(rows) <= FEW_ROWS:
        await (last or conn).execute(sql.append_entries, *link, *moved, *zip(*rows, strict=True))
        return
    batched = [(*row, batch) for row in rows]
    await conn.copy_records_to_table("entries", records=batched, columns=BATCHED)
    await conn.execute(sql.move_accounts, *link, *moved)


def _dues(rows: Sequence[EntryRow]) -> Mapping[int, datetime]:
    """When time first does something to what is appended, by account: to be told no sooner than all is quiet."""
    found: dict[int, datetime] = {}
    for row in rows:
        due = row.available_at if row.available_at > row.occurred_at else row.expires_at
        if (row.kind in REDECIDED and row.entry_id != row.lot_id) or (
            row.active_from is not None and _late(row.active_from, row)
        ):
            due = row.occurred_at
        if due is not None:
            known = found.get(row.account_id)
            if known is None or due < known:
                found[row.account_id] = due
    quiet = rows[0].recorded_at + QUIET
    return {account: max(due, quiet) for account, due in found.items()}


def _late(active_from: datetime, row: EntryRow) -> bool:
    """Whether lots that this activity keeps may have been told to be gone meanwhile."""
    since = min(active_from, row.occurred_at).timestamp()
    return since // QUARTER_SECONDS < row.recorded_at.timestamp() // QUARTER_SECONDS


async def add_uncredited(conn: Connection, rows: Sequence[UncreditedRow]) -> None:
    """Record purchases without credit."""
    if rows:
        await conn.copy_records_to_table("uncredited", records=rows, columns=UncreditedRow._fields)


async def take_timelines(
    conn: Connection, accounts: Collection[Account]
) -> Sequence[asyncpg.Record]:
    """Store what the tiers service told; returns every award of the accounts as it stands, by time."""
    if not accounts:
        return ()
    rows = ((a.id, a.revision, msgspec.json.encode(a.timeline).decode()) for a in accounts)
    return await conn.fetch(sql.take_timelines, *zip(*rows, strict=True))
