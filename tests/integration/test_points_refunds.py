"""Refunds and cancellations through the runner into a real database: what they take, and what waits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.points import intake, views
from services.points.handlers.spending import Spending, Wish
from services.points.jobs.due import tell_due
from services.points.jobs.refunds import look_again
from shared.contracts import tiers
from shared.contracts.points import CLAWED_BACK
from shared.db.types import Pool
from shared.events.model import Work
from shared.program import Program
from tests.fixtures.events import (
    cancelled,
    event,
    line,
    move,
    purchase,
    record,
    records,
    refunded,
    tier_change,
)
from tests.fixtures.points import violations
from tests.fixtures.streams import NOW, running
from tests.unit.points import samples

pytestmark = pytest.mark.servers

# 49 points: the second line of the golden case.
TWO = event(purchase(lines=[line(1, "8.17"), line(2, "24.50", "2")]))


async def taken(pool: Pool) -> list[int]:
    rows = await pool.fetch("SELECT points FROM entries WHERE kind = 'clawed_back' ORDER BY seq")
    return [row["points"] for row in rows]


async def stands(pool: Pool) -> list[tuple[Any, ...]]:
    rows = await pool.fetch(
        "SELECT r.refund_id, o.state, o.code, o.points FROM refunds r"
        " JOIN refund_outcomes o USING (refund_key) ORDER BY r.refund_id"
    )
    return [tuple(row) for row in rows]


async def told(pool: Pool) -> list[dict[str, Any]]:
    rows = await pool.fetch("SELECT payloads FROM outbox ORDER BY id")
    found = [msgspec.json.decode(payload) for row in rows for payload in row["payloads"]]
    return [one["data"] for one in found if one["type"] == CLAWED_BACK]


async def balance(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT coalesce(sum(balance), 0) FROM accounts"))


async def test_golden_two_partial_refunds(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        first = refunded("r1", lines=[("2", "1")])
        second = refunded("r2", at="2026-05-03T10:00:00Z", lines=[("2", "1")])
        await runner.process(records([TWO, first, second]))
        assert await taken(pool) == [-24, -25]
        assert await balance(pool) == 8
        events = await told(pool)
        assert [(one["refund_id"], one["points"], one["base"]) for one in events] == [
            ("r1", -24, -24),
            ("r2", -25, -25),
        ]
        assert events[1]["standing"] == {
            "lot_id": events[1]["lot_id"],
            "seq": 3,
            "base": 57,
            "net_spend": "57.17",
            "purchases": 1,
            "occurred_at": "2026-05-01T10:00:00Z",
            "reductions": [
                {
                    "at": "2026-05-02T10:00:00Z",
                    "base": 24,
                    "net_spend": "24.5",
                    "purchases": 0,
                },
                {
                    "at": "2026-05-03T10:00:00Z",
                    "base": 25,
                    "net_spend": "24.5",
                    "purchases": 0,
                },
            ],
        }
        assert await violations(pool, program) == []


async def test_golden_out_of_order(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        refund = refunded(lines=[("2", "1")])
        await runner.process(records([refund]))
        assert await stands(pool) == [("r1", "parked", "awaiting-purchase", 0)]
        assert await pool.fetchval("SELECT sum(parked) FROM offsets") == 1
        assert await violations(pool, program) == []
        await runner.process(records([TWO], start=1))
        assert await stands(pool) == [("r1", "matched", None, 24)]
        assert await balance(pool) == 33
        assert await violations(pool, program) == []


async def test_a_cancellation_of_nobodys_waits_too(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await runner.process(records([cancelled()]))
        assert await stands(pool) == [(None, "parked", "awaiting-purchase", 0)]
        await runner.process(records([TWO], start=1))
        assert await stands(pool) == [(None, "matched", None, 57)]
        assert await balance(pool) == 0
        late = refunded(at="2026-05-04T10:00:00Z", lines=[("1", "1")])
        await runner.process(records([late], start=2))
        assert (await stands(pool))[0] == ("r1", "unmatched", "more-than-bought", 0)
        assert await balance(pool) == 0
        assert await violations(pool, program) == []


async def test_the_same_refund_again_changes_nothing(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        refund = refunded(lines=[("2", "1")])
        await runner.process(records([TWO, refund, refund, refund | {"id": "another"}]))
        other = refunded(lines=[("2", "2")]) | {"id": "third"}
        await runner.process(records([refund, other], start=4))
        assert await taken(pool) == [-24]
        row: Any = await pool.fetchrow("SELECT applied, duplicates, poison FROM offsets")
        assert tuple(row) == (2, 3, 1)
        letter: Any = await pool.fetchrow("SELECT field, reason FROM dead_letters")
        assert letter["field"] == "data.refund_id"


async def test_more_than_bought_is_bounded_and_recorded(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        unknown = refunded("r2", at="2026-05-03T10:00:00Z", lines=[("9", "1")])
        await runner.process(records([TWO, refunded(lines=[("2", "5")]), unknown]))
        assert await stands(pool) == [
            ("r1", "partly", "more-than-bought", 49),
            ("r2", "unmatched", "unknown-line", 0),
        ]
        assert await balance(pool) == 8
        assert await violations(pool, program) == []


async def test_another_customers_order_is_refused(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        early = refunded("r1", customer="c2", lines=[("2", "1")])
        late = refunded("r2", customer="c2", lines=[("2", "1")])
        await runner.process(records([early, TWO, late]))
        assert await stands(pool) == [
            ("r1", "refused", "other-customer", 0),
            ("r2", "refused", "other-customer", 0),
        ]
        assert await balance(pool) == 57
        assert await violations(pool, program) == []


async def test_guests_get_nothing_and_give_nothing_back(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        guest = event(purchase("g", None))
        early = refunded("r1", "g", None, lines=[("1", "1")])
        late = refunded("r2", "g", None, lines=[("1", "1")])
        nobody = refunded("r3", None, None, lines=[("sku-1", "1")])
        await runner.process(records([early]))
        await runner.process(records([guest, late, nobody], start=1))
        assert await stands(pool) == [
            (name, "uncredited", "guest-purchase", 0) for name in ("r1", "r2", "r3")
        ]
        assert await violations(pool, program) == []


async def test_without_an_order_the_newest_lines_of_the_article_are_meant(
    points_db: str, program: Program
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        old = event(purchase("old", at="2026-04-01T10:00:00Z", amount="10.00"))
        new = event(purchase("new", at="2026-05-01T10:00:00Z", amount="20.00"))
        later = event(purchase("later", at="2026-06-01T10:00:00Z", amount="40.00"))
        first = refunded("r1", None, lines=[("sku-1", "1")])
        second = refunded("r2", None, at="2026-05-03T10:00:00Z", lines=[("sku-1", "2")])
        third = refunded("r3", None, at="2026-05-04T10:00:00Z", lines=[("sku-9", "1")])
        await runner.process(records([old, later, third, second, first]))
        # The newest is not there yet: the first refund takes the old one.
        assert await stands(pool) == [
            ("r1", "matched", None, 10),
            ("r2", "unmatched", "no-purchase-found", 0),
            ("r3", "unmatched", "no-purchase-found", 0),
        ]
        await runner.process(records([new], start=5))
        assert await stands(pool) == [
            ("r1", "matched", None, 20),
            ("r2", "partly", "no-purchase-found", 10),
            ("r3", "unmatched", "no-purchase-found", 0),
        ]
        assert await balance(pool) == 40
        assert await violations(pool, program) == []


async def test_amounts_are_taken_pro_rata_and_never_beyond(
    points_db: str, program: Program
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        first = refunded("r1", amount="10.00")
        second = refunded("r2", at="2026-05-03T10:00:00Z", amount="100.00")
        other = refunded("r3", at="2026-05-04T10:00:00Z", amount="1.00", currency="EUR")
        await runner.process(records([TWO, first, second, other]))
        assert await stands(pool) == [
            ("r1", "matched", None, 9),
            ("r2", "partly", "more-than-bought", 48),
            ("r3", "refused", "other-currency", 0),
        ]
        assert await balance(pool) == 0
        assert await violations(pool, program) == []


async def test_a_late_tier_bonus_is_taken_back_too(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        sale = event(purchase(amount="100.00", lines=[line(1, "50.00", "2")]))
        refund = refunded(lines=[("1", "1")])
        change = tier_change("c1", 1, [move("gold", "2026-04-01T00:00:00Z", "1.5")])
        await runner.process(records([sale, refund]))
        await runner.process(records([change], topic=tiers.TOPIC))
        assert await taken(pool) == [-50, -25]
        assert await balance(pool) == 75
        # Tiers never feed themselves: what it counts for at the tiers has not moved.
        assert [one["standing"]["reductions"][0]["base"] for one in await told(pool)] == [50, 50]
        assert await violations(pool, program) == []


@pytest.mark.parametrize(("spent", "owed"), [(0, 0), (60, 60)])
async def test_points_that_had_expired_are_not_taken_twice(
    points_db: str, program: Program, spent: int, owed: int
) -> None:
    """100 points, some spent, the rest expired: what had been spent is owed, and nothing else."""
    now = [datetime(2024, 2, 1, tzinfo=UTC)]
    async with running(points_db, intake.routes(program), now=lambda: now[0]) as (runner, pool):
        old = event(purchase("old", at="2024-01-05T10:00:00Z", amount="100.00"))
        await runner.process(records([old]))
        if spent:
            await spend(pool, program, spent, now=now[0])
        now[0] = NOW
        await tell_due(pool, lambda: None, program, NOW, settle=timedelta(0))
        refund = refunded("r1", "old", at="2026-01-01T00:00:00Z")
        fresh = event(purchase("new", at="2026-02-01T00:00:00Z", amount="500.00"))
        await runner.process(records([refund, fresh], start=1))
        await tell_due(pool, lambda: None, program, NOW + timedelta(minutes=1), settle=timedelta(0))
        async with pool.acquire() as conn:
            row: Any = await views.balance(conn, "c1", NOW, live=True)
        assert (row["available"], row["deficit"]) == (500 - owed, 0)
        assert await taken(pool) == [-100]
        assert await violations(pool, program) == []


async def spend(
    pool: Pool, program: Program, points: int, order: str | None = None, now: datetime = NOW
) -> None:
    async with pool.acquire() as conn, conn.transaction():
        work = Work(conn, now, "/services/points")
        await Spending(program).spend(work, Wish("c1", points, order_id=order))


async def sums(pool: Pool) -> list[int]:
    rows = await pool.fetch(
        "SELECT sum(points)::int AS points FROM entries GROUP BY lot_id ORDER BY min(occurred_at)"
    )
    return [row["points"] for row in rows]


async def test_a_deficit_is_absorbed_by_the_next_credit(points_db: str, program: Program) -> None:
    """Balance 50, clawback 70, then 100 earned: −20, then 80 in the new lot."""
    async with running(points_db, intake.routes(program)) as (runner, pool):
        sale = event(purchase("o1", amount="70.00"))
        await runner.process(records([sale]))
        await spend(pool, program, 20)
        assert await balance(pool) == 50
        await runner.process(records([refunded("r1", "o1", at="2026-11-23T10:00:00Z")], start=1))
        assert await balance(pool) == -20
        credit = event(purchase("o2", at="2026-11-23T11:00:00Z", amount="100.00"))
        await runner.process(records([credit], start=2))
        assert await balance(pool) == 80
        assert await sums(pool) == [0, 80]
        assert await violations(pool, program) == []


async def test_with_clamp_to_zero_what_is_not_there_is_written_off(points_db: str) -> None:
    """The same: 0, then 100."""
    clamped = samples.program({"refunds": "clamp_to_zero"})
    async with running(points_db, intake.routes(clamped)) as (runner, pool):
        await runner.process(records([event(purchase("o1", amount="70.00"))]))
        await spend(pool, clamped, 20)
        await runner.process(records([refunded("r1", "o1", at="2026-11-22T12:00:00Z")], start=1))
        assert await balance(pool) == 0
        credit = event(purchase("o2", at="2026-11-22T12:00:00Z", amount="100.00"))
        await runner.process(records([credit], start=2))
        assert await balance(pool) == 100
        assert await sums(pool) == [0, 100]
        assert await violations(pool, clamped) == []


@pytest.mark.parametrize("early", [False, True], ids=["after its purchase", "before it"])
async def test_a_cancellation_restores_what_was_spent_on_the_order(
    points_db: str, program: Program, *, early: bool
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await runner.process(records([event(purchase("o1", amount="70.00"))]))
        await spend(pool, program, 50, "o2")
        story = [
            event(purchase("o2", at="2026-05-05T10:00:00Z", amount="30.00")),
            cancelled("o2", at="2026-05-06T10:00:00Z", customer="c1"),
        ]
        if early:
            await runner.process(records(story[1:], start=1))
            assert await balance(pool) == 70
            story = story[:1]
            await runner.process(records(story, start=2))
        else:
            await runner.process(records(story, start=1))
        assert await balance(pool) == 70
        assert await sums(pool) == [70, 0]
        assert await violations(pool, program) == []


BAD: list[tuple[dict[str, Any], str]] = [
    (refunded(""), "data.refund_id"),
    (refunded(lines=[("1", "0")]), "data.lines[0].quantity"),
    (refunded(lines=[("1", "-1")]), "data.lines[0].quantity"),
    (refunded(amount="0"), "data.amount"),
    (refunded(currency="XX"), "data.currency"),
    (refunded(order=None), "data.order_id"),
    (refunded(at="2027-05-01T10:00:00Z"), "data.occurred_at"),
    (refunded(lines=[("1", "1e12")]), "data.lines[0].quantity"),
    (refunded(order=None, lines=[("1", "1")]) | {"source": ""}, "source"),
    (cancelled(at=None), "data.occurred_at"),
]


@pytest.mark.parametrize(("wrong", "field"), BAD, ids=[field for _, field in BAD])
async def test_what_can_never_be_applied_is_kept_aside_with_its_field(
    points_db: str, program: Program, wrong: dict[str, Any], field: str
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await runner.process(records([wrong]))
        letter: Any = await pool.fetchrow("SELECT field, reason FROM dead_letters")
        assert letter is not None
        assert letter["field"] == field
        assert await pool.fetchval("SELECT count(*) FROM refunds") == 0


async def test_a_cancellation_without_an_instant_happened_when_it_was_told(
    points_db: str, program: Program
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        when = cancelled(at=None) | {"time": "2026-05-07T08:00:00Z"}
        await runner.process(records([TWO, when]))
        at = await pool.fetchval("SELECT occurred_at FROM entries WHERE kind = 'clawed_back'")
        assert at.isoformat() == "2026-05-07T08:00:00+00:00"


async def test_nothing_is_lost_between_a_purchase_and_a_cancellation_at_once(
    points_db: str, program: Program
) -> None:
    """Neither names the other's account, and neither sees the other's row: still they find each other."""
    async with running(points_db, intake.routes(program)) as (runner, pool):
        numbers = range(12)
        sales = [event(purchase(f"o{n}", f"c{n}")) for n in numbers]
        ends = [cancelled(f"o{n}") for n in numbers]
        for n in numbers:
            await asyncio.gather(
                runner.process(_placed([sales[n]], 0, n)), runner.process(_placed([ends[n]], 1, n))
            )
        assert await balance(pool) == 0
        assert {state for _, state, *_ in await stands(pool)} == {"matched"}
        assert await violations(pool, program) == []


def _placed(values: Sequence[Any], partition: int, offset: int) -> list[Any]:
    return [record(value, offset, partition=partition) for value in values]


async def test_what_passed_each_other_is_found_by_the_job(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        guest, theirs = event(purchase("g", None)), event(purchase("o2"))
        told = [refunded("r1", "g"), refunded("r2", "o2", "c2"), cancelled("o3", customer="c1")]
        await runner.process(records([*told, TWO]))
        # As if their purchases had come in a batch that did not see these refunds.
        before = await pool.fetch("SELECT refund_key, account_id FROM refund_outcomes")
        await runner.process(records([guest, theirs, event(purchase("o3"))], start=4))
        await pool.executemany(
            "UPDATE refund_outcomes SET state = 'parked', code = 'awaiting-purchase', account_id = $2"
            " WHERE refund_key = $1 AND state <> 'matched'",
            [tuple(row) for row in before],
        )
        assert await violations(pool, program) == ["refunds-stand-as-booked"]
        woken: list[bool] = []
        await look_again(pool, lambda: woken.append(True), program, NOW)
        assert await stands(pool) == [
            ("r1", "uncredited", "guest-purchase", 0),
            ("r2", "refused", "other-customer", 0),
            (None, "matched", None, 10),
        ]
        assert woken == [True]
        assert await violations(pool, program) == []


STORY = [
    event(purchase("a", at="2026-05-01T10:00:00Z", lines=[line(1, "9.99", "3"), line(2, "4.50")])),
    event(purchase("b", at="2026-05-05T10:00:00Z", lines=[line(1, "8.00", "2")])),
    refunded("r1", "a", lines=[("1", "2")], at="2026-05-06T10:00:00Z"),
    refunded("r2", None, lines=[("sku-1", "2")], at="2026-05-07T10:00:00Z"),
    cancelled("b", at="2026-05-08T10:00:00Z"),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::9])
async def test_any_order_ends_the_same(
    points_db: str, program: Program, order: tuple[int, ...]
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        for offset, number in enumerate(order):
            await runner.process(records([STORY[number]], start=offset))
        rows = await pool.fetch(
            "SELECT order_id, event_id, sum(points)::int AS points, occurred_at FROM entries"
            " WHERE kind = 'clawed_back' GROUP BY order_id, event_id, occurred_at"
            " HAVING sum(points) <> 0 ORDER BY order_id, event_id"
        )
        assert [(row["order_id"], row["event_id"], row["points"]) for row in rows] == [
            ("a", "event-r1", -20),
            ("b", "event-r2", -16),
        ]
        assert await stands(pool) == [
            ("r1", "matched", None, 20),
            ("r2", "matched", None, 16),
            (None, "matched", None, 0),
        ]
        assert await violations(pool, program) == []
