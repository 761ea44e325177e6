"""The statements of spending stay quick in a large ledger: none of them reads a table from end to end."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from services.points.ledger.spending import sql
from services.points.views import SQL as VIEWS

pytestmark = pytest.mark.servers

ACCOUNTS, ENTRIES_EACH, HOLDS_EACH = 2000, 20, 3
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
# Nobody is merged here, and nothing is read quicker than an empty table.
EMPTY = {"merges"}
FILL = (
    f"""
    INSERT INTO accounts (customer_id, seq, balance)
    SELECT 'c' || n, {ENTRIES_EACH}, 100 FROM generate_series(1, {ACCOUNTS}) n
    """,
    f"""
    INSERT INTO entries (entry_id, account_id, seq, kind, points, base, bonus, balance_after, lot_id, occurred_at,
                         recorded_at, available_at, expires_at, shop, order_id, event_key, event_id, fingerprint,
                         net_spend, exact, multiplier, explanation)
    SELECT id, account_id, n, 'earned', 5, 5, 0, 5 * n, id, at, at, at, at + interval '1 year', 'shop',
           'o' || account_id || '-' || n, id, 'e', 0, 5, '5', '1', '{{}}'
    FROM (SELECT gen_random_uuid() AS id, account_id, n, now() - n * interval '9 days' AS at
          FROM accounts, generate_series(1, {ENTRIES_EACH}) n) AS e
    """,
    f"""
    INSERT INTO holds (hold_id, account_id, state, points, lots, parts, held_at, expires_at, ended_at)
    SELECT gen_random_uuid(), account_id, 'released', 5, '{{}}', '{{}}', at, at + interval '1 hour', at
    FROM (SELECT account_id, now() - n * interval '30 days' AS at
          FROM accounts, generate_series(1, {HOLDS_EACH}) n) AS h
    """,
    "ANALYZE",
)


@pytest.fixture
async def large(points_db: str) -> Any:
    conn = await asyncpg.connect(points_db)
    for statement in FILL:
        await conn.execute(statement)
    yield conn
    await conn.close()


def scanned(plan: dict[str, Any]) -> set[str]:
    """Tables that a plan reads from end to end."""
    found = {plan["Relation Name"]} - EMPTY if plan["Node Type"] == "Seq Scan" else set()
    return found.union(*(scanned(inner) for inner in plan.get("Plans", ())))


async def explain(conn: asyncpg.Connection[asyncpg.Record], text: str, *values: Any) -> set[str]:
    rows = await conn.fetchval(f"EXPLAIN (FORMAT json) {text}", *values)
    return scanned(json.loads(rows)[0]["Plan"])


async def test_no_statement_of_a_command_or_balance_scans_a_table(large: Any) -> None:
    hold_id = await large.fetchval("SELECT hold_id FROM holds LIMIT 1")
    account = await large.fetchval("SELECT account_id FROM accounts LIMIT 1")
    for text, values in (
        (sql.lock_customer, ("c7",)),
        (sql.lock_hold, (hold_id,)),
        (sql.lock_free, (["c7", "c8"], [hold_id, uuid4()])),
        (sql.spendable_lots, ([account], NOW, [])),
        (sql.holds, ([hold_id, uuid4()],)),
        (sql.hold, (hold_id,)),
        (sql.known_holds, ([hold_id, uuid4()],)),
        (sql.holds_of_order, (account, "basket")),
        (sql.timed_out, (NOW, 100)),
        (sql.account_ids, (["c1", "c2"],)),
        (sql.owing, ([account],)),
        (sql.replayed_lines, ([account],)),
        (sql.reserves, ([account],)),
        (VIEWS.balance, ("c7", NOW, True)),
        (VIEWS.balance, ("c7", NOW, False)),
    ):
        assert await explain(large, text, *values) == set(), text
