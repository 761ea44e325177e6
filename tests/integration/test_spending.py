"""Spending on a real database: holds, captures, restores, deficits, and everyone at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
import pytest

from services.points import intake, invariants, views
from services.points.domain.spending import Hold, Refused
from services.points.handlers.spending import Restored, Spending, Wish
from services.points.handlers.transfers import Transfers
from shared.clock import Period
from shared.contracts import points as contract
from shared.contracts import purchases
from shared.db import pool as database
from shared.db.types import Pool
from shared.events.model import Work
from shared.events.runner import Runner
from shared.ids import digest_uuid
from shared.invariants import COMMON, check
from shared.program import Program
from tests.fixtures.events import event, line, purchase, record
from tests.fixtures.streams import running

pytestmark = pytest.mark.servers

T = TypeVar("T")
START = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


class Bank:
    """A points service at a time of the test's choosing."""

    def __init__(self, runner: Runner, pool: Pool, program: Program, now: datetime) -> None:
        self.pool = pool
        self.program = program
        self.now = now
        self.spending = Spending(program)
        self._runner = runner
        self._offset = 0
        self.told: list[tuple[str, dict[str, Any]]] = []

    async def do(self, run: Callable[[Work], Awaitable[T]]) -> T:
        """A command in a transaction, as the API has it."""
        work = Work(self.pool, self.now, "/services/points")  # type: ignore[arg-type]
        async with self.pool.acquire() as conn, conn.transaction():
            work.conn = conn
            result = await run(work)
        for message in work.messages:
            envelope = msgspec.json.decode(message.payload)
            self.told.append((envelope["type"], envelope["data"]))
        return result

    async def hold(self, points: int, customer: str = "c1", **more: Any) -> Hold:
        return await self.do(lambda w: self.spending.hold(w, Wish(customer, points, **more)))

    async def capture(self, hold: Hold, points: int | None = None) -> Hold:
        return await self.do(lambda w: self.spending.capture(w, hold.id, points))

    async def release(self, hold: Hold) -> Hold:
        return await self.do(lambda w: self.spending.release(w, hold.id))

    async def restore(self, hold: Hold, points: int | None = None) -> Restored:
        return await self.do(lambda w: self.spending.restore(w, hold.id, points))

    async def spend(self, points: int, customer: str = "c1", **more: Any) -> Hold:
        return await self.do(lambda w: self.spending.spend(w, Wish(customer, points, **more)))

    async def send(self, data: dict[str, Any], event_type: str = purchases.COMPLETED) -> None:
        kind = event_type.rsplit(".", 2)[1]
        told = event(data, f"{kind}-{data.get('refund_id', data['order_id'])}", event_type)
        assert await self._runner.process([record(told, self._offset)])
        self._offset += 1

    async def buy(
        self, order: str, amount: str, at: datetime | None = None, customer: str = "c1"
    ) -> None:
        when = (at or self.now).isoformat().replace("+00:00", "Z")
        await self.send(purchase(order, customer, when, amount))

    async def refund(self, order: str, amount: str, number: str = "r1") -> None:
        data = {
            "refund_id": number,
            "order_id": order,
            "customer_id": "c1",
            "currency": "GBP",
            "occurred_at": self.now.isoformat().replace("+00:00", "Z"),
            "amount": amount,
        }
        await self.send(data, purchases.REFUNDED)

    async def balance(self, at: datetime | None = None, customer: str = "c1") -> dict[str, int]:
        async with self.pool.acquire() as conn:
            row = await views.balance(conn, customer, at or self.now, live=at is None)
        assert row is not None
        return {name: row[name] for name in ("available", "pending", "held", "deficit")}

    async def available(self, customer: str = "c1") -> int:
        return (await self.balance(customer=customer))["available"]

    async def lots(self) -> dict[str, int]:
        rows = await self.pool.fetch(
            "SELECT lot_id, sum(points)::int AS points FROM entries GROUP BY lot_id"
        )
        return {str(row["lot_id"]): row["points"] for row in rows}

    async def snapshot(self) -> list[tuple[Any, ...]]:
        tables = ("entries", "holds", "accounts", "outbox")
        return [
            tuple(row) for name in tables for row in await self.pool.fetch(f"TABLE {name}")
        ]

    async def violations(self) -> list[str]:
        async with self.pool.acquire() as conn:
            found = await check(conn, (*COMMON, *invariants.of(self.program)))
        return [f"{result.name}: {result.rows}" for result in found if result.violations]

    async def refused(self, doing: Awaitable[Any]) -> Refused:
        """What is refused changes nothing."""
        before = await self.snapshot()
        with pytest.raises(Refused) as caught:
            await doing
        assert await self.snapshot() == before
        return caught.value


