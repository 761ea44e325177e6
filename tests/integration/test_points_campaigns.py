"""Campaigns through the runner into a real database: the same end, whatever the order, and quoted as awarded."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import TypeAdapter

from services.points import intake
from services.points.api.quote import router
from services.points.domain import explain
from services.points.domain.explain import Explanation
from services.points.ledger import facts
from shared import program as programs
from shared.contracts import activities, tiers
from shared.db.types import Pool
from shared.events.runner import Runner
from shared.http.app import create_app
from shared.http.keys import KeyRing
from shared.program import Program
from tests.fixtures.events import (
    card,
    event,
    line,
    merge,
    move,
    purchase,
    record,
    records,
    refunded,
    tier_change,
)
from tests.fixtures.http_probe import ALL, client_of, keys_file
from tests.fixtures.points import violations
from tests.fixtures.streams import running

pytestmark = pytest.mark.servers

RULES = """
program: test
name: Test
currency: GBP
timezone: Europe/London
earning:
  base: {{points: 1, per: "1.00"}}
  campaigns: {campaigns}
tiers:
  window: {{kind: lifetime}}
  levels:
    - {{id: bronze, name: Bronze, threshold: 0, multiplier: "1"}}
    - {{id: silver, name: Silber, threshold: 500, multiplier: "1.5"}}
"""


def rules(*campaigns: dict[str, Any]) -> Program:
    window = {"from": "2026-01-01", "until": "2026-12-31"}
    return programs.parse(RULES.format(campaigns=json.dumps([window | one for one in campaigns])))


CAPPED = {"id": "capped", "multiplier": "2", "cap": {"per_customer": 100}}
WELCOME = {"id": "welcome", "bonus": 50, "when": {"first_purchase": True}}


async def lots(pool: Pool) -> dict[str, tuple[int, int]]:
    rows = await pool.fetch(
        "SELECT order_id, sum(points)::int, sum(base)::int FROM entries GROUP BY order_id"
    )
    return {order: (points, base) for order, points, base in rows}


async def told(pool: Pool) -> list[dict[str, Any]]:
    rows = await pool.fetch("SELECT unnest(payloads) FROM outbox ORDER BY id")
    return [msgspec.json.decode(row[0]) for row in rows]


class Till:
    """Hands events to a runner, one batch after the other."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.offset = 0

    async def rings(self, *events: dict[str, Any]) -> None:
        """One batch."""
        assert await self.runner.process(records(events, start=self.offset))
        self.offset += len(events)

    async def lifts(self, since: str, customer: str = "c1") -> None:
        """The customer has been silver since then."""
        change = tier_change(customer, 1, [move("silver", since, "1.5")])
        assert await self.runner.process(records([change], tiers.TOPIC))


def day(
    number: int, order: str | None = None, amount: str = "60.00", **more: Any
) -> dict[str, Any]:
    """A purchase on a day of May."""
    at = f"2026-05-{number:02}T10:00:00Z"
    return event(purchase(order or f"o{number}", at=at, amount=amount, **more))


async def test_a_customer_s_cap_fills_in_the_order_of_the_purchases(points_db: str) -> None:
    program = rules(CAPPED)
    async with running(points_db, intake.routes(program)) as (runner, pool):
        till = Till(runner)
        await till.rings(day(10), day(20))
        assert await lots(pool) == {"o10": (120, 120), "o20": (100, 100)}
        # Earlier, and late: it takes its part of the cap, the others get less.
        await till.rings(day(5))
        assert await lots(pool) == {"o5": (120, 120), "o10": (100, 100), "o20": (60, 60)}
        kinds = await pool.fetch("SELECT order_id, kind, points, base FROM entries ORDER BY seq")
        assert [tuple(row) for row in kinds][3:] == [
            ("o10", "campaign", -20, -20),
            ("o20", "campaign", -40, -40),
        ]
        corrected = (await told(pool))[-2:]
        assert [message["data"]["points"] for message in corrected] == [-20, -40]
        standing = corrected[1]["data"]["standing"]
        assert (standing["base"], standing["seq"], standing["purchases"]) == (60, 5, 1)
        assert await violations(pool, program) == []


async def test_only_the_first_purchase_gets_the_welcome(points_db: str) -> None:
    # The earlier one is before the campaign's window: it is the first all the same.
    program = rules({**WELCOME, "from": "2026-05-08"})
    async with running(points_db, intake.routes(program)) as (runner, pool):
        till = Till(runner)
        await till.rings(day(10), day(20))
        assert await lots(pool) == {"o10": (110, 110), "o20": (60, 60)}
        await till.rings(day(5))
        assert await lots(pool) == {"o5": (60, 60), "o10": (60, 60), "o20": (60, 60)}
        assert await violations(pool, program) == []


