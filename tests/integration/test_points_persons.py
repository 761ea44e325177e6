"""What the machine of test_ledger_machine found: debts, holds and cancellations of two customers who are one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import Period
from shared.program import Program
from tests.fixtures.bank import DAY, MINUTE, START, Bank, bank

pytestmark = pytest.mark.servers

Make = Callable[..., Awaitable[Bank]]
ALL = {"available": 0, "pending": 0, "held": 0, "deficit": 0}


@pytest.fixture
async def make(points_db: str, program: Program) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def opened(earning: dict[str, Any] | None = None, **more: Any) -> Bank:
            return await stack.enter_async_context(bank(points_db, program, earning, **more))

        yield opened


@pytest.mark.parametrize("bought_by", ["ann", "anna"])
@pytest.mark.parametrize("spent_by", ["ann", "anna"])
async def test_a_cancellation_gives_back_what_the_other_id_spent(
    make: Make, bought_by: str, spent_by: str
) -> None:
    shop = await make()
    await shop.buy("welcome", "50.00", customer=spent_by)
    await shop.spend(40, spent_by, order_id="o1")
    await shop.buy("o1", "30.00", customer=bought_by)
    await shop.buy("o2", "5.00", customer="ann")
    await shop.buy("o3", "5.00", customer="anna")
    shop.now += MINUTE
    await shop.merge("ann", "anna")
    shop.now += MINUTE
    await shop.cancel("o1")
    for name in ("ann", "anna"):
        assert await shop.balance(customer=name) == ALL | {"available": 60}
    assert await shop.violations() == []


async def test_a_cancellation_that_waits_gives_back_what_a_merged_id_spent(make: Make) -> None:
    shop = await make()
    await shop.buy("welcome", "50.00", customer="ann")
    await shop.buy("other", "1.00", customer="anna")
    await shop.spend(40, "ann", order_id="o1")
    await shop.merge("ann", "anna")
    await shop.hold(11, "ann", order_id="o1")
    await shop.cancel("o1", "ann")
    assert await shop.balance(customer="anna") == ALL | {"available": 51}
    assert await shop.violations() == []


async def test_what_is_owed_until_points_unlock_is_owed_by_the_other_id(make: Make) -> None:
    shop = await make({"available_after": Period.parse("P2D")})
    await shop.buy("o1", "70.00", START - 3 * DAY, "ann")
    await shop.spend(70, "ann")
    shop.now += MINUTE
    await shop.refund("o1", "70.00", customer="ann")
    await shop.buy("o2", "100.00", customer="ann")
    await shop.buy("o3", "50.00", START - 3 * DAY, "anna")
    assert await shop.balance(customer="ann") == ALL | {"pending": 100, "deficit": 70}
    shop.now += MINUTE
    await shop.merge("ann", "anna")
    # Hers pay at once, and the rest when it is there.
    assert await shop.balance(customer="anna") == ALL | {"pending": 100, "deficit": 20}
    assert await shop.balance(shop.now, "anna") == await shop.balance(customer="anna")
    shop.now += 2 * DAY
    assert await shop.balance(customer="ann") == ALL | {"available": 80}
    assert await shop.violations() == []


Step = Callable[[Bank], Awaitable[None]]


async def merge(shop: Bank) -> None:
    await shop.merge("ann", "anna", START + 10 * MINUTE)


async def refund(shop: Bank) -> None:
    await shop.refund("o1", "70.00", customer="ann", at=START + 5 * MINUTE)


@pytest.mark.parametrize("steps", [(refund, merge), (merge, refund)], ids=["in time", "late"])
@pytest.mark.parametrize("policy", ["allow_negative", "clamp_to_zero"])
async def test_what_was_owed_before_a_merge_is_paid_as_before_it(
    make: Make, policy: str, steps: Sequence[Step]
) -> None:
    shop = await make({"refunds": policy})
    await shop.buy("o1", "70.00", START - DAY, "ann")
    await shop.spend(70, "ann")
    await shop.buy("o2", "50.00", START, "ann")
    # The survivor's own would pay first, for they expire first.
    await shop.buy("o3", "90.00", START - 40 * DAY, "anna")
    shop.now += timedelta(hours=1)
    for step in steps:
        await step(shop)
        shop.now += MINUTE
    owed = 20 if policy == "allow_negative" else 0
    assert await shop.balance(customer="anna") == ALL | {"available": 90 - owed}
    lots = await shop.lots("ann", "anna")
    assert sorted(lots.values()) == [90 - owed]
    assert await shop.violations() == []


async def test_points_go_the_way_of_the_merges(make: Make) -> None:
    shop = await make()
    for name in ("ann", "anna", "anne"):
        await shop.buy(f"o-{name}", "30.00", customer=name)
    await shop.merge("ann", "anna")
    shop.now += MINUTE
    await shop.merge("anna", "anne")
    shop.now += MINUTE
    before = await shop.lots("anne")
    assert sorted(before.values()) == [30, 30, 30]
    await shop.refund("o-ann", "10.00", customer="anna")
    after = await shop.lots("ann", "anna", "anne")
    # The same lot has less; none is owed.
    assert after.keys() == before.keys()
    assert sorted(after.values()) == [20, 30, 30]
    assert await shop.violations() == []


async def test_what_a_hold_reserves_of_a_cancelled_purchase_is_not_given_twice(make: Make) -> None:
    shop = await make()
    await shop.buy("o1", "50.00", START - DAY)
    await shop.buy("o2", "50.00")
    kept = await shop.hold(50)
    shop.now += MINUTE
    await shop.cancel("o1")
    # What is held will take o1 below zero, and o2 will pay for it.
    assert await shop.balance() == ALL | {"held": 50}
    refused = await shop.refused(shop.hold(1))
    assert refused.facts == {"available": 0, "deficit": 0}
    await shop.capture(kept)
    assert await shop.balance() == ALL
    assert await shop.violations() == []
