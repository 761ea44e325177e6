"""What HTTP writes answered: looked up before, kept with the effects, forgotten after two days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from shared.db import statements
from shared.db.closing import Closing
from shared.db.types import Connection, Pool, as_text

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


async def claim(conn: Connection, wanted: Sequence[Claim]) -> Mapping[UUID, Known | None]:
    """Take the keys until the end of this transaction: tells only of those that are not ours to use.

    These are keys that answered something before, and (None) those that another transaction holds at the moment.
    Keys that this transaction holds are ours again.
    """
    locks = [int.from_bytes(one.id.bytes[:8], "big", signed=True) for one in wanted]
    rows = await conn.fetch(sql.claim, as_text(locks), as_text([one.id for one in wanted]))
    return {row["id"]: _known(row) for row in rows}


def _known(row: asyncpg.Record) -> Known | None:
    if row["status"] is None:
        return None
    kept = Kept(row["status"], msgspec.json.decode(row["headers"]), row["body"])
    return Known(row["fingerprint"], kept)


async def finish(
    conn: Connection | Closing,
    done: Sequence[tuple[Claim, Kept]],
    messages: Sequence[tuple[str, bytes, bytes]],
    now: datetime,
) -> None:
    """Keep the answers and hand events (topic, key, payload) to the outbox, along with a write kept back for it.

    Raises ``asyncpg.UniqueViolationError`` if another transaction was done with one of the keys since we looked.
    """
    topics, keys, payloads = zip(*messages, strict=True) if messages else ((), (), ())
    await conn.fetchrow(
        sql.finish,
        now,
        as_text([claim.id for claim, _ in done]),
        [claim.client for claim, _ in done],
        [claim.operation for claim, _ in done],
        [claim.key for claim, _ in done],
        as_text([claim.fingerprint for claim, _ in done]),
        as_text([kept.status for _, kept in done]),
        [_headers(kept.headers) for _, kept in done],
        [kept.body for _, kept in done],
        topics,
        keys,
        payloads,
    )


def _headers(headers: Mapping[str, str]) -> str:
    return msgspec.json.encode(headers).decode() if headers else "{}"


async def forget(pool: Pool, now: datetime) -> int:
    """Drop the answers that are older than promised, some at a time; returns how many."""
    total, dropped = 0, FORGET_ROWS
    while dropped == FORGET_ROWS:
        dropped = await pool.fetchval(sql.forget, now - KEPT, FORGET_ROWS)
        total += dropped
    return total