async def test_a_tier_that_becomes_known_late_decides_anew(points_db: str) -> None:
    program = rules(
        {"id": "silver-days", "bonus": 30, "when": {"tiers": ["silver"]}},
        {**CAPPED, "cap": {"per_customer": 80}},
    )
    async with running(points_db, intake.routes(program)) as (runner, pool):
        till = Till(runner)
        await till.rings(day(10), day(20))
        assert await lots(pool) == {"o10": (120, 120), "o20": (80, 80)}
        await till.lifts("2026-05-15T00:00:00Z")
        # (60 + 30) × 1.5, and 20 that the cap leaves.
        assert await lots(pool) == {"o10": (120, 120), "o20": (135 + 20, 90 + 20)}
        assert await violations(pool, program) == []


async def test_without_bounds_a_tier_bonus_starts_from_the_campaign_s_value(points_db: str) -> None:
    program = rules({"id": "double", "multiplier": "2"})
    async with running(points_db, intake.routes(program)) as (runner, pool):
        till = Till(runner)
        await till.rings(day(20, amount="33.33"))
        await till.lifts("2026-05-15T00:00:00Z")
        assert await lots(pool) == {"o20": (99, 66)}
        entry = await pool.fetchrow("SELECT kind, reason FROM entries ORDER BY seq DESC LIMIT 1")
        assert entry is not None
        assert tuple(entry) == ("tier_bonus", "tier_bonus")
        assert await pool.fetchval("SELECT flags FROM accounts") == 0
        assert await violations(pool, program) == []


async def test_a_budget_is_given_once_and_never_overdrawn(points_db: str) -> None:
    program = rules({**CAPPED, "cap": {"total": 100}})
    async with running(points_db, intake.routes(program)) as (runner, pool):
        till = Till(runner)
        await till.rings(day(10, customer="c1"), day(11, customer="c2"))
        await till.rings(day(5, customer="c3"), day(6, customer="c1"))
        # A fact: who came first got it, whatever comes to be known later.
        assert await lots(pool) == {
            "o10": (120, 120), "o11": (100, 100), "o5": (60, 60), "o6": (60, 60),
        }  # fmt: skip
        await till.lifts("2026-05-01T00:00:00Z", "c2")
        assert (await lots(pool))["o11"] == (90 + 40, 100)
        drawn = await pool.fetchrow(
            "SELECT drawn, (SELECT sum(points) FROM campaign_draws) FROM campaign_budgets"
        )
        assert drawn is not None
        assert tuple(drawn) == (100, 100)
        assert await violations(pool, program) == []


async def test_a_ledger_built_anew_draws_what_was_drawn(database: Callable[[str], str]) -> None:
    program = rules({**CAPPED, "cap": {"total": 100}})
    sold = [day(10, customer="c1"), day(11, customer="c2"), day(5, customer="c3")]
    async with (
        running(await asyncio.to_thread(database, "points"), intake.routes(program)) as (live, old),
        running(await asyncio.to_thread(database, "points"), intake.routes(program)) as (anew, new),
    ):
        await Till(live).rings(*sold)
        async with old.acquire() as conn, new.acquire() as other:
            given = [line async for line in facts.give(conn)]
            assert await facts.take(other, given) == 2
        # In another order, which would give the budget to others.
        await Till(anew).rings(*reversed(sold))
        assert await lots(new) == await lots(old)
        assert await violations(new, program) == []


async def test_many_at_once_never_overdraw_a_budget(points_db: str) -> None:
    program = rules(
        {**CAPPED, "cap": {"total": 500}}, {"id": "b", "bonus": 3, "cap": {"total": 40}}
    )
    async with AsyncExitStack() as stack:
        table = intake.routes(program)
        found = [await stack.enter_async_context(running(points_db, table)) for _ in range(6)]
        pool = found[0][1]

        async def sells(number: int, runner: Runner) -> None:
            for order in range(5):
                sold = day(10, f"{number}-{order}", customer=f"c{number}-{order}")
                assert await runner.process([record(sold, order, partition=number)])

        await asyncio.gather(*(sells(number, runner) for number, (runner, _) in enumerate(found)))
        ends = await lots(pool)
        assert sum(points for points, _ in ends.values()) == 30 * 60 + 500 + 40
        drawn = await pool.fetch("SELECT campaign, drawn FROM campaign_budgets ORDER BY campaign")
        assert [tuple(row) for row in drawn] == [("b", 40), ("capped", 500)]
        assert await violations(pool, program) == []


