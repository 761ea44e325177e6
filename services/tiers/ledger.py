"""The write side: one small function per named statement of sql/ledger.sql, each for a whole batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from services.tiers.domain.persons import Merge
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

    ``rules`` is the version of the rules by which it was walked, ``timeline`` the stored JSON of its way,
    ``person_id`` the account that this one ends in, where several are one person's; ``promotions`` is only read
    with all of them.
    """

    id: int
    customer_id: str
    revision: int
    rules: str
    standing: Standing
    timeline: str
    person_id: int | None = None
    promotions: str | None = None

    def told(self) -> tuple[TierMove, ...]:
        """Its way through the levels as told so far."""
        return _moves.decode(self.timeline)

    def promoted(self) -> tuple[TierMove, ...] | None:
        """The promotions told beside it, where somebody lives on as this account."""
        return None if self.promotions is None else _moves.decode(self.promotions)


@dataclass(slots=True)
class Person:
    """Several accounts that are one person's, locked; ``merges`` has each but the ``survivor``."""

    survivor: int
    accounts: dict[int, Account]
    merges: dict[int, Merge]


class Told(NamedTuple):
    """What is stored of an account whose way, or whose promotions, changed."""

    revision: int
    level: str | None
    moves: Sequence[TierMove]
    promotions: Sequence[TierMove] | None


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


async def lock_persons(conn: Connection, persons: Collection[int]) -> list[Person]:
    """These persons with all their accounts, locked until commit."""
    return _persons(await conn.fetch(sql.lock_persons, persons))


async def all_persons(conn: Connection) -> list[Person]:
    """Everybody who has several accounts, not locked."""
    return _persons(await conn.fetch(sql.all_persons))


def _persons(rows: Iterable[asyncpg.Record]) -> list[Person]:
    found: dict[int, Person] = {}
    for row in rows:
        *columns, promotions, into_id, merged_at = row
        account = _account(columns)
        account.promotions = promotions
        person = found.setdefault(row["person_id"], Person(row["person_id"], {}, {}))
        person.accounts[account.id] = account
        if into_id is not None:
            person.merges[account.id] = Merge(into_id, merged_at)
    return list(found.values())


async def lock_merging(conn: Connection) -> None:
    """Have merges to ourselves until commit."""
    await conn.execute(sql.lock_merging)


async def merged_into(conn: Connection, accounts: Collection[int]) -> dict[int, int]:
    """As which others these accounts live on, those that do."""
    rows = await conn.fetch(sql.merged_into, accounts)
    return {row["account_id"]: row["into_id"] for row in rows}


async def add_merge(
    conn: Connection, account: int, merge: Merge, survivor: int, event: UUID, now: datetime
) -> None:
    """Let an account, and whoever lives on as it, end in the survivor's."""
    await conn.execute(sql.add_merge, account, merge.into, merge.at, event, now, survivor)


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
    timelines: Mapping[int, Told],
    history: Sequence[ChangeRow],
    rules: str,
    now: datetime,
) -> None:
    """The same for walked accounts, with what was told of those that changed."""
    unchanged = (None, None, None, None)
    rows = []
    for account, found in standings.items():
        told = timelines.get(account)
        rows.append((account, *_columns(found), *(_told(told) if told else unchanged)))
    changes = list(zip(*history, strict=True)) if history else [()] * len(ChangeRow._fields)
    await conn.execute(sql.walked, *changes, rules, now, *zip(*rows, strict=True))


def _columns(
    found: Standing,
) -> tuple[datetime | None, datetime | None, Decimal | None, Decimal | None]:
    return found.computed_until, found.due_at, _numeric(found.room), _numeric(found.late_room)


def _told(told: Told) -> tuple[int, str | None, str, str | None]:
    promotions = None if told.promotions is None else encode(told.promotions)
    return told.revision, told.level, encode(told.moves), promotions


def encode(found: Sequence[msgspec.Struct] | msgspec.Struct) -> str:
    """Moves, or reductions, as they are kept."""
    return msgspec.json.encode(found).decode()


def _numeric(room: Amount | None) -> Decimal | None:
    return None if room is None else Decimal(room)


def _account(row: Iterable[Any]) -> Account:
    (
        account_id,
        customer_id,
        revision,
        rules,
        computed_until,
        due_at,
        room,
        late_room,
        way,
        person,
    ) = row
    standing = Standing(computed_until, due_at, room, late_room)
    return Account(account_id, customer_id, revision, rules, standing, way, person)
