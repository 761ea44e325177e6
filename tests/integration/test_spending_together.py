"""Commands that wait share a transaction: each ends as it would by itself, whoever else is in its group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from services.points.api.spending import by_itself, deciding
from services.points.domain.spending import Refused
from services.points.handlers.spending_decisions import Asked, Capture, Release, Wish
from shared import clock
from shared.contracts import activities
from shared.contracts import points as contract
from shared.db import pool as database
from shared.db.idempotency import Claim
from shared.db.types import Pool
from shared.errors import TreueError
from shared.events.model import Work
from shared.http import groups as sharing
from shared.http.bell import Bell
from shared.http.commands import Desk, Outcome
from shared.http.groups import Decision, Groups
from shared.http.problems import Problem
from shared.ids import digest_uuid
from shared.program import Program
from tests.fixtures.bank import Bank, bank, instant, lot

pytestmark = pytest.mark.servers

Make = Callable[..., Awaitable["Counter"]]


class Counter:
    """Where commands are handed in; ``sizes`` of their groups, and ``alone`` those done by themselves."""

    def __init__(self, pool: Pool, program: Program) -> None:
        self.sizes: list[int] = []
        self.alone: list[Asked] = []
        self._program = program
        self._decide = deciding(program)
        self.groups = Groups(Desk(pool, Bell(), "/services/points"), self._counted)
        self.poison: set[str] = set()

    async def _counted(self, work: Work, asked: Sequence[Asked]) -> Sequence[Decision]:
        self.sizes.append(len(asked))
        found = await self._decide(work, asked)
        if any(isinstance(one, Wish) and one.customer_id in self.poison for one in asked):
            await work.conn.execute("SELECT 1 / 0")
        return found

    async def __call__(self, asked: Asked, key: str = "", body: str = "") -> Outcome:
        operation = f"{type(asked).__name__} {getattr(asked, 'hold_id', '')}"
        key = key or str(uuid4())
        claim = Claim(
            digest_uuid("test", operation, key), "test", operation, key, digest_uuid("body", body)
        )
        run = by_itself(self._program, asked)

        async def counted(work: Work) -> Any:
            self.alone.append(asked)
            if isinstance(asked, Wish) and asked.customer_id in self.poison:
                await work.conn.execute("SELECT 1 / 0")
            return await run(work)

        return await self.groups.do(claim, asked, counted)

    async def all(self, *asked: Asked) -> list[Any]:
        """All at once, behind one that is under way: what each was answered, or its refusal."""
        first = asyncio.create_task(self(Wish("nobody", 1)))
        await asyncio.sleep(0)
        found = await asyncio.gather(*(self(one) for one in asked), return_exceptions=True)
        with pytest.raises(Refused):
            await first
        return [answered(one) for one in found]


def answered(found: object) -> Any:
    """An answer's content, or the refusal."""
    if isinstance(found, Outcome):
        return msgspec.json.decode(found.kept.body)
    assert isinstance(found, TreueError | asyncpg.PostgresError), found
    return found


@pytest.fixture
async def shop(points_db: str, program: Program) -> AsyncIterator[Bank]:
    async with bank(points_db, program) as opened:
        opened.now = clock.now()
        before = opened.now - timedelta(days=1)
        for number in range(1, 5):
            await opened.buy(f"o{number}", "100.00", before, customer=f"c{number}")
        opened.told.clear()
        yield opened