async def test_a_refund_follows_what_campaigns_give_since(points_db: str) -> None:
    program = rules(CAPPED)
    async with running(points_db, intake.routes(program)) as (runner, pool):
        till = Till(runner)
        whole = refunded("r1", "o10", at="2026-05-12T10:00:00Z")
        half = refunded("r2", "o20", at="2026-05-22T10:00:00Z", lines=[("1", "1")])
        await till.rings(day(10), day(20, lines=[line(1, "30.00", "2")]), whole, half)
        assert await lots(pool) == {"o10": (0, 0), "o20": (50, 50)}
        # It takes 60 of the cap's 100: 40 are left for the one given back, none for the other.
        await till.rings(day(5))
        assert await lots(pool) == {"o5": (120, 120), "o10": (0, 0), "o20": (30, 30)}
        standings = {
            message["data"]["order_id"]: message["data"]["standing"]
            for message in await told(pool)
            if message["data"].get("standing")
        }
        assert standings["o10"]["base"] == 100
        assert [part["base"] for part in standings["o10"]["reductions"]] == [100]
        assert [part["base"] for part in standings["o20"]["reductions"]] == [30]
        assert await violations(pool, program) == []


async def test_no_standing_says_that_more_was_taken_out_than_counts(points_db: str) -> None:
    program = rules(CAPPED)
    async with running(points_db, intake.routes(program)) as (runner, pool):
        till = Till(runner)
        await till.rings(day(10), refunded("r1", "o10", at="2026-05-12T10:00:00Z"))
        await till.rings(day(4), day(5), refunded("r2", "o5", at="2026-05-06T10:00:00Z"))
        standings = [message["data"].get("standing") for message in await told(pool)]
        found = [(s["base"], [part["base"] for part in s["reductions"]]) for s in standings if s]
        assert all(sum(taken) <= base for base, taken in found)
        assert (60, [60]) in found
        assert await violations(pool, program) == []


async def test_a_refund_takes_from_each_line_what_its_campaign_gave_it(points_db: str) -> None:
    program = rules({"id": "home", "multiplier": "3", "when": {"categories": ["home"]}})
    async with running(points_db, intake.routes(program)) as (runner, pool):
        till = Till(runner)
        bought = [line(1, "10.00", category="home"), line(2, "10.00")]
        await till.rings(day(10, lines=bought), refunded("r", "o10", lines=[("1", "1")]))
        assert await lots(pool) == {"o10": (10, 10)}
        assert await violations(pool, program) == []


PURCHASES = [
    event(
        purchase(
            f"o{number}",
            customer=f"c{number % 2}",
            at=f"2026-05-{1 + number * 7 % 28:02}T{number % 24:02}:00:00Z",
            lines=[line(1, f"{number * 3 % 50 + 1}.33", category="home"), line(2, "7.77")],
        )
    )
    for number in range(16)
]
MIXED = (
    CAPPED,
    WELCOME,
    {"id": "home", "multiplier": "1.5", "exclusive": True, "when": {"categories": ["home"]}},
    {"id": "big", "bonus": 9, "exclusive": True, "when": {"minimum": "30.00"}},
    {"id": "silver-days", "bonus": 20, "when": {"tiers": ["silver"]}, "cap": {"per_purchase": 25}},
)


async def end_of(
    program: Program, dsn: str, events: Sequence[dict[str, Any]], size: int, lift_at: int
) -> dict[str, tuple[int, int]]:
    async with running(dsn, intake.routes(program)) as (runner, pool):
        till = Till(runner)
        for start in range(0, len(events), size):
            if start <= lift_at < start + size:
                await till.lifts("2026-05-10T00:00:00Z")
            await till.rings(*events[start : start + size])
        assert await violations(pool, program) == []
        return await lots(pool)


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_doubled_and_in_other_batches_the_end_is_the_same(
    database: Callable[[str], str], seed: int
) -> None:
    program, chance = rules(*MIXED), random.Random(seed)
    ordered = sorted(PURCHASES, key=lambda one: str(one["data"]["occurred_at"]))
    stirred = ordered + chance.sample(ordered, 8)
    chance.shuffle(stirred)
    late = chance.randrange(len(stirred))
    expected = asyncio.run(end_of(program, database("points"), ordered, 100, 0))
    assert asyncio.run(end_of(program, database("points"), stirred, 3, late)) == expected
    assert len(expected) == len(PURCHASES)


