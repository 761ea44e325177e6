"""What HTTP writes answered: looked up before, kept with the effects, forgotten after two days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import msgspec

from shared.db import statements
from shared.db.types import Connection, Pool

sql = statements.load(Path(__file__).parent / "sql" / "idempotency.sql")

TABLE = "idempotency"
# Longer than the 24 hours that clients may rely on.
KEPT = timedelta(hours=48)
FORGET_ROWS = 1000


class Claim(NamedTuple):
    """Whose request, for what, under which key; ``id`` is the hash of these, ``fingerprint`` that of the body."""

    id: UUID
    client: str
    operation: str
    key: str
    fingerprint: UUID


class Kept(NamedTuple):
    """An answer as it is stored."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Known(NamedTuple):
    """An answer given before, and the fingerprint of the body that it was given to."""

    fingerprint: UUID
    answer: Kept


class InUseError(Exception):
    """Another transaction holds this key at the moment."""


async def claim(conn: Connection, wanted: Claim) -> Known | None:
    """Take the key until the end of this transaction, or tell what it answered before; raises InUseError."""
    lock = int.from_bytes(wanted.id.bytes[:8], "big", signed=True)
    row = await conn.fetchrow(sql.claim, lock, wanted.id)
    assert row is not None  # noqa: S101 - the statement has exactly one row
    if row["status"] is not None:
        kept = Kept(row["status"], msgspec.json.decode(row["headers"]), row["body"])
        return Known(row["fingerprint"], kept)
    if not row["ours"]:
        raise InUseError
    return None


async def finish(
    conn: Connection,
    done: Claim,
    answer: Kept,
    messages: Sequence[tuple[str, bytes, bytes]],
    now: datetime,
) -> None:
    """Keep the answer and hand events (topic, key, payload) to the outbox.

    Raises ``asyncpg.UniqueViolationError`` if another transaction was done with the same key since we looked.
    """
    topics, keys, payloads = zip(*messages, strict=True) if messages else ((), (), ())
    headers = msgspec.json.encode(answer.headers).decode()
    kept = (answer.status, headers, answer.body, now)
    await conn.execute(sql.finish, *done, *kept, topics, keys, payloads)


async def forget(pool: Pool, now: datetime) -> int:
    """Drop the answers that are older than promised, some at a time; returns how many."""
    total, dropped = 0, FORGET_ROWS
    while dropped == FORGET_ROWS:
        dropped = await pool.fetchval(sql.forget, now - KEPT, FORGET_ROWS)
        total += dropped
    return total
