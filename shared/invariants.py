"""Invariants: named queries that must return no row; `treue verify`, the tests and the audit run the same ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from shared.db.types import Connection, Pool

log = structlog.get_logger()

ROWS_SHOWN_MAX = 20

Finder = Callable[[Connection], Awaitable[list[dict[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Invariant:
    """What must hold, and how its violations are found: an SQL text, or a function where SQL does not reach."""

    name: str
    says: str
    find: str | Finder


@dataclass(slots=True)
class Result:
    """The outcome of one invariant; ``rows`` are the first violations, ``violations`` counts all."""

    name: str
    says: str
    violations: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)


async def check(conn: Connection, invariants: Sequence[Invariant]) -> list[Result]:
    """Run them all on one snapshot, so that a writer at work does not show up as a violation."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        return [await _check(conn, invariant) for invariant in invariants]


async def audit(pool: Pool, invariants: Sequence[Invariant]) -> list[Result]:
    """Check in a running service: a violation is an error in its log, with the first rows."""
    async with pool.acquire() as conn:
        results = await check(conn, (*COMMON, *invariants))
    for result in results:
        if result.violations:
            log.error(
                "invariant violated",
                invariant=result.name,
                says=result.says,
                violations=result.violations,
                rows=result.rows[:3],
            )
    return results


async def _check(conn: Connection, invariant: Invariant) -> Result:
    if isinstance(invariant.find, str):
        found = [dict(row) for row in await conn.fetch(invariant.find, timeout=600)]
    else:
        found = await invariant.find(conn)
    return Result(invariant.name, invariant.says, len(found), found[:ROWS_SHOWN_MAX])


# Holds in every service: they share these tables.
COMMON: tuple[Invariant, ...] = (
    Invariant(
        "offsets-account-for-every-record",
        "no partition has counted more records than it has passed",
        "SELECT topic, partition, next_offset, applied, duplicates, refused, parked, poison FROM offsets"
        " WHERE next_offset < 0 OR applied < 0 OR duplicates < 0",
    ),
    Invariant(
        "dead-letters-counted",
        "every dead letter is counted at its partition",
        "SELECT o.topic, o.partition, o.poison, count(d.id) AS kept FROM offsets o LEFT JOIN dead_letters d"
        " ON d.topic = o.topic AND d.partition = o.partition"
        " GROUP BY o.topic, o.partition, o.poison HAVING o.poison <> count(d.id)",
    ),
    Invariant(
        "ledger-cannot-be-edited",
        "the role that this service logs in with may add to the ledger and not edit it, and the triggers are on",
        """
        SELECT c.relname AS ledger, current_user AS role, w.what AS may, t.tgenabled = 'O' AS trigger_on
        FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_class c ON c.oid = t.tgrelid
        CROSS JOIN (VALUES ('UPDATE', 16), ('DELETE', 8), ('TRUNCATE', 32)) AS w(what, bit)
        WHERE p.proname = 'refuse_change' AND t.tgqual IS NULL AND cardinality(t.tgattr::int2[]) = 0
          AND t.tgtype & w.bit > 0 AND (t.tgenabled <> 'O' OR has_table_privilege(c.oid, w.what))
        ORDER BY c.relname, w.what
        """,
    ),
)
