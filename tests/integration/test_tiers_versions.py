"""Levels that change from an instant on, while the services run: in tiers, and what they multiply in points."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.points import intake as points_intake
from services.tiers import wiring
from services.tiers.settings import Settings
from shared.contracts import tiers as contract
from shared.db import pool as pools
from shared.program import versions
from tests.fixtures.events import event, move, purchase, records, tier_change
from tests.fixtures.http_probe import ALL, client_of, write_keys
from tests.fixtures.points import violations
from tests.fixtures.streams import running
from tests.fixtures.tiers import RULES, Tiers, earned

pytestmark = pytest.mark.servers

FIRST = RULES % {"basis": "points", "silver": "500"}
# From October on silver takes 800 and gives more, gold takes less, and there is a level between them.
SECOND = (
    FIRST.replace('threshold: 500, multiplier: "1.25"', 'threshold: 800, multiplier: "1.3"')
    .replace("threshold: 2000", "threshold: 1600")
    .replace(
        "    - {id: gold",
        '    - {id: ruby, name: Rubin, threshold: 1200, multiplier: "1.4"}\n    - {id: gold',
    )
)
APPLIED, OCTOBER = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)
SALES = [
    earned("low", "1", "2026-09-30T10:00", 600),
    earned("low", "2", "2026-10-02T10:00", 100),
    earned("new", "1", "2026-09-01T10:00", 400),
    earned("new", "2", "2026-10-01T00:00", 399),
    earned("near", "1", "2026-09-01T10:00", 1700),
    earned("near", "2", "2026-10-05T10:00", 0),
]
WAYS = {
    # Who is there keeps it, though it takes more now.
    "low": [("silver", "2026-09-30")],
    # It is no longer enough.
    "new": [],
    # Lifted by the next purchase, whatever it counts, through the new level.
    "near": [("silver", "2026-09-01"), ("ruby", "2026-10-05"), ("gold", "2026-10-05")],
}


def apply(folder: Path) -> None:
    draft = folder / "new.yaml"
    draft.write_text(SECOND, encoding="utf-8")
    program = versions.load(folder / "program.yaml")
    versions.apply(folder / "program.d", program, draft, OCTOBER, APPLIED)


@pytest.fixture
async def service(tiers_db: str, tmp_path: Path) -> AsyncIterator[Tiers]:
    """The service under a program whose version has not come yet."""
    file = tmp_path / "program.yaml"
    file.write_text(FIRST, encoding="utf-8")
    pool = await pools.create(tiers_db, name="test", size=2)
    yield Tiers(pool, versions.load(file, tmp_path / "program.d"))
    await pool.close()


async def ways(service: Tiers) -> dict[str, list[tuple[str, str]]]:
    told = {change.customer_id: change for change in await service.told()}
    return {
        name: [
            (move.tier, move.since.date().isoformat())
            for move in (told[name].timeline if name in told else [])
        ]
        for name in WAYS
    }


@pytest.mark.parametrize("seed", [None, 1, 2])
async def test_the_order_decides_nothing(service: Tiers, tmp_path: Path, seed: int | None) -> None:
    apply(tmp_path)
    told = [*SALES]
    if seed is not None:
        random.Random(seed).shuffle(told)
    await service.hears(*told, as_batches_of=1)
    assert await ways(service) == WAYS
    assert await service.violations() == []


async def test_a_version_that_comes_finds_everybody_and_tells_nothing(
    service: Tiers, tmp_path: Path
) -> None:
    await service.hears(*SALES[::2])
    before = await service.told()
    apply(tmp_path)
    service.program.look()
    await service.time_passes("2026-09-15")
    stale = await service.pool.fetchval("SELECT count(DISTINCT rules) FROM accounts")
    assert stale == 1
    assert await service.told() == before
    assert await service.violations() == []
    await service.hears(*SALES[1::2])
    assert await ways(service) == WAYS
    assert await service.violations() == []


async def test_the_api_shows_the_levels_in_force(
    tiers_db: str, service: Tiers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys.json"
    write_keys(keys, [("all", "all-of-it", ["*"])])
    settings = Settings(
        database=tiers_db,
        kafka="127.0.0.1:1",
        program=tmp_path / "program.yaml",
        program_versions=tmp_path / "program.d",
        keys_file=keys,
        port=1,
        worker_port=2,
    )
    now = datetime(2026, 9, 30, 12, tzinfo=UTC)
    monkeypatch.setattr("shared.clock.now", lambda: now)
    await service.hears(*SALES[:1])
    async with client_of(wiring.api(settings)) as client:
        apply(tmp_path)
        for asks, missing in (({"silver": 500, "gold": 2000}, 1400), ({"ruby": 1200}, 600)):
            levels = (await client.get("/v1/tiers", headers=ALL)).json()["data"]
            assert asks.items() <= {one["id"]: one["threshold"] for one in levels}.items()
            status = (await client.get("/v1/customers/low/tier", headers=ALL)).json()
            assert status["tier"]["id"] == "silver"
            assert status["next_tier"]["missing"] == missing
            now = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize("first", ["purchases", "tier"])
async def test_a_level_multiplies_as_its_version_says_at_each_purchase(
    points_db: str, tmp_path: Path, first: str
) -> None:
    file = tmp_path / "program.yaml"
    file.write_text(FIRST, encoding="utf-8")
    program = versions.load(file, tmp_path / "program.d")
    apply(tmp_path)
    bought = [
        event(purchase(order, at=at, amount="100.00"))
        for order, at in (("may", "2026-05-10T10:00:00Z"), ("october", "2026-10-01T00:00:00Z"))
    ]
    change = tier_change("c1", 1, [move("silver", "2026-01-01T00:00:00Z", "1.25")])
    batches = [records(bought), records([change], contract.TOPIC)]
    async with running(points_db, points_intake.routes(program)) as (runner, pool):
        # What tells of levels looks for versions as purchases do.
        for batch in batches if first == "purchases" else batches[::-1]:
            assert await runner.process(batch)
        rows = await pool.fetch(
            "SELECT order_id, sum(points)::int FROM entries GROUP BY 1 ORDER BY 1"
        )
        assert [tuple(row) for row in rows] == [("may", 125), ("october", 130)]
        assert await violations(pool, program) == []
