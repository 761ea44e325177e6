"""Anything, in any order, at any time: the ledger on real PostgreSQL does what a model on paper does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

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
from shared.program import Program
from tests.fixtures import ledger_model
from tests.fixtures.bank import Bank, bank, lot
from tests.fixtures.ledger_model import Model, NoError

pytestmark = pytest.mark.servers

T = TypeVar("T")
EXAMPLES, STEPS, AUDITS_EVERY = 8, 50, 10
FIRST = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(minutes=1)
LASTS = timedelta(hours=6)
SOME = st.integers(1, 120)
PART = st.none() | st.integers(1, 60)
WHICH = st.integers(0, 99)


class Ledger(RuleBasedStateMachine):
    """A customer of the bank, and the same customer on paper."""

    bank: ClassVar[Bank]
    loop: ClassVar[asyncio.AbstractEventLoop]
    numbers: ClassVar[Iterator[int]]

    @initialize()
    def begin(self) -> None:
        self.customer = f"customer-{next(self.numbers)}"
        self.model = Model()
        self.holds: list[tuple[Hold, ledger_model.Hold]] = []
        self.bought: list[tuple[str, int]] = []
        self.bank.now = FIRST
        self.instants = [FIRST]
        self.steps = 0
        self.buy(50, 0)

    @rule(points=SOME, days=st.sampled_from((0, 0, 0, 3, 20, 50)))
    def buy(self, points: int, days: int) -> None:
        """Also late: told long after it happened."""
        at = self.tick() - timedelta(days=days)
        order = f"order-{next(self.numbers)}"
        available, expires = lots.dates(at, self.bank.program)
        self.run(self.bank.buy(order, f"{points}.00", at, self.customer))
        self.model.credit(lot(order), points, at, available, expires)
        self.bought.append((order, points))

    @rule(which=st.integers(0, 99), points=SOME)
    def refund(self, which: int, points: int) -> None:
        """Of any purchase, by amount, as often as one likes."""
        order, bought = self.bought[which % len(self.bought)]
        at = self.tick()
        number = f"refund-{next(self.numbers)}"
        self.run(self.bank.refund(order, f"{min(points, bought)}.00", number, self.customer))
        self.model.refund(lot(order), min(points, bought), at)

    @rule(points=SOME)
    def hold(self, points: int) -> None:
        self.tick()
        done = self.both(
            lambda: self.model.hold(points, self.bank.now, LASTS),
            lambda: self.bank.hold(points, self.customer, lasts=LASTS),
        )
        if done is not None:
            on_paper, held = done
            assert [(str(p.lot_id), p.points) for p in held.parts] == on_paper.parts
            self.holds.append((held, on_paper))

    @rule(points=SOME)
    def spend(self, points: int) -> None:
        """At a till, in one step."""
        now = self.tick()

        def on_paper() -> ledger_model.Hold:
            hold = self.model.hold(points, now, LASTS)
            self.model.capture(hold, points, now)
            return hold

        done = self.both(on_paper, lambda: self.bank.spend(points, self.customer))
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

    @rule(points=st.integers(-80, 80).filter(bool))
    def adjust(self, points: int) -> None:
        now = self.tick()
        give = Corrections(self.bank.program)
        cause = Cause(uuid4(), "operator")
        wanted = Adjustment(points, "goodwill", "late parcel", None)

        def on_paper() -> None:
            if points < 0:
                self.model.debit(-points, now)

        done = self.both(
            on_paper,
            lambda: self.bank.do(lambda w: give.adjust(w, self.customer, wanted, cause)),
            (Refused, corrections.Refused),
        )
        if done is not None and points > 0:
            assert isinstance(done[1], Booked)
            (line,) = done[1].lines
            expires = line["expires_at"]
            assert expires == corrections.expiry(now, self.bank.program)
            self.model.credit(str(line["lot_id"]), points, now, now, expires)

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
        """Now, before and to come; and nothing that must hold is broken."""
        now = self.bank.now
        past = self.instants[:: max(1, len(self.instants) // 4)]
        for at in (None, *past, now + timedelta(hours=3), now + timedelta(days=25)):
            found = self.run(self.bank.balance(at, self.customer))
            assert found == self.model.balance(at or now), at
        self.steps += 1
        if self.steps % AUDITS_EVERY == 0:
            assert self.run(self.bank.violations()) == []

    def both(
        self,
        on_paper: Callable[[], Any],
        for_real: Callable[[], Awaitable[T]],
        refusals: tuple[type[Exception], ...] = (Refused,),
    ) -> tuple[Any, T] | None:
        """Both do it, or both refuse; and what is refused changes nothing."""
        paper = None
        try:
            paper = on_paper()
        except NoError:
            before = self.run(self.bank.snapshot())
            with suppress(*refusals):
                self.run(for_real())
                raise AssertionError("the model refuses this") from None
            assert self.run(self.bank.snapshot()) == before
            return None
        return paper, self.run(for_real())

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
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                # Twenty steps can be read as they are; to shorten them would take minutes of the database.
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        loop.run_until_complete(context.__aexit__(None, None, None))
        loop.close()
