"""Rewards on real PostgreSQL: what tiers tells, through the runner, to what customers read."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.rewards import intake, invariants, jobs, wiring
from services.rewards.domain.codes import Keyring, normalise
from services.rewards.settings import Settings
from shared import clock
from shared.contracts import points, rewards, tiers
from shared.contracts.envelope import Outgoing
from shared.contracts.tiers import TierMove
from shared.db import pool as pools
from shared.db.types import Pool
from shared.events.health import Health
from shared.events.metrics import StreamMetrics
from shared.events.model import Record
from shared.events.runner import Runner
from shared.invariants import COMMON, check
from shared.program import Program
from tests.fixtures.http_probe import ALL, TIERS_ONLY, client_of, keys_file
from tests.fixtures.servers import owner_of
from tests.unit.rewards.given import KEYRING, SECRET, at, changed, move, program

pytestmark = pytest.mark.servers

NOW = at("2026-11-22T09:00:00")
SILVER = move("silver", "2026-11-01T10:00:00")
GOLD = move("gold", "2026-11-10T12:00:00")
LATE_GOLD = move("gold", "2026-11-08T12:00:00")


class Rewards:
    """The service's worker without its Kafka: records go in, the outbox is what comes out."""

    def __init__(self, pool: Pool, rules: Program, keyring: Keyring = KEYRING) -> None:
        self.pool, self.rules, self.keyring = pool, rules, keyring
        self.now = NOW
        self._offset = 0
        self.partition = 0

    async def hears(self, *events: Outgoing, as_batches_of: int = 1000) -> None:
        """Process events as they come from Kafka."""
        runner = Runner(
            service="rewards",
            routes=intake.routes(self.rules, self.keyring),
            ignored=intake.IGNORED,
            pool=self.pool,
            health=Health(),
            metrics=StreamMetrics(CollectorRegistry()),
            committed=lambda _: None,
            now=lambda: self.now,
        )
        records = [self._record(event) for event in events]
        for start in range(0, len(records), as_batches_of):
            assert await runner.process(records[start : start + as_batches_of])

    async def told(self, customer: str, revision: int, *timeline: TierMove) -> None:
        """Tiers tells of one customer."""
        await self.hears(tier_event(customer, revision, *timeline))

    def _record(self, event: Outgoing) -> Record:
        self._offset += 1
        topic = points.TOPIC if event.type.startswith(points.TOPIC) else tiers.TOPIC
        value = msgspec.json.encode(event)
        return Record(topic, self.partition, self._offset, event.subject.encode(), value, (), 0)

    async def published(self) -> list[dict[str, Any]]:
        """Take what waits in the outbox for treue.rewards, in order."""
        rows = await self.pool.fetch(
            "DELETE FROM outbox WHERE topic = $1 RETURNING id, payloads", rewards.TOPIC
        )
        ordered = sorted(rows, key=lambda row: row["id"])
        return [json.loads(payload) for row in ordered for payload in row["payloads"]]

    async def counted(self) -> tuple[int, int, int]:
        """Applied, duplicates, poison."""
        row = await self.pool.fetchrow(
            "SELECT sum(applied)::int, sum(duplicates)::int, sum(poison)::int FROM offsets"
        )
        assert row is not None
        return (row[0], row[1], row[2])

    async def violations(self) -> list[str]:
        """What `verify` would complain about."""
        async with self.pool.acquire() as conn:
            results = await check(conn, (*COMMON, *invariants.of(self.rules, self.keyring)))
        return [result.name for result in results if result.violations]

    async def state(self) -> set[tuple[Any, ...]]:
        """All vouchers that have a cause, without anything that tells of arrival."""
        rows = await self.pool.fetch(
            "SELECT customer_id, voucher_id, definition, cause_id, state, issued_at, expires_at,"
            " code_hash FROM vouchers JOIN accounts USING (account_id) WHERE state <> 'revoked'"
        )
        return {tuple(row) for row in rows}


def tier_event(customer: str, revision: int, *timeline: TierMove, event_id: str = "") -> Outgoing:
    return Outgoing(
        id=event_id or f"{customer}-{revision}",
        source="/services/tiers",
        type=tiers.UPGRADED,
        subject=customer,
        time=NOW,
        data=changed(customer, revision, *timeline),
    )


