"""Whatever is asked for at once: it ends as if it had been asked for one after the other, in some order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count, permutations
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.points.api.spending import by_itself, deciding
from services.points.domain.spending import Refused
from services.points.handlers.spending_decisions import Asked, Capture, Release, Wish
from shared import clock
from shared.db import pool as database
from shared.db.idempotency import Claim
from shared.http import groups as sharing
from shared.http.bell import Bell
from shared.http.commands import Desk
from shared.http.groups import Groups
from shared.ids import digest_uuid
from shared.program import Program
from tests.fixtures.bank import bank

pytestmark = pytest.mark.servers

CUSTOMERS, PURCHASES, HELD = 2, (5, 7), (4, 3)
HAS = sum(PURCHASES)
_numbers = count(1)


@dataclass(frozen=True)
class Ask:
    """A command of customer ``who``: points to hold, to spend, or to take or let go of their hold ``which``."""

    kind: str
    who: int
    points: int
    which: int


ASKS = st.builds(
    Ask,
    st.sampled_from(["hold", "spend", "capture", "release"]),
    st.integers(0, CUSTOMERS - 1),
    st.integers(1, 9),
    st.integers(0, len(HELD) - 1),
)


@dataclass
class Account:
    """One customer on paper: what is free, and the points of holds that are live."""

    free: int = HAS - sum(HELD)
    live: dict[int, int] = field(default_factory=lambda: dict(enumerate(HELD)))
    held: int = sum(HELD)

    def do(self, ask: Ask) -> str:
        """What it is answered."""
        if ask.kind in ("hold", "spend"):
            if ask.points > self.free:
                return "insufficient-points"
            self.free -= ask.points
            self.held += ask.points if ask.kind == "hold" else 0
            return "held" if ask.kind == "hold" else "captured"
        if ask.which not in self.live:
            return "hold-closed"
        if ask.kind == "capture" and ask.points > self.live[ask.which]:
            return "capture-exceeds-hold"
        points = self.live.pop(ask.which)
        self.held -= points
        self.free += points - (ask.points if ask.kind == "capture" else 0)
        return "captured" if ask.kind == "capture" else "released"


def possible(asked: Sequence[Ask], answers: Sequence[str], free: int, held: int) -> bool:
    """Whether some order gives each its answer, and ends there."""
    for order in permutations(range(len(asked))):
        account = Account()
        told = all(account.do(asked[n]) == answers[n] for n in order)
        if told and (account.free, account.held) == (free, held):
            return True
    return False


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    asked=st.lists(ASKS, min_size=2, max_size=9), doors=st.integers(1, 2), slots=st.integers(1, 2)
)
def test_commands_at_once_end_as_if_in_some_order(
    points_db: str, program: Program, asked: list[Ask], doors: int, slots: int
) -> None:
    asked = [ask for who in range(CUSTOMERS) for ask in asked if ask.who == who][:9]
    asyncio.run(_at_once(points_db, program, asked, doors, slots))


async def _at_once(dsn: str, program: Program, asked: list[Ask], doors: int, slots: int) -> None:
    run = next(_numbers)
    names = [f"run{run}-{who}" for who in range(CUSTOMERS)]
    async with bank(dsn, program) as shop:
        shop.offset = run * 1000
        shop.now = clock.now()
        for name in names:
            for number, amount in enumerate(PURCHASES):
                bought = shop.now - timedelta(hours=number + 1)
                await shop.buy(f"{name}-{number}", f"{amount}.00", bought, customer=name)
        holds = [[await shop.hold(points, name) for points in HELD] for name in names]
        pools = [await database.create(dsn, name="door", size=4) for _ in range(doors)]
        try:
            before, sharing.AT_ONCE = sharing.AT_ONCE, slots
            waiting = [
                Groups(Desk(pool, Bell(), "/services/points"), deciding(shop.program))
                for pool in pools
            ]
            answers = await asyncio.gather(
                *(
                    _answer(waiting[n % doors], shop.program, _command(ask, names, holds[ask.who]))
                    for n, ask in enumerate(asked)
                )
            )
        finally:
            sharing.AT_ONCE = before
            for pool in pools:
                await pool.close()
        shop.now = clock.now()
        for who, name in enumerate(names):
            balance = await shop.balance(customer=name)
            mine = [n for n, ask in enumerate(asked) if ask.who == who]
            assert possible(
                [asked[n] for n in mine], [answers[n] for n in mine], balance["available"],
                balance["held"],
            ), (asked, answers, balance)  # fmt: skip
        assert await shop.violations() == []


def _command(ask: Ask, names: Sequence[str], holds: Sequence[Any]) -> Asked:
    if ask.kind == "capture":
        return Capture(holds[ask.which].id, ask.points)
    if ask.kind == "release":
        return Release(holds[ask.which].id)
    return Wish(names[ask.who], ask.points, spent=ask.kind == "spend")


async def _answer(waiting: Groups[Asked], program: Program, asked: Asked) -> str:
    key: UUID = uuid4()
    claim = Claim(digest_uuid("test", str(key)), "test", "test", str(key), key)
    try:
        outcome = await waiting.do(claim, asked, by_itself(program, asked))
    except Refused as refused:
        return refused.code
    return str(msgspec.json.decode(outcome.kept.body)["state"])
