"""Limits are a person's: what two ids did counts together once they turn out to be one, whenever that is told."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import pytest

from services.points import intake
from shared import program as programs
from shared.contracts import activities
from tests.fixtures.bank import bank
from tests.fixtures.events import activity, merge, record
from tests.fixtures.points import balances, violations
from tests.fixtures.streams import running

pytestmark = pytest.mark.servers

RULES = programs.parse("""
program: test
name: Test
currency: GBP
timezone: Europe/London
earning:
  base: {points: 1, per: "1.00"}
  expiry: {after: P24M}
  activities:
    - {activity: newsletter, points: 10, limit: {times: 1}}
    - {activity: review, points: 50, limit: {times: 1, per: P1D}}
    - {activity: survey, points: 20}
""")
FIRST = activity("newsletter", "ann", "2026-05-01T10:00:00Z", "n1")
SECOND = activity("newsletter", "anna", "2026-05-02T10:00:00Z", "n2")
THIRD = activity("newsletter", "anne", "2026-05-03T10:00:00Z", "n3")
STORIES: dict[str, tuple[list[dict[str, Any]], int]] = {
    "once a person": ([FIRST, SECOND, merge("ann", "anna")], 10),
    "of three": ([SECOND, THIRD, merge("ann", "anna"), merge("anna", "anne"), FIRST], 10),
    "once a day": (
        [
            activity("review", "ann", "2026-05-01T10:00:00Z", "r1"),
            activity("review", "anna", "2026-05-01T20:00:00Z", "r2"),
            activity("review", "anna", "2026-05-02T08:00:00Z", "r3"),
            merge("anna", "ann"),
        ],
        100,
    ),
    "without a limit": (
        [activity("survey", n, reference=n) for n in ("ann", "anna")] + [merge("ann", "anna")],
        40,
    ),
}


def numbered(told: dict[str, Any], number: int) -> dict[str, Any]:
    """The same of customers of their own, for one of several orders of telling."""
    data = {
        key: f"{value}-{number}" if key in {"customer_id", "into", "reference"} else value
        for key, value in told["data"].items()
    }
    return told | {"id": f"{told['id']}-{number}", "data": data}


@pytest.mark.parametrize("story", STORIES)
async def test_limits_are_a_person_s_in_any_order(points_db: str, story: str) -> None:
    told, right = STORIES[story]
    async with running(points_db, intake.routes(RULES)) as (runner, pool):
        orders = list(permutations(told))
        batch = [numbered(one, number) for number, order in enumerate(orders) for one in order]
        for offset, one in enumerate(batch):
            assert await runner.process([record(one, offset, activities.TOPIC)])
        found: Counter[str] = Counter()
        for name, points in (await balances(pool)).items():
            found[name.rpartition("-")[2]] += points
        assert len(found) == len(orders)
        assert set(found.values()) == {right}
        assert await violations(pool, RULES) == []


async def test_what_was_too_much_and_is_spent_is_owed(points_db: str) -> None:
    async with bank(points_db, RULES) as shop:
        for one in (FIRST, SECOND):
            await shop.send(one["data"], one["type"], activities.TOPIC, one["id"])
        await shop.spend(10, "anna")
        await shop.spend(10, "ann")
        await shop.merge("ann", "anna")
        owed = {"available": 0, "pending": 0, "held": 0, "deficit": 10}
        assert await shop.balance(customer="ann") == await shop.balance(customer="anna") == owed
        assert await shop.violations() == []