def earned_event(customer: str) -> Outgoing:
    data = points.PointsEarned(
        customer_id=customer,
        entry_id="e",
        lot_id="l",
        shop="s",
        order_id="o",
        points=1,
        base=1,
        bonus=0,
        currency="GBP",
        net_spend="1.00",
        occurred_at=NOW,
        available_at=NOW,
        expires_at=None,
        tier=points.TierRef(None, "1"),
        cause="p",
    )
    return Outgoing(
        id=f"earned-{customer}",
        source="/services/points",
        type=points.EARNED,
        subject=customer,
        time=NOW,
        data=data,
    )


@pytest.fixture
async def service(rewards_db: str) -> AsyncIterator[Rewards]:
    pool = await pools.create(rewards_db, name="test", size=4)
    yield Rewards(pool, program())
    await pool.close()


@pytest.fixture
def other_db(database: Callable[[str], str]) -> str:
    return database("rewards")


@pytest.fixture
async def other(other_db: str) -> AsyncIterator[Rewards]:
    """The same service beside a second database."""
    pool = await pools.create(other_db, name="other", size=2)
    yield Rewards(pool, program())
    await pool.close()


@pytest.fixture
async def client(
    service: Rewards, rewards_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx2.AsyncClient]:
    monkeypatch.setattr(clock, "now", lambda: service.now)
    async with client_of(wiring.api(settings(rewards_db, tmp_path, SECRET))) as found:
        yield found


def settings(dsn: str, folder: Path, secret: str) -> Settings:
    rules = Path(__file__).parents[2] / "programs" / "demo.yaml"
    secret_file = folder / "secret"
    secret_file.write_text(secret)
    return Settings(
        database=dsn,
        kafka="127.0.0.1:1",
        program=rules,
        keys_file=keys_file(folder),
        port=1,
        worker_port=2,
        secret_file=secret_file,
    )


async def test_a_promotion_gives_its_vouchers_once(service: Rewards) -> None:
    await service.told("c", 1, SILVER)
    await service.told("c", 2, SILVER, GOLD)
    await service.told("c", 2, SILVER, GOLD)
    await service.told("c", 1, SILVER)
    assert {(row[2], row[3], row[4]) for row in await service.state()} == {
        ("ten", "silver#1", "issued"),
        ("cash", "gold#1", "issued"),
        ("ship", "gold#1", "issued"),
    }
    assert await service.counted() == (2, 2, 0)
    out = await service.published()
    assert [event["data"]["voucher"] for event in out] == ["ten", "cash", "ship"]
    assert {event["type"] for event in out} == {rewards.VOUCHER_ISSUED}
    assert {event["subject"] for event in out} == {"c"}
    assert out[0]["data"]["cause"] == {"type": "promotion", "id": "silver#1"}
    assert "code" not in json.dumps(out)
    assert await service.violations() == []


async def test_verdicts_do_not_depend_on_the_batch(service: Rewards) -> None:
    events = [
        tier_event("c", 1, SILVER),
        tier_event("c", 2, SILVER, GOLD),
        tier_event("c", 2, SILVER, GOLD, event_id="gold as well"),
        tier_event("c", 1, SILVER),
    ]
    await service.hears(*events)
    assert await service.counted() == (2, 2, 0)


async def test_a_moved_cause_moves_its_unused_vouchers(service: Rewards) -> None:
    await service.told("c", 1, GOLD)
    before = {row[1]: row for row in await service.state()}
    await service.published()
    await service.told("c", 2, LATE_GOLD)
    after = {row[1]: row for row in await service.state()}
    assert before.keys() == after.keys()
    assert {row[5] for row in after.values()} == {LATE_GOLD.since}
    assert {row[7] for row in before.values()} == {row[7] for row in after.values()}
    assert [event["type"] for event in await service.published()] == [rewards.VOUCHER_ISSUED] * 2
    steps = await service.pool.fetch(
        "SELECT step, issued_at, old_issued_at, event_id FROM voucher_events ORDER BY id"
    )
    assert [tuple(row) for row in steps[2:]] == [
        ("redated", LATE_GOLD.since, GOLD.since, "c-2"),
        ("redated", LATE_GOLD.since, GOLD.since, "c-2"),
    ]
    assert await service.violations() == []


