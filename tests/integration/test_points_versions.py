"""Late events are decided by their own version of the program, whenever it came and whatever holds now."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.points import intake, invariants
from shared.contracts import tiers
from shared.db.types import Pool
from shared.events.runner import Runner
from shared.invariants import COMMON, check
from shared.program import Program, versions
from tests.fixtures.events import event, move, purchase, records, tier_change
from tests.fixtures.streams import running

pytestmark = pytest.mark.servers

DEMO = (Path(__file__).parents[2] / "programs" / "demo.yaml").read_text(encoding="utf-8")
# From March on half as many points, for half as long.
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
HALF = DEMO.replace('per: "1.00"', 'per: "2.00"').replace("after: P12M", "after: P6M")
# Applied when February was young.
APPLIED = datetime(2026, 2, 2, tzinfo=UTC)

BOUGHT = [
    purchase("before", at="2026-02-28T23:59:59Z", amount="100.00"),
    purchase("after", at="2026-03-01T00:00:00Z", amount="100.00"),
    purchase("guest", None, at="2026-04-01T00:00:00Z", amount="100.00"),
]
CREDITED = [
    ("after", 50, datetime(2026, 9, 30, 23, tzinfo=UTC)),
    ("before", 100, datetime(2027, 3, 1, tzinfo=UTC)),
]


@pytest.fixture
def rules(tmp_path: Path) -> tuple[Program, Path]:
    """The running program, and where its versions come to."""
    file = tmp_path / "program.yaml"
    file.write_text(DEMO, encoding="utf-8")
    return versions.load(file, tmp_path / "program.d"), tmp_path


def apply(folder: Path) -> None:
    new = folder / "new.yaml"
    new.write_text(HALF, encoding="utf-8")
    old = versions.load(folder / "program.yaml")
    versions.apply(folder / "program.d", old, new, MARCH, APPLIED)


async def credited(pool: Pool) -> list[tuple[Any, ...]]:
    rows = await pool.fetch(
        "SELECT order_id, sum(points)::int, min(expires_at) FROM entries WHERE kind <> 'expired'"
        " GROUP BY order_id ORDER BY order_id"
    )
    return [tuple(row) for row in rows]


async def hold(pool: Pool, program: Program) -> None:
    async with pool.acquire() as conn:
        found = await check(conn, (*COMMON, *invariants.of(program)))
    assert [result for result in found if result.violations] == []


@pytest.mark.parametrize("seed", range(4))
async def test_the_order_of_events_decides_nothing(
    points_db: str, rules: tuple[Program, Path], seed: int
) -> None:
    program, folder = rules
    apply(folder)
    events = list(map(event, BOUGHT))
    random.Random(seed).shuffle(events)
    async with running(points_db, intake.routes(program)) as (runner, pool):
        for offset, one in enumerate(events):
            await runner.process(records([one], start=offset))
        assert await credited(pool) == CREDITED
        await hold(pool, program)


async def test_a_version_that_comes_while_services_run_holds_at_once(
    points_db: str, rules: tuple[Program, Path]
) -> None:
    program, folder = rules
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await runner.process(records([event(BOUGHT[0])]))
        apply(folder)
        await runner.process(records([event(BOUGHT[1])], start=1))
        assert await credited(pool) == CREDITED


async def test_each_award_names_the_version_that_decided_it(
    points_db: str, rules: tuple[Program, Path]
) -> None:
    program, folder = rules
    apply(folder)
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await runner.process(records(list(map(event, BOUGHT))))
        rows = await pool.fetch("SELECT explanation FROM entries ORDER BY order_id")
        told = [msgspec.json.decode(row["explanation"])["v"] for row in rows]
        assert told == [program.at(MARCH).version, program.version]
        guest = await pool.fetchval("SELECT exact FROM uncredited")
        assert guest == "50"


async def silver(runner: Runner) -> None:
    way = [move("silver", "2026-01-01T00:00:00Z", "1.25")]
    await runner.process(records([tier_change("c1", 1, way)], tiers.TOPIC))


async def test_a_late_tier_bonus_is_worked_out_from_what_its_version_gave(
    points_db: str, rules: tuple[Program, Path]
) -> None:
    program, folder = rules
    apply(folder)
    async with running(points_db, intake.routes(program)) as (
        runner,
        pool,
    ):
        await runner.process(records(list(map(event, BOUGHT))))
        await silver(runner)
        assert [line[:2] for line in await credited(pool)] == [("after", 62), ("before", 125)]
        await hold(pool, program)
