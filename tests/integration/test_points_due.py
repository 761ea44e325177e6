"""What time does to lots is written down late, and nobody notices: no answer changes, at no instant."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from services.points import intake, invariants, views
from services.points.domain.expiry import EXPIRED, UNLOCKED
from services.points.jobs.due import tell_due
from services.points.ledger import due
from services.points.ledger.entries import QUIET
from shared.contracts import points, tiers
from shared.db.types import Pool
from shared.invariants import COMMON, check
from shared.program import Program
from tests.fixtures.events import event, move, purchase, records, tier_change
from tests.fixtures.streams import NOW, running
from tests.unit.points.samples import program as rules

pytestmark = pytest.mark.servers

DAY = timedelta(days=1)
# 1 point a pound; spendable after two weeks, for three months.
SHORT = rules({"available_after": "P14D", "expiry": {"after": "P3M"}})
INSTANTS = [NOW - timedelta(days=days) for days in range(-120, 900, 15)]


async def tell(pool: Pool, program: Program, now: datetime = NOW, **more: Any) -> None:
    await tell_due(pool, lambda: None, program, now, **{"settle": timedelta(0)} | more)


async def answers(pool: Pool, customers: Sequence[str]) -> list[Any]:
    """Every balance at every instant and live, and all lots."""
    found: list[Any] = []
    async with pool.acquire() as conn:
        for customer in customers:
            found += [
                tuple(await views.balance(conn, customer, at, live=False) or ()) for at in INSTANTS
            ]
            found.append(tuple(await views.balance(conn, customer, NOW, live=True) or ()))
            found.append(
                [tuple(row) for row in await views.lots(conn, customer, NOW, None, 100) or ()]
            )
    return found


async def lines(pool: Pool, *kinds: str) -> list[tuple[Any, ...]]:
    rows = await pool.fetch(
        "SELECT order_id, kind, points, occurred_at FROM entries WHERE kind = ANY($1)"
        " ORDER BY order_id, kind DESC, occurred_at, seq",
        kinds or (EXPIRED, UNLOCKED),
    )
    return [tuple(row) for row in rows]


async def violations(pool: Pool, program: Program) -> list[Any]:
    async with pool.acquire() as conn:
        found = await check(conn, (*COMMON, *invariants.of(program)))
    return [result for result in found if result.violations]


async def test_what_unlocked_and_expired_is_written_and_published_once(points_db: str) -> None:
    async with running(points_db, intake.routes(SHORT)) as (runner, pool):
        bought = [
            event(purchase("old", at="2026-05-01T10:00:00Z", amount="100.00")),
            event(purchase("open", at="2026-10-01T10:00:00Z", amount="70.00")),
            event(purchase("young", at="2026-11-20T10:00:00Z", amount="50.00")),
            event(purchase("nothing", at="2026-05-02T10:00:00Z", amount="0.10")),
        ]
        await runner.process(records(bought))
        await pool.execute("DELETE FROM outbox")
        before = await answers(pool, ["c1"])
        for _ in range(3):
            await tell(pool, SHORT)
        end = datetime(2026, 8, 15, 23, tzinfo=UTC)
        assert await lines(pool) == [
            ("nothing", UNLOCKED, 0, datetime(2026, 5, 16, 10, tzinfo=UTC)),
            ("old", UNLOCKED, 0, datetime(2026, 5, 15, 10, tzinfo=UTC)),
            ("old", EXPIRED, -100, end),
            ("open", UNLOCKED, 0, datetime(2026, 10, 15, 10, tzinfo=UTC)),
        ]
        assert await answers(pool, ["c1"]) == before
        told = [
            msgspec.json.decode(payload)
            for row in await pool.fetch("SELECT * FROM outbox ORDER BY id")
            for payload in row["payloads"]
        ]
        lost = [item for item in told if item["type"] == points.EXPIRED]
        assert [(e["data"]["points"], e["data"]["occurred_at"]) for e in lost] == [
            (-100, "2026-08-15T23:00:00Z")
        ]
        assert sorted(e["data"]["points"] for e in told if e["type"] == points.UNLOCKED) == [
            0,
            70,
            100,
        ]
        assert len({item["id"] for item in told}) == len(told)
        assert await violations(pool, SHORT) == []


async def test_it_goes_on_with_the_next_date_and_finds_nothing_else_to_do(points_db: str) -> None:
    async with running(points_db, intake.routes(SHORT)) as (runner, pool):
        await runner.process(records([event(purchase(at="2026-11-20T10:00:00Z"))]))
        due = "SELECT due_at FROM accounts"
        unlocks = datetime(2026, 12, 4, 10, tzinfo=UTC)
        assert await pool.fetchval(due) == unlocks
        await tell(pool, SHORT)
        assert (await pool.fetchval(due), await lines(pool)) == (unlocks, [])
        await tell(pool, SHORT, unlocks + DAY)
        ends = datetime(2027, 3, 5, tzinfo=UTC)
        assert await pool.fetchval(due) == ends
        await tell(pool, SHORT, ends)
        assert [line[1:] for line in await lines(pool)] == [
            (UNLOCKED, 0, unlocks),
            (EXPIRED, -10, ends),
        ]
        assert await pool.fetchval(due) is None


async def test_many_accounts_are_worked_off_in_batches(points_db: str) -> None:
    async with running(points_db, intake.routes(SHORT)) as (runner, pool):
        bought = [
            event(purchase(f"o{number}", f"c{number % 25}", f"2025-0{1 + number % 9}-07T10:00:00Z"))
            for number in range(100)
        ]
        await runner.process(records(bought))
        woken: list[int] = []
        await tell_due(pool, lambda: woken.append(1), SHORT, NOW, settle=timedelta(0), batch=10)
        assert len(woken) == 3
        assert len(await lines(pool, EXPIRED)) == len(await lines(pool, UNLOCKED)) == 100
        assert await pool.fetchval("SELECT sum(balance) FROM accounts") == 0
        assert await violations(pool, SHORT) == []


async def test_jobs_and_the_stream_get_along(points_db: str) -> None:
    async with running(points_db, intake.routes(SHORT)) as (runner, pool):

        async def load() -> None:
            for number in range(30):
                day = NOW - timedelta(days=10 * number)
                bought = [
                    event(purchase(f"o{number}-{who}", f"c{who}", day.isoformat(), "20.00"))
                    for who in range(8)
                ]
                await runner.process(records(bought, start=8 * number))

        async def work_off() -> None:
            for _ in range(10):
                await tell(pool, SHORT, batch=3)

        await asyncio.gather(load(), work_off(), work_off())
        await tell(pool, SHORT)
        assert await violations(pool, SHORT) == []
        told = await lines(pool, EXPIRED)
        assert len(told) == len({(line[0], line[3]) for line in told})
        ended = await pool.fetchval(
            "SELECT count(DISTINCT lot_id) FROM entries WHERE expires_at <= $1", NOW
        )
        assert len(told) == ended > 100


async def test_accounts_that_are_due_are_found_by_an_index(points_db: str) -> None:
    async with running(points_db, intake.routes(SHORT)) as (_, pool), pool.acquire() as conn:
        await conn.execute("SET enable_seqscan = off")
        plan = await conn.fetch(f"EXPLAIN {due.sql.lock_due}", NOW, 100)
        assert any("accounts_due" in row[0] for row in plan)
        await conn.execute("RESET enable_seqscan")


async def test_who_is_being_loaded_is_left_alone(points_db: str) -> None:
    async with running(points_db, intake.routes(SHORT)) as (runner, pool):
        await runner.process(records([event(purchase("o1", at="2025-01-01T10:00:00Z"))]))
        await tell(pool, SHORT, NOW + timedelta(seconds=20), settle=QUIET)
        assert await lines(pool) == []
        await tell(pool, SHORT, NOW + QUIET + timedelta(seconds=1), settle=QUIET)
        assert len(await lines(pool)) == 2


async def test_a_late_tier_bonus_expires_with_its_lot(points_db: str) -> None:
    async with running(points_db, intake.routes(SHORT)) as (runner, pool):
        bought = purchase("old", at="2026-05-01T10:00:00Z", amount="100.00")
        await runner.process(records([event(bought)]))
        await tell(pool, SHORT)
        silver = tier_change("c1", 1, [move("silver", "2026-04-01T00:00:00Z", "1.25")])
        await runner.process(records([silver], tiers.TOPIC))
        before = await answers(pool, ["c1"])
        await tell(pool, SHORT)
        assert [line[2] for line in await lines(pool, EXPIRED)] == [-100, -25]
        assert await answers(pool, ["c1"]) == before
        none = tier_change("c1", 2, [move("bronze", "2026-04-01T00:00:00Z", "1")])
        await runner.process(records([none], tiers.TOPIC, start=1))
        before = await answers(pool, ["c1"])
        await tell(pool, SHORT)
        assert [line[2] for line in await lines(pool, EXPIRED)] == [-100, -25, 25]
        assert await answers(pool, ["c1"]) == before
        assert await pool.fetchval("SELECT balance FROM accounts") == 0
        assert await violations(pool, SHORT) == []


async def test_points_that_a_hold_reserves_expire_when_it_lets_go(points_db: str) -> None:
    async with running(points_db, intake.routes(SHORT)) as (runner, pool):
        bought = purchase("old", at="2026-08-07T10:00:00Z", amount="100.00")
        await runner.process(records([event(bought)]))
        lot = await pool.fetchrow("SELECT account_id, lot_id, expires_at FROM entries")
        assert lot is not None
        end = lot["expires_at"]
        assert end == datetime(2026, 11, 22, tzinfo=UTC)
        released = NOW + timedelta(minutes=10)
        await pool.execute(
            "INSERT INTO holds (hold_id, account_id, state, points, lots, parts, held_at, expires_at, ended_at)"
            " VALUES ($1, $2, 'held', 30, $3, $4, $5, $6, $6)",
            UUID(int=7), lot["account_id"], [lot["lot_id"]], [30], end - DAY, end + DAY,
        )  # fmt: skip
        await tell(pool, SHORT, NOW + timedelta(minutes=1))
        assert await lines(pool, EXPIRED) == [("old", EXPIRED, -70, end)]
        assert await pool.fetchval("SELECT due_at FROM accounts") == end + DAY
        await pool.execute("UPDATE holds SET state = 'released', ended_at = $1", released)
        await tell(pool, SHORT, end + DAY)
        assert await lines(pool, EXPIRED) == [
            ("old", EXPIRED, -70, end),
            ("old", EXPIRED, -30, released),
        ]


@pytest.mark.parametrize("seed", range(3))
async def test_the_job_at_any_time_changes_no_answer(points_db: str, seed: int) -> None:
    chance = random.Random(seed)
    customers = ["c1", "c2", "c3"]
    stream: list[tuple[str, Any]] = [
        (
            "treue.purchases",
            event(
                purchase(
                    f"o{number}",
                    chance.choice(customers),
                    (NOW - timedelta(days=chance.randint(0, 800))).isoformat(),
                    f"{chance.randint(1, 90)}.00",
                )
            ),
        )
        for number in range(40)
    ]
    for revision in range(1, 7):
        since = (NOW - timedelta(days=chance.randint(0, 800))).isoformat()
        way = [move("silver", since, chance.choice(["1", "1.25", "1.5"]))]
        stream.append((tiers.TOPIC, tier_change(chance.choice(customers), revision, way)))
    chance.shuffle(stream)
    async with running(points_db, intake.routes(SHORT)) as (runner, pool):
        offsets = {"treue.purchases": 0, tiers.TOPIC: 0}
        for topic, told in stream:
            await runner.process(records([told], topic, start=offsets[topic]))
            offsets[topic] += 1
            if chance.random() < 0.3:
                before = await answers(pool, customers)
                now = NOW - timedelta(days=chance.choice([0, 0, 100, 300]))
                await tell(pool, SHORT, now, batch=chance.choice([1, 2, 100]))
                assert await answers(pool, customers) == before
        await tell(pool, SHORT)
        assert await violations(pool, SHORT) == []
        rest = await pool.fetchval(
            "SELECT coalesce(sum(points), 0) FROM entries WHERE expires_at <= $1", NOW
        )
        assert rest == 0
