"""Tiers on real PostgreSQL: what points tells, through the runner, to what receivers hear and customers read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from services.tiers import ledger
from shared import clock
from shared.contracts.points import PointsEarned
from shared.db import pool as pools
from shared.program import parse
from tests.fixtures.http_probe import ALL
from tests.fixtures.servers import owner_of
from tests.fixtures.tiers import RULES, Tiers, api, earned, get, program_of
from tests.unit.tiers.ways import at

pytestmark = pytest.mark.servers

POINTS_ONLY = {"Authorization": "Bearer points-only"}


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


async def test_a_crossing_purchase_is_told_once(service: Tiers) -> None:
    await service.hears(earned("c", "1", "2026-03-10T12:00", 200))
    assert await service.told() == []
    crossing = earned("c", "2", "2026-05-10T12:00", 300)
    await service.hears(crossing, earned("c", "3", "2026-05-11T12:00", 10))
    (told,) = await service.told()
    assert (told.customer_id, told.revision) == ("c", 1)
    assert told.timeline == [told.move]
    assert (told.move.kind, told.move.tier, told.move.previous) == ("upgraded", "silver", "bronze")
    assert (told.move.multiplier, told.move.reach, told.move.cause) == (
        "1.25",
        1,
        crossing.entry_id,
    )
    assert (told.move.since, told.move.valid_until) == (
        at("2026-05-10T12:00"),
        at("2027-05-10T23:00"),
    )
    assert await service.violations() == []


async def test_an_entry_counts_once(service: Tiers) -> None:
    entry = earned("c", "1", "2026-03-10", 300)
    await service.hears(entry, entry)
    await service.hears(entry, earned("c", "2", "2026-03-11", 199))
    await service.hears(entry, as_batches_of=1, partition=3)
    assert await service.told() == []
    assert await service.counts() == (2, 3, 0)
    assert await service.violations() == []


async def test_a_late_entry_moves_the_upgrade(service: Tiers) -> None:
    await service.hears(earned("c", "1", "2026-03-10", 300), earned("c", "2", "2026-05-10", 300))
    await service.hears(earned("c", "3", "2026-01-10", 200))
    first, second = await service.told()
    assert (first.move.since, second.move.since) == (at("2026-05-10"), at("2026-03-10"))
    assert (second.revision, second.timeline, second.move.reach) == (2, [second.move], 1)
    rows = await service.pool.fetch("SELECT kind, since, replaced FROM changes ORDER BY revision")
    assert [row["replaced"] is None for row in rows] == [True, False]
    assert await service.violations() == []


def stream(seed: int, customers: int = 8, each: int = 40) -> list[PointsEarned]:
    found = []
    chance = random.Random(seed)
    for n in range(customers):
        for order in range(each if n else 3):
            when = at("2023-01-01") + timedelta(minutes=chance.randrange(3 * 365 * 24 * 60))
            base = chance.choice([0, 5, 40, 120, 120, 300, 2500 if n == 7 else 90])
            found.append(earned(f"customer-{n}", str(order), when.isoformat(), base))
    return sorted(found, key=lambda entry: entry.occurred_at)


async def in_order(dsn: str, entries: Sequence[PointsEarned]) -> list[tuple[Any, ...]]:
    pool = await pools.create(dsn, name="test", size=2)
    plain = Tiers(pool, program_of())
    await plain.hears(*entries, as_batches_of=25)
    found = await plain.state()
    assert await plain.violations() == []
    await pool.close()
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_any_order_repetition_and_batches_end_the_same(
    service: Tiers, other_db: str, seed: int
) -> None:
    entries = stream(seed)
    expected = await in_order(other_db, entries)
    assert {level for _, level, *_ in expected} >= {"silver", "gold"}
    chance = random.Random(seed)
    shuffled = [*entries, *entries]
    chance.shuffle(shuffled)
    streams = [shuffled[n::3] for n in range(3)]
    await asyncio.gather(
        *(
            service.hears(*part, as_batches_of=chance.randint(1, 30), partition=n)
            for n, part in enumerate(streams)
        )
    )
    assert await service.state() == expected
    assert await service.counts() == (len(entries), len(entries), 0)
    assert await service.violations() == []


async def test_a_quiet_stream_walks_nobody(service: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    await service.hears(earned("top", "0", "2026-01-01", 2000), earned("low", "0", "2026-01-01", 1))

    async def not_asked(*_: Any) -> None:
        raise AssertionError("all entries were read again")

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "entries_of", not_asked)
        for day in range(1, 20):
            await service.hears(
                earned("top", str(day), f"2026-02-{day:02}", 50),
                earned("low", str(day), f"2026-02-{day:02}", 3),
            )
    assert await service.counts() == (40, 0, 0)
    assert await service.violations() == []


@pytest.mark.parametrize(
    ("field", "entry"),
    [
        ("data.entry_id", earned("c", "1", "2026-03-10", 1, entry_id="17")),
        ("data.base", earned("c", "1", "2026-03-10", -1)),
        ("data.net_spend", earned("c", "1", "2026-03-10", 1, net_spend="much")),
        ("data.net_spend", earned("c", "1", "2026-03-10", 1, net_spend="NaN")),
        ("data.net_spend", earned("c", "1", "2026-03-10", 1, net_spend="-0.01")),
        ("data.net_spend", earned("c", "1", "2026-03-10", 1, net_spend="1E+400")),
        ("data.net_spend", earned("c", "1", "2026-03-10", 1, net_spend="1E-400")),
        ("data.occurred_at", earned("c", "1", "0001-01-01", 1)),
        ("data.occurred_at", earned("c", "1", "9999-12-31", 1)),
        ("data", earned("c\0", "1", "2026-03-10", 1)),
        ("data", earned("", "1", "2026-03-10", 1)),
    ],
)
async def test_what_can_never_be_applied_is_buried(
    service: Tiers, field: str, entry: PointsEarned
) -> None:
    await service.hears(earned("c", "0", "2026-03-10", 1), entry, earned("d", "1", "2026-03-10", 1))
    assert await service.counts() == (2, 0, 1)
    assert await service.pool.fetchval("SELECT field FROM dead_letters") == field


async def test_time_lets_levels_end_once(service: Tiers) -> None:
    await service.hears(
        *(earned(f"c{n}", "1", "2026-03-10", 2000) for n in range(5)),
        earned("keen", "1", "2026-03-10", 2000),
        earned("keen", "2", "2026-12-10", 2000),
    )
    await service.time_passes("2027-03-11T00:00")
    kinds = [(told.customer_id, told.move.kind) for told in await service.told()][12:]
    assert kinds == [("keen", "retained")]
    await service.time_passes("2027-04-10")
    await service.time_passes("2027-04-10")
    told = (await service.told())[13:]
    assert sorted(t.customer_id for t in told) == ["c0", "c1", "c2", "c3", "c4"]
    assert {(t.move.kind, t.move.tier, t.move.since) for t in told} == {
        ("downgraded", "silver", at("2027-04-09T23:00"))
    }
    await service.time_passes("2028-12-01")
    assert {t.move.tier for t in (await service.told())[18:]} >= {"bronze"}
    assert await service.violations() == []


async def test_customers_being_loaded_are_left_to_their_next_entries(service: Tiers) -> None:
    await service.hears(earned("c", "1", "2020-03-10", 500))
    await service.time_passes("2026-11-22T09:00:10", settle=timedelta(seconds=30))
    assert len(await service.told()) == 1
    await service.time_passes("2026-11-22T09:00:30", settle=timedelta(seconds=30))
    assert [told.move.kind for told in await service.told()] == ["upgraded", "downgraded"]


async def test_an_entry_after_the_deadline_brings_the_judgement(service: Tiers) -> None:
    await service.hears(earned("c", "1", "2024-03-10", 500))
    await service.hears(earned("c", "2", "2025-06-10", 10))
    assert [told.move.kind for told in await service.told()] == ["upgraded", "downgraded"]
    assert await service.violations() == []


async def test_other_rules_walk_everybody_anew(service: Tiers) -> None:
    await service.hears(earned("c", "1", "2026-03-10", 400), earned("d", "1", "2026-03-10", 600))
    service.program = program_of(silver="400")
    await service.time_passes("2026-11-22T09:00")
    assert [(told.customer_id, told.revision) for told in await service.told()] == [
        ("d", 1),
        ("c", 1),
    ]
    service.program = program_of(silver="700")
    await service.hears(earned("c", "2", "2026-03-11", 1))
    await service.time_passes("2026-11-22T09:00")
    last = (await service.told())[-2:]
    assert [(t.move.kind, t.move.tier, t.timeline) for t in last] == [
        ("downgraded", "bronze", [])
    ] * 2
    assert await service.violations() == []


async def test_spend_and_purchases_count_too(tiers_db: str) -> None:
    pool = await pools.create(tiers_db, name="test", size=2)
    service = Tiers(pool, program_of("spend", silver="10.05"))
    await service.hears(
        earned("c", "1", "2026-03-10", 0, net_spend="10.04"),
        earned("c", "2", "2026-03-11", 0, net_spend="0.01"),
    )
    assert [told.move.since for told in await service.told()] == [at("2026-03-11")]
    service.program = program_of("purchases", silver="3")
    await service.hears(earned("c", "3", "2026-03-12", 0), earned("c", "4", "2026-03-13", 0))
    told = await service.told()
    assert [t.move.since for t in told] == [at("2026-03-11"), at("2026-03-12")]
    assert await service.violations() == []
    await pool.close()


async def test_a_program_without_tiers_keeps_what_counts(tiers_db: str) -> None:
    pool = await pools.create(tiers_db, name="test", size=2)
    service = Tiers(pool, parse(RULES[: RULES.index("tiers:")]))
    await service.hears(earned("c", "1", "2026-03-10", 5000))
    assert await service.told() == []
    service.program = program_of()
    await service.time_passes("2026-11-22")
    assert [told.move.tier for told in await service.told()] == ["silver", "gold"]
    assert await service.violations() == []
    await pool.close()


async def test_the_ledger_only_grows(service: Tiers, tiers_db: str) -> None:
    await service.hears(earned("c", "1", "2026-03-10", 500))
    for statement in ("UPDATE qualifying SET base = 1", "DELETE FROM changes", "TRUNCATE changes"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await service.pool.execute(statement)
        owner = await asyncpg.connect(owner_of(tiers_db))
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await owner.execute(statement)
        await owner.close()


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        ("UPDATE accounts SET timeline = '[]'", "timelines-recompute"),
        ("UPDATE accounts SET room = null, due_at = null", "timelines-recompute"),
        ("UPDATE accounts SET revision = 7", "revisions-are-told"),
        ("UPDATE accounts SET level = 'gold'", "moves-have-a-history"),
        ("UPDATE accounts SET computed_until = '2026-01-01'", "entries-are-walked"),
        ("UPDATE offsets SET applied = 0", "applied-entries-are-kept"),
    ],
)
async def test_damage_is_found(service: Tiers, damage: str, name: str) -> None:
    await service.hears(earned("c", "1", "2026-03-10", 500))
    assert await service.violations() == []
    await service.pool.execute(damage)
    assert name in await service.violations()


async def test_tier_over_http(service: Tiers, client: httpx2.AsyncClient) -> None:
    await service.hears(
        earned("a/b c", "1", "2026-03-10T12:00", 450), earned("a/b c", "2", "2026-05-10T12:00", 150)
    )
    found = await get(client, "customers/a/b c/tier")
    assert found == {
        "customer_id": "a/b c",
        "tier": {"id": "silver", "name": "Silber", "multiplier": "1.25"},
        "since": "2026-05-10T12:00:00Z",
        "valid_until": "2027-05-10T23:00:00Z",
        "qualifying": {
            "amount": 600,
            "basis": "points",
            "window_from": "2025-11-22T09:00:00Z",
            "window_until": "2026-11-22T09:00:00Z",
        },
        "next_tier": {"id": "gold", "name": "Gold", "missing": 1400},
        "grace_until": None,
        "as_of": "2026-11-22T09:00:00Z",
    }
    before = await get(client, "customers/a/b c/tier", at="2026-05-10T11:59:59Z")
    assert (before["tier"]["id"], before["since"]) == ("bronze", "2026-03-10T12:00:00Z")
    assert (before["qualifying"]["amount"], before["next_tier"]["missing"]) == (450, 50)
    nothing = await get(client, "customers/a/b c/tier", at="2026-01-01T00:00:00Z")
    assert (nothing["tier"]["id"], nothing["since"], nothing["valid_until"]) == (
        "bronze",
        None,
        None,
    )
    # No job has run, and none need have: what time decided counts when it is asked for.
    grace = await get(client, "customers/a/b c/tier", at="2027-05-11T00:00:00Z")
    assert (grace["tier"]["id"], grace["grace_until"]) == ("silver", "2027-06-09T23:00:00Z")
    later = await get(client, "customers/a/b c/tier", at="2027-06-10T00:00:00Z")
    assert (later["tier"]["id"], later["since"]) == ("bronze", "2027-06-09T23:00:00Z")


async def test_top_tier_over_http(service: Tiers, client: httpx2.AsyncClient) -> None:
    await service.hears(earned("c", "1", "2026-03-10", 2000))
    found = await get(client, "customers/c/tier")
    assert (found["tier"]["id"], found["next_tier"]) == ("gold", None)


async def test_a_purchase_dated_ahead_shows_at_once(
    service: Tiers, client: httpx2.AsyncClient
) -> None:
    await service.hears(earned("c", "1", "2026-11-22T10:00", 500))
    assert (await get(client, "customers/c/tier"))["tier"]["id"] == "silver"
    assert (await get(client, "customers/c/tier", at="2026-11-22T09:00:00Z"))["tier"][
        "id"
    ] == "bronze"


async def test_history_over_http(service: Tiers, client: httpx2.AsyncClient) -> None:
    first, second = earned("c", "1", "2024-03-10", 2000), earned("c", "2", "2025-12-10", 2000)
    await service.hears(first, second)
    found = await get(client, "customers/c/tier/history")
    assert [(m["kind"], m["tier"]["id"], m["reach"]) for m in found["data"]] == [
        ("upgraded", "gold", 2),
        ("downgraded", "silver", None),
        ("upgraded", "gold", 1),
        ("upgraded", "silver", 1),
    ]
    assert found["data"][0]["cause"] == {
        "type": "purchase",
        "id": second.entry_id,
        "shop": "online-retail",
        "order_id": "2",
        "refund_id": None,
    }
    nothing = dict.fromkeys(("id", "shop", "order_id", "refund_id"))
    assert found["data"][1]["cause"] == {"type": "time"} | nothing
    assert {m["recorded_at"] for m in found["data"]} == {"2026-11-22T09:00:00Z"}
    pages, cursor = [], None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = await get(client, "customers/c/tier/history", **params)
        pages += page["data"]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    assert pages == found["data"]
    assert cursor is None


async def test_record_over_http(service: Tiers, client: httpx2.AsyncClient) -> None:
    await service.hears(earned("c", "1", "2026-03-10", 300), earned("c", "2", "2026-05-10", 300))
    await service.hears(earned("c", "3", "2026-01-10", 200))
    page = await get(client, "customers/c/tier/changes", limit=1)
    assert page["data"][0]["since"] == "2026-03-10T00:00:00Z"
    assert page["data"][0]["replaced"]["since"] == "2026-05-10T00:00:00Z"
    rest = await get(client, "customers/c/tier/changes", cursor=page["next_cursor"])
    assert [(c["revision"], c["replaced"], c["cause"]["order_id"]) for c in rest["data"]] == [
        (1, None, "2")
    ]
    history = await get(client, "customers/c/tier/history")
    assert [(m["since"], m["revision"]) for m in history["data"]] == [("2026-03-10T00:00:00Z", 2)]
    assert not rest["has_more"]


async def test_levels_over_http(client: httpx2.AsyncClient) -> None:
    found = await get(client, "tiers")
    assert found["data"][1] == {
        "id": "silver",
        "name": "Silber",
        "threshold": 500,
        "multiplier": "1.25",
        "on_reach": ["ten"],
    }
    assert (found["basis"], found["window"]) == ("points", {"kind": "rolling", "length": "P12M"})
    assert (found["downgrade"], found["grace"], found["has_more"]) == ("one_level", "P30D", False)


@pytest.mark.parametrize("path", ["tier", "tier/history", "tier/changes"])
async def test_unknown_customers_and_keys(client: httpx2.AsyncClient, path: str) -> None:
    address = f"/v1/customers/nobody/{path}"
    answer = await client.get(address, headers=ALL)
    assert (answer.status_code, answer.json()["code"]) == (404, "customer-not-found")
    assert (await client.get(address)).status_code == 401
    assert (await client.get(address, headers=POINTS_ONLY)).status_code == 403


@pytest.mark.parametrize("when", ["2026", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_instants_out_of_reach(service: Tiers, client: httpx2.AsyncClient, when: str) -> None:
    await service.hears(earned("c", "1", "2026-03-10", 1))
    answer = await client.get("/v1/customers/c/tier", params={"at": when}, headers=ALL)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "at")


async def test_hot_queries_use_their_indexes(service: Tiers) -> None:
    async with service.pool.acquire() as conn:
        await conn.execute("SET enable_seqscan = off")
        due = await conn.fetch(
            "EXPLAIN SELECT account_id FROM accounts WHERE due_at <= now() ORDER BY due_at LIMIT 5"
        )
        entries = await conn.fetch(
            "EXPLAIN SELECT entry_id FROM qualifying WHERE account_id = ANY('{1,2}')"
        )
    assert "accounts_due" in str(due)
    assert "qualifying_account" in str(entries)
