"""What campaigns have given: one small function per named statement of sql/campaigns.sql."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from services.points.ledger.entries import FLAG_CAPPED, Account
from shared.contracts.tiers import TierMove
from shared.db import statements
from shared.db.types import Connection

sql = statements.load(Path(__file__).parents[1] / "sql" / "campaigns.sql")
_moves = msgspec.json.Decoder(list[TierMove])


class Draw(NamedTuple):
    """Points out of a campaign's budget, for an entry and the purchase it belongs to."""

    campaign: str
    entry_id: UUID
    lot_id: UUID
    points: int


async def campaign_lots(conn: Connection, account_ids: Collection[int]) -> list[asyncpg.Record]:
    """Every purchase of these accounts whose campaigns may be decided anew, as it stands."""
    return await conn.fetch(sql.campaign_lots, account_ids) if account_ids else []


async def first_purchases(
    conn: Connection, account_ids: Collection[int]
) -> dict[int, tuple[datetime, UUID]]:
    """When and which the first purchase of each account is."""
    rows = await conn.fetch(sql.first_purchases, account_ids) if account_ids else ()
    return {row["account_id"]: (row["occurred_at"], row["entry_id"]) for row in rows}


async def flag_capped(conn: Connection, accounts: Iterable[Account]) -> None:
    """Have the accounts' campaigns looked at whenever something is written for them, from now on."""
    new = [account for account in accounts if not account.flags & FLAG_CAPPED]
    if new:
        await conn.execute(sql.flag_capped, [account.id for account in new])
        for account in new:
            account.flags |= FLAG_CAPPED


async def lock_budgets(conn: Connection, campaigns: Collection[str]) -> dict[str, int]:
    """What these campaigns have given, made where missing, locked until commit."""
    found = await conn.fetch(sql.lock_budgets, campaigns)
    if len(found) < len(campaigns):
        await conn.execute(sql.make_budgets, campaigns)
        found = await conn.fetch(sql.lock_budgets, campaigns)
    return {row["campaign"]: row["drawn"] for row in found}


async def budgets(conn: Connection, campaigns: Collection[str]) -> dict[str, int]:
    """What these campaigns have given by now, to be looked at only."""
    rows = await conn.fetch(sql.budgets, campaigns) if campaigns else ()
    return {row["campaign"]: row["drawn"] for row in rows}


async def draw(conn: Connection, draws: Sequence[Draw], recorded_at: datetime) -> None:
    """Take points out of locked budgets."""
    if draws:
        await conn.execute(sql.draw, *map(list, zip(*draws, strict=True)), recorded_at)


async def capped_accounts(conn: Connection, after: int, rows: int) -> list[asyncpg.Record]:
    """The next accounts with purchases whose campaigns may be decided anew."""
    return await conn.fetch(sql.capped_accounts, after, rows)


async def reductions(
    conn: Connection, account_ids: Collection[int], lots: Collection[UUID]
) -> list[asyncpg.Record]:
    """What refunds take out of these lots, each as it stands."""
    return await conn.fetch(sql.reductions, account_ids, lots) if lots else []


async def quoted_account(conn: Connection, customer_id: str) -> Account | None:
    """A customer's account, not locked; None for an unknown customer."""
    row = await conn.fetchrow(sql.quoted_account, customer_id)
    if row is None:
        return None
    moves = _moves.decode(row["timeline"]) if row["timeline"] else ()
    account_id, customer, seq, balance, revision, _, flags = row
    return Account(account_id, customer, seq, balance, revision, moves, flags)
