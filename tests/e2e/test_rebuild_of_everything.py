"""A small world in which everything happens that a ledger knows; built anew from Kafka, and from an export."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import asyncpg
import pytest

from shared.cli.digest import take
from shared.contracts import rewards
from shared.program import load
from shared.stack import credentials, processes, servers
from shared.stack.layout import SERVICES, Layout, Ports
from tests.fixtures.events import (
    activity,
    cancelled,
    card,
    enrolment,
    event,
    line,
    merge,
    purchase,
    refunded,
)
from tests.fixtures.live import LiveStack, live_stack

pytestmark = [pytest.mark.stack, pytest.mark.servers, pytest.mark.timeout(400)]

PROGRAM = """
program: everything
name: Everything
currency: GBP
timezone: Europe/London
guests: {claim_within: P90D}
earning:
  base: {points: 1, per: "1.00"}
  expiry: {after: P6M, round_up: month_end}
  refunds: clamp_to_zero
  campaigns:
    - {id: pot, from: 2026-01-01, until: 2026-12-31, bonus: 7, cap: {total: 300}}
    - {id: double, from: 2026-02-01, until: 2026-09-30, multiplier: "2", cap: {per_customer: 150}}
    - {id: first, from: 2026-01-01, until: 2026-12-31, bonus: 25, when: {first_purchase: true}}
  activities:
    - {activity: review, points: 10, limit: {times: 2, per: P30D}}
    - {activity: referral, points: 50, referrer: 100}
corrections: {limit: 200}
transfers: true
grace_on_restore: P30D
tiers:
  basis: points
  window: {kind: rolling, length: P3M}
  downgrade: one_level
  levels:
    - {id: bronze, name: Bronze, threshold: 0, multiplier: "1"}
    - {id: silver, name: Silber, threshold: 300, multiplier: "1.25", on_reach: [welcome]}
    - {id: gold, name: Gold, threshold: 900, multiplier: "1.5", on_reach: [welcome]}
vouchers:
  welcome: {kind: percent, percent: "10", valid_for: P90D}
