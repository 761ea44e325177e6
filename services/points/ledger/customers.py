"""Who the customers are: one small function per named statement of sql/customers.sql."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg

from services.points.domain.customers import Card, Claim
from services.points.ledger.entries import (
    FLAG_HEIR,
    FLAG_MERGED,
    FLAG_WITHDRAWN,
    Account,
    lock_accounts,
)
from shared.db import statements
from shared.db.types import Connection
from shared.ids import digest_uuid

sql = statements.load(Path(__file__).parents[1] / "sql" / "customers.sql")
# A merged account lives on as another, which may have been merged itself since.
MERGES_DEEP_MAX = 100


class EnrolmentRow(NamedTuple):
    """What a customer was enrolled or updated with, in the order of the statement ``add_enrolments``."""

    event_key: UUID
    account_id: int
    kind: str
    event_id: str
    fingerprint: int
    occurred_at: datetime
    recorded_at: datetime
    birthday: date | None
    name: str | None
    consents: str


class ClaimRow(NamedTuple):
    """A purchase that a customer calls theirs, in the order of the statement ``add_claims``."""

    purchase_id: UUID
    account_id: int
    claimed_at: datetime
    event_key: UUID
    shop: str
    order_id: str


class CardRow(NamedTuple):
    """What became of a card, in the order of the statement ``add_card_changes``."""

    change_id: UUID
    card_number: str
    account_id: int
    change: str
    event_id: str
    fingerprint: int
    occurred_at: datetime
    recorded_at: datetime
    replaced_by: str | None
    reason: str | None
    actor: str | None


async def lock_names(conn: Connection, names: Collection[tuple[str, str]]) -> None:
    """Have cards and orders (kind, name) to ourselves until commit, whether or not anything is known of them."""
    if names:
        digests = {digest_uuid(*name).bytes[:8] for name in names}
        keys = [int.from_bytes(digest, "big", signed=True) for digest in digests]
        await conn.execute(sql.lock_keys, keys)


async def follow(conn: Connection, accounts: Mapping[str, Account]) -> dict[str, Account]:
    """The same accounts, but for merged ones those as whom they live on, locked too."""
    found = dict(accounts)
    for _ in range(MERGES_DEEP_MAX):
        merged = {a.id for a in found.values() if a.flags & FLAG_MERGED}
        if not merged:
            break
        rows = await conn.fetch(sql.survivors, merged)
        into = {row["account_id"]: row["customer_id"] for row in rows}
        held = {account.customer_id: account for account in found.values()}
        missing = set(into.values()) - held.keys()
        held.update(await lock_accounts(conn, missing) if missing else {})
        found = {
            name: held[into[account.id]] if account.id in into else account
            for name, account in found.items()
        }
    return found


async def known_events(conn: Connection, events: Collection[UUID]) -> dict[UUID, int]:
    """Which of these events have been told, with the fingerprint of what they said."""
    rows = await conn.fetch(sql.known_customer_events, events)
    return {row["event_key"]: row["fingerprint"] for row in rows}


async def add_enrolments(conn: Connection, rows: Sequence[EnrolmentRow]) -> None:
    """Record what customers were enrolled or updated with."""
    if rows:
        await conn.execute(sql.add_enrolments, *zip(*rows, strict=True))


async def add_claims(conn: Connection, rows: Sequence[ClaimRow]) -> None:
    """Record which purchases customers called theirs."""
    if rows:
        await conn.execute(sql.add_claims, *zip(*rows, strict=True))


async def claims_of(conn: Connection, purchases: Collection[UUID]) -> dict[UUID, list[Claim]]:
    """Who calls these purchases theirs, oldest claim first."""
    found: dict[UUID, list[Claim]] = {}
    for purchase_id, customer_id, claimed_at in await conn.fetch(sql.claims_of, purchases):
        found.setdefault(purchase_id, []).append(Claim(customer_id, claimed_at))
    return found


async def cards(conn: Connection, numbers: Collection[str]) -> dict[str, Card]:
    """Whose cards these are and when they count, those that are known."""
    return {row[0]: Card(*row) for row in await conn.fetch(sql.cards, numbers)}


async def cards_of(conn: Connection, accounts: Collection[int]) -> set[str]:
    """The numbers of these customers' cards."""
    return {row["card_number"] for row in await conn.fetch(sql.cards_of, accounts)}


