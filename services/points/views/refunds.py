"""What became of refunds: one small function per named statement of sql/refund_views.sql."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from uuid import UUID

import asyncpg

from shared.db import statements
from shared.db.types import Connection

SQL = statements.load(Path(__file__).parents[1] / "sql" / "refund_views.sql")


async def refunds(
    conn: Connection,
    *,
    state: str | None,
    customer_id: str | None,
    before: datetime | None,
    after: tuple[datetime, UUID] | None,
    rows: int,
) -> list[asyncpg.Record]:
    """Refunds, the last told first; ``before`` bounds when they were told, ``after`` is the last one shown."""
    recorded, key = after or (None, None)
    return await conn.fetch(SQL.refunds, state, customer_id, before, recorded, key, rows)
