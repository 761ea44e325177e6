"""Two customers who are one: nothing is lost, both ids answer, and what comes later finds its way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from services.points import intake, views
from services.points.handlers.spending import Spending, Wish
from shared import program as programs
from shared.db.types import Pool
from shared.events.model import Work
from shared.program import Program
from tests.fixtures.events import card, enrolment, event, merge, purchase
from tests.fixtures.points import Feed, balances, violations
from tests.fixtures.streams import NOW, counts, running

pytestmark = pytest.mark.servers

RULES = """
program: test
name: Test
currency: GBP
timezone: Europe/London
enrolment: opt_in
guests: {claim_within: P30D}
earning:
  base: {points: 1, per: "1.00"}
  expiry: {after: P24M}
"""


@pytest.fixture(scope="module")
def rules() -> Program:
    return programs.parse(RULES)


@pytest.fixture(scope="module")
def automatic() -> Program:
    return programs.parse(RULES.replace("opt_in", "automatic"))


async def available(pool: Pool, customer: str) -> tuple[int, int]:
    """What a customer's id answers: available points and deficit."""
    async with pool.acquire() as conn:
        row = await views.balance(conn, customer, NOW, live=True)
    assert row is not None
    return row["available"], row["deficit"]


async def told(pool: Pool) -> list[dict[str, Any]]:
    rows = await pool.fetch("SELECT payloads FROM outbox ORDER BY id")
    return [msgspec.json.decode(payload) for row in rows for payload in row["payloads"]]


def refund(order: str, customer: str, at: str = "2026-06-10T10:00:00Z") -> dict[str, Any]:
    data = {
        "refund_id": f"refund-{order}",
        "order_id": order,
        "customer_id": customer,
        "currency": "GBP",
        "occurred_at": at,
        "lines": [{"line_id": "1", "quantity": "1"}],
    }
    return event(data, f"refund-{order}", "treue.purchase.refunded.v1")


async def test_nothing_is_lost_and_both_ids_answer(points_db: str, automatic: Program) -> None:
    async with running(points_db, intake.routes(automatic)) as (runner, pool):
        feed = Feed(runner)
        await feed(event(purchase("a1", "ann", amount="70.00")))
        await feed(event(purchase("b1", "anna", amount="30.00")))
        await feed(merge("ann", "anna"))
        assert await balances(pool) == {"anna": 100}
        assert await available(pool, "ann") == await available(pool, "anna") == (100, 0)
        lots = await pool.fetch(
            "SELECT order_id, min(expires_at) AS e, sum(points)::int AS p FROM entries e"
            " JOIN accounts USING (account_id) WHERE customer_id = 'anna' GROUP BY lot_id, order_id"
            " ORDER BY order_id"
        )
        assert [(row["order_id"], row["p"]) for row in lots] == [("a1", 70), ("b1", 30)]
        assert lots[0]["e"] == lots[1]["e"]
        # Others hear of the merge, and of each purchase once.
        messages = await told(pool)
        earned = [one["data"] for one in messages if one["type"].endswith("earned.v1")]
        assert [(one["customer_id"], one["order_id"], one["base"]) for one in earned] == [
            ("ann", "a1", 70),
            ("anna", "b1", 30),
        ]
        (merged,) = (one["data"] for one in messages if one["type"].endswith("merged.v1"))
        assert (merged["customer_id"], merged["into"]) == ("ann", "anna")
        assert merged["occurred_at"] == "2026-06-01T10:00:00Z"
        (moved,) = (one["data"] for one in messages if one["type"].endswith("adjusted.v1"))
        assert (moved["customer_id"], moved["kind"], moved["points"]) == ("anna", "transferred", 70)
        assert moved["standing"] is None
        assert await violations(pool, automatic) == []


async def test_what_comes_later_under_the_old_id_is_the_survivor_s(
    points_db: str, automatic: Program
) -> None:
    async with running(points_db, intake.routes(automatic)) as (runner, pool):
        feed = Feed(runner)
        await feed(card("issued", "C1", "ann", "2026-04-01T00:00:00Z"))
        await feed(merge("ann", "anna"))
        await feed(event(purchase("a1", "ann", amount="70.00")))
        await feed(event(purchase("a2", None, amount="7.00", card_number="C1")))
        await feed(event(purchase("b1", "anna", amount="30.00")))
        await feed(event(purchase("a1", "ann", amount="70.00")))
        assert await balances(pool) == {"anna": 107}
        earned = [one["data"] for one in await told(pool) if one["type"].endswith("earned.v1")]
        assert {one["customer_id"] for one in earned} == {"anna"}
        assert [one.get("bought_as") for one in earned] == ["ann", "ann", None]
        assert (await counts(pool))["duplicates"] == 1
        await feed(card("blocked", "C1", "anna", "2026-04-02T00:00:00Z"))
        assert await balances(pool) == {"anna": 100}
        assert await violations(pool, automatic) == []