def lot(order: str) -> str:
    return str(digest_uuid("purchase", "online-retail", order))


def with_rules(program: Program, earning: dict[str, Any] | None = None, **more: Any) -> Program:
    rules = program.earning.model_copy(update=earning or {})
    return program.model_copy(update={"earning": rules, "tiers": None, **more})


@pytest.fixture
async def make(points_db: str, program: Program) -> AsyncIterator[Callable[..., Any]]:
    opened: list[Any] = []

    async def open_bank(earning: dict[str, Any] | None = None, **more: Any) -> Bank:
        rules = with_rules(program, earning, **more)
        holder: list[Bank] = []
        context = running(points_db, intake.routes(rules), now=lambda: holder[0].now)
        runner, pool = await context.__aenter__()
        opened.append(context)
        holder.append(Bank(runner, pool, rules, START))
        return holder[0]

    yield open_bank
    for context in opened:
        await context.__aexit__(None, None, None)


async def test_golden_holds(make: Callable[..., Any]) -> None:
    bank: Bank = await make()
    await bank.buy("o1", "100.00")
    first = await bank.hold(80)
    assert await bank.balance() == {"available": 20, "pending": 0, "held": 80, "deficit": 0}
    refused = await bank.refused(bank.hold(30))
    assert (refused.code, refused.facts) == (
        "insufficient-points",
        {"available": 20, "deficit": 0},
    )
    done = await bank.capture(first, 60)
    assert (done.state, done.captured, done.points) == ("captured", 60, 80)
    assert await bank.balance() == {"available": 40, "pending": 0, "held": 0, "deficit": 0}
    assert await bank.violations() == []
    held, captured = bank.told
    assert held[0] == contract.HELD
    assert held[1]["allocations"] == [{"lot_id": lot("o1"), "points": 80}]
    assert (captured[0], captured[1]["points"], captured[1]["released"]) == (
        contract.CAPTURED,
        60,
        20,
    )


async def test_golden_restore(make: Callable[..., Any]) -> None:
    # B expires 1 February, A 1 March, C never: by three programs one after the other on one database.
    january = datetime(2027, 1, 10, 12, tzinfo=UTC)
    bank: Bank = await make(timezone="UTC")
    bank.now = january
    expiry = bank.program.earning.expiry
    for order, amount, bought, after in (
        ("A", "100.00", datetime(2026, 12, 31, 12, tzinfo=UTC), "P59D"),
        ("B", "50.00", datetime(2026, 12, 31, 12, tzinfo=UTC), "P31D"),
        ("C", "200.00", january, None),
    ):
        kind = "after" if after else "none"
        length = Period.parse(after) if after else None
        changed = expiry.model_copy(update={"kind": kind, "after": length, "round_up": None})
        bank.__class__ = Bank
        seller: Bank = await make({"expiry": changed}, timezone="UTC")
        seller.now, seller._offset = january, bank._offset
        await seller.buy(order, amount, bought)
        bank._offset = seller._offset
    spent = await bank.spend(120, order_id="basket")
    assert [(str(p.lot_id), p.points) for p in spent.parts] == [(lot("B"), 50), (lot("A"), 70)]
    bank.now = datetime(2027, 2, 5, 12, tzinfo=UTC)
    back = await bank.restore(spent)
    assert [(part.lot_id, part.points, part.expired) for part in back.parts] == [
        (lot("A"), 70, False),
        (lot("B"), 50, True),
    ]
    assert all(part.into_lot_id == part.lot_id for part in back.parts)
    assert await bank.available() == 300
    assert await bank.violations() == []
    again = await bank.refused(bank.restore(spent))
    assert (again.code, again.facts) == ("restore-exceeds-capture", {"restorable": 0})


