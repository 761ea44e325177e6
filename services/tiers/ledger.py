"""The write side: one small function per named statement of sql/ledger.sql, each for a whole batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from services.tiers.domain.qualification import Amount, Basis, Qualifying, counting
from services.tiers.domain.standing import Standing
from shared.contracts.tiers import TierMove
from shared.db import statements
from shared.db.closing import Writer
from shared.db.types import Connection

sql = statements.load(Path(__file__).parent / "sql" / "ledger.sql")
_moves = msgspec.json.Decoder(tuple[TierMove, ...])
# New accounts can be made by another transaction between our two looks; each repetition sees one more of these.
LOOKS_MAX = 5


@dataclass(slots=True)
class Account:
    """A locked account as it was stored.

    ``rules`` is the version of the rules by which it was walked, ``timeline`` the stored JSON of its way.
    """

    id: int
    customer_id: str
    revision: int
    rules: str
    standing: Standing
    timeline: str

    def told(self) -> tuple[TierMove, ...]:
        """Its way through the levels as told so far."""
        return _moves.decode(self.timeline)


class QualifyingRow(NamedTuple):
    """An entry that counts, in the order of the statement ``add_qualifying``."""

    entry_id: UUID
    account_id: int
    occurred_at: datetime
    base: int
    net_spend: Decimal
    purchases: int
    shop: str | None
    order_id: str | None
    recorded_at: datetime


class StandingRow(NamedTuple):
    """What a purchase counts for since it was credited, in the order of the statement ``add_standings``."""

    lot_id: UUID
    seq: int
    account_id: int
    occurred_at: datetime
    base: int
    net_spend: Decimal
    purchases: int
    reductions: str
    refunded_at: datetime | None
    refund_id: str | None
    recorded_at: datetime


class ChangeRow(NamedTuple):
    """A line of the history, in the order of the statement ``add_changes``."""

    account_id: int
    revision: int
    number: int
    kind: str
    tier: str
    previous: str | None
    multiplier: str
    since: datetime
    valid_until: datetime | None
    reach: int
    cause: str | None
    replaced: str | None
    recorded_at: datetime


async def lock_accounts(
    conn: Connection, customers: Collection[str], rules: str, first: Standing, now: datetime
) -> dict[str, Account]:
    """The customers' accounts, made with the ``first`` standing where missing, locked until commit."""
    accounts: dict[str, Account] = {}
    wanted = sorted(customers)
    for _ in range(LOOKS_MAX):
        rows = await conn.fetch(
            sql.lock_accounts, wanted, rules, _numeric(first.room), _numeric(first.late_room), now
        )
        accounts.update({row["customer_id"]: _account(row) for row in rows})
        wanted = [customer for customer in wanted if customer not in accounts]
        if not wanted:
            return accounts
    raise asyncpg.LockNotAvailableError(f"accounts appear and vanish: {wanted[:3]}")


async def lock_due_accounts(
    conn: Connection, now: datetime, settled: datetime, rules: str, rows: int
) -> list[Account]:
    """At most ``rows`` accounts that wait for a deadline or for new rules, locked until commit."""
    return [_account(r) for r in await conn.fetch(sql.lock_due_accounts, now, settled, rows, rules)]


async def add_qualifying(conn: Connection, rows: Sequence[QualifyingRow]) -> set[UUID]:
    """Append entries; returns the ids of those that were not known before."""
    columns = zip(*rows, strict=True)
    return {row["entry_id"] for row in await conn.fetch(sql.add_qualifying, *columns)}


async def add_standings(conn: Connection, rows: Sequence[StandingRow]) -> set[tuple[UUID, int]]:
    """Append what purchases count for now; returns lot and seq of those that were not known before."""
    found = await conn.fetch(sql.add_standings, *zip(*rows, strict=True))
    return {(row["lot_id"], row["seq"]) for row in found}


async def entries_of(
    conn: Connection, accounts: Sequence[int], basis: Basis
) -> Mapping[int, Sequence[Qualifying]]:
    """All entries of each account, with what they add under the program's basis."""
    found: dict[int, list[Qualifying]] = defaultdict(list)
    for account_id, *rest in await conn.fetch(sql.entries_of, accounts):
        found[account_id].append(counting(basis, *rest))
    return found


async def advance(
    conn: Connection, standings: Mapping[int, Standing], rules: str, now: datetime
) -> None:
    """Store how far the accounts were walked and what may still be added unseen."""
    if standings:
        rows = ((account, *_columns(s)) for account, s in standings.items())
        await conn.execute(sql.advance, rules, now, *zip(*rows, strict=True))


async def walked(
    conn: Writer,
    standings: Mapping[int, Standing],
    timelines: Mapping[int, tuple[int, str | None, Sequence[TierMove]]],
    history: Sequence[ChangeRow],
    rules: str,
    now: datetime,
) -> None:
    """The same for walked accounts, with changed timelines (account → new revision, level at the end, moves)."""
    unchanged = (None, None, None)
    rows = []
    for account, found in standings.items():
        told = timelines.get(account)
        changed = unchanged if told is None else (told[0], told[1], encode(told[2]))
        rows.append((account, *_columns(found), *changed))
    changes = list(zip(*history, strict=True)) if history else [()] * len(ChangeRow._fields)
    await conn.execute(sql.walked, *changes, rules, now, *zip(*rows, strict=True))


def _columns(
    found: Standing,
) -> tuple[datetime | None, datetime | None, Decimal | None, Decimal | None]:
    return found.computed_until, found.due_at, _numeric(found.room), _numeric(found.late_room)


def encode(found: Sequence[msgspec.Struct] | msgspec.Struct) -> str:
    """Moves, or reductions, as they are kept."""
    return msgspec.json.encode(found).decode()


def _numeric(room: Amount | None) -> Decimal | None:
    return None if room is None else Decimal(room)


def _account(row: asyncpg.Record) -> Account:
    account_id, customer_id, revision, rules, computed_until, due_at, room, late_room, way = row
    standing = Standing(computed_until, due_at, room, late_room)
    return Account(account_id, customer_id, revision, rules, standing, way)