"""
# From June on a pound is worth two points, and they last longer; before, it was not.
LATER = PROGRAM.replace("{points: 1,", "{points: 2,").replace("after: P6M", "after: P9M")
SINCE = "20260601T000000Z"
CUSTOMERS = [f"c{number}" for number in range(10)]
# What the ledger is told of besides: with accounts by their customers, without what a clock or a sequence gave.
KEPT = {
    "holds": "to_jsonb(t) - 'account_id' || jsonb_build_object('customer', a.customer_id)",
    "corrections": "to_jsonb(t) - 'account_id' || jsonb_build_object('customer', a.customer_id)",
    "activities": "to_jsonb(t) - '{account_id,referrer_id,recorded_at}'::text[]",
    "enrolments": "to_jsonb(t) - '{account_id,recorded_at}'::text[]",
    "claims": "to_jsonb(t) - 'account_id' || jsonb_build_object('customer', a.customer_id)",
    # Who did it over HTTP is in no event.
    "card_changes": "to_jsonb(t) - '{account_id,recorded_at,actor}'::text[]",
    "merges": "to_jsonb(t) - '{account_id,into_id,recorded_at,actor}'::text[]",
}
PLAIN = {
    "campaign_draws": "SELECT campaign, entry_id, lot_id, points FROM campaign_draws",
    "campaign_budgets": "SELECT campaign, drawn FROM campaign_budgets",
    # A purchase with a blocked card was credited and taken back, or never credited: that is a matter of order.
    "versions": (
        "SELECT order_id, explanation::jsonb ->> 'v' AS version FROM entries"
        " WHERE kind = 'earned' AND lot_id = entry_id"
        " AND NOT EXISTS (SELECT FROM card_purchases c WHERE c.purchase_id = entry_id)"
    ),
    "facts": (
        "SELECT customer_id, entry_id, kind, points, lot_id, occurred_at, actor, reason FROM entries"
        " JOIN accounts USING (account_id)"
        " WHERE kind IN ('captured', 'restored', 'adjusted', 'reversed', 'transferred', 'written_off')"
        " AND coalesce(reason, '') NOT IN ('merged_out', 'merged_in')"
    ),
}


class World:
    """The stack, and how shops, tills and the desk talk to it."""

    def __init__(self, stack: LiveStack) -> None:
        self.stack = stack

    def tell(self, *events: dict[str, Any]) -> None:
        """Publish these, in any order, and wait until nothing moves any more."""
        lines = [json.dumps(one).encode() for one in events]
        random.Random(len(lines)).shuffle(lines)
        self.stack.publish(lines)
        self.stack.drain()

    def post(self, path: str, body: dict[str, Any], key: str = "api_key") -> dict[str, Any]:
        """A command over HTTP."""
        return self._ask(path, json.dumps(body).encode(), key)

    def available(self, customer: str) -> int:
        """What a customer could spend now."""
        return int(self._ask(f"/v1/customers/{customer}/balance")["available"])

    def _ask(self, path: str, body: bytes | None = None, key: str = "api_key") -> dict[str, Any]:
        content = self.stack.json()
        headers = {
            "Authorization": f"Bearer {content[key]}",
            "Content-Type": "application/json",
            "Idempotency-Key": str(uuid.uuid4()),
        }
        request = Request(content["points_url"] + path, body, headers)  # noqa: S310 - our own http
        try:
            with urlopen(request, timeout=20) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
        except HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from None
        return found

    def rows(self, database: str) -> dict[str, list[str]]:
        """All that the ledger keeps besides sums, as text that is equal for equal facts."""
        dsn = credentials.ensure(self.stack.layout).dsn(
            "postgres", Ports(self.stack.base).postgres, database
        )
        return asyncio.run(kept(dsn))


async def kept(dsn: str) -> dict[str, list[str]]:
    conn = await asyncpg.connect(dsn)
    try:
        queries = {
            name: f"SELECT ({row})::text AS row FROM {name} t JOIN accounts a USING (account_id)"
            for name, row in KEPT.items()
        }
        queries |= {
            name: f"SELECT to_jsonb(t)::text AS row FROM ({query}) t"
            for name, query in PLAIN.items()
        }
        return {
            name: sorted(row["row"] for row in await conn.fetch(query))
            for name, query in queries.items()
        }
    finally:
        await conn.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("everything")
    program, later = folder / "program.yaml", folder / "later.yaml"
    program.write_text(PROGRAM)
    later.write_text(LATER)
    # A version can only be applied ahead of its time: this one was, half a year ago.
    layout = Layout(folder / "stack")
    layout.versions.mkdir(parents=True)
    (layout.versions / f"{SINCE}-{load(later).version}.yaml").write_text(LATER)
    with live_stack(layout.dir, "--program", str(program)) as stack:
        yield World(stack)


def bought() -> list[dict[str, Any]]:
    """Purchases of ten months, a few of each customer's in a month."""
    chance = random.Random(46)
    return [
        event(
            purchase(
                f"o{number}",
                CUSTOMERS[number % 10],
                f"2026-{1 + number % 10:02}-{1 + chance.randrange(28):02}T10:00:00Z",
                lines=[
                    line(1, f"{chance.randint(5, 60)}.99", "2"),
                    line(2, f"{chance.randint(5, 40)}.50"),
                ],
            )
        )
        for number in range(200)
    ]