@pytest.mark.parametrize("named", ["ann", "anna"])
async def test_a_refund_finds_a_purchase_from_before_the_merge(
    points_db: str, automatic: Program, named: str
) -> None:
    async with running(points_db, intake.routes(automatic)) as (runner, pool):
        feed = Feed(runner)
        await feed(event(purchase("a1", "ann", amount="70.00")))
        await feed(event(purchase("b1", "anna", amount="100.00")))
        await feed(merge("ann", "anna"))
        await feed(refund("a1", named))
        assert await available(pool, "anna") == (100, 0)
        assert await available(pool, "ann") == (100, 0)
        # Tiers hear of it where they heard of the purchase.
        back = [one["data"] for one in await told(pool) if "clawed_back" in one["type"]]
        standing = back[-1]["standing"]
        assert back[-1]["customer_id"] == "ann"
        assert (standing["base"], [one["base"] for one in standing["reductions"]]) == (70, [70])
        assert standing["lot_id"] == back[-1]["lot_id"]
        assert await violations(pool, automatic) == []


async def test_a_refund_finds_a_purchase_credited_to_the_survivor(
    points_db: str, automatic: Program
) -> None:
    async with running(points_db, intake.routes(automatic)) as (runner, pool):
        feed = Feed(runner)
        await feed(merge("ann", "anna"))
        await feed(event(purchase("a1", "ann", amount="70.00")), refund("a1", "ann"))
        assert await available(pool, "anna") == (0, 0)
        assert (await counts(pool))["refused"] == 0
        assert await violations(pool, automatic) == []


@pytest.mark.parametrize("order", [("a1", "anna"), ("b1", "ann")])
async def test_a_refund_that_was_refused_for_the_other_id_is_taken(
    points_db: str, automatic: Program, order: tuple[str, str]
) -> None:
    async with running(points_db, intake.routes(automatic)) as (runner, pool):
        feed = Feed(runner)
        await feed(event(purchase("a1", "ann", amount="70.00")))
        await feed(event(purchase("b1", "anna", amount="70.00")))
        await feed(refund(*order))
        assert (await counts(pool))["refused"] == 1
        await feed(merge("ann", "anna"))
        assert await available(pool, "anna") == (70, 0)
        assert await pool.fetchval("SELECT state FROM refund_outcomes") == "matched"
        assert await violations(pool, automatic) == []


async def test_what_is_owed_moves_along(points_db: str, automatic: Program) -> None:
    async with running(points_db, intake.routes(automatic)) as (runner, pool):
        feed = Feed(runner)
        await feed(event(purchase("a1", "ann", amount="70.00")))
        async with pool.acquire() as conn, conn.transaction():
            work = Work(conn, NOW, "/services/points")
            hold = await Spending(automatic).hold(
                work, Wish("ann", 70, timedelta(minutes=15), order_id=None)
            )
            await Spending(automatic).capture(work, hold.id, None)
        await feed(refund("a1", "ann"))
        assert await available(pool, "ann") == (0, 70)
        await feed(merge("ann", "anna"))
        assert await available(pool, "anna") == (0, 70)
        await feed(event(purchase("b1", "anna", amount="100.00")))
        assert await available(pool, "ann") == (30, 0)
        assert await violations(pool, automatic) == []


async def test_merged_again(points_db: str, automatic: Program) -> None:
    async with running(points_db, intake.routes(automatic)) as (runner, pool):
        feed = Feed(runner)
        await feed(event(purchase("a1", "ann", amount="1.00")))
        await feed(merge("ann", "anna"), merge("anna", "anne"))
        await feed(event(purchase("a2", "ann", amount="2.00")), refund("a1", "anne"))
        assert await balances(pool) == {"anne": 2}
        assert await available(pool, "ann") == (2, 0)
        assert await violations(pool, automatic) == []


async def test_merges_that_cannot_be(points_db: str, automatic: Program) -> None:
    async with running(points_db, intake.routes(automatic)) as (runner, pool):
        feed = Feed(runner)
        again = merge("ann", "anna") | {"id": "again"}
        await feed(merge("ann", "anna"), merge("ann", "anna"), again)
        assert await counts(pool) == {"applied": 1, "duplicates": 2, "refused": 0, "poison": 0}
        await feed(merge("ann", "cleo"), merge("anna", "ann"), merge("dan", "dan"))
        assert await counts(pool) == {"applied": 1, "duplicates": 2, "refused": 3, "poison": 0}
        assert await pool.fetchval("SELECT count(*) FROM merges") == 1
        # What was refused is told to nobody.
        assert [one["type"] for one in await told(pool)] == ["treue.points.merged.v1"]


async def test_enrolment_comes_along(points_db: str, rules: Program) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        feed = Feed(runner)
        await feed(enrolment("ann", "2026-04-01T00:00:00Z"))
        await feed(merge("ann", "anna"))
        await feed(event(purchase("b1", "anna", amount="30.00")))
        assert await balances(pool) == {"anna": 30}
        assert await violations(pool, rules) == []
