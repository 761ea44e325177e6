"""The read side: one small function per named statement of sql/views.sql."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from uuid import UUID

import asyncpg

from shared.db import statements
from shared.db.types import Connection

SQL = statements.load(Path(__file__).parents[1] / "sql" / "views.sql")
SEQ_MAX = 2**63 - 1


async def balance(
    conn: Connection, customer_id: str, at: datetime, *, live: bool
) -> asyncpg.Record | None:
    """Sums of the customer's lots at an instant; None for an unknown customer.

    ``live`` says that the instant is now, so that what a shop dated ahead of us shows as pending.
    """
    return await conn.fetchrow(SQL.balance, customer_id, at, live)


async def entries(
    conn: Connection, customer_id: str, before: int | None, rows: int
) -> list[asyncpg.Record] | None:
    """Ledger lines with a seq below ``before``, newest first; None for an unknown customer."""
    bound = SEQ_MAX if before is None else before
    return _page(await conn.fetch(SQL.entries, bound, rows, customer_id), "seq")


async def lots(
    conn: Connection,
    customer_id: str,
    now: datetime,
    after: tuple[datetime, UUID] | None,
    rows: int,
) -> list[asyncpg.Record] | None:
    """Lots with what is in each and what is reserved of it, the newest first; None for an unknown customer."""
    occurred, lot = after or (None, None)
    return _page(await conn.fetch(SQL.lots, now, occurred, lot, rows, customer_id), "lot_id")


async def explained_entry(conn: Connection, entry_id: UUID) -> asyncpg.Record | None:
    """One ledger line with its stored explanation."""
    return await conn.fetchrow(SQL.explained_entry, entry_id)


def _page(rows: list[asyncpg.Record], key: str) -> list[asyncpg.Record] | None:
    """Tell "no such customer" (no row) from "nothing there" (one row of nulls)."""
    if not rows:
        return None
    return [] if rows[0][key] is None else rows
