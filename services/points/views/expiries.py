"""When a customer's points end: sql/expiries.sql."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import asyncpg

from shared.db import statements
from shared.db.types import Connection

sql = statements.load(Path(__file__).parents[1] / "sql" / "expiries.sql")


async def expiries(
    conn: Connection,
    customer_id: str,
    at: datetime,
    after: datetime | None,
    rows: int,
    *,
    live: bool,
) -> list[asyncpg.Record] | None:
    """Dates after ``after`` with what is lost then, as things stand at ``at``; None for an unknown customer."""
    found = await conn.fetch(sql.expiries, at, live, after, rows, customer_id)
    if not found:
        return None
    return [] if found[0]["expires_at"] is None else found