async def test_a_vanished_cause_revokes_and_brings_back(
    service: Rewards, client: httpx2.AsyncClient
) -> None:
    await service.told("c", 1, SILVER, GOLD)
    first = await listed(client, "c")
    await service.told("c", 2, SILVER)
    assert [v["voucher"] for v in await listed(client, "c")] == ["ten"]
    gone = await listed(client, "c", state="revoked")
    assert {v["voucher"] for v in gone} == {"cash", "ship"}
    assert await service.violations() == []
    await service.told("c", 3, SILVER, LATE_GOLD)
    back = await listed(client, "c")
    assert {(v["id"], v["code"]) for v in back} == {(v["id"], v["code"]) for v in first}
    assert [event["type"] for event in await service.published()] == [
        *[rewards.VOUCHER_ISSUED] * 3,
        *[rewards.VOUCHER_REVOKED] * 2,
        *[rewards.VOUCHER_REINSTATED] * 2,
    ]
    assert await service.violations() == []


async def test_a_used_voucher_stays_when_its_cause_goes(service: Rewards) -> None:
    await service.told("c", 1, GOLD)
    await service.pool.execute("UPDATE vouchers SET state = 'redeemed' WHERE definition = 'cash'")
    await service.told("c", 2)
    assert [(row[2], row[4]) for row in await service.state()] == [("cash", "redeemed")]
    assert await service.violations() == []


async def test_a_new_program_changes_new_causes_only(service: Rewards) -> None:
    await service.told("c", 1, SILVER)
    service.rules = program(silver="ship", gold="ten", valid_for="P1D")
    moved = move("silver", "2026-10-01T10:00:00")
    await service.told("c", 2, moved, GOLD)
    found = {(row[2], row[3]): row for row in await service.state()}
    assert found.keys() == {("ten", "silver#1"), ("ten", "gold#1")}
    assert found["ten", "silver#1"][6] == at("2026-12-31T00:00:00")
    assert found["ten", "gold#1"][6] == at("2026-11-12T00:00:00")
    assert await service.violations() == []


async def test_a_level_of_a_newer_program_is_decided_when_it_comes(service: Rewards) -> None:
    platinum = move("platinum", "2026-11-02T10:00:00")
    await service.told("c", 1, platinum)
    assert await service.state() == set()
    assert await service.violations() == ["vouchers-as-wanted"]
    service.rules = program(top="platinum")
    await service.told("c", 2, platinum)
    assert {row[3] for row in await service.state()} == {"platinum#1"}
    assert await service.violations() == []


async def test_impossible_news_goes_to_the_dead_letters(service: Rewards) -> None:
    beyond = move("silver", "9999-12-01T10:00:00")
    await service.hears(
        tier_event("c", 1, SILVER), tier_event("d", 1, beyond), tier_event("e", 1, SILVER, SILVER)
    )
    assert await service.counted() == (1, 0, 2)
    rows = await service.pool.fetch("SELECT field, reason FROM dead_letters ORDER BY id")
    assert rows[0]["field"] == "data.timeline: upgrade 1"
    assert "outside of the years" in rows[0]["reason"]
    assert tuple(rows[1]) == ("data.timeline[1].reach", "silver is reached twice as #1")
    assert len(await service.state()) == 1


async def test_what_is_none_of_our_business_passes(service: Rewards) -> None:
    sound = tier_event("c", 1, SILVER)
    other = msgspec.structs.replace
    await service.hears(
        other(sound, id="1", type=tiers.WILL_DOWNGRADE),
        other(sound, id="2", type=points.ADJUSTED),
        other(sound, id="3", type="treue.tier.unheard_of.v1"),
        sound,
    )
    letters = await service.pool.fetch("SELECT field, reason FROM dead_letters")
    assert [row["field"] for row in letters] == ["type"]
    assert "treue.tier.unheard_of.v1" in letters[0]["reason"]
    assert len(await service.state()) == 1


