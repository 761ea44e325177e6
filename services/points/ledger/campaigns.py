"""What campaigns have given: one small function per named statement of sql/campaigns.sql."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, cast
from uuid import UUID

import asyncpg
import msgspec

from services.points.domain.deciding import Recorded
from services.points.domain.packing import PackedAward, decode
from services.points.ledger.entries import FLAG_CAPPED, Account
from shared.contracts.tiers import TierMove
from shared.db import statements
from shared.db.types import Connection

sql = statements.load(Path(__file__).parents[1] / "sql" / "campaigns.sql")
_moves = msgspec.json.Decoder(list[TierMove])
# More than any budget holds: with this much given, nothing is left.
ALL_SPENT = 10**18


class Draw(NamedTuple):
    """Points out of a campaign's budget, for an entry and the purchase it belongs to."""

    campaign: str
    entry_id: UUID
    lot_id: UUID
    points: int


@dataclass(slots=True)
class Held:
    """A credited purchase whose campaigns may be decided anew: what decides it, and how it stands (``row``)."""

    row: asyncpg.Record
    award: PackedAward
    recorded: Recorded


async def held(conn: Connection, account_ids: Collection[int]) -> dict[int, list[Held]]:
    """The purchases of these accounts whose campaigns may be decided anew, by account."""
    found: dict[int, list[Held]] = {}
    for row in await conn.fetch(sql.campaign_lots, account_ids) if account_ids else ():
        award = cast("PackedAward", decode(row["explanation"]))
        drawn = dict(zip(row["campaigns"] or (), row["drawn"] or (), strict=True))
        recorded = Recorded(row["entry_id"], row["occurred_at"], award.case(), drawn)
        found.setdefault(row["account_id"], []).append(Held(row, award, recorded))
    return found


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


async def lock_budgets(conn: Connection, wanted: Mapping[str, int]) -> dict[str, int]:
    """What these campaigns have given of their budgets, made where missing, locked until commit.

    What is used up stays so: nobody waits for it any more.
    """
    if not wanted:
        return {}
    found = await budgets(conn, wanted)
    left = [campaign for campaign, most in wanted.items() if found.get(campaign, 0) < most]
    if not left:
        return found
    rows = await conn.fetch(sql.lock_budgets, left)
    if len(rows) < len(left):
        await conn.execute(sql.make_budgets, left)
        rows = await conn.fetch(sql.lock_budgets, left)
    return found | {row["campaign"]: row["drawn"] for row in rows}


async def budgets(conn: Connection, wanted: Mapping[str, int]) -> dict[str, int]:
    """What these campaigns have given by now, to be looked at only."""
    rows = await conn.fetch(sql.budgets, list(wanted)) if wanted else ()
    return {row["campaign"]: row["drawn"] for row in rows}


async def draws_of(conn: Connection, lots: Collection[UUID]) -> dict[UUID, dict[str, int]]:
    """What these purchases have drawn from budgets, by campaign."""
    found: dict[UUID, dict[str, int]] = {}
    for lot_id, campaign, points in await conn.fetch(sql.draws_of, lots):
        found.setdefault(lot_id, {})[campaign] = points
    return found


async def draw(conn: Connection, draws: Sequence[Draw], recorded_at: datetime) -> None:
    """Take points out of locked budgets."""
    if draws:
        await conn.execute(sql.draw, *map(list, zip(*draws, strict=True)), recorded_at)


async def capped_accounts(
    conn: Connection, after: int, rows: int
) -> list[tuple[int, str, Sequence[TierMove]]]:
    """The next accounts whose campaigns may be decided anew, with customer and way through the tiers."""
    return [
        (account_id, customer_id, _moves.decode(timeline) if timeline else ())
        for account_id, customer_id, timeline in await conn.fetch(sql.capped_accounts, after, rows)
    ]


async def quoted_account(conn: Connection, customer_id: str) -> Account | None:
    """A customer's account, or that as whom they live on, not locked; None for an unknown customer."""
    row = await conn.fetchrow(sql.quoted_account, customer_id)
    if row is None:
        return None
    moves = _moves.decode(row["timeline"]) if row["timeline"] else ()
    account_id, customer, seq, balance, revision, _, flags = row
    return Account(account_id, customer, seq, balance, revision, moves, flags)
