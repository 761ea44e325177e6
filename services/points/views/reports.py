"""What a statement and the liability report are made of: sql/reports.sql."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg

from services.points.domain.expiry import Hold, Movement, losses
from services.points.domain.flows import EXPIRED, month_of
from services.points.domain.statement import Move
from shared.db import statements
from shared.db.types import Connection

sql = statements.load(Path(__file__).parents[1] / "sql" / "reports.sql")

Sums = dict[tuple[str, str], int]


async def moves(conn: Connection, customer_id: str) -> tuple[int, list[Move]] | None:
    """The customer's account and all its lines; None for an unknown customer."""
    rows = await conn.fetch(sql.statement_moves, customer_id)
    if not rows:
        return None
    return rows[0]["account_id"], [Move(*list(row)[1:]) for row in rows if row["seq"] is not None]


async def holds_of_account(conn: Connection, account: int) -> Mapping[UUID, Sequence[Hold]]:
    """What holds reserve, or had reserved, of the account's lots."""
    return _by_lot(await conn.fetch(sql.parts_of_account, account))


async def lines(
    conn: Connection, account: int, start: datetime, end: datetime
) -> Mapping[int, asyncpg.Record]:
    """What is told of an account's lines of [start, end), by seq."""
    return {row["seq"]: row for row in await conn.fetch(sql.statement_lines, account, start, end)}


async def first_month(conn: Connection, zone: ZoneInfo) -> str | None:
    """The month of the oldest line of the ledger (``2010-12``), or None."""
    month: str | None = await conn.fetchval(sql.first_month, zone.key)
    return month


async def sums(conn: Connection, until: datetime, at: datetime, zone: ZoneInfo) -> Sums:
    """Points by (month, kind) of all that happened before ``until``, and of what was lost by ``at``."""
    found: Sums = defaultdict(int)
    for row in await conn.fetch(sql.flows, zone.key, until):
        found[row["month"], row["kind"]] += row["points"]
    for row in await conn.fetch(sql.plain_losses, at, until, zone.key):
        found[row["month"], EXPIRED] -= row["points"]
    lots: dict[UUID, list[asyncpg.Record]] = defaultdict(list)
    for row in await conn.fetch(sql.odd_losses, at, until):
        lots[row["lot_id"]].append(row)
    holds = _by_lot(await conn.fetch(sql.parts_of_lots, list(lots))) if lots else {}
    for lot_id, moved in lots.items():
        steps = [Movement(row["occurred_at"], row["points"]) for row in moved]
        lost = losses(steps, holds.get(lot_id, ()), moved[0]["expires_at"], at)
        for instant, points in lost.items():
            found[month_of(instant, EXPIRED, zone), EXPIRED] -= points
    return dict(found)


def _by_lot(rows: Iterable[asyncpg.Record]) -> Mapping[UUID, Sequence[Hold]]:
    found: dict[UUID, list[Hold]] = defaultdict(list)
    for row in rows:
        found[row["lot_id"]].append(Hold(row["held_at"], row["ended_at"], row["points"]))
    return found
