"""The chain of the ledger: nobody waits for it, and whoever edits behind everybody's back is named."""

from __future__ import annotations

import asyncio
from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from services.points import intake, invariants, ledger
from services.points.domain.chaining import NET_SPEND
from services.points.jobs.checkpoints import tie
from services.points.ledger import EntryRow
from shared.db.types import Pool
from shared.invariants import check
from shared.program import Program
from tests.fixtures.events import event, move, purchase, record, records, tier_change
from tests.fixtures.servers import owner_of
from tests.fixtures.streams import NOW, running

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


async def broken(pool: Pool) -> dict[str, list[dict[str, Any]]]:
    async with pool.acquire() as conn:
        return {r.name: r.rows for r in await check(conn, invariants.PROOF) if r.violations}


async def tamper(dsn: str, *statements: str) -> None:
    """What somebody does who may do everything, and knows of the triggers."""
    conn = await asyncpg.connect(owner_of(dsn))
    await conn.execute("SET session_replication_role = replica")
    for statement in statements:
        await conn.execute(statement)
    await conn.close()


async def fill(runner: Any, first: int = 0, count: int = 60) -> None:
    """A batch by COPY, a few single ones, and corrections."""
    values = [event(purchase(f"o{first + n}", f"c{n % 7}")) for n in range(count)]
    assert await runner.process(records(values[:50], start=first))
    for n, value in enumerate(values[50:], 50):
        assert await runner.process([record(value, first + n)])


def test_the_number_that_may_be_written_in_several_ways_is_where_the_digest_looks() -> None:
    assert EntryRow._fields[NET_SPEND] == "net_spend"


