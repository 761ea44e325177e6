"""Inactivity expiry: all that moves ends together, some time after the customer was active last."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.points import views
from services.points.domain import lots
from services.points.domain.corrections import Adjustment
from services.points.domain.expiry import EXPIRED
from services.points.domain.statement import draw_up
from services.points.handlers.corrections import Booked, Cause, Corrections
from services.points.handlers.transfers import Transfers
from services.points.jobs.due import tell_due
from services.points.views import expiries, reports
from shared.clock import Period
from shared.program import Program
from tests.fixtures.bank import Bank, bank, lot, with_rules
from tests.fixtures.events import activity, card, merge, purchase
from tests.unit.points.samples import program as rules

pytestmark = pytest.mark.servers

DAY = timedelta(days=1)
# 1 point a pound; in London, where midnight is an hour earlier by UTC in summer.
KEPT = rules(
    {
        "expiry": {"kind": "inactivity", "after": "P6M"},
        "activities": [
            {"activity": "review", "points": 5},
            {"activity": "survey", "points": 5, "limit": {"times": 1}},
        ],
    },
    levels=[],
    transfers=True,
)


def on(month: int, day: int = 10, year: int = 2024, hour: int = 10) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


@asynccontextmanager
async def shop(dsn: str, program: Program = KEPT) -> AsyncIterator[Bank]:
    async with bank(dsn, program, transfers=True) as found:
        yield found


async def tell(found: Bank) -> None:
    await tell_due(found.pool, lambda: None, found.program, found.now, settle=timedelta(0))


async def told(found: Bank) -> list[tuple[Any, ...]]:
    rows = await found.pool.fetch(
        "SELECT order_id, points, occurred_at FROM entries WHERE kind = 'expired' ORDER BY seq"
    )
    return [tuple(row) for row in rows]


async def ends(found: Bank, customer: str = "c1") -> dict[str, Any]:
    """The end of each lot, by its order."""
    async with found.pool.acquire() as conn:
        rows = await views.lots(conn, customer, found.now, None, 100)
    return {row["order_id"] or str(row["lot_id"]): row["expires_at"] for row in rows or ()}


async def give(
    found: Bank, points: int, until: datetime | None = None, customer: str = "c1"
) -> Booked:
    wanted, cause = Adjustment(points, "goodwill", "why not", until), Cause(uuid4(), "someone")
    handler = Corrections(found.program)
    booked = await found.do(lambda work: handler.adjust(work, customer, wanted, cause))
    assert isinstance(booked, Booked)
    return booked


async def test_golden_each_purchase_moves_the_end_of_all_points(points_db: str) -> None:
    async with shop(points_db) as found:
        found.now = on(1)
        await found.buy("first", "100.00")
        # The last valid day is 10 July, in summer time.
        assert await ends(found) == {"first": datetime(2024, 7, 10, 23, tzinfo=UTC)}
        found.now = on(5)
        await found.buy("second", "50.00")
        november = datetime(2024, 11, 11, tzinfo=UTC)
        assert await ends(found) == {"first": november, "second": november}
        found.now = on(8)
        assert await found.available() == 150
        async with found.pool.acquire() as conn:
            soon = await views.balance(conn, "c1", found.now, live=True)
            assert soon is not None
            assert (soon["expiring_points"], soon["expiring_at"]) == (150, november)
            # What was known in March, before the second purchase.
            march = await views.balance(conn, "c1", on(3), live=False)
            assert march is not None
            assert march["expiring_at"] == datetime(2024, 7, 10, 23, tzinfo=UTC)
            page = await expiries.expiries(conn, "c1", found.now, None, 10, live=True)
            assert [(row["expires_at"], row["points"]) for row in page or ()] == [(november, 150)]
        await tell(found)
        assert await told(found) == []
        found.now = november
        assert await found.available() == 0
        assert (await found.balance(november - timedelta(microseconds=1)))["available"] == 150
        await tell(found)
        assert sorted(await told(found)) == [("first", -100, november), ("second", -50, november)]
        assert await found.pool.fetchval("SELECT balance FROM accounts") == 0
        assert await found.violations() == []


async def test_what_comes_after_the_end_brings_nothing_back(points_db: str) -> None:
    async with shop(points_db) as found:
        found.now = on(1)
        await found.buy("first", "100.00")
        end = datetime(2024, 7, 10, 23, tzinfo=UTC)
        found.now = end
        # At the very end the points are gone, so this keeps none of them.
        await found.buy("second", "50.00")
        assert await found.available() == 50
        assert (await ends(found))["first"] == end
        found.now = on(12)
        await tell(found)
        assert await told(found) == [("first", -100, end)]
        assert await found.available() == 50
        assert await found.violations() == []


async def test_a_late_purchase_brings_back_what_was_written_as_lost(points_db: str) -> None:
    async with shop(points_db) as found:
        found.now = on(1)
        await found.buy("first", "100.00")
        end = datetime(2024, 7, 10, 23, tzinfo=UTC)
        found.now = on(8)
        await tell(found)
        assert await told(found) == [("first", -100, end)]
        await found.pool.execute("DELETE FROM outbox")
        # It took place in June, and comes in August: the points never were lost.
        await found.buy("late", "20.00", on(6))
        assert await found.available() == 120
        assert (await found.balance(end + DAY))["available"] == 120
        found.now += timedelta(minutes=2)
        await tell(found)
        assert await told(found) == [("first", -100, end), ("first", 100, end)]
        assert await found.pool.fetchval("SELECT balance FROM accounts") == 120
        assert await found.violations() == []
        # And now they end in December, once.
        found.now = on(1, year=2025)
        await tell(found)
        december = datetime(2024, 12, 11, tzinfo=UTC)
        assert (await told(found))[2:] == [("first", -100, december), ("late", -20, december)]
        assert await found.violations() == []


async def test_a_late_purchase_moves_a_loss_that_remains_one(points_db: str) -> None:
    async with shop(points_db) as found:
        found.now = on(1, year=2023)
        await found.buy("first", "100.00")
        found.now = on(8)
        await tell(found)
        await found.buy("late", "20.00", on(6, year=2023))
        found.now += timedelta(minutes=2)
        await tell(found)
        july, december = datetime(2023, 7, 10, 23, tzinfo=UTC), datetime(2023, 12, 11, tzinfo=UTC)
        assert sorted(await told(found)) == [
            ("first", -100, july),
            ("first", -100, december),
            ("first", 100, july),
            ("late", -20, december),
        ]
        assert await found.available() == 0
        async with found.pool.acquire() as conn:
            sums = await reports.sums(conn, found.now, found.now, found.program.zone)
        assert {key: n for key, n in sums.items() if n and key[1] == EXPIRED} == {
            ("2023-12", EXPIRED): -120
        }
        assert await found.violations() == []


async def test_rewarded_activities_keep_points_and_spending_does_not(points_db: str) -> None:
    async with shop(points_db) as found:
        found.now = on(1)
        await found.buy("first", "100.00")
        found.now = on(4)
        await found.spend(10)
        assert (await ends(found))["first"] == datetime(2024, 7, 10, 23, tzinfo=UTC)
        reviewed = activity("review", at="2024-05-10T10:00:00Z")
        found.now = on(5)
        await found.send(reviewed["data"], reviewed["type"], "treue.activities")
        november = datetime(2024, 11, 11, tzinfo=UTC)
        assert set((await ends(found)).values()) == {november}
        found.now = on(9)
        hold = await found.spend(80)
        assert [part.points for part in hold.parts] == [80]
        assert await found.available() == 15
        found.now = on(10)
        await found.restore(hold, 30)
        assert await found.available() == 45
        assert await found.violations() == []


async def test_goodwill_moves_along_unless_it_has_its_own_end(points_db: str) -> None:
    async with shop(points_db) as found:
        found.now = on(1)
        await found.buy("first", "100.00")
        own = on(9, 1)
        found.now = on(2)
        (fixed,), (moving,) = (
            (await give(found, 7, own)).lines,
            (await give(found, 8)).lines,
        )
        after = await ends(found)
        # Goodwill is nothing that the customer did: it keeps no other points.
        assert after["first"] == datetime(2024, 7, 10, 23, tzinfo=UTC)
        assert after[str(moving["lot_id"])] == datetime(2024, 8, 10, 23, tzinfo=UTC)
        found.now = on(5)
        await found.buy("second", "50.00")
        november = datetime(2024, 11, 11, tzinfo=UTC)
        assert await ends(found) == {
            "first": november,
            "second": november,
            str(fixed["lot_id"]): own,
            str(moving["lot_id"]): november,
        }
        # What ends first goes first.
        hold = await found.hold(10)
        assert str(hold.parts[0].lot_id) == str(fixed["lot_id"])
        # An operator's extension moves on too.
        longer, cause = on(12, 31), Cause(uuid4(), "someone")
        handler = Corrections(found.program)
        (_, rest) = (
            await found.do(
                lambda work: handler.extend(work, moving["lot_id"], longer, "kept", cause)
            )
        ).lines
        assert (await ends(found))[str(rest["lot_id"])] == longer
        found.now = on(9)
        await found.buy("third", "1.00")
        march = datetime(2025, 3, 11, tzinfo=UTC)
        assert {name: end for name, end in (await ends(found)).items() if end != march} == {
            str(fixed["lot_id"]): own
        }
        found.now = on(4, year=2025)
        await tell(found)
        assert await found.available() == 0
        assert await found.violations() == []


async def test_points_that_are_given_move_with_the_receiver(points_db: str) -> None:
    async with shop(points_db) as found:
        found.now = on(1)
        await found.buy("first", "100.00")
        await found.buy("other", "1.00", customer="c2")
        transfers = Transfers(found.program)
        found.now = on(3)
        done = await found.do(lambda work: transfers.transfer(work, "c1", "c2", 40))
        (given,) = done.given
        july = datetime(2024, 7, 10, 23, tzinfo=UTC)
        assert (await ends(found, "c2"))[str(given.lot_id)] == july
        found.now = on(5)
        await found.buy("second", "50.00")
        assert (await ends(found, "c2"))[str(given.lot_id)] == july
        await found.buy("another", "2.00", customer="c2")
        assert set((await ends(found, "c2")).values()) == {datetime(2024, 11, 11, tzinfo=UTC)}
        assert await found.violations() == []


async def test_who_was_merged_is_active_under_either_id(points_db: str) -> None:
    async with shop(points_db) as found:
        found.now = on(1)
        await found.buy("first", "100.00")
        await found.buy("second", "10.00", customer="c2")
        found.now = on(5)
        await found.buy("third", "1.00", customer="c2")
        found.now = on(6)
        merged = merge("c2", "c1", at="2024-06-10T10:00:00Z")
        await found.send(merged["data"], merged["type"], "treue.activities")
        november = datetime(2024, 11, 11, tzinfo=UTC)
        assert await found.available() == 111
        assert set((await ends(found)).values()) == {november}
        found.now = on(7)
        await found.buy("fourth", "1.00", customer="c2")
        january = datetime(2025, 1, 11, tzinfo=UTC)
        assert set((await ends(found)).values()) == {january}
        found.now = january
        await tell(found)
        assert await found.available() == 0
        assert await found.violations() == []


async def test_what_was_spent_and_came_back_is_owed_and_paid_in_the_order_of_the_ends(
    points_db: str,
) -> None:
    async with shop(points_db) as found:
        found.now = on(1)
        await found.buy("first", "100.00")
        await found.spend(90)
        found.now = on(5)
        await found.buy("second", "50.00")
        found.now = on(8)
        await found.refund("first", "100.00")
        assert await found.available() == 0
        assert (await found.balance())["deficit"] == 40
        await found.buy("third", "60.00")
        assert await found.available() == 20
        assert (await found.lots())[lot("third")] == 20
        assert await found.violations() == []


async def test_points_of_before_keep_their_ends(points_db: str) -> None:
    fixed = rules({"expiry": {"after": "P6M"}}, levels=[])
    async with shop(points_db, fixed) as found:
        found.now = on(1)
        await found.buy("first", "100.00")
    async with shop(points_db) as found:
        found.now, found.offset = on(5), 1
        await found.buy("second", "50.00")
        assert await ends(found) == {
            "first": datetime(2024, 7, 10, 23, tzinfo=UTC),
            "second": datetime(2024, 11, 11, tzinfo=UTC),
        }
        assert await found.violations() == []


async def test_a_hold_is_refused_when_all_has_ended(points_db: str) -> None:
    async with shop(points_db) as found:
        found.now = on(1)
        await found.buy("first", "100.00")
        found.now = datetime(2024, 7, 10, 23, tzinfo=UTC)
        refused = await found.refused(found.hold(1))
        assert (refused.code, refused.facts["available"]) == ("insufficient-points", 0)


@pytest.mark.parametrize("late", [False, True])
async def test_an_act_that_turns_out_not_to_count_keeps_nothing(
    points_db: str, *, late: bool
) -> None:
    async with shop(points_db) as found:
        found.now = on(1)
        await found.buy("first", "100.00")
        # One review counts: the earlier one, however late it is told of.
        acts = [
            activity("survey", at="2024-02-10T10:00:00Z", reference="a"),
            activity("survey", at="2024-05-10T10:00:00Z", reference="b"),
        ]
        found.now = on(12)
        for told_, number in zip(reversed(acts) if late else acts, "12", strict=True):
            await found.send(told_["data"], told_["type"], "treue.activities", number)
            found.now += timedelta(minutes=2)
            await tell(found)
        august = datetime(2024, 8, 10, 23, tzinfo=UTC)
        found.now += timedelta(minutes=2)
        await tell(found)
        assert (await ends(found))["first"] == august
        rows = await found.pool.fetch(
            "SELECT occurred_at, sum(points)::int FROM entries WHERE kind = 'expired'"
            " AND order_id = 'first' GROUP BY 1 HAVING sum(points) <> 0"
        )
        assert [tuple(row) for row in rows] == [(august, -100)]
        assert await found.violations() == []


@pytest.mark.parametrize("late", [False, True])
async def test_a_purchase_with_a_blocked_card_keeps_nothing(points_db: str, *, late: bool) -> None:
    async with shop(points_db) as found:
        found.now = on(1)
        await found.buy("first", "100.00")
        found.now = on(8)
        strange = purchase("strange", None, "2024-06-10T10:00:00Z", card_number="4000")
        cards = [
            card("issued", "4000", at="2024-01-01T10:00:00Z"),
            card("blocked", "4000", at="2024-06-01T10:00:00Z"),
        ]
        await found.send(cards[0]["data"], cards[0]["type"], "treue.activities", "1")
        if late:
            await found.send(strange)
            assert await found.available() == 110
        await found.send(cards[1]["data"], cards[1]["type"], "treue.activities", "2")
        if not late:
            await found.send(strange)
        july = datetime(2024, 7, 10, 23, tzinfo=UTC)
        assert (await ends(found))["first"] == july
        assert await found.available() == 0
        found.now += timedelta(minutes=2)
        await tell(found)
        assert [line for line in await told(found) if line[0] == "first"] == [("first", -100, july)]
        assert await found.violations() == []


async def answers(found: Bank, customer: str, instants: Sequence[datetime]) -> list[Any]:
    """All that a customer can see, and what is written as lost in sum; orders without the customer's name."""
    async with found.pool.acquire() as conn:
        said: list[Any] = [
            tuple(await views.balance(conn, customer, at, live=False) or ()) for at in instants
        ]
        for at in instants[::5]:
            rows = await expiries.expiries(conn, customer, at, None, 10, live=False)
            said += [(at, row["expires_at"], row["points"]) for row in rows or ()]
        account, moves = await reports.moves(conn, customer) or (0, [])
        for year in (2022, 2023, 2024):
            drawn = draw_up(moves, {}, year, found.program.zone, found.now)
            flow = drawn.flow
            said.append((flow.opening, sorted(flow.kinds.items()), flow.closing))
        lost = await conn.fetch(
            "SELECT substr(order_id, 4), occurred_at, sum(points) FROM entries"
            " WHERE kind = 'expired' AND account_id = $1"
            " GROUP BY 1, 2 HAVING sum(points) <> 0 ORDER BY 1, 2",
            account,
        )
        return [*said, [tuple(row) for row in lost]]


