"""A refund through all three services: the level falls, the bonus follows, the voucher of what was so stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import asyncpg
import pytest

from shared.contracts.catalogue import CONSUMES
from shared.program import Program
from tests.fixtures.events import event, purchase, refunded
from tests.fixtures.inprocess import system
from tests.unit.tiers.ways import at

pytestmark = pytest.mark.servers


def bought(order: str, when: str, pounds: int) -> dict[str, Any]:
    return event(purchase(order, "c1", when, f"{pounds}.00"))


# Silver from 10 March on, but for what came back on 20 March; and again from 10 April on.
STORY = (
    bought("o1", "2026-03-10T10:00:00Z", 500),
    bought("o2", "2026-03-15T10:00:00Z", 100),
    refunded("r1", "o1", "c1", "2026-03-20T10:00:00Z", [("1", "1")]),
    bought("o3", "2026-03-25T10:00:00Z", 100),
    bought("o4", "2026-04-10T10:00:00Z", 300),
    bought("o5", "2026-04-15T10:00:00Z", 100),
)


async def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    conn = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await conn.fetch(query)]
    finally:
        await conn.close()


async def after(program: Program, dsns: Mapping[str, str], order: tuple[int, ...]) -> None:
    async with system(program, dsns) as one:
        for place in order:
            one.sell([json.dumps(STORY[place]).encode()])
            await one.settle()
        assert await one.violations() == []


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0), (0, 1, 3, 4, 5, 2)])
async def test_a_level_is_lost_and_won_again(
    program: Program, three: Mapping[str, str], order: tuple[int, ...]
) -> None:
    await after(program, three, order)
    (moves,) = await rows(three["tiers"], "SELECT timeline::text FROM accounts")
    told = [(m["kind"], m["tier"], m["since"][:10]) for m in json.loads(moves[0])]
    assert told == [
        ("upgraded", "silver", "2026-03-10"),
        ("downgraded", "bronze", "2026-03-20"),
        ("upgraded", "silver", "2026-04-10"),
    ]
    lots = await rows(
        three["points"],
        "SELECT order_id, sum(points)::int FROM entries WHERE kind <> 'unlocked'"
        " GROUP BY 1 ORDER BY 1",
    )
    assert lots == [("o1", 0), ("o2", 125), ("o3", 100), ("o4", 300), ("o5", 125)]
    vouchers = await rows(
        three["rewards"], "SELECT cause_id, state, issued_at FROM vouchers ORDER BY cause_id"
    )
    assert vouchers == [
        ("silver#1", "issued", at("2026-03-10T10:00")),
        ("silver#2", "issued", at("2026-04-10T10:00")),
    ]


async def test_what_was_given_back_before_it_was_bought_never_lifted_anybody(
    program: Program, three: Mapping[str, str]
) -> None:
    early = refunded("r1", "o1", "c1", "2026-03-01T10:00:00Z", [("1", "1")])
    async with system(program, three) as one:
        for told in (STORY[0], early):
            one.sell([json.dumps(told).encode()])
            await one.settle()
        assert await one.violations() == []
    assert await rows(three["tiers"], "SELECT timeline::text FROM accounts") == [("[]",)]
    vouchers = await rows(three["rewards"], "SELECT cause_id, state FROM vouchers")
    assert vouchers == [("silver#1", "revoked")]


@pytest.fixture
def three(database: Callable[[str], str]) -> dict[str, str]:
    return {service: database(service) for service in CONSUMES}