def test_everything_happens(world: World) -> None:
    guests = [
        event(purchase(f"guest{n}", None, f"2026-0{4 + n}-10T10:00:00Z", "80.00")) for n in range(3)
    ]
    carded = [
        event(purchase(f"card{n}", None, f"2026-0{5 + n}-20T10:00:00Z", "70.00", card_number="K1"))
        for n in range(4)
    ]
    world.tell(
        *bought(),
        *bought()[:20],
        *guests,
        *carded,
        enrolment("c1", "2026-05-01T10:00:00Z", [("online-retail", "guest0")]),
        enrolment("new", "2026-06-20T10:00:00Z", [("online-retail", "guest1")]),
        card("issued", "K1", "c2", "2026-01-01T10:00:00Z"),
        *(activity(at=f"2026-05-0{n}T10:00:00Z", reference=f"r{n}") for n in range(1, 5)),
        activity("referral", "c9", "2026-01-01T08:00:00Z", "ref", referred_by="c3"),
        activity("referral", "friend", "2026-09-01T08:00:00Z", "ref2", referred_by="c4"),
        refunded("early", "late-order", "c5", "2026-09-03T10:00:00Z", [("1", "1")]),
        refunded("nowhere", None, "c6", "2026-10-29T10:00:00Z", [("sku-2", "2")]),
        refunded("guests", "guest2", None, "2026-07-03T10:00:00Z", [("1", "1")]),
        cancelled("o31", "2026-10-29T12:00:00Z"),
        event(purchase("o-alone", "alone", "2026-09-20T10:00:00Z", "15.00")),
        event(purchase("wrong", "c1", amount="-"), "wrong"),
        merge("c7", "c8", "2026-08-01T10:00:00Z"),
    )
    # At the desk and at the tills.
    for number, customer in enumerate(CUSTOMERS[:7]):
        world.post(
            f"/v1/customers/{customer}/adjustments",
            {"points": 40 + number, "reason_code": "goodwill", "reason": "late delivery"},
        )
    taken = world.post(
        "/v1/customers/c0/adjustments",
        {"points": -15, "reason_code": "mistake", "reason": "counted twice"},
    )
    world.post(f"/v1/entries/{taken['entries'][0]['id']}/reversal", {"reason": "was right"})
    asked = [
        world.post(
            f"/v1/customers/{customer}/adjustments",
            {"points": 500, "reason_code": "goodwill", "reason": "wedding"},
        )["id"]
        for customer in ("c0", "c1", "c2")
    ]
    world.post(f"/v1/adjustments/{asked[0]}/approve", {}, "second_key")
    world.post(f"/v1/adjustments/{asked[1]}/decline", {"note": "no"}, "second_key")
    credit = world.post(
        "/v1/customers/c3/adjustments",
        {"points": 90, "reason_code": "goodwill", "reason": "extended soon"},
    )
    world.post(
        f"/v1/lots/{credit['entries'][0]['lot_id']}/extension",
        {"expires_at": "2029-01-01T00:00:00Z", "reason": "was in hospital"},
    )
    for number, customer in enumerate(["c0", "c1", "c2", "c3", "c7", "c8"]):
        hold = world.post("/v1/holds", {"customer_id": customer, "points": 60})
        if number % 3 == 0:
            world.post(f"/v1/holds/{hold['id']}/capture", {"points": 50})
            world.post(f"/v1/holds/{hold['id']}/restore", {"points": 20})
        elif number % 3 == 1:
            world.post(f"/v1/holds/{hold['id']}/release", {})
    world.post("/v1/captures", {"customer_id": "c4", "points": 70, "order_id": "o104"})
    world.post("/v1/transfers", {"from_customer_id": "c2", "to_customer_id": "c3", "points": 30})
    world.post("/v1/transfers", {"from_customer_id": "c4", "to_customer_id": "alone", "points": 10})
    world.post("/v1/customers/c5/cards", {"card_number": "K5"})
    # All is spent: whatever comes back now is owed, and written off.
    for customer in ("c5", "c6", "c9"):
        left = world.available(customer)
        world.post("/v1/captures", {"customer_id": customer, "points": left})