async def modelled(found: Bank, customer: str, at: datetime) -> tuple[Any, ...]:
    """The same by the domain, which knows no SQL."""
    rows = await found.pool.fetch(
        "SELECT e.* FROM entries e JOIN accounts USING (account_id) WHERE customer_id = $1",
        customer,
    )
    names = ("lot_id", "kind", "points", "occurred_at", "available_at", "expires_at", "active_from")
    entries = [lots.Entry(row["entry_id"], *(row[name] for name in names)) for row in rows]
    balance = lots.balance(entries, at)
    soon = balance.expiring_next
    sums = (balance.available, balance.pending, balance.lifetime_earned)
    return (*sums, *((soon.points, soon.expires_at) if soon else (None, None)))


@pytest.mark.parametrize("wait", ["P0D", "P14D"])
@pytest.mark.parametrize("seed", range(3))
async def test_the_order_of_arrival_decides_nothing(points_db: str, seed: int, wait: str) -> None:
    chance = random.Random(seed)
    waiting = with_rules(KEPT, {"available_after": Period.parse(wait)})
    now = on(11)
    instants = [now - timedelta(days=days) for days in range(0, 1100, 30)]
    async with shop(points_db, waiting) as found:
        for number in range(8):
            bought = [
                (
                    f"o{place}",
                    now - timedelta(hours=chance.randint(1, 24000)),
                    chance.randint(1, 90),
                )
                for place in range(chance.randint(2, 9))
            ]
            in_order, shuffled = f"c{number}", f"d{number}"
            found.now = now
            for order, at, points in sorted(bought, key=lambda one: one[1]):
                await found.buy(f"{in_order}-{order}", f"{points}.00", at, in_order)
            chance.shuffle(bought)
            for order, at, points in bought:
                found.now = now
                await found.buy(f"{shuffled}-{order}", f"{points}.00", at, shuffled)
                if chance.random() < 0.5:
                    found.now = now - timedelta(days=chance.choice([0, 0, 200, 500]))
                    await tell(found)
        found.now = now + timedelta(minutes=2)
        await tell(found)
        for number in range(8):
            said = await answers(found, f"c{number}", instants)
            assert await answers(found, f"d{number}", instants) == said
            for at, row in zip(instants, said, strict=False):
                available, pending, _, _, earned, *soon = row
                expected = await modelled(found, f"d{number}", at)
                assert (available, pending, earned, *soon) == expected
        assert await found.violations() == []