async def test_grace_gives_points_of_an_expired_lot_a_new_end(make: Callable[..., Any]) -> None:
    bank: Bank = await make(grace_on_restore=Period.parse("P30D"), timezone="UTC")
    bank.now = START
    await bank.buy("o1", "100.00")
    spent = await bank.spend(70)
    bank.now = START + 500 * DAY
    assert await bank.available() == 0
    back = await bank.restore(spent, 50)
    (part,) = back.parts
    assert not part.expired
    assert part.into_lot_id != part.lot_id
    midnight = bank.now.replace(hour=0) + 31 * DAY
    assert part.expires_at == midnight
    assert await bank.available() == 50
    assert await bank.violations() == []


async def test_golden_deficit(make: Callable[..., Any]) -> None:
    bank: Bank = await make()
    await bank.buy("o1", "70.00")
    await bank.buy("o2", "50.00")
    await bank.spend(70)
    assert await bank.available() == 50
    bank.now += MINUTE
    await bank.refund("o1", "70.00")
    assert await bank.balance() == {"available": 0, "pending": 0, "held": 0, "deficit": 20}
    refused = await bank.refused(bank.hold(1))
    assert refused.facts == {"available": 0, "deficit": 20}
    bank.now += MINUTE
    await bank.buy("o3", "100.00")
    assert await bank.balance() == {"available": 80, "pending": 0, "held": 0, "deficit": 0}
    assert await bank.lots() == {lot("o1"): 0, lot("o2"): 0, lot("o3"): 80}
    assert await bank.violations() == []


async def test_golden_deficit_clamped_to_zero(make: Callable[..., Any]) -> None:
    bank: Bank = await make({"refunds": "clamp_to_zero"})
    await bank.buy("o1", "70.00")
    await bank.buy("o2", "50.00")
    await bank.spend(70)
    bank.now += MINUTE
    await bank.refund("o1", "70.00")
    assert await bank.balance() == {"available": 0, "pending": 0, "held": 0, "deficit": 0}
    bank.now += MINUTE
    await bank.buy("o3", "100.00")
    assert await bank.balance() == {"available": 100, "pending": 0, "held": 0, "deficit": 0}
    written_off = await bank.pool.fetchval(
        "SELECT sum(points)::int FROM entries WHERE kind = 'written_off'"
    )
    assert written_off == 20
    assert await bank.violations() == []


async def test_pending_points_pay_a_deficit_when_they_become_available(
    make: Callable[..., Any],
) -> None:
    bank: Bank = await make({"available_after": Period.parse("P2D")})
    await bank.buy("o1", "70.00")
    bank.now += 3 * DAY
    await bank.spend(70)
    await bank.buy("o2", "100.00")
    await bank.refund("o1", "70.00")
    assert await bank.balance() == {"available": 0, "pending": 100, "held": 0, "deficit": 70}
    bank.now += 3 * DAY
    assert await bank.balance() == {"available": 30, "pending": 0, "held": 0, "deficit": 0}
    held = await bank.hold(30)
    assert held.points == 30
    assert await bank.violations() == []


async def test_a_hold_ends_by_time_alone(make: Callable[..., Any]) -> None:
    bank: Bank = await make()
    await bank.buy("o1", "100.00")
    held = await bank.hold(100)
    bank.now += 15 * MINUTE
    assert await bank.available() == 100
    for late in (bank.capture(held), bank.release(held)):
        assert (await bank.refused(late)).code == "hold-expired"
    assert await bank.do(lambda w: bank.spending.time_out(w, held.id))
    assert not await bank.do(lambda w: bank.spending.time_out(w, held.id))
    assert bank.told[-1][1]["reason"] == "timed_out"
    assert bank.told[-1][1]["occurred_at"] == "2026-11-01T12:15:00Z"
    assert (await bank.refused(bank.capture(held))).code == "hold-expired"
    assert (await bank.balance(START + MINUTE))["held"] == 100
    assert await bank.violations() == []


