"""Spending on a real database: holds, captures, restores, deficits, and everyone at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from services.points.domain.spending import Hold, Refused
from services.points.handlers.transfers import Transfers
from shared.clock import Period
from shared.contracts import points as contract
from shared.contracts import purchases
from shared.db import pool as database
from shared.program import Program
from tests.fixtures.bank import DAY, MINUTE, START, Bank, bank, instant, lot, with_rules

pytestmark = pytest.mark.servers

Make = Callable[..., Awaitable[Bank]]


@pytest.fixture
async def make(points_db: str, program: Program) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def opened(earning: dict[str, Any] | None = None, **more: Any) -> Bank:
            return await stack.enter_async_context(bank(points_db, program, earning, **more))

        yield opened


async def test_golden_holds(make: Make) -> None:
    shop = await make()
    await shop.buy("o1", "100.00")
    first = await shop.hold(80)
    assert await shop.balance() == {"available": 20, "pending": 0, "held": 80, "deficit": 0}
    refused = await shop.refused(shop.hold(30))
    assert (refused.code, refused.facts) == (
        "insufficient-points",
        {"available": 20, "deficit": 0},
    )
    done = await shop.capture(first, 60)
    assert (done.state, done.captured, done.points) == ("captured", 60, 80)
    assert await shop.balance() == {"available": 40, "pending": 0, "held": 0, "deficit": 0}
    assert await shop.violations() == []
    held, captured = shop.told
    assert held[0] == contract.HELD
    assert held[1]["allocations"] == [{"lot_id": lot("o1"), "points": 80}]
    assert (captured[0], captured[1]["points"], captured[1]["released"]) == (
        contract.CAPTURED,
        60,
        20,
    )


async def test_golden_restore(make: Make) -> None:
    # B expires 1 February, A 1 March, C never: by three programs one after the other on one database.
    january = datetime(2027, 1, 10, 12, tzinfo=UTC)
    shop = await make(timezone="UTC")
    shop.now = january
    expiry = shop.program.earning.expiry
    for order, amount, bought, after in (
        ("A", "100.00", datetime(2026, 12, 31, 12, tzinfo=UTC), "P59D"),
        ("B", "50.00", datetime(2026, 12, 31, 12, tzinfo=UTC), "P31D"),
        ("C", "200.00", january, None),
    ):
        kind = "after" if after else "none"
        length = Period.parse(after) if after else None
        changed = expiry.model_copy(update={"kind": kind, "after": length, "round_up": None})
        seller = await make({"expiry": changed}, timezone="UTC")
        seller.now, seller.offset = january, shop.offset
        await seller.buy(order, amount, bought)
        shop.offset = seller.offset
    spent = await shop.spend(120, order_id="basket")
    assert [(str(p.lot_id), p.points) for p in spent.parts] == [(lot("B"), 50), (lot("A"), 70)]
    shop.now = datetime(2027, 2, 5, 12, tzinfo=UTC)
    back = await shop.restore(spent)
    assert [(part.lot_id, part.points, part.expired) for part in back.parts] == [
        (lot("A"), 70, False),
        (lot("B"), 50, True),
    ]
    assert all(part.into_lot_id == part.lot_id for part in back.parts)
    assert await shop.available() == 300
    assert await shop.violations() == []
    again = await shop.refused(shop.restore(spent))
    assert (again.code, again.facts) == ("restore-exceeds-capture", {"restorable": 0})


async def test_grace_gives_points_of_an_expired_lot_a_new_end(make: Make) -> None:
    shop = await make(grace_on_restore=Period.parse("P30D"), timezone="UTC")
    shop.now = START
    await shop.buy("o1", "100.00")
    spent = await shop.spend(70)
    shop.now = START + 500 * DAY
    assert await shop.available() == 0
    back = await shop.restore(spent, 50)
    (part,) = back.parts
    assert not part.expired
    assert part.into_lot_id != part.lot_id
    midnight = shop.now.replace(hour=0) + 31 * DAY
    assert part.expires_at == midnight
    assert await shop.available() == 50
    assert await shop.violations() == []


async def test_golden_deficit(make: Make) -> None:
    shop = await make()
    await shop.buy("o1", "70.00")
    await shop.buy("o2", "50.00")
    await shop.spend(70)
    assert await shop.available() == 50
    shop.now += MINUTE
    await shop.refund("o1", "70.00")
    assert await shop.balance() == {"available": 0, "pending": 0, "held": 0, "deficit": 20}
    refused = await shop.refused(shop.hold(1))
    assert refused.facts == {"available": 0, "deficit": 20}
    shop.now += MINUTE
    await shop.buy("o3", "100.00")
    assert await shop.balance() == {"available": 80, "pending": 0, "held": 0, "deficit": 0}
    assert await shop.lots() == {lot("o1"): 0, lot("o2"): 0, lot("o3"): 80}
    assert await shop.violations() == []


async def test_golden_deficit_clamped_to_zero(make: Make) -> None:
    shop = await make({"refunds": "clamp_to_zero"})
    await shop.buy("o1", "70.00")
    await shop.buy("o2", "50.00")
    await shop.spend(70)
    shop.now += MINUTE
    await shop.refund("o1", "70.00")
    assert await shop.balance() == {"available": 0, "pending": 0, "held": 0, "deficit": 0}
    shop.now += MINUTE
    await shop.buy("o3", "100.00")
    assert await shop.balance() == {"available": 100, "pending": 0, "held": 0, "deficit": 0}
    written_off = await shop.pool.fetchval(
        "SELECT sum(points)::int FROM entries WHERE kind = 'written_off'"
    )
    assert written_off == 20
    assert await shop.violations() == []


async def test_pending_points_pay_a_deficit_when_they_become_available(
    make: Make,
) -> None:
    shop = await make({"available_after": Period.parse("P2D")})
    await shop.buy("o1", "70.00")
    shop.now += 3 * DAY
    await shop.spend(70)
    await shop.buy("o2", "100.00")
    await shop.refund("o1", "70.00")
    assert await shop.balance() == {"available": 0, "pending": 100, "held": 0, "deficit": 70}
    shop.now += 3 * DAY
    assert await shop.balance() == {"available": 30, "pending": 0, "held": 0, "deficit": 0}
    held = await shop.hold(30)
    assert held.points == 30
    assert await shop.violations() == []


async def test_a_hold_ends_by_time_alone(make: Make) -> None:
    shop = await make()
    await shop.buy("o1", "100.00")
    held = await shop.hold(100)
    shop.now += 15 * MINUTE
    assert await shop.available() == 100
    for late in (shop.capture(held), shop.release(held)):
        assert (await shop.refused(late)).code == "hold-expired"
    assert await shop.do(lambda w: shop.spending.time_out(w, held.id))
    assert not await shop.do(lambda w: shop.spending.time_out(w, held.id))
    assert shop.told[-1][1]["reason"] == "timed_out"
    assert shop.told[-1][1]["occurred_at"] == "2026-11-01T12:15:00Z"
    assert (await shop.refused(shop.capture(held))).code == "hold-expired"
    assert (await shop.balance(START + MINUTE))["held"] == 100
    assert await shop.violations() == []


async def test_a_lot_that_expires_during_a_hold_stays_usable_for_it(
    make: Make,
) -> None:
    shop = await make()
    await shop.buy("o1", "100.00")
    row = await shop.pool.fetchrow("SELECT expires_at FROM entries")
    assert row is not None
    shop.now = row["expires_at"] - MINUTE
    first, second = await shop.hold(40), await shop.hold(30)
    shop.now += 2 * MINUTE
    assert await shop.balance() == {"available": 0, "pending": 0, "held": 70, "deficit": 0}
    await shop.capture(first)
    await shop.release(second)
    assert await shop.balance() == {"available": 0, "pending": 0, "held": 0, "deficit": 0}
    assert await shop.violations() == []


async def test_what_is_over_is_refused_by_its_state(make: Make) -> None:
    shop = await make()
    await shop.buy("o1", "100.00")
    held = await shop.hold(50)
    assert (await shop.refused(shop.capture(held, 51))).code == "capture-exceeds-hold"
    assert (await shop.refused(shop.restore(held))).code == "hold-closed"
    await shop.capture(held, 40)
    for late in (shop.capture(held), shop.release(held)):
        refused = await shop.refused(late)
        assert (refused.code, refused.facts["state"]) == ("hold-closed", "captured")
    assert (await shop.refused(shop.restore(held, 41))).code == "restore-exceeds-capture"
    await shop.restore(held, 15)
    await shop.restore(held, 25)
    assert await shop.available() == 100
    assert await shop.violations() == []
    nobody = await shop.refused(shop.hold(1, "nobody"))
    assert nobody.code == "customer-not-found"


async def test_fifty_holds_of_the_whole_balance_a_hundred_times(
    points_db: str, make: Callable[..., Any]
) -> None:
    shop = await make()
    await shop.buy("o1", "100.00")
    crowd = await database.create(points_db, name="crowd", size=50)
    shop.pool, own = crowd, shop.pool
    try:
        for _ in range(100):
            answers = await asyncio.gather(
                *(shop.hold(100) for _ in range(50)), return_exceptions=True
            )
            won = [answer for answer in answers if isinstance(answer, Hold)]
            lost = [answer for answer in answers if isinstance(answer, Refused)]
            assert (len(won), len(lost)) == (1, 49)
            assert {refused.facts["available"] for refused in lost} == {0}
            await shop.release(won[0])
    finally:
        shop.pool = own
        await crowd.close()
    assert await shop.available() == 100
    assert await shop.violations() == []


async def test_a_cancelled_order_gives_back_what_was_spent_on_it(make: Make) -> None:
    shop = await make()
    await shop.buy("o1", "100.00")
    shop.now += MINUTE
    await shop.spend(60, order_id="o2")
    live = await shop.hold(10, order_id="o2")
    await shop.spend(5, order_id="o3")
    await shop.buy("o2", "20.00")
    assert await shop.available() == 45
    shop.now += MINUTE
    cancelled = {"order_id": "o2", "customer_id": "c1", "occurred_at": instant(shop.now)}
    await shop.send(cancelled, purchases.CANCELLED)
    await shop.send(cancelled, purchases.CANCELLED, number="again")
    assert await shop.balance() == {"available": 95, "pending": 0, "held": 0, "deficit": 0}
    assert (await shop.refused(shop.capture(live))).code == "hold-closed"
    assert await shop.lots() == {lot("o1"): 95, lot("o2"): 0}
    assert await shop.violations() == []


async def test_points_go_from_one_customer_to_another_with_their_dates(
    make: Make,
) -> None:
    shop = await make(transfers=True)
    await shop.buy("o1", "100.00")
    await shop.buy("o2", "10.00", customer="c2")
    give = Transfers(shop.program)
    done = await shop.do(lambda w: give.transfer(w, "c1", "c2", 60))
    ends = await shop.pool.fetchval("SELECT expires_at FROM entries WHERE kind = 'earned' LIMIT 1")
    assert [(row.points, row.expires_at) for row in done.given] == [(60, ends)]
    assert (await shop.available(), await shop.available("c2")) == (40, 70)
    refused = await shop.refused(shop.do(lambda w: give.transfer(w, "c1", "c2", 41)))
    assert (refused.code, refused.facts["available"]) == ("insufficient-points", 40)
    same = await shop.refused(shop.do(lambda w: give.transfer(w, "c1", "c1", 1)))
    assert same.code == "same-customer"
    unknown = await shop.refused(shop.do(lambda w: give.transfer(w, "c1", "c9", 1)))
    assert unknown.code == "customer-not-found"
    forbidden = Transfers(with_rules(shop.program, transfers=False))
    not_allowed = await shop.refused(shop.do(lambda w: forbidden.transfer(w, "c1", "c2", 1)))
    assert not_allowed.code == "transfers-not-allowed"
    assert await shop.violations() == []
