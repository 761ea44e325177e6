"""Campaigns that change with the program: each purchase has those of the version in force when it was made."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.points import intake
from services.points.api.quote import router
from shared.contracts import tiers
from shared.db.types import Pool
from shared.events.runner import Runner
from shared.http.app import create_app
from shared.http.keys import KeyRing
from shared.program import Program, versions
from tests.fixtures.events import event, line, move, purchase, records, refunded, tier_change
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
YEAR = {"from": "2026-01-01", "until": "2026-12-31"}
APPLIED = datetime(2026, 2, 1, tzinfo=UTC)
APRIL, JULY = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)

DOUBLE = {"id": "double", "multiplier": "2"} | YEAR
TRIPLE = DOUBLE | {"multiplier": "3"}
EXTRA = {"id": "extra", "bonus": 7} | YEAR
CAPPED = DOUBLE | {"cap": {"per_customer": 100}}
TIGHT = DOUBLE | {"cap": {"per_customer": 130}}
BUDGET = {"id": "budget", "bonus": 40, "cap": {"total": 100}} | YEAR
LARGER = BUDGET | {"cap": {"total": 130}}

Campaigns = Sequence[Mapping[str, Any]]


def text(campaigns: Campaigns) -> str:
    return RULES.format(campaigns=json.dumps(campaigns))


def program_of(
    folder: Path, first: Campaigns, *later: tuple[datetime, Campaigns], name: str = "program"
) -> Program:
    """A program and its versions, applied as an operator would."""
    file, versions_of = folder / f"{name}.yaml", folder / f"{name}.d"
    file.write_text(text(first), encoding="utf-8")
    for at, campaigns in later:
        apply(file, at, campaigns)
    return versions.load(file, versions_of)


def apply(file: Path, at: datetime, campaigns: Campaigns) -> None:
    draft = file.with_suffix(".new")
    draft.write_text(text(campaigns), encoding="utf-8")
    versions.apply(file.with_suffix(".d"), versions.load(file), draft, at, APPLIED)


def bought(order: str, at: str, amount: str = "60.00", **more: Any) -> dict[str, Any]:
    return event(purchase(order, at=f"{at}T10:00:00Z", amount=amount, **more))


async def feed(runner: Runner, *told: dict[str, Any]) -> None:
    """One event a batch."""
    for offset, one in enumerate(told):
        assert await runner.process(records([one], start=offset))


async def lots(pool: Pool) -> dict[str, int]:
    rows = await pool.fetch(
        "SELECT order_id, sum(points)::int FROM entries GROUP BY order_id ORDER BY order_id"
    )
    return dict(tuple(row) for row in rows)


SALES = [
    bought("february", "2026-02-10"),
    bought("march", "2026-03-31"),
    bought("april", "2026-04-01"),
    bought("may", "2026-05-10"),
    bought("july", "2026-07-01"),
    bought("august", "2026-08-10"),
]
STORIES: dict[str, tuple[Campaigns, Campaigns, Campaigns, dict[str, int]]] = {
    "begun": ([], [DOUBLE], [DOUBLE], {"february": 60, "march": 60, "april": 120, "august": 120}),
    "ended early": ([DOUBLE], [], [], {"february": 120, "march": 120, "april": 60, "august": 60}),
    "other terms": (
        [DOUBLE], [TRIPLE, EXTRA], [EXTRA], {"march": 120, "april": 187, "may": 187, "july": 67},
    ),
    # What was given while there was no cap does not fill it.
    "capped later": (
        [DOUBLE], [CAPPED], [CAPPED],
        {"february": 120, "march": 120, "april": 120, "may": 100, "july": 60},
    ),
    # 60 and 40 of the 100 by March; 30 more of the 130 from April on.
    "a larger cap": (
        [CAPPED], [TIGHT], [TIGHT],
        {"february": 120, "march": 100, "april": 90, "may": 60, "july": 60},
    ),
    # The smaller cap leaves nothing, and takes back nothing.
    "a smaller cap": (
        [TIGHT], [CAPPED], [CAPPED], {"february": 120, "march": 120, "april": 60, "august": 60},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("seed", [None, 1])
async def test_a_purchase_has_the_campaigns_of_its_day_in_any_order(
    points_db: str, tmp_path: Path, name: str, seed: int | None
) -> None:
    first, second, third, expected = STORIES[name]
    later = [(APRIL, second)] + ([(JULY, third)] if third != second else [])
    program = program_of(tmp_path, first, *later)
    told = [*SALES]
    if seed is not None:
        random.Random(seed).shuffle(told)
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await feed(runner, *told)
        found = await lots(pool)
        assert {order: found[order] for order in expected} == expected
        assert await violations(pool, program) == []


async def test_a_budget_is_one_across_versions(points_db: str, tmp_path: Path) -> None:
    program = program_of(tmp_path, [BUDGET], (APRIL, [LARGER]))
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await feed(runner, *SALES[:4], bought("late", "2026-03-01"))
        # As they came: 40 + 40 of the 100, then 40 and 10 of the 130; what is late is of its own version's 100.
        assert await lots(pool) == {
            "february": 100, "march": 100, "april": 100, "may": 70, "late": 60,
        }  # fmt: skip
        drawn = await pool.fetchval("SELECT drawn FROM campaign_budgets")
        assert drawn == 130
        assert await violations(pool, program) == []


async def test_what_comes_late_is_decided_and_corrected_by_its_own_version(
    points_db: str, tmp_path: Path
) -> None:
    welcome = {"id": "welcome", "bonus": 50, "when": {"first_purchase": True}} | YEAR
    richer = welcome | {"bonus": 80}
    program = program_of(tmp_path, [welcome], (APRIL, [richer]))
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await feed(runner, SALES[3])
        assert await lots(pool) == {"may": 140}
        assert await runner.process(records([SALES[0]], start=1))
        assert await lots(pool) == {"february": 110, "may": 60}
        rows = await pool.fetch("SELECT kind, explanation FROM entries ORDER BY seq")
        told = [(row["kind"], msgspec.json.decode(row["explanation"])["v"]) for row in rows]
        new = program.at(APRIL).version
        assert told == [("earned", new), ("earned", program.version), ("campaign", new)]
        assert await violations(pool, program) == []


async def test_a_refund_takes_what_the_version_gave_and_a_tier_lifts_that(
    points_db: str, tmp_path: Path
) -> None:
    silver_days = {"id": "silver-days", "bonus": 30, "when": {"tiers": ["silver"]}} | YEAR
    program = program_of(tmp_path, [DOUBLE], (APRIL, [TRIPLE, silver_days]))
    two = [line(1, "40.00"), line(2, "20.00")]
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await feed(
            runner,
            bought("march", "2026-03-31", lines=two),
            bought("april", "2026-04-01", lines=two),
            event_of_refund("r1", "march"),
            event_of_refund("r2", "april"),
        )
        assert await lots(pool) == {"march": 40, "april": 60}
        change = tier_change("c1", 1, [move("silver", "2026-03-01T00:00:00Z", "1.5")])
        assert await runner.process(records([change], tiers.TOPIC))
        # 120 × 1.5 and (180 + 30) × 1.5, of which line 1 keeps a third.
        assert await lots(pool) == {"march": 60, "april": 105}
        assert await violations(pool, program) == []


def event_of_refund(refund: str, order: str) -> dict[str, Any]:
    return refunded(refund, order, "c1", "2026-06-01T10:00:00Z", [("1", "1")])


async def test_a_quote_has_the_campaigns_of_its_instant_and_names_their_version(
    points_db: str, tmp_path: Path
) -> None:
    file = tmp_path / "program.yaml"
    program = program_of(tmp_path, [DOUBLE])
    async with AsyncExitStack() as stack:
        runner, pool = await stack.enter_async_context(running(points_db, intake.routes(program)))
        app = create_app(
            service="points",
            version="1",
            routers=[router],
            keys=KeyRing(keys_file(tmp_path)),
            readiness={},
            state={"program": versions.load(file, tmp_path / "program.d"), "pool": pool},
        )
        client = await stack.enter_async_context(client_of(app))
        # It comes while the API and the worker run.
        apply(file, APRIL, [TRIPLE])
        for one, points in ((SALES[1], 120), (SALES[2], 180)):
            answer = await client.post("/v1/quote", json=one["data"], headers=ALL)
            assert answer.status_code == 200, answer.text
            assert answer.json()["points"] == points
            assert await runner.process(records([one], start=points))
            version = await pool.fetchval(
                "SELECT explanation::jsonb ->> 'v' FROM entries ORDER BY seq DESC LIMIT 1"
            )
            assert answer.json()["explanation"]["program_version"] == version
        assert await lots(pool) == {"march": 120, "april": 180}