async def test_a_lot_that_expires_during_a_hold_stays_usable_for_it(
    make: Callable[..., Any],
) -> None:
    bank: Bank = await make()
    await bank.buy("o1", "100.00")
    row = await bank.pool.fetchrow("SELECT expires_at FROM entries")
    assert row is not None
    bank.now = row["expires_at"] - MINUTE
    first, second = await bank.hold(40), await bank.hold(30)
    bank.now += 2 * MINUTE
    assert await bank.balance() == {"available": 0, "pending": 0, "held": 70, "deficit": 0}
    await bank.capture(first)
    await bank.release(second)
    assert await bank.balance() == {"available": 0, "pending": 0, "held": 0, "deficit": 0}
    assert await bank.violations() == []


async def test_what_is_over_is_refused_by_its_state(make: Callable[..., Any]) -> None:
    bank: Bank = await make()
    await bank.buy("o1", "100.00")
    held = await bank.hold(50)
    assert (await bank.refused(bank.capture(held, 51))).code == "capture-exceeds-hold"
    assert (await bank.refused(bank.restore(held))).code == "hold-closed"
    await bank.capture(held, 40)
    for late in (bank.capture(held), bank.release(held)):
        refused = await bank.refused(late)
        assert (refused.code, refused.facts["state"]) == ("hold-closed", "captured")
    assert (await bank.refused(bank.restore(held, 41))).code == "restore-exceeds-capture"
    await bank.restore(held, 15)
    await bank.restore(held, 25)
    assert await bank.available() == 100
    assert await bank.violations() == []
    nobody = await bank.refused(bank.hold(1, "nobody"))
    assert nobody.code == "customer-not-found"


async def test_fifty_holds_of_the_whole_balance_a_hundred_times(
    points_db: str, make: Callable[..., Any]
) -> None:
    bank: Bank = await make()
    await bank.buy("o1", "100.00")
    crowd = await database.create(points_db, name="crowd", size=50)
    bank.pool, own = crowd, bank.pool
    try:
        for _ in range(100):
            answers = await asyncio.gather(
                *(bank.hold(100) for _ in range(50)), return_exceptions=True
            )
            won = [answer for answer in answers if isinstance(answer, Hold)]
            lost = [answer for answer in answers if isinstance(answer, Refused)]
            assert (len(won), len(lost)) == (1, 49)
            assert {refused.facts["available"] for refused in lost} == {0}
            await bank.release(won[0])
    finally:
        bank.pool = own
        await crowd.close()
    assert await bank.available() == 100
    assert await bank.violations() == []


async def test_points_go_from_one_customer_to_another_with_their_dates(
    make: Callable[..., Any],
) -> None:
    bank: Bank = await make(transfers=True)
    await bank.buy("o1", "100.00")
    await bank.buy("o2", "10.00", customer="c2")
    give = Transfers(bank.program)
    done = await bank.do(lambda w: give.transfer(w, "c1", "c2", 60))
    ends = await bank.pool.fetchval("SELECT expires_at FROM entries WHERE kind = 'earned' LIMIT 1")
    assert [(row.points, row.expires_at) for row in done.given] == [(60, ends)]
    assert (await bank.available(), await bank.available("c2")) == (40, 70)
    refusals = {
        "insufficient-points": give.transfer,
    }
    for code in refusals:
        refused = await bank.refused(bank.do(lambda w: give.transfer(w, "c1", "c2", 41)))
        assert refused.code == code
    same = await bank.refused(bank.do(lambda w: give.transfer(w, "c1", "c1", 1)))
    assert same.code == "same-customer"
    unknown = await bank.refused(bank.do(lambda w: give.transfer(w, "c1", "c9", 1)))
    assert unknown.code == "customer-not-found"
    forbidden = Transfers(with_rules(bank.program, transfers=False))
    not_allowed = await bank.refused(bank.do(lambda w: forbidden.transfer(w, "c1", "c2", 1)))
    assert not_allowed.code == "transfers-not-allowed"
    assert await bank.violations() == []


def _unused() -> tuple[Any, ...]:
    return (line,)