async def test_every_batch_is_a_link_and_all_is_found_as_written(
    points_db: str, program: Program
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await fill(runner)
        change = tier_change("c1", 1, [move("silver", "2026-05-01T09:00:00Z", "1.25")])
        assert await runner.process([record(change, topic="treue.tiers")])
        assert await broken(pool) == {}
        held = await pool.fetchrow(
            "SELECT count(*) AS links, count(DISTINCT chain) AS chains,"
            " sum(octet_length(digests)) / 16 AS lines FROM chain"
        )
        assert held is not None
        assert held["links"] >= 12
        assert held["lines"] == await pool.fetchval("SELECT count(*) FROM entries")
        assert await pool.fetchval("SELECT count(*) FROM entries WHERE kind = 'tier_bonus'") > 0


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE entries SET points = points + 1, base = base + 1 WHERE order_id = 'o17'", "o17"),
        ("UPDATE entries SET explanation = '{}' WHERE order_id = 'o55'", "o55"),
        ("UPDATE entries SET occurred_at = occurred_at + '1 us' WHERE order_id = 'o0'", "o0"),
        ("UPDATE entries SET batch = gen_random_uuid() WHERE order_id = 'o20'", "o20"),
        ("UPDATE entries SET actor = 'me' WHERE order_id = 'o21'", "o21"),
    ],
)
async def test_a_changed_line_is_named(
    points_db: str, program: Program, statement: str, what: str
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await fill(runner)
        await tamper(points_db, statement)
        rows = (await broken(pool))["entries-as-written"]
        entry = await pool.fetchval("SELECT entry_id FROM entries WHERE order_id = $1", what)
        assert rows[0]["entry_id"] == entry
        assert len([row for row in rows if "entry_id" in row]) == 1


async def test_lines_that_are_gone_or_came_by_another_way_are_found(
    points_db: str, program: Program
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await fill(runner)
        await tamper(points_db, "DELETE FROM entries WHERE order_id IN ('o3', 'o4', 'o59')")
        rows = (await broken(pool))["entries-as-written"]
        assert sorted(row["what"] for row in rows) == [
            "1 of its lines are gone",
            "2 of its lines are gone",
        ]
        await tamper(
            points_db,
            "UPDATE chain SET recorded_at = recorded_at - interval '2 days'",
            "UPDATE entries SET batch = NULL, recorded_at = now() WHERE order_id = 'o9'",
        )
        assert {
            row["entry_id"] is not None for row in (await broken(pool))["entries-are-chained"]
        } == {True}


async def test_the_earliest_of_several_is_named_first(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await fill(runner)
        await tamper(points_db, "UPDATE entries SET tier = 'gold' WHERE order_id IN ('o59', 'o52')")
        first, second = (await broken(pool))["entries-as-written"]
        ids = {
            row["order_id"]: row["entry_id"]
            for row in await pool.fetch("SELECT order_id, entry_id FROM entries")
        }
        assert (first["entry_id"], second["entry_id"]) == (ids["o52"], ids["o59"])


async def test_a_link_that_was_forged_breaks_the_chain_or_the_checkpoint(
    points_db: str, program: Program
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await fill(runner)
        await tie(pool, NOW)
        await tie(pool, NOW + timedelta(hours=23))
        await fill(runner, first=60)
        await tie(pool, NOW + timedelta(hours=24))
        assert await pool.fetchval("SELECT count(*) FROM checkpoints") == 2
        assert await broken(pool) == {}
        link = await pool.fetchrow("SELECT chain, number FROM chain ORDER BY number LIMIT 1")
        assert link is not None
        number, chain_id = link["number"], link["chain"]
        await tamper(
            points_db, f"UPDATE chain SET digests = digests || digests WHERE number = {number}"
        )
        found = await broken(pool)
        assert (found["chain-unbroken"][0]["number"], found["chain-unbroken"][0]["chain"]) == (
            number,
            chain_id,
        )
        # Who computes every hash anew after that meets the checkpoint.
        await tamper(
            points_db,
            """
            DO $$ DECLARE l record; before bytea; BEGIN
                FOR l IN SELECT * FROM chain ORDER BY chain, number LOOP
                    IF l.number = 1 THEN before := NULL; END IF;
                    before := link_hash(l.chain, l.number, before, l.batch, l.digests);
                    UPDATE chain SET hash = before WHERE chain = l.chain AND number = l.number;
                END LOOP;
                UPDATE chain c SET previous = (SELECT hash FROM chain p
                                               WHERE p.chain = c.chain AND p.number = c.number - 1);
            END $$
            """,
        )
        found = await broken(pool)
        assert "chain-unbroken" not in found
        assert found["checkpoints-hold"][0]["what"].startswith("tied a link")
        assert found["checkpoints-hold"][0]["number"] == 1


async def test_a_batch_that_is_rolled_back_leaves_no_gap(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await fill(runner)
        known = await pool.fetchrow("SELECT * FROM entries WHERE order_id = 'o1'")
        assert known is not None
        row = EntryRow(*(known[name] for name in EntryRow._fields))

        async def again() -> None:
            async with pool.acquire() as conn, conn.transaction():
                accounts = await ledger.lock_accounts(conn, ["c1"])
                await ledger.append(conn, [row], accounts.values())

        with pytest.raises(asyncpg.UniqueViolationError):
            await again()
        await fill(runner, first=60)
        assert await broken(pool) == {}


async def test_numbers_and_instants_are_found_however_they_were_written(
    points_db: str, program: Program
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await fill(runner)
        known = await pool.fetchrow("SELECT * FROM entries WHERE order_id = 'o1'")
        assert known is not None
        row = EntryRow(*(known[name] for name in EntryRow._fields))
        east = timezone(timedelta(hours=2))
        async with pool.acquire() as conn, conn.transaction():
            accounts = await ledger.lock_accounts(conn, ["c1"])
            account = accounts["c1"]
            for number, spend in enumerate(("1E+2", "0E+3", "-0.00", "1E-9", "-0.5", "12.340")):
                account.seq += 1
                account.balance += row.points
                written = row._replace(
                    entry_id=uuid4(),
                    event_key=uuid4(),
                    seq=account.seq,
                    balance_after=account.balance,
                    occurred_at=row.occurred_at.astimezone(east),
                    net_spend=Decimal(spend),
                    actor=None if number % 2 else "somebody",
                )
                await ledger.append(conn, [written], [account])
        assert await broken(pool) == {}


async def test_no_writer_waits_for_another(points_db: str, program: Program) -> None:
    """While one transaction has its link written and does not end, all the others go on."""
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await fill(runner)
        link = "INSERT INTO chain (batch, digests) VALUES (gen_random_uuid(), '\\x')"
        sleeper = await asyncpg.connect(points_db)
        transaction = sleeper.transaction()
        await transaction.start()
        await sleeper.execute(link)
        async with asyncio.timeout(20):
            await fill(runner, first=60)
            await tie(pool, NOW)
        await transaction.rollback()
        await sleeper.close()
        assert await broken(pool) == {}


async def test_many_sessions_and_checkpoints_at_once_hold(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):

        async def shop(partition: int) -> None:
            for n in range(8):
                values = [
                    event(purchase(f"s{partition}-{n}-{m}", f"c{m}"), f"{partition}-{n}-{m}")
                    for m in range(45)
                ]
                batch = [
                    record(value, n * 45 + m, partition=partition) for m, value in enumerate(values)
                ]
                assert await runner.process(batch)
                await tie(pool, NOW + timedelta(days=n))

        async with asyncio.timeout(60):
            await asyncio.gather(*(shop(partition) for partition in range(4)))
        assert await broken(pool) == {}
        assert await pool.fetchval("SELECT count(DISTINCT chain) FROM chain") > 1
        assert await pool.fetchval("SELECT count(*) FROM checkpoints") >= 8