async def add_card_changes(conn: Connection, rows: Sequence[CardRow]) -> None:
    """Record what became of cards."""
    if rows:
        await conn.execute(sql.add_card_changes, *zip(*rows, strict=True))


async def enrolled_since(conn: Connection, accounts: Collection[int]) -> dict[int, datetime]:
    """Since when these customers take part, those who do."""
    rows = await conn.fetch(sql.enrolled_since, accounts)
    return {row["account_id"]: row["enrolled_at"] for row in rows}


async def waiting(
    conn: Connection,
    *,
    purchases: Collection[UUID] = (),
    numbers: Collection[str] = (),
    customers: Collection[str] = (),
) -> Sequence[asyncpg.Record]:
    """Purchases without credit that something told of these orders, cards or customers may concern."""
    return await conn.fetch(sql.waiting, purchases, numbers, customers)


async def add_card_purchases(conn: Connection, rows: Sequence[tuple[UUID, str, datetime]]) -> None:
    """Remember purchases (id, card, instant) that were credited by their card alone."""
    if rows:
        await conn.execute(sql.add_card_purchases, *zip(*rows, strict=True))


async def withdraw(conn: Connection, numbers: Collection[str], now: datetime) -> set[int]:
    """Mark what was credited by blocked cards as taken back; returns the accounts, which are flagged."""
    rows = await conn.fetch(sql.withdraw, numbers, now, FLAG_WITHDRAWN)
    return {row["account_id"] for row in rows}


async def withdrawn_lots(conn: Connection, accounts: Collection[int]) -> Sequence[asyncpg.Record]:
    """Lots of these accounts whose credit was taken back, and that hold something yet."""
    return await conn.fetch(sql.withdrawn_lots, accounts)


class MergeRow(NamedTuple):
    """An account that lives on as another, in the order of the statement ``add_merge``."""

    account_id: int
    into_id: int
    event_key: UUID
    event_id: str
    occurred_at: datetime
    recorded_at: datetime
    reason: str | None
    actor: str | None


async def add_merge(conn: Connection, row: MergeRow) -> None:
    """Let an account live on as another: it is flagged, and its enrolment is the other's too."""
    await conn.execute(sql.add_merge, *row, FLAG_MERGED, FLAG_HEIR)


async def who_lives_on_as(conn: Connection, account: int) -> dict[int, str]:
    """The accounts that live on as this one, also by way of others, with their customers' ids."""
    rows = await conn.fetch(sql.who_lives_on_as, account)
    return {row["account_id"]: row["customer_id"] for row in rows}


async def accept_refunds(conn: Connection, account: int, now: datetime) -> set[int]:
    """Take refunds that were refused for naming the other id of this person; returns the accounts concerned."""
    return {row["account_id"] for row in await conn.fetch(sql.accept_refunds, account, now)}


async def known_merges(conn: Connection, events: Collection[UUID]) -> set[UUID]:
    """Which of these events have told of a merge."""
    return {row["event_key"] for row in await conn.fetch(sql.known_merges, events)}


async def has_live_hold(conn: Connection, account: int, now: datetime) -> bool:
    """Whether something of an account is reserved at the moment."""
    return bool(await conn.fetchval(sql.has_live_hold, account, now))


async def merged_into(conn: Connection, accounts: Collection[int]) -> dict[int, asyncpg.Record]:
    """As what accounts live on, by account."""
    rows = await conn.fetch(sql.merged_into, accounts)
    return {row["account_id"]: row for row in rows}


async def left_behind(conn: Connection, accounts: Collection[int]) -> Sequence[asyncpg.Record]:
    """What is in the lots of merged accounts, or was not moved yet, by instant."""
    return await conn.fetch(sql.left_behind, accounts)


async def known_lots(conn: Connection, lots: Collection[UUID]) -> dict[UUID, int]:
    """Which of these lots there are, with the base points in each."""
    return {row["entry_id"]: row["base"] for row in await conn.fetch(sql.known_lots, lots)}


async def catch_up(conn: Connection, accounts: Iterable[Account]) -> None:
    """Have locked accounts stand where they do by now, after others wrote to them in this transaction."""
    held = {account.id: account for account in accounts}
    for row in await conn.fetch(sql.positions, held.keys()):
        account = held[row["account_id"]]
        account.seq, account.balance = row["seq"], row["balance"]
        account.flags |= row["flags"]
