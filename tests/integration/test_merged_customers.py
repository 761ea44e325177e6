"""Two customers who are one, in all three services: one level, all vouchers, both ids answer."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from services.rewards import wiring as rewards_wiring
from services.rewards.settings import Settings as RewardsSettings
from services.tiers import wiring as tiers_wiring
from services.tiers.settings import Settings as TiersSettings
from shared import clock
from shared.contracts import points
from shared.contracts.catalogue import CONSUMES
from shared.program import Program, parse
from tests.fixtures.events import event, merge, purchase, refunded
from tests.fixtures.http_probe import ALL, client_of, write_keys
from tests.fixtures.inprocess import NOW, SECRET, System, system
from tests.fixtures.streams import counts

pytestmark = pytest.mark.servers

RULES = """
program: demo
name: Treueprogramm
currency: GBP
timezone: Europe/London
earning: {base: {points: 1, per: "1.00"}}
tiers:
  window: {kind: rolling, length: P12M}
  downgrade: one_level
  levels:
    - {id: bronze, name: Bronze, threshold: 0}
    - {id: silver, name: Silber, threshold: 500, multiplier: "1.25", on_reach: [ten]}
    - {id: gold, name: Gold, threshold: 1500, multiplier: "2", on_reach: [twenty]}
vouchers:
  ten: {kind: percent, percent: "10", valid_for: P900D}
  twenty: {kind: percent, percent: "20", valid_for: P900D}
