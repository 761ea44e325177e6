"""Activities through the runner into a real database: once each, within limits, in any order."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from services.points import intake
from shared import program as programs
from shared.contracts import activities
from shared.program import Program
from tests.fixtures.events import activity, event, purchase, record
from tests.fixtures.points import balances, violations
from tests.fixtures.streams import counts, running

pytestmark = pytest.mark.servers

RULES = """
program: test
name: Test
currency: GBP
timezone: Europe/London
earning:
  base: {points: 1, per: "1.00"}
  available_after: P14D
  expiry: {after: P12M, round_up: month_end}
  activities:
    - {activity: review, points: 50, limit: {times: 1, per: P1D}}
    - {activity: survey, points: 20, limit: {times: 2}}
    - {activity: newsletter, points: 10}
    - {activity: referral, points: 100, referrer: 200, limit: {times: 2, per: P1Y}}
"""


@pytest.fixture(scope="module")
def rules() -> Program:
    return programs.parse(RULES)


async def feed(runner: Any, told: list[dict[str, Any]], start: int = 0) -> None:
    batch = []
    for offset, one in enumerate(told, start):
        mine = one["type"].startswith(("treue.activity", "treue.customer"))
        batch.append(record(one, offset, activities.TOPIC) if mine else record(one, offset))
    assert await runner.process(batch)


async def test_an_activity_is_a_lot_of_its_own_with_the_program_s_dates(
    points_db: str, rules: Program
) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        await feed(runner, [activity("newsletter", at="2026-05-01T10:00:00Z", reference="n1")])
        entry = await pool.fetchrow("SELECT * FROM entries")
        assert entry is not None
        assert (entry["kind"], entry["points"], entry["base"], entry["bonus"]) == (
            "activity",
            10,
            10,
            0,
        )
        assert (entry["shop"], entry["order_id"], entry["lot_id"]) == (
            None,
            None,
            entry["entry_id"],
        )
        assert entry["available_at"].isoformat() == "2026-05-15T10:00:00+00:00"
        assert entry["expires_at"].isoformat() == "2027-05-31T23:00:00+00:00"
        sent = await pool.fetchrow("SELECT payloads FROM outbox")
        assert sent is not None
        told = msgspec.json.decode(sent["payloads"][0])
        assert told["type"] == "treue.points.earned.v1"
        assert (told["data"]["base"], told["data"]["order_id"], told["data"]["net_spend"]) == (
            10,
            "",
            "0",
        )
        assert await violations(pool, rules) == []


async def test_once_per_activity_and_reference(points_db: str, rules: Program) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        first = activity("newsletter", reference="n1")
        again = first | {"id": "another id"}
        other = activity("newsletter", "c2", reference="n1") | {"id": "third"}
        await feed(runner, [first, first, again, other])
        assert await counts(pool) == {"applied": 1, "duplicates": 2, "refused": 0, "poison": 1}
        letter = await pool.fetchrow("SELECT field, reason FROM dead_letters")
        assert letter is not None
        assert letter["field"] == "data.reference"
        assert "other content" in letter["reason"]
        assert await balances(pool) == {"c1": 10}


async def test_an_activity_that_the_program_does_not_know_is_refused_and_recorded(
    points_db: str, rules: Program
) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        await feed(runner, [activity("dancing")])
        assert await counts(pool) == {"applied": 0, "duplicates": 0, "refused": 1, "poison": 0}
        assert await pool.fetchval("SELECT verdict FROM activities") == "unknown-activity"
        assert await pool.fetchval("SELECT count(*) FROM entries") == 0


async def test_beyond_the_limit_it_is_written_down_with_0_points(
    points_db: str, rules: Program
) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        times = ("08:00", "09:00", "10:00")
        told = [activity(at=f"2026-05-01T{t}:00Z", reference=f"r{n}") for n, t in enumerate(times)]
        await feed(runner, told)
        rows = await pool.fetch("SELECT points, explanation FROM entries ORDER BY occurred_at")
        assert [row["points"] for row in rows] == [50, 0, 0]
        assert '"activity_limit"' in rows[1]["explanation"]
        assert await violations(pool, rules) == []


async def test_a_late_activity_decides_anew_by_correcting_entries(
    points_db: str, rules: Program
) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        await feed(runner, [activity(at="2026-05-01T10:00:00Z", reference="late")])
        await feed(runner, [activity(at="2026-05-01T08:00:00Z", reference="early")], 1)
        rows = await pool.fetch("SELECT points, base FROM entries ORDER BY seq")
        assert [tuple(row) for row in rows] == [(50, 50), (50, 50), (-50, -50)] or [
            tuple(row) for row in rows
        ] == [(50, 50), (-50, -50), (50, 50)]
        assert await balances(pool) == {"c1": 50}
        payloads = [
            msgspec.json.decode(payload)
            for row in await pool.fetch("SELECT payloads FROM outbox ORDER BY id")
            for payload in row["payloads"]
        ]
        adjusted = [one["data"] for one in payloads if one["type"].endswith("adjusted.v1")]
        assert [one["standing"]["base"] for one in adjusted] == [0]
        assert await violations(pool, rules) == []


async def test_a_referral_pays_both_sides_after_the_friend_s_first_purchase(
    points_db: str, rules: Program
) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        await feed(runner, [activity("referral", "ben", reference="ben", referred_by="ada")])
        assert await balances(pool) == {}
        await feed(runner, [event(purchase("o1", "ben", "2026-05-03T10:00:00Z", "30.00"))], 0)
        assert await balances(pool) == {"ada": 200, "ben": 130}
        dates = await pool.fetch("SELECT occurred_at FROM entries WHERE kind = 'activity'")
        assert {row[0].isoformat() for row in dates} == {"2026-05-03T10:00:00+00:00"}
        # An earlier purchase becomes known: the same points, but from that day on.
        await feed(runner, [event(purchase("o0", "ben", "2026-05-02T10:00:00Z", "5.00"))], 1)
        assert await balances(pool) == {"ada": 200, "ben": 135}
        # One before the referral: ben needed nobody to bring him.
        await feed(runner, [event(purchase("o9", "ben", "2026-04-02T10:00:00Z", "5.00"))], 2)
        assert await balances(pool) == {"ben": 40}
        assert await violations(pool, rules) == []


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "data.data.referred_by"),
        ({"referred_by": 7}, "data.data.referred_by"),
        ({"referred_by": ""}, "data.data.referred_by"),
    ],
)
async def test_a_referral_names_who_brought_whom(
    points_db: str, rules: Program, data: dict[str, Any], field: str
) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        await feed(runner, [activity("referral", "ben", **data)])
        assert await pool.fetchval("SELECT field FROM dead_letters") == field


async def test_nobody_brings_themselves(points_db: str, rules: Program) -> None:
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        await feed(runner, [activity("referral", "ada", referred_by="ada")])
        await feed(runner, [event(purchase("o1", "ada"))])
        assert (await counts(pool))["refused"] == 1
        assert await balances(pool) == {"ada": 10}


def story() -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for number in range(12):
        at = f"2026-05-{1 + number // 3:02}T{8 + number % 3:02}:00:00Z"
        told.append(activity("review", ("ada", "ben")[number % 2], at, f"r{number}"))
        told.append(activity("survey", ("ada", "ben")[number % 2], at, f"s{number}"))
    for number, friend in enumerate(("cleo", "dan", "eve")):
        told.append(activity("referral", friend, "2026-05-02T08:00:00Z", friend, referred_by="ada"))
        told.append(
            event(purchase(f"f{number}", friend, f"2026-05-{9 - number:02}T08:00:00Z", "7.00"))
        )
    told.append(activity("referral", "dan", "2026-05-01T08:00:00Z", "dan-2", referred_by="ben"))
    told.append(event(purchase("early", "eve", "2026-05-01T08:00:00Z", "7.00")))
    return told


@pytest.mark.parametrize("seed", range(6))
async def test_limits_and_referrals_end_the_same_in_any_order(
    points_db: str, rules: Program, seed: int
) -> None:
    chance, told = random.Random(seed), story()
    if seed:
        told += chance.sample(told, 10)
        chance.shuffle(told)
    async with running(points_db, intake.routes(rules)) as (runner, pool):
        begin = {"treue.purchases": 0, activities.TOPIC: 0}
        while told:
            count = chance.choice((1, 2, 7))
            batch, told = told[:count], told[count:]
            found = []
            for one in batch:
                topic = activities.TOPIC if "activity" in one["type"] else "treue.purchases"
                found.append(record(one, begin[topic], topic))
                begin[topic] += 1
            assert await runner.process(found)
        # ada: 4 days of reviews, 2 surveys, cleo's purchase (dan came through ben, eve had bought before).
        assert await balances(pool) == {
            "ada": 4 * 50 + 2 * 20 + 200,
            "ben": 4 * 50 + 2 * 20 + 200,
            "cleo": 107,
            "dan": 107,
            "eve": 14,
        }
        assert await violations(pool, rules) == []
        assert await pool.fetchval("SELECT sum(poison)::int FROM offsets") == 0
