"""The read side: one small function per named statement of sql/views.sql."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from shared.db import statements
from shared.db.types import Connection

if TYPE_CHECKING:
    from asyncpg import Record

SQL = statements.load(Path(__file__).parent / "sql" / "views.sql")


async def vouchers(
    conn: Connection,
    customer_id: str,
    state: str | None,
    after: tuple[datetime, UUID] | None,
    rows: int,
    at: datetime,
) -> list[Record] | None:
    """Vouchers as they are at an instant, newest first; None for an unknown customer."""
    issued_at, voucher_id = after or (None, None)
    found = await conn.fetch(SQL.vouchers, at, state, issued_at, voucher_id, rows, customer_id)
    if not found:
        return None
    return [] if found[0]["voucher_id"] is None else found