"""
Told = dict[str, Any]
Get = Callable[..., Any]


@pytest.fixture
def program() -> Program:
    return parse(RULES)


@pytest.fixture
def three(database: Callable[[str], str]) -> dict[str, str]:
    return {service: database(service) for service in CONSUMES}


def bought(order: str, who: str, day: str, pounds: int) -> Told:
    return event(purchase(order, who, f"{day}T10:00:00Z", f"{pounds}.00"))


def back(order: str, who: str, day: str) -> Told:
    return refunded(f"r-{order}", order, who, f"{day}T10:00:00Z", [("1", "1")])


def one_are(who: str, into: str, day: str) -> Told:
    return merge(who, into, f"{day}T10:00:00Z")


async def hears(one: System, *told: Told) -> None:
    """One event after the other, each with all that follows from it."""
    for each in told:
        one.sell([json.dumps(each).encode()])
        await one.settle()


async def rows(dsn: str, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
    conn = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await conn.fetch(query, *arguments)]
    finally:
        await conn.close()


async def vouchers_of(dsns: Mapping[str, str]) -> list[tuple[Any, ...]]:
    return await rows(
        dsns["rewards"],
        "SELECT a.customer_id, v.cause_id, v.state, v.issued_at::date::text FROM vouchers v"
        " JOIN accounts a USING (account_id) WHERE v.state <> 'revoked' ORDER BY 1, 2",
    )


@asynccontextmanager
async def answering(dsns: Mapping[str, str], folder: Path) -> AsyncIterator[Get]:
    """Ask the APIs of tiers and rewards."""
    file, keys, secret = folder / "program.yaml", folder / "keys.json", folder / "secret"
    file.write_text(RULES)
    secret.write_text(SECRET)
    write_keys(keys, [("all", "all-of-it", ["*"])])
    common: dict[str, Any] = {
        "kafka": "127.0.0.1:1",
        "program": file,
        "keys_file": keys,
        "port": 1,
        "worker_port": 2,
    }
    tiers = tiers_wiring.api(TiersSettings(database=dsns["tiers"], **common))
    rewards = rewards_wiring.api(
        RewardsSettings(database=dsns["rewards"], secret_file=secret, **common)
    )
    async with AsyncExitStack() as stack:
        clients = {
            "tiers": await stack.enter_async_context(client_of(tiers)),
            "rewards": await stack.enter_async_context(client_of(rewards)),
        }

        async def get(service: str, who: str, path: str, **params: Any) -> Any:
            client: httpx2.AsyncClient = clients[service]
            found = await client.get(f"/v1/customers/{who}/{path}", params=params, headers=ALL)
            assert found.status_code == 200, found.text
            return found.json()

        yield get


async def test_both_ids_answer_with_one_level_and_all_vouchers(
    program: Program, three: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    async with system(program, three) as one:
        await hears(
            one,
            bought("a1", "ann", "2026-03-01", 600),
            bought("b1", "anna", "2026-04-01", 550),
            one_are("ann", "anna", "2026-06-01"),
            bought("a2", "ann", "2026-07-01", 300),
            bought("b2", "anna", "2026-08-01", 100),
        )
        assert await one.violations() == []
    async with answering(three, tmp_path) as get:
        tier, same = await get("tiers", "ann", "tier"), await get("tiers", "anna", "tier")
        assert (tier.pop("customer_id"), same.pop("customer_id")) == ("ann", "anna")
        assert tier == same
        assert (tier["tier"]["id"], tier["since"]) == ("gold", "2026-08-01T10:00:00Z")
        assert tier["qualifying"]["amount"] == 1550
        # As it was is told of both, too.
        then = await get("tiers", "ann", "tier", at="2026-03-02T00:00:00Z")
        assert then["tier"]["id"] == "silver"
        for path in ("tier/history", "tier/changes"):
            assert await get("tiers", "ann", path) == await get("tiers", "anna", path)
        history = (await get("tiers", "ann", "tier/history"))["data"]
        assert [(m["tier"]["id"], m["cause"]["order_id"]) for m in history] == [
            ("gold", "b2"),
            ("silver", "a1"),
        ]
        held = (await get("rewards", "ann", "vouchers"))["data"]
        assert held == (await get("rewards", "anna", "vouchers"))["data"]
        # Each had silver, both together gold: three vouchers, and a page at a time.
        assert [(v["cause"]["id"], v["issued_at"][:10]) for v in held] == [
            ("gold#1", "2026-08-01"),
            ("silver#1", "2026-04-01"),
            ("silver#1", "2026-03-01"),
        ]
        assert len({v["code"] for v in held}) == 3
        first = await get("rewards", "ann", "vouchers", limit=2)
        rest = await get("rewards", "anna", "vouchers", limit=2, cursor=first["next_cursor"])
        assert first["data"] + rest["data"] == held


async def test_the_bonus_follows_the_one_way(program: Program, three: dict[str, str]) -> None:
    async with system(program, three) as one:
        await hears(
            one,
            bought("a1", "ann", "2026-03-01", 600),
            bought("b1", "anna", "2026-04-01", 100),
            one_are("ann", "anna", "2026-06-01"),
            bought("a2", "ann", "2026-07-01", 100),
        )
        assert await one.violations() == []
    lots = await rows(
        three["points"],
        "SELECT order_id, sum(points)::int FROM entries JOIN accounts USING (account_id)"
        " WHERE customer_id = 'anna' AND kind <> 'unlocked' GROUP BY 1 ORDER BY 1",
    )
    # What anna bought while ann was silver turns out to have been bought by somebody who was silver.
    assert lots == [("a1", 600), ("a2", 125), ("b1", 125)]
    # Ann keeps her voucher, and there is no other for the same.
    assert await vouchers_of(three) == [("ann", "silver#1", "issued", "2026-03-01")]


async def test_a_refund_after_the_merge_counts_once(
    program: Program, three: dict[str, str]
) -> None:
    async with system(program, three) as one:
        await hears(
            one,
            bought("a1", "ann", "2026-03-01", 300),
            bought("b1", "anna", "2026-04-01", 300),
            one_are("ann", "anna", "2026-06-01"),
        )
        assert await vouchers_of(three) == [("anna", "silver#1", "issued", "2026-04-01")]
        await hears(
            one,
            back("a1", "anna", "2026-07-01"),
            bought("a2", "ann", "2026-07-02", 50),
            back("a2", "ann", "2026-07-03"),
        )
        assert await one.violations() == []
    (way,) = await rows(
        three["tiers"], "SELECT timeline::text FROM accounts WHERE customer_id = 'anna'"
    )
    assert [(m["kind"], m["since"][:10]) for m in json.loads(way[0])] == [
        ("upgraded", "2026-04-01"),
        ("downgraded", "2026-07-01"),
    ]


async def test_whoever_was_merged_is_known_before_they_ever_bought(
    program: Program, three: dict[str, str], tmp_path: Path
) -> None:
    async with system(program, three) as one:
        told = one_are("ann", "anna", "2026-06-01")
        await hears(one, told, told, told | {"id": "again"})
        assert await one.violations() == []
        async with answering(three, tmp_path) as get:
            for who in ("ann", "anna"):
                assert (await get("tiers", who, "tier"))["tier"]["id"] == "bronze"
                assert (await get("rewards", who, "vouchers"))["data"] == []
        for name in ("tiers", "rewards"):
            assert await one.pools[name].fetchval("SELECT count(*) FROM merges") == 1


async def test_what_points_refuses_is_nowhere(program: Program, three: dict[str, str]) -> None:
    async with system(program, three) as one:
        await hears(
            one,
            bought("a1", "ann", "2026-03-01", 300),
            bought("b1", "anna", "2026-03-01", 300),
            bought("c1", "cleo", "2026-03-01", 300),
            one_are("ann", "anna", "2026-06-01"),
            one_are("ann", "cleo", "2026-06-01"),
            one_are("anna", "ann", "2026-06-01"),
        )
        assert await one.violations() == []
        for name in ("points", "tiers", "rewards"):
            merged = await one.pools[name].fetch(
                "SELECT a.customer_id, i.customer_id AS into FROM merges"
                " JOIN accounts a USING (account_id) JOIN accounts i ON i.account_id = into_id"
            )
            assert [tuple(row) for row in merged] == [("ann", "anna")]
    assert await vouchers_of(three) == [("anna", "silver#1", "issued", "2026-03-01")]


STORY = (
    bought("a1", "ann", "2026-01-10", 400),
    bought("a2", "ann", "2026-02-10", 300),
    bought("b1", "anna", "2026-02-15", 350),
    one_are("ann", "anna", "2026-03-01"),
    bought("a3", "ann", "2026-03-10", 200),
    back("a1", "anna", "2026-03-20"),
    bought("c1", "anne", "2026-03-25", 520),
    one_are("anna", "anne", "2026-04-01"),
    bought("b2", "anna", "2026-05-10", 450),
    back("b2", "ann", "2026-05-20"),
    bought("c2", "anne", "2026-06-10", 900),
    bought("a4", "ann", "2026-07-10", 100),
)


async def test_what_points_would_not_tell_is_refused(
    program: Program, three: dict[str, str]
) -> None:
    told = [("ann", "anna"), ("ann", "anna"), ("ann", "cleo"), ("anna", "ann"), ("", "ann")]
    async with system(program, three) as one:
        for number, (who, into) in enumerate(told):
            data = {
                "customer_id": who,
                "into": into,
                "occurred_at": "2026-06-01T10:00:00Z",
                "cause": "x",
            }
            line = event(data, f"m{number}", points.MERGED, "/services/points")
            one.publish(points.TOPIC, who.encode(), json.dumps(line).encode())
        # In one batch: what the first of them did is known to the next.
        await one.settle()
        for name in ("tiers", "rewards"):
            assert await counts(one.pools[name]) == {
                "applied": 1,
                "duplicates": 1,
                "refused": 2,
                "poison": 1,
            }
            merged = await one.pools[name].fetch(
                "SELECT customer_id FROM accounts WHERE person_id IS NOT NULL ORDER BY 1"
            )
            assert [row["customer_id"] for row in merged] == ["ann", "anna"]


BALANCES = """
SELECT customer_id, sum(points)::int FROM entries JOIN accounts USING (account_id)
WHERE kind NOT IN ('expired', 'unlocked') GROUP BY 1 HAVING sum(points) <> 0 ORDER BY 1
"""
WAYS = "SELECT customer_id, timeline::text, promotions::text, level FROM accounts ORDER BY 1"
COUNTED = """
SELECT customer_id, entry_id, base FROM qualifying JOIN accounts USING (account_id) ORDER BY 1, 2
"""
VOUCHERS = """
SELECT customer_id, cause_id, definition, state, issued_at, expires_at, code_hash
FROM vouchers JOIN accounts USING (account_id) WHERE state <> 'revoked' ORDER BY 1, 2
"""
STATE = (("points", BALANCES), ("tiers", WAYS), ("tiers", COUNTED), ("rewards", VOUCHERS))


async def end_of(
    program: Program, dsns: Mapping[str, str], told: Iterable[Told], seed: int | None
) -> list[Any]:
    lines = [json.dumps(each).encode() for each in told]
    async with system(program, dsns) as one:
        if seed is None:
            await hears(one, *told)
        else:
            chance = random.Random(seed)
            again = [line for line in lines for _ in range(chance.choice((1, 1, 2)))]
            chance.shuffle(again)
            await one.stir(again, chance)
        await one.settle()
        await one.judge()
        await one.settle()
        assert await one.violations() == []
    return [await rows(dsns[name], query) for name, query in STATE]


@pytest.mark.parametrize("seed", range(6))
def test_in_whatever_order_it_is_told(
    program: Program, database: Callable[[str], str], seed: int
) -> None:
    ends = [
        asyncio.run(end_of(program, {name: database(name) for name in CONSUMES}, STORY, how))
        for how in (None, seed)
    ]
    assert ends[1] == ends[0]
    # Ann alone, anne alone; anna only what ann had; gold by all three, lost with what came back, and won again.
    given = [(who, cause) for who, cause, *_ in ends[0][3]]
    assert given == [
        ("ann", "silver#1"),
        ("anne", "gold#1"),
        ("anne", "gold#2"),
        ("anne", "silver#1"),
    ]