async def test_a_quote_says_what_the_award_then_gives(points_db: str, tmp_path: Path) -> None:
    budget = {"id": "budget", "bonus": 11, "cap": {"total": 50}}
    program = rules(*MIXED, budget)
    async with running(points_db, intake.routes(program)) as (runner, pool):
        app = create_app(
            service="points",
            version="1",
            routers=[router],
            keys=KeyRing(keys_file(tmp_path)),
            readiness={},
            state={"program": program, "pool": pool},
        )
        async with client_of(app) as client:
            till = Till(runner)
            for number, one in enumerate(PURCHASES):
                if number == 5:
                    await till.lifts("2026-05-10T00:00:00Z")
                before = await pool.fetchval("SELECT count(*) FROM entries")
                answer = await client.post(
                    "/v1/quote", params={"shop": "online-retail"}, json=one["data"], headers=ALL
                )
                assert answer.status_code == 200, answer.text
                quoted = answer.json()
                assert await pool.fetchval("SELECT count(*) FROM entries") == before
                await till.rings(one)
                row = await pool.fetchrow(
                    "SELECT points, base, bonus, explanation FROM entries"
                    " WHERE kind = 'earned' AND order_id = $1",
                    one["data"]["order_id"],
                )
                assert row is not None
                told = explain.unpack(row["explanation"], {"bronze": "Bronze", "silver": "Silber"})
                assert (quoted["points"], quoted["base"], quoted["bonus"]) == tuple(row)[:3]
                assert quoted["explanation"] == json.loads(TypeAdapter(Explanation).dump_json(told))
                assert [item["points"] for item in quoted["lines"]] == [
                    item.points for item in told.lines
                ]
        assert await violations(pool, program) == []


BAD_CARTS: list[tuple[Any, str, str]] = [
    (b"{", "body", "is not JSON"),
    ({}, "currency", "is missing"),
    ({"currency": "GBP", "lines": []}, "lines", "is empty"),
    ({"currency": "GBP", "lines": [{"line_id": "1"}]}, "lines[0].sku", "is missing"),
    ({"currency": "GBP", "lines": [line(quantity="-1")]}, "lines[0].quantity", "is negative"),
    ({"currency": "GBP", "lines": [line() | {"quantity": "x"}]}, "lines[0].quantity", "decimal"),
    ({"currency": "EUR", "lines": [line()]}, "exchange_rate", "is missing"),
    ({"currency": "GBP", "lines": [line()], "order_id": ""}, "order_id", "is empty"),
]


@pytest.mark.parametrize(("body", "field", "reason"), BAD_CARTS)
async def test_a_quote_names_the_field_that_does_not_fit(
    points_db: str, tmp_path: Path, body: Any, field: str, reason: str
) -> None:
    program = rules(CAPPED)
    async with running(points_db, intake.routes(program)) as (_, pool), client_of(
        create_app(
            service="points", version="1", routers=[router], keys=KeyRing(keys_file(tmp_path)),
            readiness={}, state={"program": program, "pool": pool},
        )
    ) as client:  # fmt: skip
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await client.post("/v1/quote", content=content, headers=ALL)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed")
        (error,) = answer.json()["errors"]
        assert error["field"] == field
        assert reason in error["message"]


async def test_a_cart_of_somebody_unknown_is_quoted_with_the_base_tier(
    points_db: str, tmp_path: Path
) -> None:
    program = rules(CAPPED, WELCOME)
    cart = {"currency": "GBP", "lines": [line() | {"unit_price": 12.5}]}
    async with running(points_db, intake.routes(program)) as (_, pool), client_of(
        create_app(
            service="points", version="1", routers=[router], keys=KeyRing(keys_file(tmp_path)),
            readiness={}, state={"program": program, "pool": pool},
        )
    ) as client:  # fmt: skip
        more = {"customer_id": "nobody", "occurred_at": "2026-05-05T10:00:00Z"}
        answer = await client.post("/v1/quote", json=cart | more, headers=ALL)
        assert (answer.json()["points"], answer.json()["bonus"]) == (75, 0)
        assert answer.json()["uncredited"] is None
        assert await pool.fetchval("SELECT count(*) FROM accounts") == 0


async def test_a_quote_knows_the_customer_behind_a_card_and_a_merged_one(
    points_db: str, tmp_path: Path
) -> None:
    program = rules({**CAPPED, "cap": {"per_customer": 60}})
    async with running(points_db, intake.routes(program)) as (runner, pool), client_of(
        create_app(
            service="points", version="1", routers=[router], keys=KeyRing(keys_file(tmp_path)),
            readiness={}, state={"program": program, "pool": pool},
        )
    ) as client:  # fmt: skip
        till = Till(runner)
        await till.rings(day(10))
        told_of = [card("issued", "K1"), merge("c9", "c1")]
        assert await runner.process(records(told_of, activities.TOPIC))
        at = {"currency": "GBP", "occurred_at": "2026-05-12T10:00:00Z", "lines": [line()]}
        points = {}
        for name, more in {
            "herself": {"customer_id": "c1"},
            "her card": {"card_number": "K1"},
            "her other name": {"customer_id": "c9"},
            "an unknown card": {"card_number": "K2"},
        }.items():
            answer = await client.post("/v1/quote", json=at | more, headers=ALL)
            points[name] = answer.json()["points"]
        why = answer.json()["uncredited"]
        assert (why["why"], why["points"]) == ("card_unknown", 20)
        # Her cap is full.
        assert points == {
            "herself": 10,
            "her card": 10,
            "her other name": 10,
            "an unknown card": 0,
        }