@pytest.fixture
async def make(points_db: str, shop: Bank) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def opened(size: int = 8) -> Counter:
            pool = await database.create(points_db, name="together", size=size)
            stack.push_async_callback(pool.close)
            return Counter(pool, shop.program)

        yield opened


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is asked for behind another is one group."""
    monkeypatch.setattr(sharing, "AT_ONCE", 1)


async def sent(shop: Bank) -> list[tuple[str, str, int]]:
    rows = await shop.pool.fetch("SELECT payloads FROM outbox ORDER BY id")
    events = [msgspec.json.decode(payload) for row in rows for payload in row["payloads"]]
    return [
        (e["type"], e["subject"], e["data"]["points"])
        for e in events
        if e["type"] in contract.SPENDING
    ]


async def held(counter: Counter, customer: str, points: int) -> UUID:
    return UUID(answered(await counter(Wish(customer, points)))["id"])


async def test_good_and_refused_ones_share_a_transaction(shop: Bank, make: Make) -> None:
    counter = await make()
    one, two = await held(counter, "c1", 60), await held(counter, "c2", 50)
    counter.sizes.clear()
    found = await counter.all(
        Capture(one, 40), Capture(two, 51), Wish("c3", 101), Wish("c4", 30, spent=True),
        Release(two), Wish("c3", 100), Capture(uuid4(), None),
    )  # fmt: skip
    states = [one["state"] if isinstance(one, dict) else one.code for one in found]
    assert states == [
        "captured", "capture-exceeds-hold", "insufficient-points", "captured", "released", "held",
        "hold-not-found",
    ]  # fmt: skip
    assert counter.sizes == [1, 7]
    assert [type(one).__name__ for one in counter.alone] == ["Wish", "Capture"]
    assert await sent(shop) == [
        (contract.HELD, "c1", 60), (contract.HELD, "c2", 50), (contract.CAPTURED, "c1", 40),
        (contract.CAPTURED, "c4", 30), (contract.RELEASED, "c2", 50), (contract.HELD, "c3", 100),
    ]  # fmt: skip
    links = await shop.pool.fetch("SELECT DISTINCT batch FROM entries WHERE kind = 'captured'")
    assert len(links) == 1
    assert await shop.lots() == {lot("o1"): 60, lot("o2"): 100, lot("o3"): 100, lot("o4"): 70}
    assert await shop.violations() == []


async def test_many_on_one_account_are_done_one_after_the_other(shop: Bank, make: Make) -> None:
    counter = await make()
    one, two = await held(counter, "c1", 30), await held(counter, "c1", 20)
    counter.sizes.clear()
    found = await counter.all(
        Wish("c1", 51), Wish("c1", 50), Wish("c1", 1), Capture(one, 10), Wish("c1", 20),
        Release(one), Wish("c1", 1, spent=True), Capture(two, None), Release(two),
    )  # fmt: skip
    states = [one["state"] if isinstance(one, dict) else one.code for one in found]
    assert states == [
        "insufficient-points", "held", "insufficient-points", "captured", "held",
        "hold-closed", "insufficient-points", "captured", "hold-closed",
    ]  # fmt: skip
    assert counter.sizes == [1, 9]
    assert found[0].facts == {"available": 50, "deficit": 0}
    shop.now = clock.now()
    assert await shop.balance() == {"available": 0, "pending": 0, "held": 70, "deficit": 0}
    assert await shop.violations() == []


async def test_a_known_key_is_answered_from_memory_within_a_group(shop: Bank, make: Make) -> None:
    counter = await make()
    first = await counter(Wish("c1", 10), "key", "body")
    running = asyncio.create_task(counter(Wish("c2", 10)))
    await asyncio.sleep(0)
    again, reused, fresh = await asyncio.gather(
        counter(Wish("c1", 10), "key", "body"),
        counter(Wish("c1", 10), "key2", "body"),
        counter(Wish("c3", 10)),
    )
    assert (again.kept.body, again.replayed) == (first.kept.body, True)
    assert not reused.replayed
    assert not fresh.replayed
    await running
    with pytest.raises(Problem, match="another body"):
        await counter(Wish("c1", 10), "key", "other")
    assert await shop.available() == 80
    assert await shop.violations() == []


async def test_of_two_with_one_key_one_is_done(shop: Bank, make: Make) -> None:
    counter, other = await make(), await make()
    for _ in range(20):
        key = str(uuid4())
        found = await asyncio.gather(
            *(who(Wish("c1", 1), key, "body") for who in (counter, other) for _ in range(3)),
            return_exceptions=True,
        )
        ids = {answered(one)["id"] for one in found if isinstance(one, Outcome)}
        assert len(ids) == 1
        refused = {one.code for one in found if isinstance(one, Problem)}
        assert refused <= {"idempotency-key-in-use"}
    assert await shop.available() == 80
    assert await shop.violations() == []


async def test_merged_and_owing_customers_are_left_to_themselves(shop: Bank, make: Make) -> None:
    counter = await make()
    await shop.buy("o5", "20.00", shop.now - timedelta(hours=1), customer="c2")
    await shop.spend(100, customer="c2")
    await shop.refund("o2", "100.00", customer="c2")
    data = {"customer_id": "c3", "into": "c1", "occurred_at": instant(shop.now)}
    await shop.send(data, activities.MERGED, activities.TOPIC)
    found = await counter.all(Wish("c2", 1), Wish("c3", 150), Wish("c4", 100), Wish("c1", 60))
    assert found[0].facts["deficit"] > 0
    # c3 lives on as c1, whose 60 are reserved in the group before c3's turn comes.
    assert found[1].code == "insufficient-points"
    assert [one["customer_id"] for one in found[2:]] == ["c4", "c1"]
    assert [one.customer_id for one in counter.alone[-2:] if isinstance(one, Wish)] == ["c2", "c3"]
    assert await shop.violations() == []


async def test_a_capture_that_leaves_a_lot_owed_is_done_by_itself(shop: Bank, make: Make) -> None:
    counter = await make()
    one = await held(counter, "c1", 80)
    await shop.buy("o5", "30.00", shop.now - timedelta(hours=1), customer="c1")
    await shop.refund("o1", "100.00")
    found = await counter.all(Capture(one, None), Wish("c4", 100))
    assert [one["state"] for one in found] == ["captured", "held"]
    assert Capture(one, None) in counter.alone
    shop.now = clock.now()
    assert (await shop.balance())["deficit"] == 50
    assert await shop.violations() == []


async def test_a_poisoned_command_harms_only_itself(shop: Bank, make: Make) -> None:
    counter = await make()
    counter.poison.add("c2")
    found = await counter.all(Wish("c1", 10), Wish("c2", 10), Wish("c3", 10))
    assert [one["customer_id"] for one in (found[0], found[2])] == ["c1", "c3"]
    assert isinstance(found[1], asyncpg.DivisionByZeroError)
    assert await shop.pool.fetchval("SELECT count(*) FROM holds") == 2
    assert await shop.available("c2") == 100
    assert await shop.violations() == []


async def test_a_lost_connection_harms_nobody(shop: Bank, make: Make) -> None:
    counter = await make()
    inner, cut = counter._decide, [True]

    async def decide(work: Work, asked: Sequence[Asked]) -> Sequence[Decision]:
        found = await inner(work, asked)
        if len(asked) > 1 and cut.pop():
            await shop.pool.execute(
                "SELECT pg_terminate_backend($1)",
                await work.conn.fetchval("SELECT pg_backend_pid()"),
            )
        return found

    counter._decide = decide
    found = await counter.all(*(Wish(f"c{number}", 10) for number in range(1, 5)))
    assert [one["state"] for one in found] == ["held"] * 4
    assert await shop.pool.fetchval("SELECT count(*) FROM holds") == 4
    assert await shop.violations() == []


async def test_who_gives_up_waiting_takes_nothing_from_the_others(shop: Bank, make: Make) -> None:
    counter = await make()
    running = asyncio.create_task(counter(Wish("c1", 10)))
    await asyncio.sleep(0)
    quitter = asyncio.create_task(counter(Wish("c2", 10), "quitter"))
    waiting = asyncio.create_task(counter(Wish("c3", 10)))
    await asyncio.sleep(0)
    quitter.cancel()
    assert answered(await waiting)["customer_id"] == "c3"
    await running
    assert await shop.available("c2") == 100
    assert answered(await counter(Wish("c2", 20), "quitter"))["points"] == 20
    # And one that gives up while its group runs: it is done, and its key tells so.
    late = asyncio.create_task(counter(Wish("c4", 30), "late"))
    await asyncio.sleep(0.001)
    assert counter.groups._running
    late.cancel()
    await counter.groups.finish()
    assert (await counter(Wish("c4", 30), "late")).replayed
    assert await shop.available("c4") == 70
    assert await shop.violations() == []


async def test_an_account_that_somebody_has_is_waited_for_by_its_own_command(
    shop: Bank, make: Make
) -> None:
    counter = await make()
    async with shop.pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute("SELECT FROM accounts WHERE customer_id = 'c1' FOR UPDATE")
        blocked = asyncio.create_task(counter(Wish("c1", 10)))
        found = await counter.all(Wish("c2", 10), Wish("c3", 10))
        assert [one["state"] for one in found] == ["held", "held"]
        assert not blocked.done()
        await transaction.rollback()
    assert answered(await blocked)["state"] == "held"
    assert await shop.violations() == []


async def test_a_stampede_from_two_processes(
    shop: Bank, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "AT_ONCE", 2)
    doors = [await make(), await make()]

    async def spend(number: int) -> str:
        counter = doors[number % 2]
        try:
            found = answered(await counter(Wish(f"c{number % 4 + 1}", 7)))
            if number % 3:
                await counter(Capture(UUID(found["id"]), 5))
        except Refused as refused:
            return refused.code
        return str(found["state"])

    found = await asyncio.gather(*(spend(number) for number in range(200)))
    assert set(found) == {"held", "insufficient-points"}
    assert await shop.violations() == []
    shop.now = clock.now()
    for customer in ("c1", "c2", "c3", "c4"):
        balance = await shop.balance(customer=customer)
        spent = await shop.pool.fetchval(
            "SELECT coalesce(-sum(points), 0)::int FROM entries e JOIN accounts a USING (account_id)"
            " WHERE a.customer_id = $1 AND kind = 'captured'",
            customer,
        )
        assert balance["available"] + balance["held"] + spent == 100
