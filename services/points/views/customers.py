"""Customers as they were told: one small function per named statement of sql/customer_views.sql."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from shared.db import statements
from shared.db.types import Connection

sql = statements.load(Path(__file__).parents[1] / "sql" / "customer_views.sql")


async def is_known(conn: Connection, customer_id: str) -> bool:
    """Whether anything was ever told of a customer."""
    return bool(await conn.fetchval(sql.is_known, customer_id))


async def cards(conn: Connection, customer_id: str) -> list[asyncpg.Record] | None:
    """A customer's cards, the newest first; None for an unknown customer."""
    rows = await conn.fetch(sql.cards, customer_id)
    return [row for row in rows if row["card_number"] is not None] if rows else None


async def enrolments(conn: Connection, customer_id: str) -> list[asyncpg.Record] | None:
    """What a customer was enrolled and updated with, the newest first; None for an unknown customer."""
    rows = await conn.fetch(sql.enrolments, customer_id)
    return [row for row in rows if row["event_key"] is not None] if rows else None
