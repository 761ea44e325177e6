"""Who a purchase belongs to, told before or after it: enrolment, claims, cards."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest

from services.points import intake
from shared import program as programs
from shared.db.types import Pool
from shared.program import Program
from tests.fixtures.events import card, enrolment, event, purchase
from tests.fixtures.points import Feed, balances, violations
from tests.fixtures.streams import counts, running

pytestmark = pytest.mark.servers

RULES = """
program: test
name: Test
currency: GBP
timezone: Europe/London
enrolment: {enrolment}
guests: {{claim_within: P30D}}
earning: {{base: {{points: 1, per: "1.00"}}}}
"""
SHOP = "online-retail"


@pytest.fixture(scope="module")
def rules() -> Program:
    return programs.parse(RULES.format(enrolment="automatic"))


@pytest.fixture(scope="module")
def opt_in() -> Program:
    return programs.parse(RULES.format(enrolment="opt_in"))


async def why(pool: Pool) -> dict[str, str]:
    """The purchases without credit, and why."""
    rows = await pool.fetch(
        "SELECT order_id, why FROM uncredited u"
        " WHERE NOT EXISTS (SELECT FROM entries e WHERE e.entry_id = u.purchase_id)"
    )
    return dict(tuple(row) for row in rows)


def guest(order: str, at: str = "2026-05-01T10:00:00Z", amount: str = "40.00", **more: Any) -> Any:
    return event(purchase(order, None, at, amount, **more))


async def test_a_guest_s_purchase_is_claimed_at_sign_up(points_db: str, rules: Program) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        feed = Feed(runner)
        await feed(guest("g1"), guest("g2"))
        assert await balances(pool) == {}
        await feed(enrolment("ada", "2026-05-03T10:00:00Z", [(SHOP, "g1"), (SHOP, "unknown")]))
        assert await balances(pool) == {"ada": 40}
        assert await why(pool) == {"g2": "guest"}
        payloads = await pool.fetchval("SELECT payloads FROM outbox")
        told = msgspec.json.decode(payloads[0])["data"]
        assert (told["customer_id"], told["order_id"], told["occurred_at"]) == (
            "ada",
            "g1",
            "2026-05-01T10:00:00Z",
        )
        # The shop tells it again: known, and not credited twice.
        await feed(guest("g1"))
        assert (await counts(pool))["duplicates"] == 1
        assert await violations(pool, rules) == []


async def test_a_claim_that_comes_before_its_purchase_waits_for_it(
    points_db: str, rules: Program
) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        feed = Feed(runner)
        await feed(enrolment("ada", "2026-05-03T10:00:00Z", [(SHOP, "g1")]))
        await feed(guest("g1"))
        assert await balances(pool) == {"ada": 40}
        assert await violations(pool, rules) == []


@pytest.mark.parametrize(
    ("at", "credited"), [("2026-05-31T22:59:00Z", 40), ("2026-05-31T23:00:00Z", 0)]
)
async def test_a_claim_comes_within_the_program_s_days(
    points_db: str, rules: Program, at: str, credited: int
) -> None:
    # 1 May and 30 days: through 31 May in London, which ends at 23:00 UTC.
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        feed = Feed(runner)
        await feed(guest("g1"))
        await feed(enrolment("ada", at, [(SHOP, "g1")]))
        assert (await balances(pool)).get("ada", 0) == credited


async def test_nobody_claims_what_another_customer_is_named_for(
    points_db: str, opt_in: Program
) -> None:
    async with running(points_db, intake.routes(opt_in)) as (runner, pool):
        feed = Feed(runner)
        await feed(event(purchase("o1", "ben")))
        await feed(enrolment("ada", "2026-05-02T10:00:00Z", [(SHOP, "o1")]))
        assert await balances(pool) == {}
        assert await why(pool) == {"o1": "not_enrolled"}


async def test_who_has_not_opted_in_earns_nothing_until_told_otherwise(
    points_db: str, opt_in: Program
) -> None:
    async with running(points_db, intake.routes(opt_in)) as (runner, pool):
        feed = Feed(runner)
        early = event(purchase("early", "ada", "2026-05-01T10:00:00Z", "10.00"))
        late = event(purchase("late", "ada", "2026-05-05T10:00:00Z", "30.00"))
        await feed(early, late)
        assert await why(pool) == {"early": "not_enrolled", "late": "not_enrolled"}
        await feed(enrolment("ada", "2026-05-03T10:00:00Z"))
        assert await balances(pool) == {"ada": 30}
        # An enrolment that had been before: then the first purchase counts too.
        await feed(enrolment("ada", "2026-04-30T10:00:00Z"))
        assert await balances(pool) == {"ada": 40}
        assert await why(pool) == {}
        assert await pool.fetchval("SELECT count(*) FROM enrolments") == 2
        assert await violations(pool, opt_in) == []


async def test_a_refund_finds_a_purchase_that_was_claimed_after_it(
    points_db: str, rules: Program
) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        feed = Feed(runner)
        refund = {
            "refund_id": "x1",
            "order_id": "g1",
            "currency": "GBP",
            "occurred_at": "2026-05-02T10:00:00Z",
            "lines": [{"line_id": "1", "quantity": "1"}],
        }
        await feed(guest("g1"), event(refund, "refund", "treue.purchase.refunded.v1"))
        await feed(enrolment("ada", "2026-05-03T10:00:00Z", [(SHOP, "g1")]))
        assert await balances(pool) == {}
        kinds = await pool.fetch("SELECT kind FROM entries ORDER BY seq")
        assert [row["kind"] for row in kinds] == ["earned", "clawed_back"]
        assert await violations(pool, rules) == []


async def test_a_card_finds_its_customer(points_db: str, rules: Program) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        feed = Feed(runner)
        await feed(
            card("issued", "C1", "ada", "2026-05-01T10:00:00Z"),
            card("issued", "C2", "ada", "2026-05-01T10:00:00Z"),
        )
        await feed(
            guest("before", "2026-05-01T09:59:59Z", card_number="C1"),
            guest("first", "2026-05-01T10:00:00Z", card_number="C1"),
            guest("other", "2026-05-02T10:00:00Z", card_number="C2"),
            guest("nobody", "2026-05-02T10:00:00Z", card_number="C3"),
            # Who is named is the customer, whatever card was shown.
            event(purchase("named", "ben", card_number="C1")),
        )
        assert await balances(pool) == {"ada": 80, "ben": 10}
        assert await why(pool) == {"before": "card_not_yet", "nobody": "card_unknown"}
        await feed(card("issued", "C3", "cleo", "2026-05-01T10:00:00Z"))
        assert await balances(pool) == {"ada": 80, "ben": 10, "cleo": 40}
        assert await violations(pool, rules) == []


async def test_a_blocked_card_earns_nothing_whenever_the_block_is_told(
    points_db: str, rules: Program
) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        feed = Feed(runner)
        await feed(card("issued", "C1", "ada", "2026-05-01T10:00:00Z"))
        await feed(
            guest("good", "2026-05-02T10:00:00Z", card_number="C1"),
            guest("stolen", "2026-05-04T10:00:00Z", card_number="C1"),
        )
        assert await balances(pool) == {"ada": 80}
        await feed(card("blocked", "C1", "ada", "2026-05-03T10:00:00Z", reason="lost"))
        assert await balances(pool) == {"ada": 40}
        last = await pool.fetchrow(
            "SELECT kind, points, explanation FROM entries ORDER BY seq DESC"
        )
        assert last is not None
        assert (last["kind"], last["points"]) == ("withdrawn", -40)
        await feed(guest("again", "2026-05-05T10:00:00Z", card_number="C1"))
        assert await why(pool) == {"again": "card_blocked"}
        assert await violations(pool, rules) == []


async def test_a_replaced_card_hands_over(points_db: str, rules: Program) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        feed = Feed(runner)
        await feed(card("replaced", "C1", "ada", "2026-05-03T10:00:00Z", replaced_by="C2"))
        await feed(
            guest("old", "2026-05-03T10:00:00Z", card_number="C1"),
            guest("new", "2026-05-03T10:00:00Z", card_number="C2"),
            guest("past", "2026-05-02T10:00:00Z", card_number="C1"),
        )
        assert await balances(pool) == {"ada": 40}
        assert await why(pool) == {"old": "card_blocked", "past": "card_not_yet"}
        await feed(card("issued", "C1", "ada", "2026-05-01T10:00:00Z"))
        assert await balances(pool) == {"ada": 80}
        assert await violations(pool, rules) == []


async def test_a_card_is_one_customer_s_for_ever(points_db: str, rules: Program) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        feed = Feed(runner)
        await feed(card("issued", "C1", "ada"), card("blocked", "C1", "ben"))
        letter = await pool.fetchrow("SELECT field, reason FROM dead_letters")
        assert letter is not None
        assert letter["field"] == "data.card_number"
        assert letter["reason"].startswith("card-taken")


@pytest.mark.parametrize(
    ("told", "field"),
    [
        (card("replaced", "C1"), "data.replaced_by"),
        (card("replaced", "C1", replaced_by="C1"), "data.replaced_by"),
        (card("issued", "C1", replaced_by="C2"), "data.replaced_by"),
        (card("issued", ""), "data.card_number"),
        (card("lost", "C1"), "data.change"),
        (enrolment("ada", name="x" * 2000), "data.name"),
        (enrolment("ada", birthday="1980-02-30"), "data.birthday"),
        (enrolment("ada", orders=[("", "o1")]), "data.orders[0].shop"),
        (enrolment("ada", "9000-01-01T00:00:00Z"), "data.occurred_at"),
    ],
)
async def test_what_cannot_be_is_kept_aside(
    points_db: str, rules: Program, told: dict[str, Any], field: str
) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        await Feed(runner)(told)
        assert await pool.fetchval("SELECT field FROM dead_letters") == field


def story() -> list[dict[str, Any]]:
    """Cards, claims and enrolments around purchases; what each ends as is said in the test."""
    told = [
        card("issued", "A1", "ada", "2026-05-02T00:00:00Z"),
        card("replaced", "A1", "ada", "2026-05-06T00:00:00Z", replaced_by="A2"),
        card("blocked", "A2", "ada", "2026-05-08T00:00:00Z"),
        card("blocked", "A2", "ada", "2026-05-10T00:00:00Z"),
        enrolment("ada", "2026-05-03T00:00:00Z"),
        enrolment("ben", "2026-05-20T00:00:00Z", [(SHOP, "g3"), (SHOP, "b4")]),
        enrolment("cleo", "2026-07-20T00:00:00Z", [(SHOP, "g5")]),
    ]
    for day in range(1, 13):
        number = "A1" if day % 2 else "A2"
        at = f"2026-05-{day:02}T12:00:00Z"
        told.append(guest(f"a{day}", at, f"{day}.00", card_number=number))
        told.append(guest(f"g{day}", at, "100.00"))
        told.append(event(purchase(f"b{day}", "ben", at, "1000.00")))
    told.append(event(purchase("ben-later", "ben", "2026-06-01T00:00:00Z", "5.00")))
    return told


# ada by her cards: A1 of 2 to 5 May, A2 of 6 and 7 May. ben claims g3.
AUTOMATIC = {"ada": 3 + 5 + 6, "ben": 12 * 1000 + 5 + 100}
# The same from 3 May on, when ada enrolled; ben from 20 May on and what he claimed, his own b4 included.
OPT_IN = {"ada": 3 + 5 + 6, "ben": 5 + 100 + 1000}


@pytest.mark.parametrize("seed", range(8))
async def test_whose_purchases_are_does_not_depend_on_the_order(
    points_db: str, rules: Program, opt_in: Program, seed: int
) -> None:
    chance, told = random.Random(seed), story()
    program = opt_in if seed % 2 else rules
    told += chance.sample(told, 12)
    chance.shuffle(told)
    async with running(points_db, intake.routes(program)) as (runner, pool):
        feed = Feed(runner)
        while told:
            count = chance.choice((1, 2, 9))
            await feed(*told[:count])
            del told[:count]
        assert await balances(pool) == (OPT_IN if seed % 2 else AUTOMATIC)
        assert await violations(pool, program) == []
        assert await pool.fetchval("SELECT sum(poison)::int FROM offsets") == 0


@pytest.mark.parametrize("told", ["claims", "cards", "enrolments"])
async def test_two_workers_at_once_miss_nothing(
    points_db: str, rules: Program, opt_in: Program, told: str
) -> None:
    program = opt_in if told == "enrolments" else rules
    count, chance = 60, random.Random(told)
    sold, about = [], []
    for number in range(count):
        order, who = f"o{number}", f"c{number}"
        if told == "claims":
            sold.append(guest(order))
            about.append(enrolment(who, "2026-05-02T10:00:00Z", [(SHOP, order)]))
        elif told == "cards":
            sold.append(guest(order, card_number=f"N{number}"))
            about.append(card("issued", f"N{number}", who, "2026-04-01T10:00:00Z"))
        else:
            sold.append(event(purchase(order, who, amount="40.00")))
            about.append(enrolment(who, "2026-04-02T10:00:00Z"))
    chance.shuffle(sold)
    async with (
        running(points_db, intake.routes(program)) as (one, pool),
        running(points_db, intake.routes(program)) as (two, _),
    ):

        async def slowly(feed: Feed, events: list[dict[str, Any]]) -> None:
            for start in range(0, count, 4):
                await feed(*events[start : start + 4])

        await asyncio.gather(slowly(Feed(one), sold), slowly(Feed(two), about))
        assert await balances(pool) == {f"c{number}": 40 for number in range(count)}
        assert await why(pool) == {}
        assert await violations(pool, program) == []
