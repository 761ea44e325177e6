"""Corrections while time goes by: lots expire, holds end, refunds come, jobs write down what happened."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.points.domain import corrections, spending
from services.points.domain.corrections import Adjustment
from services.points.handlers.corrections import Booked, Cause, Corrections
from services.points.jobs.due import tell_due
from services.points.jobs.holds import time_out
from shared.clock import Period
from shared.program import Program
from tests.fixtures.bank import DAY, Bank, bank, with_rules

pytestmark = pytest.mark.servers

# Long ago enough that no walk leads beyond the database's own clock, by which its checks go.
START = datetime(2024, 1, 1, 12, tzinfo=UTC)
STEPS = (
    "buy",
    "give",
    "take",
    "reverse",
    "extend",
    "hold",
    "capture",
    "refund",
    "tell",
    "wait",
    "wait",
)


class Clerk:
    """Does what chance says at the bank, and remembers what may be undone."""

    def __init__(self, given_bank: Bank, chance: random.Random) -> None:
        self.bank, self.chance = given_bank, chance
        self.bank.now = START
        self.desk = Corrections(given_bank.program)
        self.orders = 0
        self.holds: list[spending.Hold] = []

    async def give(self, points: int, days: int | None = None) -> Booked:
        until = None if days is None else self.bank.now + days * DAY
        wanted = Adjustment(points, "goodwill", "x", until)
        done = await self.bank.do(lambda w: self.desk.adjust(w, "c1", wanted, cause()))
        assert isinstance(done, Booked)
        return done

    async def step(self, name: str) -> None:
        """One step; what the rules refuse is refused, and that is all."""
        before = await self.bank.snapshot()
        try:
            await getattr(self, f"_{name}")()
        except (corrections.Refused, spending.Refused):
            assert await self.bank.snapshot() == before

    async def _buy(self) -> None:
        self.orders += 1
        await self.bank.buy(f"o{self.orders}", f"{self.chance.randint(1, 90)}.00")

    async def _give(self) -> None:
        await self.give(self.chance.randint(1, 60), self.chance.choice((None, 1, 3, 10)))

    async def _take(self) -> None:
        await self.give(-self.chance.randint(1, 120))

    async def _reverse(self) -> None:
        chosen = self.chance.choice(
            await self.bank.pool.fetch("SELECT * FROM entries ORDER BY seq")
        )
        await self.bank.do(lambda w: self.desk.reverse(w, chosen["entry_id"], "x", cause()))

    async def _extend(self) -> None:
        chosen = self.chance.choice(
            await self.bank.pool.fetch("SELECT * FROM entries ORDER BY seq")
        )
        until = self.bank.now + self.chance.randint(2, 60) * DAY
        await self.bank.do(lambda w: self.desk.extend(w, chosen["lot_id"], until, "x", cause()))

    async def _hold(self) -> None:
        self.holds.append(await self.bank.hold(self.chance.randint(1, 60)))

    async def _capture(self) -> None:
        if self.holds:
            await self.bank.capture(self.holds.pop(self.chance.randrange(len(self.holds))))

    async def _refund(self) -> None:
        order = self.chance.randint(1, self.orders)
        await self.bank.refund(f"o{order}", f"{self.chance.randint(1, 50)}.00", str(uuid4()))

    async def _tell(self) -> None:
        now, program = self.bank.now, self.bank.program
        await time_out(self.bank.pool, lambda: None, program, now)
        await tell_due(self.bank.pool, lambda: None, program, now, settle=timedelta(0))

    async def _wait(self) -> None:
        self.bank.now += self.chance.choice((timedelta(minutes=20), DAY, 4 * DAY, 35 * DAY))


def cause() -> Cause:
    return Cause(uuid4(), "clerk")


def short_lived(program: Program) -> Program:
    """Points of purchases live for a month: long enough to be extended, short enough to expire."""
    expiry = program.earning.expiry.model_copy(update={"after": Period(days=30), "round_up": None})
    return with_rules(program, {"expiry": expiry})


@given(seed=st.integers(0, 2**32), steps=st.lists(st.sampled_from(STEPS), min_size=5, max_size=20))
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_books_are_right_after_every_step(
    seed: int, steps: list[str], database: Callable[[str], str], program: Program
) -> None:
    dsn = database("points")

    async def walk() -> None:
        async with bank(dsn, short_lived(program)) as found:
            clerk = Clerk(found, random.Random(seed))
            await clerk.step("buy")
            for name in steps:
                found.now += timedelta(minutes=1)
                await clerk.step(name)
                told = await found.balance()
                sums = await found.pool.fetchval(
                    "SELECT coalesce(sum(greatest(points, 0)), 0)::int FROM (SELECT sum(points) AS points"
                    " FROM entries WHERE kind <> 'expired' AND (expires_at IS NULL OR expires_at > $1)"
                    " AND (kind <> 'covered' OR occurred_at <= $1) GROUP BY lot_id) AS lots",
                    found.now,
                )
                assert told["available"] + told["held"] + told["pending"] <= max(sums, told["held"])
                assert await found.violations() == []

    asyncio.run(walk())


async def test_what_expired_is_not_taken_again_by_a_reversal(
    points_db: str, program: Program
) -> None:
    async with bank(points_db, short_lived(program)) as found:
        clerk = Clerk(found, random.Random(1))
        await found.buy("o1", "100.00")
        given_then = await clerk.give(30, 3)
        found.now = START + 5 * DAY
        await clerk.step("tell")
        entry = given_then.lines[0]["entry_id"]
        await found.do(lambda w: clerk.desk.reverse(w, entry, "x", cause()))
        assert await found.balance() == {"available": 100, "pending": 0, "held": 0, "deficit": 0}
        found.now += DAY
        await clerk.step("tell")
        assert await found.pool.fetchval("SELECT balance FROM accounts") == 100
        assert await found.violations() == []


async def test_an_extended_lot_expires_at_its_new_date(points_db: str, program: Program) -> None:
    async with bank(points_db, short_lived(program)) as found:
        clerk = Clerk(found, random.Random(1))
        await found.buy("o1", "100.00")
        lot = await found.pool.fetchval("SELECT lot_id FROM entries")
        until = START + 50 * DAY
        await found.do(lambda w: clerk.desk.extend(w, lot, until, "x", cause()))
        for days, available in ((40, 100), (51, 0)):
            found.now = START + days * DAY
            await clerk.step("tell")
            assert await found.available() == available
        expired = "SELECT points, lot_id <> $1, occurred_at FROM entries WHERE kind = 'expired'"
        assert [tuple(row) for row in await found.pool.fetch(expired, lot)] == [(-100, True, until)]
        assert await found.violations() == []
