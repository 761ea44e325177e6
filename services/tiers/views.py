"""The read side: one small function per named statement of sql/views.sql."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from services.tiers.domain.qualification import Basis, Qualifying, counting
from shared.db import statements
from shared.db.types import Connection

if TYPE_CHECKING:
    from asyncpg import Record

SQL = statements.load(Path(__file__).parent / "sql" / "views.sql")
REVISION_MAX = 2**63 - 1
NUMBER_MAX = 2**31 - 1

Move = tuple[str, str, datetime]


async def qualifying(
    conn: Connection, customer_id: str, at: datetime | None, basis: Basis
) -> list[Qualifying] | None:
    """What counts for a customer up to an instant, or all; None for an unknown customer."""
    rows = await conn.fetch(SQL.qualifying_of, at, customer_id)
    if not rows:
        return None
    return [counting(basis, *row) for row in rows if row["entry_id"] is not None]


async def recorded(conn: Connection, customer_id: str) -> Mapping[Move, tuple[int, datetime]]:
    """Revision and time of the newest record of each move, told by kind, tier and since."""
    found: dict[Move, tuple[int, datetime]] = {}
    for kind, tier, since, revision, recorded_at in await conn.fetch(SQL.recorded_of, customer_id):
        found.setdefault((kind, tier, since), (revision, recorded_at))
    return found


async def orders(
    conn: Connection, entries: Sequence[UUID]
) -> Mapping[UUID, tuple[str | None, str | None]]:
    """Shop and order of each entry, as far as it is a purchase's and has been told."""
    rows = await conn.fetch(SQL.orders_of, entries)
    return {entry_id: (shop, order_id) for entry_id, shop, order_id in rows}


async def refunds(
    conn: Connection, falls: Sequence[tuple[UUID, datetime]]
) -> Mapping[tuple[UUID, datetime], str]:
    """The refund that touched a purchase at an instant, as far as it has an id: cancellations have none."""
    if not falls:
        return {}
    rows = await conn.fetch(SQL.refunds_of, *zip(*falls, strict=True))
    return {(lot_id, refunded_at): refund_id for lot_id, refunded_at, refund_id in rows}


async def changes(
    conn: Connection, customer_id: str, before: tuple[int, int] | None, rows: int
) -> list[Record] | None:
    """Lines of the history before a (revision, number), newest first; None for an unknown customer."""
    revision, number = before or (REVISION_MAX, NUMBER_MAX)
    found = await conn.fetch(SQL.changes_of, revision, number, rows, customer_id)
    if not found:
        return None
    return [] if found[0]["revision"] is None else found