def histories(random_: random.Random, customers: int) -> list[Outgoing]:
    """Of each customer a few revisions, causes coming, moving and going."""
    events = []
    for customer in range(customers):
        for revision in range(1, random_.randint(2, 6)):
            timeline = sorted(
                (
                    move(
                        tier, (NOW - timedelta(minutes=random_.randint(0, 300_000))).isoformat(), n
                    )
                    for tier in ("bronze", "silver", "gold")
                    for n in (1, 2)
                    if random_.random() < 0.6
                ),
                key=lambda step: step.since,
            )
            events.append(tier_event(f"c{customer}", revision, *timeline))
    return events


@pytest.mark.parametrize("seed", range(3))
async def test_any_order_twice_in_any_batches_ends_the_same(
    service: Rewards, other: Rewards, seed: int
) -> None:
    random_ = random.Random(seed)
    events = histories(random_, 40)
    await service.hears(*events)
    expected = await service.state()
    shuffled = events * 2
    random_.shuffle(shuffled)
    await other.hears(*shuffled, as_batches_of=random_.choice([1, 7, 50]))
    assert await other.state() == expected
    assert len(expected) > 50
    assert await other.violations() == await service.violations() == []


async def test_three_at_once_on_one_database_end_the_same(service: Rewards, other: Rewards) -> None:
    random_ = random.Random(7)
    events = histories(random_, 30)
    await other.hears(*events)
    streams = []
    for partition in range(3):
        worker = Rewards(service.pool, service.rules)
        worker.partition = partition
        shuffled = [*events, *(earned_event(f"c{n}") for n in range(60))]
        random_.shuffle(shuffled)
        streams.append(worker.hears(*shuffled, as_batches_of=20))
    await asyncio.gather(*streams)
    assert await service.state() == await other.state()
    assert await service.violations() == []


async def test_expiry_is_a_function_of_time(service: Rewards, client: httpx2.AsyncClient) -> None:
    await service.told("c", 1, SILVER)
    (voucher,) = await listed(client, "c")
    end = datetime.fromisoformat(voucher["expires_at"])
    assert end == at("2027-01-31T00:00:00")
    service.now = end - timedelta(microseconds=1)
    assert [v["state"] for v in await listed(client, "c")] == ["issued"]
    service.now = end
    assert [v["state"] for v in await listed(client, "c")] == ["expired"]
    assert await listed(client, "c", state="issued") == []
    assert len(await listed(client, "c", state="expired")) == 1


async def test_the_job_tells_expiries_once_however_late(
    service: Rewards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "BATCH_ROWS", 2)
    for customer in "abcde":
        await service.told(customer, 1, SILVER)
    await service.published()
    woken: list[None] = []
    for _ in range(2):
        await jobs.tell_expired(service.pool, lambda: woken.append(None), at("2027-06-01"))
    out = await service.published()
    assert [event["type"] for event in out] == [rewards.VOUCHER_EXPIRED] * 5
    assert {event["data"]["customer_id"] for event in out} == set("abcde")
    assert woken
    assert await service.violations() == []


async def test_a_redated_voucher_can_expire_again(service: Rewards) -> None:
    old = move("silver", "2026-01-01")
    await service.told("c", 1, old)
    await jobs.tell_expired(service.pool, lambda: None, NOW)
    await service.told("c", 2, SILVER)
    await jobs.tell_expired(service.pool, lambda: None, NOW)
    await jobs.tell_expired(service.pool, lambda: None, at("2027-06-01"))
    ids = {e["id"] for e in await service.published() if e["type"] == rewards.VOUCHER_EXPIRED}
    assert len(ids) == 2


async def test_the_job_as_the_worker_runs_it(service: Rewards) -> None:
    await service.told("c", 1, move("silver", "2020-01-01"))
    await service.published()
    run = jobs.job()
    await run(service.pool, lambda: None)
    assert [event["type"] for event in await service.published()] == [rewards.VOUCHER_EXPIRED]
    await run(service.pool, lambda: None)
    assert await service.published() == []


