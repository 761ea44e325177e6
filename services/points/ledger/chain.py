"""The chain of the ledger: what was written is found to be as it was written, or the line that is not is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from services.points.domain.chaining import digest, digests_of
from services.points.ledger.entries import EntryRow
from shared.db import statements
from shared.db.types import Connection

sql = statements.load(Path(__file__).parents[1] / "sql" / "chain.sql")
CHECKPOINT_EVERY = timedelta(days=1)
PREFETCH = 1000
# So many findings are enough to see what happened; the number of all is told.
FOUND_MAX = 10_000
_columns = itemgetter(*EntryRow._fields)

Found = list[dict[str, Any]]


async def tie(conn: Connection, now: datetime) -> asyncpg.Record | None:
    """Write the checkpoint of the day: its number, links, chains and hash; None if there was none to write."""
    return await conn.fetchrow(sql.checkpoint, now - CHECKPOINT_EVERY, now)


async def newest(conn: Connection) -> asyncpg.Record | None:
    """Number, hash and time of the last checkpoint."""
    return await conn.fetchrow(sql.newest_checkpoint)


async def changed(conn: Connection) -> Found:
    """Every line that is not as it was written, and every batch that lacks some, the earliest written first.

    Reads the whole ledger once, in a transaction that the caller has begun.
    """
    links = conn.cursor(sql.links, prefetch=PREFETCH).__aiter__()
    found: list[tuple[datetime, dict[str, Any]]] = []
    link = await anext(links, None)
    async for batch, rows in _batches(conn):
        while link is not None and link["batch"] < batch:
            _compare(link, [], found)
            link = await anext(links, None)
        if link is None or link["batch"] != batch:
            found += [(row["recorded_at"], _told(row, "no link has it")) for row in rows]
            continue
        _compare(link, rows, found)
        link = await anext(links, None)
    while link is not None:
        _compare(link, [], found)
        link = await anext(links, None)
    found.sort(key=lambda item: item[0])
    return [row for _, row in found[:FOUND_MAX]]


async def _batches(conn: Connection) -> AsyncIterator[tuple[UUID, list[asyncpg.Record]]]:
    batch: UUID | None = None
    rows: list[asyncpg.Record] = []
    async for row in conn.cursor(sql.chained, prefetch=PREFETCH):
        if row["batch"] != batch:
            if batch is not None:
                yield batch, rows
            batch, rows = row["batch"], []
        rows.append(row)
    if batch is not None:
        yield batch, rows


def _compare(
    link: asyncpg.Record, rows: list[asyncpg.Record], found: list[tuple[datetime, dict[str, Any]]]
) -> None:
    """Note the lines that the link does not know, and how many it knows that are not there."""
    written = digests_of(link["digests"])
    known = set(written)
    strange = [row for row in rows if digest(_columns(row)) not in known]
    found += [(link["recorded_at"], _told(row, "is not as it was written")) for row in strange]
    gone = len(written) - len(rows)
    if gone > 0:
        told = {"what": f"{gone} of its lines are gone", "batch": link["batch"]}
        told |= {"chain": link["chain"], "link": link["number"]}
        found.append((link["recorded_at"], told))


def _told(row: asyncpg.Record, what: str) -> dict[str, Any]:
    names = ("customer_id", "seq", "entry_id", "kind", "points", "batch")
    return {"what": what, **{name: row[name] for name in names}}
