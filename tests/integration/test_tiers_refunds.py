"""Tiers and refunds on real PostgreSQL: what points tells of them, in any order, to what customers read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import msgspec
import pytest

from services.tiers import ledger
from shared import clock
from shared.db import pool as pools
from tests.fixtures.servers import owner_of
from tests.fixtures.tiers import (
    Tiers,
    Told,
    adjusted,
    api,
    clawed_back,
    earned,
    get,
    program_of,
    standing,
)
from tests.unit.tiers.ways import at

pytestmark = pytest.mark.servers

BOUGHT = earned("c", "1", "2026-03-10", 500)
BACK = clawed_back(BOUGHT, 2, ("2026-03-20", 1))


@pytest.fixture
async def service(tiers_db: str) -> AsyncIterator[Tiers]:
    pool = await pools.create(tiers_db, name="test", size=6)
    yield Tiers(pool, program_of())
    await pool.close()


@pytest.fixture
def other_db(database: Callable[[str], str]) -> str:
    return database("tiers")


@pytest.fixture
async def client(
    service: Tiers, tiers_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx2.AsyncClient]:
    monkeypatch.setattr(clock, "now", lambda: service.now)
    async with api(tiers_db, tmp_path) as found:
        yield found


async def test_a_refund_takes_the_level_at_its_instant(service: Tiers) -> None:
    await service.hears(BOUGHT, BACK)
    await service.hears(BACK, BOUGHT)
    moves = [(told.move.kind, told.move.tier, told.move.since) for told in await service.told()]
    assert moves == [
        ("upgraded", "silver", at("2026-03-10")),
        ("downgraded", "bronze", at("2026-03-20")),
    ]
    assert (await service.told())[-1].move.cause == BOUGHT.entry_id
    assert await service.counts() == (2, 2, 0)
    assert await service.violations() == []


async def test_a_refund_may_be_heard_before_its_purchase(service: Tiers) -> None:
    await service.hears(BACK)
    assert [told.move.kind for told in await service.told()] == ["upgraded", "downgraded"]
    assert await service.violations() == []
    before = await service.state()
    await service.hears(BOUGHT)
    assert await service.state() == before
    assert await service.counts() == (2, 0, 0)
    assert await service.violations() == []


async def test_of_several_standings_the_newest_counts(service: Tiers) -> None:
    newest = clawed_back(BOUGHT, 9, ("2026-03-20", 1), refund="R2")
    wrong = clawed_back(BOUGHT, 8, ("2026-03-20", 0), refund="R2")
    await service.hears(BOUGHT, newest, wrong)
    assert await service.pool.fetchval("SELECT level FROM accounts") == "bronze"
    await service.hears(adjusted(BOUGHT, standing(BOUGHT, 10, ("2026-03-20", 1), base=501)))
    assert await service.pool.fetchval("SELECT level FROM accounts") == "silver"
    last = (await service.told())[-1]
    assert [move.kind for move in last.timeline] == ["upgraded"]
    assert await service.violations() == []


async def test_a_correction_of_the_bonus_is_none_of_our_business(
    service: Tiers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.hears(BOUGHT)

    async def not_asked(*_: Any) -> None:
        raise AssertionError("nothing counts otherwise")

    monkeypatch.setattr(ledger, "lock_accounts", not_asked)
    await service.hears(adjusted(BOUGHT, None))
    assert await service.counts() == (2, 0, 0)


async def test_what_is_no_purchase_counts_its_points_and_is_no_purchase(tiers_db: str) -> None:
    pool = await pools.create(tiers_db, name="test", size=2)
    service = Tiers(pool, program_of("purchases", silver="2"))
    review = earned("c", "review", "2026-03-12", 500, shop="", order_id="", net_spend="0")
    await service.hears(earned("c", "1", "2026-03-10", 1), review)
    assert await service.told() == []
    service.program = program_of()
    await service.time_passes("2026-11-22")
    assert [told.move.tier for told in await service.told()] == ["silver"]
    assert await service.violations() == []
    await pool.close()


async def test_history_names_the_refund(service: Tiers, client: httpx2.AsyncClient) -> None:
    cancelled = clawed_back(BOUGHT, 3, ("2026-03-20", 1), ("2026-03-22", 499), refund=None)
    again = earned("c", "2", "2026-03-21", 1)
    await service.hears(BOUGHT, BACK, again, cancelled)
    found = (await get(client, "customers/c/tier/history"))["data"]
    assert [(m["kind"], m["since"][:10], m["cause"]["type"]) for m in found] == [
        ("downgraded", "2026-03-22", "refund"),
        ("upgraded", "2026-03-21", "purchase"),
        ("downgraded", "2026-03-20", "refund"),
        ("upgraded", "2026-03-10", "purchase"),
    ]
    assert [m["cause"]["refund_id"] for m in found] == [None, None, "R1", None]
    assert found[2]["cause"]["order_id"] == "1"
    review = earned("c", "review", "2026-04-01", 500, shop="", order_id="", net_spend="0")
    await service.hears(review)
    (newest, *_) = (await get(client, "customers/c/tier/history"))["data"]
    assert newest["cause"]["type"] == "activity"


async def test_tier_over_http_knows_what_was_given_back_when(
    service: Tiers, client: httpx2.AsyncClient
) -> None:
    await service.hears(BOUGHT, BACK)
    for when, tier, amount in (
        ("2026-03-19T23:59:59Z", "silver", 500),
        ("2026-03-20T00:00:00Z", "bronze", 499),
    ):
        found = await get(client, "customers/c/tier", at=when)
        assert (found["tier"]["id"], found["qualifying"]["amount"]) == (tier, amount)
    found = await get(client, "customers/c/tier")
    assert (found["since"], found["valid_until"]) == ("2026-03-20T00:00:00Z", None)
    assert found["next_tier"] == {"id": "silver", "name": "Silber", "missing": 1}


BROKEN: dict[str, dict[str, Any]] = {
    "data.standing.seq": {"seq": -1},
    "data.standing.base": {"base": -1},
    "data.standing.purchases": {"purchases": -1},
    "data.standing.net_spend": {"net_spend": "much"},
    "data.standing.lot_id": {"lot_id": "17"},
    "data.standing.occurred_at": {"occurred_at": at("9999-12-31")},
    "data.standing.reductions[0]": {"base": 0},
}


@pytest.mark.parametrize("field", BROKEN)
async def test_what_can_never_be_applied_is_buried(service: Tiers, field: str) -> None:
    broken = msgspec.structs.replace(BACK.standing, **BROKEN[field])
    await service.hears(BOUGHT, msgspec.structs.replace(BACK, standing=broken))
    assert await service.counts() == (1, 0, 1)
    assert await service.pool.fetchval("SELECT field FROM dead_letters") == field


def stream(seed: int, customers: int = 6, each: int = 25) -> list[Told]:
    """Purchases, half of them with up to three refunds, in the order in which points would tell them."""
    chance = random.Random(seed)
    found: list[tuple[Any, Told]] = []
    for n in range(customers):
        for order in range(each):
            when = at("2023-01-01") + timedelta(minutes=chance.randrange(3 * 365 * 24 * 60))
            base = chance.choice([0, 4, 40, 120, 300, 300, 2500 if n == 5 else 90])
            bought = earned(f"customer-{n}", str(order), when.isoformat(), base)
            found.append((when, bought))
            back: list[tuple[str, int]] = []
            for part in range(chance.choice([0, 0, 0, 1, 2, 3])):
                later = when + timedelta(hours=chance.randrange(24 * 90))
                back.append((later.isoformat(), base // 3))
                told = clawed_back(
                    bought, 1000 + order * 10 + part, *back, refund=f"{order}/{part}"
                )
                found.append((later, told))
    return [told for _, told in sorted(found, key=lambda pair: pair[0])]


async def in_order(dsn: str, told: list[Told]) -> list[tuple[Any, ...]]:
    pool = await pools.create(dsn, name="test", size=2)
    plain = Tiers(pool, program_of())
    await plain.hears(*told, as_batches_of=1)
    found = await plain.state()
    assert await plain.violations() == []
    await pool.close()
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_any_order_repetition_and_batches_end_the_same(
    service: Tiers, other_db: str, seed: int
) -> None:
    told = stream(seed)
    expected = await in_order(other_db, told)
    chance = random.Random(seed)
    shuffled = [*told, *told]
    chance.shuffle(shuffled)
    streams = [shuffled[n::3] for n in range(3)]
    await asyncio.gather(
        *(
            service.hears(*part, as_batches_of=chance.randint(1, 30), partition=n)
            for n, part in enumerate(streams)
        )
    )
    assert await service.state() == expected
    falls = await service.pool.fetchval(
        "SELECT count(*) FROM changes WHERE kind = 'downgraded' AND cause IS NOT NULL"
    )
    assert falls > 3
    assert await service.counts() == (len(told), len(told), 0)
    assert await service.violations() == []


async def test_standings_only_grow(service: Tiers, tiers_db: str) -> None:
    await service.hears(BOUGHT, BACK)
    owner = await asyncpg.connect(owner_of(tiers_db))
    for statement in ("UPDATE standings SET seq = 1", "DELETE FROM standings"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await owner.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.pool.execute(statement)
    await owner.close()


async def test_damage_is_found(service: Tiers, tiers_db: str) -> None:
    await service.hears(BOUGHT)
    owner = await asyncpg.connect(owner_of(tiers_db))
    await owner.execute(
        "INSERT INTO standings SELECT entry_id, 2, account_id, occurred_at, base, net_spend, 1,"
        " $1, null, null, now() FROM qualifying",
        '[{"at":"2026-03-20T00:00:00Z","base":600,"net_spend":"1.00","purchases":0}]',
    )
    await owner.close()
    found = set(await service.violations())
    assert found >= {"entries-are-walked", "refunds-take-no-more-than-was-bought"}
    assert "applied-entries-are-kept" in found
