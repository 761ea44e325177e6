"""What people correct: one small function per named statement of sql/corrections.sql."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

import asyncpg

from services.points.domain.corrections import Adjustment
from services.points.ledger.entries import Account
from shared.db import statements
from shared.db.types import Connection

sql = statements.load(Path(__file__).parents[1] / "sql" / "corrections.sql")


async def lines_of_causes(conn: Connection, firsts: Sequence[UUID]) -> Sequence[asyncpg.Record]:
    """All lines that were written together with each of these, in order; none for what is not there."""
    return await conn.fetch(sql.lines_of_causes, firsts)


async def line(conn: Connection, entry_id: UUID, reversal: UUID) -> asyncpg.Record | None:
    """A ledger line with its customer; ``reversed`` says whether the line ``reversal`` is there."""
    return await conn.fetchrow(sql.line, reversal, entry_id)


async def ask_second_person(
    conn: Connection,
    correction: UUID,
    account: Account,
    wanted: Adjustment,
    fingerprint: int,
    actor: str,
    now: datetime,
) -> None:
    """Set a correction aside until a second person decides."""
    await conn.execute(
        sql.ask_second_person, correction, account.id, *wanted, fingerprint, actor, now
    )


async def correction(conn: Connection, wanted: UUID) -> asyncpg.Record | None:
    """A correction that needed a second person, with its customer."""
    return await conn.fetchrow(sql.correction, wanted)


async def decide(
    conn: Connection, decided: UUID, state: str, actor: str, now: datetime, note: str | None
) -> None:
    """Write down what the second person said."""
    await conn.execute(sql.decide, state, actor, now, note, decided)


async def in_state(
    conn: Connection, state: str | None, after: tuple[datetime, UUID] | None, rows: int
) -> Sequence[asyncpg.Record]:
    """Corrections in a state (None: in any), the longest waiting first, after a given one."""
    time, correction_id = after or (None, None)
    return await conn.fetch(sql.corrections_in_state, state, time, correction_id, rows)
