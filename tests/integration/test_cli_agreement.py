"""Checks and fingerprints over three real databases, filled by the three services themselves."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from services.points import intake as points_intake
from services.rewards import intake as rewards_intake
from services.tiers import intake as tiers_intake
from shared.cli import agreement, digest
from shared.contracts.catalogue import CONSUMES
from shared.events.model import Record, Route
from shared.events.runner import Runner
from shared.program import Program
from tests.fixtures.events import event, purchase, record, refunded
from tests.fixtures.servers import owner_of
from tests.fixtures.streams import running
from tests.unit.rewards.given import KEYRING

pytestmark = pytest.mark.servers

Databases = Mapping[str, str]
START = datetime(2026, 1, 3, 10, tzinfo=UTC)


def routes(program: Program) -> dict[str, tuple[Sequence[Route], Sequence[str]]]:
    return {
        "points": (points_intake.routes(program), points_intake.IGNORED),
        "tiers": (tiers_intake.routes(program), tiers_intake.IGNORED),
        "rewards": (rewards_intake.routes(program, KEYRING), rewards_intake.IGNORED),
    }


class Flow:
    """The three services joined by lists instead of topics, one partition each."""

    def __init__(self, runners: Mapping[str, Runner], dsns: Databases) -> None:
        self._runners, self._dsns = runners, dsns
        self._topics: dict[str, list[Record]] = {}
        self._read: dict[tuple[str, str], int] = {}

    async def send(self, topic: str, values: Sequence[Any], batch: int = 100) -> None:
        """Append to a topic and let everything run until nothing moves."""
        self._append(topic, values)
        moved = True
        while moved:
            moved = False
            for service, topics in CONSUMES.items():
                for name in topics:
                    moved = await self._step(service, name, batch) or moved

    def _append(self, topic: str, values: Sequence[Any]) -> None:
        held = self._topics.setdefault(topic, [])
        held += [record(value, len(held) + n, topic) for n, value in enumerate(values)]

    async def _step(self, service: str, topic: str, batch: int) -> bool:
        start = self._read.get((service, topic), 0)
        some = self._topics.get(topic, [])[start : start + batch]
        if not some:
            return False
        assert await self._runners[service].process(some)
        self._read[service, topic] = start + len(some)
        conn = await asyncpg.connect(self._dsns[service])
        rows = await conn.fetch("DELETE FROM outbox RETURNING id, topic, payloads")
        await conn.close()
        for row in sorted(rows, key=lambda row: row["id"]):
            self._append(row["topic"], row["payloads"])
        return True


@asynccontextmanager
async def flowing(dsns: Databases, program: Program) -> AsyncIterator[Flow]:
    async with AsyncExitStack() as stack:
        runners = {}
        for service, (table, ignored) in routes(program).items():
            runners[service], _ = await stack.enter_async_context(
                running(dsns[service], table, ignored=ignored, service=service)
            )
        yield Flow(runners, dsns)


@pytest.fixture
def three(database: Callable[[str], str]) -> Databases:
    """A fresh database of each service."""
    return {service: database(service) for service in CONSUMES}


@pytest.fixture
def four_times_three(database: Callable[[str], str]) -> list[Databases]:
    """Four times the same."""
    return [{service: database(service) for service in CONSUMES} for _ in range(4)]


def a_year() -> list[dict[str, Any]]:
    """Purchases of a few customers, through all levels, and of guests; and what some of them gave back."""
    dice = random.Random(7)
    found = []
    for number in range(80):
        at = START + timedelta(hours=90 * number, minutes=dice.randrange(60))
        customer = dice.choice(["c1", "c2", "c3", "c4", None])
        amount = f"{dice.randrange(1, 300)}.{dice.randrange(100):02}"
        found.append(event(purchase(f"o{number}", customer, at.isoformat(), amount)))
        if number % 5 == 4:
            # Half of an order, or of whatever its customer has bought last.
            order, name = (f"o{number}", "1") if number % 2 else (None, "sku-1")
            back = (at + timedelta(days=20)).isoformat()
            found.append(refunded(f"r{number}", order, customer, back, [(name, "0.5")]))
    return found


async def change(dsn: str, *statements: str) -> None:
    conn = await asyncpg.connect(dsn)
    for statement in statements:
        await conn.execute(statement)
    await conn.close()


def test_what_each_service_consumes_is_what_its_table_says(program: Program) -> None:
    for service, (table, _) in routes(program).items():
        assert {route.topic for route in table} == set(CONSUMES[service])


async def test_what_was_told_is_held(three: Databases, program: Program) -> None:
    async with flowing(three, program) as flow:
        await flow.send("treue.purchases", a_year())
    results = await agreement.check(three)
    assert [(r.name, r.rows) for r in results if r.violations] == []
    assert len(results) == 11
    taken = await digest.take(three)
    assert set(taken.parts) == {"balances", "lots", "refunds", "tiers", "vouchers"}
    assert taken.parts["balances"].items == 4
    assert taken.parts["vouchers"].items >= 4


# What is changed behind the services' back, and the check that must say so, with a word of its rows.
TAMPERING = (
    ("tiers", "UPDATE qualifying SET base = 77777", "every-award-qualifies-once", "77777"),
    ("tiers", "DELETE FROM qualifying", "every-award-qualifies-once", "'tiers': None"),
    ("tiers", "UPDATE standings SET base = 88888", "every-refund-counts-in-tiers", "88888"),
    ("tiers", "UPDATE standings SET reductions = '[]'", "every-refund-counts-in-tiers", "'0'"),
    (
        "points",
        "UPDATE accounts SET timeline = '[]' WHERE customer_id = 'c2'",
        "points-knows-every-tier",
        "'points': None",
    ),
    (
        "rewards",
        "UPDATE accounts SET timeline = jsonb_set(timeline, '{0,reach}', '99') WHERE revision > 0",
        "rewards-knows-every-tier",
        "reach=99",
    ),
    (
        "rewards",
        "UPDATE accounts SET customer_id = 'zz' WHERE customer_id = 'c3'",
        "rewards-knows-every-customer",
        "zz",
    ),
    (
        "points",
        "UPDATE offsets SET applied = applied + 1",
        "every-record-has-a-verdict",
        "'service': 'points'",
    ),
)


async def test_what_was_changed_is_named(three: Databases, program: Program) -> None:
    async with flowing(three, program) as flow:
        await flow.send("treue.purchases", a_year())
    for service, statement, name, word in TAMPERING:
        await change(owner_of(three[service]), "SET session_replication_role = replica", statement)
        wrong = {r.name: r.rows for r in await agreement.check(three) if r.violations}
        assert word in str(wrong.get(name)), (name, wrong)


async def test_the_fingerprint_knows_the_events_and_not_their_order(
    four_times_three: list[Databases], program: Program
) -> None:
    year = a_year()
    found = []
    for seed, dsns in enumerate(four_times_three[:3]):
        sent = list(year)
        if seed:
            sent += year
            random.Random(seed).shuffle(sent)
        async with flowing(dsns, program) as flow:
            for start in range(0, len(sent), 40):
                await flow.send("treue.purchases", sent[start : start + 40], batch=7)
        assert [r.name for r in await agreement.check(dsns) if r.violations] == []
        found.append(await digest.take(dsns))
    assert found[0] == found[1] == found[2]
    other = four_times_three[3]
    async with flowing(other, program) as flow:
        await flow.send("treue.purchases", year[1:])
    assert (await digest.take(other)).sha256 != found[0].sha256
