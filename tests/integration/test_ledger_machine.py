"""Anything, in any order, at any time: the ledger on real PostgreSQL does what a model on paper does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, ClassVar, TypeVar
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.points.domain import corrections, lots
from services.points.domain.corrections import Adjustment
from services.points.domain.spending import Hold, Refused
from services.points.handlers.corrections import Booked, Cause, Corrections
from services.points.jobs.due import tell_due
from services.points.jobs.holds import time_out
from shared.clock import Period
from shared.ids import digest_uuid
from shared.program import Program
from tests.fixtures import ledger_model
from tests.fixtures.bank import Bank, bank, lot
from tests.fixtures.ledger_model import Lot, Model, NoError, Return

pytestmark = pytest.mark.servers

T = TypeVar("T")
# TREUE_TEST_MACHINE=50 plays so many times as many games; the default takes some seconds.
GAMES, STEPS = 8 * int(os.environ.get("TREUE_TEST_MACHINE", "1")), 50
FIRST = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(minutes=1)
LASTS = timedelta(hours=6)
SOME = st.integers(1, 120)
PART = st.none() | st.integers(1, 60)
WHICH = st.integers(0, 99)
WHO = st.sampled_from((0, 0, 0, 1, 1, 2))
# Some come in between what has happened in the game, some before it all.
LATE = st.sampled_from(
    [timedelta()] * 3
    + [timedelta(minutes=minutes, seconds=30) for minutes in (3, 9, 30)]
    + [timedelta(days=days) for days in (3, 20, 50)]
)
REFUSALS = (Refused, corrections.Refused)


class Ledger(RuleBasedStateMachine):
    """Three customers of the bank, and the same on paper; some may turn out to be one."""

    bank: ClassVar[Bank]
    loop: ClassVar[asyncio.AbstractEventLoop]
    numbers: ClassVar[Iterator[int]]

    @initialize()
    def begin(self) -> None:
        self.customers = [f"customer-{next(self.numbers)}" for _ in range(3)]
        self.model = Model(lambda name, into: str(digest_uuid("merged", name, into)))
        self.holds: list[tuple[Hold, ledger_model.Hold]] = []
        self.lines: list[tuple[UUID, str, int]] = []
        # The last order is told of, held for or cancelled before it is bought.
        self.orders = [self.new_order()]
        self.bank.now = FIRST
        self.instants = [FIRST]
        for who in range(3):
            self.buy(who, 50, timedelta())

    @rule(who=WHO, points=SOME, late=LATE)
    def buy(self, who: int, points: int, late: timedelta) -> None:
        """Also late: told long after it happened, or after it was cancelled."""
        at = self.tick() - late
        order, customer = self.orders[-1], self.customers[who]
        available, expires = lots.dates(at, self.bank.program)
        self.run(self.bank.buy(order, f"{points}.00", at, customer))
        bought = Lot(customer, points, at, available, expires or ledger_model.NEVER, order)
        self.model.credit(lot(order), bought, self.bank.now)
        self.orders.append(self.new_order())

    @rule(which=WHICH, who=st.none() | WHO, points=SOME, late=LATE)
    def refund(self, which: int, who: int | None, points: int, late: timedelta) -> None:
        """Of any purchase, by amount, as often as one likes, as anybody's."""
        order, at = self.order(which), self.tick() - late
        number, named = f"refund-{next(self.numbers)}", self.named(who)
        self.run(self.bank.refund(order, f"{points}.00", number, named, at))
        self.model.refund(Return(at, order, points, named), self.bank.now)

    @rule(which=WHICH, who=st.none() | WHO, late=LATE)
    def cancel(self, which: int, who: int | None, late: timedelta) -> None:
        """Any order, also one that nobody has told of yet; what was spent on it comes back."""
        order, at, named = self.order(which), self.tick() - late, self.named(who)
        self.run(self.bank.cancel(order, named, at))
        self.model.refund(Return(at, order, None, named), self.bank.now)

    @rule(old=WHO, into=WHO, late=LATE)
    def merge(self, old: int, into: int, late: timedelta) -> None:
        """Anybody into anybody; also found out late."""
        at, names = self.tick() - late, (self.customers[old], self.customers[into])
        self.both(
            lambda: self.model.merge(*names, at, self.bank.now),
            lambda: self.bank.merge(*names, at),
        )

    @rule(who=WHO, points=SOME, which=st.none() | WHICH)
    def hold(self, who: int, points: int, which: int | None) -> None:
        self.tick()
        customer, order = self.customers[who], None if which is None else self.order(which)
        done = self.both(
            lambda: self.model.hold(customer, points, self.bank.now, LASTS, order),
            lambda: self.bank.hold(points, customer, lasts=LASTS, order_id=order),
        )
        if done is not None:
            on_paper, held = done
            assert [(str(p.lot_id), p.points) for p in held.parts] == on_paper.parts
            self.holds.append((held, on_paper))

    @rule(who=WHO, points=SOME, which=st.none() | WHICH)
    def spend(self, who: int, points: int, which: int | None) -> None:
        """At a till, in one step."""
        now = self.tick()
        customer, order = self.customers[who], None if which is None else self.order(which)

        def on_paper() -> ledger_model.Hold:
            hold = self.model.hold(customer, points, now, LASTS, order)
            self.model.capture(hold, points, now)
            return hold

        done = self.both(on_paper, lambda: self.bank.spend(points, customer, order_id=order))
        if done is not None:
            self.holds.append((done[1], done[0]))

    @precondition(lambda self: self.holds)
    @rule(which=WHICH, points=PART)
    def capture(self, which: int, points: int | None) -> None:
        self.tick()
        held, on_paper = self.pick(which, "held")
        part = on_paper.points if points is None else points
        self.both(
            lambda: self.model.capture(on_paper, part, self.bank.now),
            lambda: self.bank.capture(held, points),
        )

    @precondition(lambda self: self.holds)
    @rule(which=WHICH)
    def release(self, which: int) -> None:
        self.tick()
        held, on_paper = self.pick(which, "held")
        self.both(
            lambda: self.model.release(on_paper, self.bank.now), lambda: self.bank.release(held)
        )

    @precondition(lambda self: self.holds)
    @rule(which=WHICH, points=PART)
    def restore(self, which: int, points: int | None) -> None:
        self.tick()
        held, on_paper = self.pick(which, "captured")
        part = on_paper.captured - on_paper.restored if points is None else points
        self.both(
            lambda: self.model.restore(on_paper, part, self.bank.now),
            lambda: self.bank.restore(held, points),
        )

    @rule(who=WHO, points=st.integers(-80, 80).filter(bool))
    def adjust(self, who: int, points: int) -> None:
        now, customer = self.tick(), self.customers[who]
        give = Corrections(self.bank.program)
        cause = Cause(uuid4(), "operator")
        wanted = Adjustment(points, "goodwill", "late parcel", None)
        done = self.both(
            lambda: self.model.debit(customer, -points, now) if points < 0 else None,
            lambda: self.bank.do(lambda w: give.adjust(w, customer, wanted, cause)),
        )
        if done is None:
            return
        parts, booked = done
        assert isinstance(booked, Booked)
        lines = [(row["entry_id"], str(row["lot_id"]), row["points"]) for row in booked.lines]
        self.lines += lines
        if parts is not None:
            assert [(name, -taken) for _, name, taken in lines] == parts
            return
        expires = corrections.expiry(now, self.bank.program)
        gift = Lot(customer, points, now, now, expires or ledger_model.NEVER)
        self.model.credit(lines[0][1], gift, now)

    @precondition(lambda self: self.lines)
    @rule(which=WHICH)
    def reverse(self, which: int) -> None:
        """A line of a correction, once."""
        now, line = self.tick(), self.lines[which % len(self.lines)]
        undo, cause = Corrections(self.bank.program).reverse, Cause(uuid4(), "operator")
        self.both(
            lambda: self.model.reverse(*line, now),
            lambda: self.bank.do(lambda w: undo(w, line[0], "mistaken", cause)),
        )

    @rule(hours=st.sampled_from((1, 1, 2, 7, 24, 24 * 8, 24 * 31)))
    def wait(self, hours: int) -> None:
        self.bank.now += timedelta(hours=hours)

    @rule()
    def tell(self) -> None:
        """The jobs write down what time did."""
        now = self.bank.now
        program = self.bank.program
        self.run(time_out(self.bank.pool, lambda: None, program, now))
        self.run(tell_due(self.bank.pool, lambda: None, program, now, settle=timedelta(0)))

    @invariant()
    def agrees(self) -> None:
        """Now, before and to come, by every id, in every lot; and nothing that must hold is broken."""
        now = self.bank.now
        past = self.instants[:: max(1, len(self.instants) // 4)]
        for at in (None, *past, now + timedelta(hours=3), now + timedelta(days=25)):
            for customer in self.customers:
                found = self.run(self.bank.balance(at, customer))
                assert found == self.model.balance(customer, at or now), (customer, at)
        page = self.model.page(now)
        on_paper = {name: points for name, points in page.left.items() if points}
        assert self.run(self.bank.lots(*self.customers)) == on_paper
        assert self.run(self.bank.violations()) == []

    def both(
        self, on_paper: Callable[[], Any], for_real: Callable[[], Awaitable[T]]
    ) -> tuple[Any, T] | None:
        """Both do it, or both refuse; and what is refused changes nothing."""
        try:
            paper = on_paper()
        except NoError:
            before = self.run(self.bank.digest())
            with suppress(*REFUSALS):
                self.run(for_real())
                raise AssertionError("the model refuses this") from None
            assert self.run(self.bank.digest()) == before
            return None
        return paper, self.run(for_real())

    def order(self, which: int) -> str:
        return self.orders[-1 - which % len(self.orders)]

    def new_order(self) -> str:
        return f"order-{next(self.numbers)}"

    def named(self, who: int | None) -> str | None:
        return None if who is None else self.customers[who]

    def pick(self, which: int, state: str) -> tuple[Hold, ledger_model.Hold]:
        """Mostly one with which it can be done."""
        fitting = [pair for pair in self.holds if pair[1].state == state]
        choice = fitting if fitting and which % 5 else self.holds
        return choice[-1 - which % len(choice)]

    def run(self, doing: Awaitable[T]) -> T:
        return self.loop.run_until_complete(doing)

    def tick(self) -> datetime:
        self.bank.now += TICK
        self.instants.append(self.bank.now)
        return self.bank.now


@pytest.mark.parametrize("wait", ["P0D", "P2D"])
def test_the_ledger_does_what_the_model_does(points_db: str, program: Program, wait: str) -> None:
    loop = asyncio.new_event_loop()
    rules = {
        "available_after": Period.parse(wait),
        "expiry": program.earning.expiry.model_copy(
            update={"after": Period.parse("P40D"), "round_up": None}
        ),
    }
    context = bank(points_db, program, rules, timezone="UTC")
    opened = loop.run_until_complete(context.__aenter__())
    try:
        machine = type("Bound", (Ledger,), {"bank": opened, "loop": loop, "numbers": count()})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=GAMES,
                stateful_step_count=STEPS,
                deadline=None,
                # Fifty steps can be read as they are; to shorten them would take minutes of the database.
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        loop.run_until_complete(context.__aexit__(None, None, None))
        loop.close()