async def test_revoked_vouchers_do_not_expire(service: Rewards) -> None:
    await service.told("c", 1, SILVER)
    await service.told("c", 2)
    await service.published()
    await jobs.tell_expired(service.pool, lambda: None, at("2027-06-01"))
    assert await service.published() == []


async def test_the_ledger_only_grows(service: Rewards, rewards_db: str) -> None:
    await service.told("c", 1, SILVER)
    owner = await asyncpg.connect(owner_of(rewards_db))
    for statement in (
        *("DELETE FROM voucher_events", "TRUNCATE voucher_events CASCADE"),
        *("DELETE FROM claims", "TRUNCATE claims CASCADE"),
        "UPDATE voucher_events SET step = 'revoked'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await service.pool.execute(statement)
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await owner.execute(statement)
    await owner.close()


@pytest.mark.parametrize(
    ("harm", "violated"),
    [
        ("UPDATE vouchers SET expires_at = expires_at + interval '1 day'", "vouchers-as-wanted"),
        ("UPDATE vouchers SET state = 'revoked'", "vouchers-follow-their-ledger"),
        ("UPDATE vouchers SET code_hash = sha256(code_hash)", "codes-fit-the-secret"),
        ("UPDATE vouchers SET key_version = 2", "codes-fit-the-secret"),
        ("UPDATE vouchers SET definition = 'other'", "vouchers-as-claimed"),
        ("UPDATE accounts SET timeline = '[]'", "vouchers-as-wanted"),
        (
            (
                "INSERT INTO voucher_events (voucher_id, step, revision, issued_at, recorded_at)"
                " SELECT voucher_id, 'issued', 1, issued_at, now() FROM vouchers"
            ),
            "voucher-steps-in-order",
        ),
        (
            (
                "INSERT INTO voucher_events (voucher_id, step, revision, issued_at, expires_at,"
                " recorded_at) SELECT voucher_id, 'expired', 1, issued_at, '2999-01-01', now()"
                " FROM vouchers"
            ),
            "told-expiries-are-over",
        ),
    ],
)
async def test_verify_finds_harm(service: Rewards, harm: str, violated: str) -> None:
    await service.told("c", 1, SILVER)
    assert await service.violations() == []
    await service.pool.execute(harm)
    assert violated in await service.violations()


async def listed(client: httpx2.AsyncClient, customer: str, **query: Any) -> list[dict[str, Any]]:
    """All pages of a customer's vouchers."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get(
            f"/v1/customers/{customer}/vouchers", params={**query, **cursor}, headers=ALL
        )
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["data"]
        if not page["has_more"]:
            assert page["next_cursor"] is None
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_a_customer_reads_vouchers(service: Rewards, client: httpx2.AsyncClient) -> None:
    await service.told("c", 1, SILVER, GOLD)
    found = await listed(client, "c")
    assert [v["issued_at"] for v in found] == sorted((v["issued_at"] for v in found), reverse=True)
    by_definition = {v["voucher"]: v for v in found}
    cash = by_definition["cash"]
    assert normalise(cash["code"]) == cash["code"]
    assert {name: cash[name] for name in ("kind", "value", "currency", "state", "name")} == {
        "kind": "amount",
        "value": "25.00",
        "currency": "GBP",
        "state": "issued",
        "name": "Danke",
    }
    assert cash["issued_at"] == "2026-11-10T12:00:00Z"
    assert cash["expires_at"] is None
    assert cash["min_order"] == "50.00"
    assert cash["cause"] == {"type": "promotion", "id": "gold#1"}
    assert (by_definition["ten"]["kind"], by_definition["ten"]["value"]) == ("percent", "10")
    assert by_definition["ship"]["value"] is None
    assert len({v["code"] for v in found}) == 3


async def test_codes_are_not_in_the_database(service: Rewards, client: httpx2.AsyncClient) -> None:
    await service.told("c", 1, SILVER)
    (voucher,) = await listed(client, "c")
    code = voucher["code"]
    for table in ("vouchers", "voucher_events", "claims", "accounts", "outbox"):
        rows = await service.pool.fetch(f"SELECT t::text FROM {table} AS t")
        assert not any(code[:8] in row[0] for row in rows)
    row = await service.pool.fetchval(
        "SELECT voucher_id FROM vouchers WHERE code_hash = $1", KEYRING.fingerprint(code, 1)
    )
    assert str(row) == voucher["id"]


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_pages_hold_every_voucher_once(
    service: Rewards, client: httpx2.AsyncClient, limit: int
) -> None:
    same_instant = [move(tier, "2026-11-01", n) for tier in ("silver", "gold") for n in (1, 2)]
    await service.told("c", 1, *same_instant)
    found = await listed(client, "c", limit=limit)
    assert len(found) == len({v["id"] for v in found}) == 6


async def test_customers_without_a_level_are_known(
    service: Rewards, client: httpx2.AsyncClient
) -> None:
    await service.hears(earned_event("c"), earned_event("c"))
    assert await listed(client, "c") == []
    answer = await client.get("/v1/customers/nobody/vouchers", headers=ALL)
    assert answer.status_code == 404
    assert answer.json()["code"] == "customer-not-found"
    assert await service.violations() == []


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/customers/c/vouchers?state=lost", 422, "validation-failed"),
        ("/v1/customers/c/vouchers?limit=0", 422, "validation-failed"),
        ("/v1/customers/c/vouchers?limit=101", 422, "validation-failed"),
        ("/v1/customers/c/vouchers?cursor=abc", 422, "invalid-cursor"),
        ("/v1/customers/c%00/vouchers", 422, "validation-failed"),
        ("/v1/rewards?cursor=abc", 422, "invalid-cursor"),
    ],
)
async def test_refusals(client: httpx2.AsyncClient, path: str, status: int, code: str) -> None:
    answer = await client.get(path, headers=ALL)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("path", ["/v1/customers/c/vouchers", "/v1/rewards"])
async def test_every_route_asks_for_a_scope(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 401
    assert (await client.get(path, headers=TIERS_ONLY)).status_code == 403


async def test_the_catalogue_is_empty_while_there_is_none(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/v1/rewards", headers=ALL)
    assert answer.json() == {"data": [], "next_cursor": None, "has_more": False}


async def test_another_secret_shows_no_wrong_codes(
    service: Rewards, rewards_db: str, tmp_path: Path
) -> None:
    await service.told("c", 1, SILVER)
    other = SECRET.swapcase()[2:] + "ff"
    async with client_of(wiring.api(settings(rewards_db, tmp_path, other))) as stranger:
        answer = await stranger.get("/v1/customers/c/vouchers", headers=ALL)
    assert (answer.status_code, answer.json()["code"]) == (500, "wrong-voucher-secret")


async def test_a_rotated_secret_keeps_old_codes(
    service: Rewards, client: httpx2.AsyncClient, rewards_db: str, tmp_path: Path
) -> None:
    await service.told("c", 1, SILVER)
    (old,) = await listed(client, "c")
    ring = f"{SECRET}\n{SECRET[2:]}ff\n"
    service.keyring = Keyring.parse(ring)
    await service.told("c", 2, SILVER, GOLD)
    async with client_of(wiring.api(settings(rewards_db, tmp_path, ring))) as rotated:
        found = await listed(rotated, "c")
    assert {v["voucher"]: v["code"] for v in found}["ten"] == old["code"]
    assert len(found) == 3
    assert await service.violations() == []


def plans(rows: Sequence[asyncpg.Record]) -> str:
    return "\n".join(row[0] for row in rows)


async def test_hot_queries_use_their_indexes(service: Rewards) -> None:
    async with service.pool.acquire() as conn:
        await conn.execute("SET enable_seqscan = off")
        due = await conn.fetch(
            "EXPLAIN SELECT voucher_id FROM vouchers WHERE state = 'issued'"
            " AND expiry_told IS DISTINCT FROM expires_at AND expires_at <= now()"
            " ORDER BY expires_at LIMIT 500"
        )
        page = await conn.fetch(
            "EXPLAIN SELECT * FROM vouchers WHERE account_id = 1"
            " ORDER BY issued_at DESC, voucher_id DESC LIMIT 20"
        )
    assert "vouchers_to_expire" in plans(due)
    assert "vouchers_newest" in plans(page)