def test_and_then_more_that_concerns_it(world: World) -> None:
    told_late = event(purchase("late-order", "c5", "2026-05-20T10:00:00Z", "90.00"))
    redemption = {
        "redemption_id": str(uuid.uuid4()),
        "customer_id": "c0",
        "reward": "mug",
        "points": 25,
        "requested_at": "2026-11-01T10:00:00Z",
    }
    done = {name: redemption[name] for name in ("redemption_id", "customer_id", "reward", "points")}
    done["occurred_at"] = "2026-11-01T11:00:00Z"
    world.tell(
        told_late,
        event(redemption, "redeem", rewards.REDEMPTION_REQUESTED, "/services/rewards"),
        *(
            refunded(f"spent{n}", f"o{n}", CUSTOMERS[n % 10], "2026-11-02T10:00:00Z", [("1", "2")])
            for n in (145, 155, 159, 196, 199, 195)
        ),
        refunded("money", "o148", "c8", "2026-11-03T10:00:00Z", amount="12.34"),
        cancelled("o104", "2026-11-04T12:00:00Z"),
        card("blocked", "K1", "c2", "2026-07-01T00:00:00Z"),
        event(purchase("friends", "friend", "2026-09-10T10:00:00Z", "120.00")),
        event(purchase("o-c7", "c7", "2026-10-10T10:00:00Z", "200.00")),
        merge("c1", "c0", "2026-10-01T10:00:00Z"),
    )
    world.tell(event(done, "redeemed", rewards.REDEMPTION_COMPLETED, "/services/rewards"))
    world.post("/v1/captures", {"customer_id": "c1", "points": 33, "order_id": "after-merge"})
    world.post("/v1/captures", {"customer_id": "c7", "points": 11})
    world.post(
        "/v1/customers/c7/adjustments", {"points": 5, "reason_code": "x", "reason": "as merged"}
    )
    world.post("/v1/customers/alone/merge", {"into": "c4", "reason": "the same person"})
    world.tell(
        refunded("after", "o140", "c0", "2026-11-05T10:00:00Z", [("1", "1")]),
        refunded("merged", "o141", "c1", "2026-11-05T10:00:00Z", [("1", "2")]),
        cancelled("after-merge", "2026-11-06T12:00:00Z", "c1"),
    )
    world.stack.run("dead-letters", "discard", "--all", "--reason", "a test")
    world.stack.verify()
    found = world.rows("points")
    empty = {name for name, rows in found.items() if not rows}
    assert empty == set()
    kinds = {json.loads(row)["kind"] for row in found["facts"]}
    assert kinds == {
        *("captured", "restored", "adjusted", "reversed", "transferred", "written_off")
    }
    assert {json.loads(row)["state"] for row in found["holds"]} >= {"held", "captured", "released"}
    states = {json.loads(row)["state"] for row in found["corrections"]}
    assert states == {"pending", "approved", "declined"}
    versions = {row["order_id"]: row["version"] for row in map(json.loads, found["versions"])}
    assert len(set(versions.values())) == 2
    assert versions["late-order"] != versions["friends"]
    # The pot was not enough for all.
    assert json.loads(found["campaign_budgets"][0])["drawn"] == 300


def differing(one: dict[str, list[str]], other: dict[str, list[str]]) -> dict[str, Any]:
    """What is on one side only, by table."""
    return {
        name: (sorted(set(rows) - set(other[name])), sorted(set(other[name]) - set(rows)))
        for name, rows in one.items()
        if rows != other[name]
    }


def test_all_of_it_is_built_anew_from_kafka(world: World) -> None:
    report = json.loads(world.stack.run("rebuild", "--json", "--keep"))
    assert report["equal"], report
    assert report["facts"] > 40
    for part in ("holds", "corrections", "draws"):
        assert report["parts"][part]["customers"] > 2, part
    found = differing(world.rows("points"), world.rows("points_rebuilt"))
    assert not found, json.dumps(found, indent=1)


def test_and_from_an_export_where_nothing_else_is_left(world: World, tmp_path: Path) -> None:
    file, folder = tmp_path / "all.jsonl.gz", tmp_path / "other"
    world.stack.run("export", str(file))
    world.stack.run(
        *("rebuild", "--json", "--dir", str(tmp_path / "nowhere")),
        *("--from-export", str(file), "--into", str(folder)),
    )

    async def look() -> tuple[Any, dict[str, list[str]]]:
        layout = Layout(folder)
        secrets = credentials.ensure(layout)
        (port,) = processes.free_ports(1)
        cluster = servers.cluster_of(layout, secrets, port)
        server = servers.Server(cluster.spec(), layout.dir)
        server.start()
        try:
            dsns = {service: secrets.dsn(service, port) for service in SERVICES}
            return await take(dsns), await kept(dsns["points"])
        finally:
            server.stop()

    digest, rows = asyncio.run(look())
    found = differing(world.rows("points"), rows)
    assert not found, json.dumps(found, indent=1)
    # The codes of vouchers need the stack's secret, their ids and dates do not.
    assert digest == world.stack.digest()
