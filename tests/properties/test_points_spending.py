"""What must hold of spending and of deficits, whatever the lots, holds and refunds."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.points.domain import settlement, spending
from services.points.domain.settlement import (
    COVERED,
    Cover,
    Dates,
    Moved,
    Movement,
    Reserve,
    WriteOff,
)
from services.points.domain.spending import Part, Spendable

START = datetime(2027, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
POINTS = st.integers(0, 100)
DAYS = st.integers(0, 30)


@st.composite
def spendables(draw: st.DrawFn) -> list[Spendable]:
    found = []
    for number in range(draw(st.integers(0, 6))):
        points = draw(st.integers(0, 60))
        begins = START + DAY * draw(DAYS)
        lasts = draw(st.none() | DAYS)
        ends = None if lasts is None else begins + DAY * (lasts + 1)
        reserved = draw(st.integers(0, points))
        found.append(Spendable(UUID(int=number), points, reserved, begins, begins, ends))
    return found


@given(spendables(), POINTS, DAYS)
def test_an_allocation_is_whole_within_its_lots_and_in_spend_order(
    lots: list[Spendable], points: int, days: int
) -> None:
    at = START + DAY * days
    available, deficit = spending.means(lots, at)
    parts = spending.allocate(lots, points, at)
    assert (parts is None) == (points > available)
    assert deficit == 0
    if parts is None:
        return
    by_id = {lot.lot_id: lot for lot in lots}
    assert sum(part.points for part in parts) == points
    for part in parts:
        lot = by_id[part.lot_id]
        assert lot.counts(at)
        assert 0 < part.points <= lot.points - lot.reserved
    order = [lot.lot_id for lot in spending.spend_order(lots)]
    places = [order.index(part.lot_id) for part in parts]
    assert places == sorted(places)
    # Whatever could have gone before the last lot is gone.
    last = places[-1] if places else 0
    for lot_id in order[:last]:
        lot = by_id[lot_id]
        taken = dict(parts).get(lot_id, 0)
        assert not lot.counts(at) or taken == lot.points - lot.reserved


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_giving_back_bit_by_bit_ends_where_capturing_less_does(
    sizes: list[int], chance: random.Random
) -> None:
    parts = [Part(UUID(int=n), size) for n, size in enumerate(sizes)]
    captured = chance.randint(1, sum(sizes))
    taken = defaultdict(int, spending.first(parts, captured))
    restored = 0
    while restored < captured:
        step = chance.randint(1, captured - restored)
        for lot, points in spending.given_back(parts, captured, restored, step):
            taken[lot] -= points
        restored += step
        left = {lot: points for lot, points in taken.items() if points}
        assert left == dict(spending.first(parts, captured - restored))


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[UUID, Dates], list[Movement], list[Reserve]]:
    """Lots, what moved in them (now and then below 0), and what holds kept."""
    lots: dict[UUID, Dates] = {}
    movements: list[Movement] = []
    reserves: list[Reserve] = []
    for number in range(draw(st.integers(1, 5))):
        lot = UUID(int=number)
        occurred = START + DAY * draw(DAYS)
        available = occurred + DAY * draw(st.integers(0, 5))
        lasts = draw(st.none() | st.integers(1, 20))
        ends = None if lasts is None else available + DAY * lasts
        lots[lot] = Dates(occurred, available, ends)
        movements.append(Movement(lot, occurred, draw(st.integers(1, 100))))
        for _ in range(draw(st.integers(0, 3))):
            at = occurred + DAY * draw(st.integers(0, 30))
            movements.append(Movement(lot, at, draw(st.integers(-80, 30))))
        if draw(st.booleans()):
            since = available + DAY * draw(st.integers(0, 5))
            reserves.append(Reserve(lot, since, since + DAY * 2, draw(st.integers(1, 30))))
    return lots, movements, reserves


History = tuple[dict[UUID, Dates], list[Movement], list[Reserve]]


@given(history=histories(), chance=st.randoms(use_true_random=False), write_off=st.booleans())
def test_who_pays_does_not_depend_on_the_order_of_telling(
    *, history: History, chance: random.Random, write_off: bool
) -> None:
    lots, movements, reserves = history
    shuffled, other = movements[:], reserves[:]
    chance.shuffle(shuffled)
    chance.shuffle(other)
    mixed = dict(sorted(lots.items(), key=lambda _: chance.random()))
    one = settlement.settle(lots, movements, reserves, write_off=write_off)
    two = settlement.settle(mixed, shuffled, other, write_off=write_off)
    assert sorted(one.covers) == sorted(two.covers)
    assert sorted(one.write_offs) == sorted(two.write_offs)


@given(history=histories(), write_off=st.booleans())
def test_covers_cancel_out_and_nobody_owes_who_could_pay(
    *, history: History, write_off: bool
) -> None:
    lots, movements, reserves = history
    found = settlement.settle(lots, movements, reserves, write_off=write_off)
    by_instant: dict[datetime, int] = defaultdict(int)
    for cover in found.covers:
        by_instant[cover.occurred_at] += cover.points
    assert set(by_instant.values()) <= {0}
    last = max(movement.occurred_at for movement in movements)
    for at in {last, last + DAY * 3, last + DAY * 10}:
        left: dict[UUID, int] = defaultdict(int)
        for lot, when, points in movements:
            left[lot] += points if when <= at else 0
        settled: list[Cover | WriteOff] = [*found.covers, *found.write_offs]
        for one in settled:
            left[one.lot_id] += one.points if one.occurred_at <= at else 0
        deficit = sum(max(0, -points) for points in left.values())
        free = 0
        for lot, dates in lots.items():
            held = sum(r.points for r in reserves if r.lot_id == lot and r.since < at < r.until)
            if dates.available_at <= at and (dates.expires_at is None or at < dates.expires_at):
                free += max(0, left[lot] - held)
        assert not (deficit and free)
        if write_off:
            assert deficit == 0


@given(history=histories(), write_off=st.booleans())
def test_what_is_written_needs_nothing_more(*, history: History, write_off: bool) -> None:
    lots, movements, reserves = history
    lines = [line(lots, m.lot_id, m.occurred_at, m.points, "moved") for m in movements]
    written = settlement.changes(lines, reserves, write_off=write_off)
    lines += [
        line(
            lots,
            change.lot_id,
            change.occurred_at,
            change.points,
            COVERED if isinstance(change, Cover) else settlement.WRITTEN_OFF,
        )
        for change in written
    ]
    assert settlement.changes(lines, reserves, write_off=write_off) == []


def line(lots: dict[UUID, Dates], lot: UUID, at: datetime, points: int, kind: str) -> Moved:
    dates = lots[lot]
    opens = at == dates.occurred_at and kind == "moved"
    entry = lot if opens else UUID(int=10**6)
    return Moved(1, entry, lot, kind, points, at, dates.available_at, dates.expires_at)


def test_golden_deficit() -> None:
    """Balance 50, clawback 70 of what is spent: −20; then 100 are earned: 80 are left in the new lot."""
    spent, rest, fresh = UUID(int=1), UUID(int=2), UUID(int=3)
    late = START + 3 * DAY
    lots = {
        spent: Dates(START, START, None),
        rest: Dates(START, START, None),
        fresh: Dates(late, late, None),
    }
    told = [
        Movement(spent, START, 70),
        Movement(rest, START, 50),
        Movement(spent, START + DAY, -70),
        Movement(spent, START + 2 * DAY, -70),
    ]
    allowed = settlement.settle(lots, [*told, Movement(fresh, late, 100)], [], write_off=False)
    assert sorted(allowed.covers) == [
        Cover(START + 2 * DAY, spent, 50),
        Cover(START + 2 * DAY, rest, -50),
        Cover(late, spent, 20),
        Cover(late, fresh, -20),
    ]
    clamped = settlement.settle(lots, [*told, Movement(fresh, late, 100)], [], write_off=True)
    assert sorted(clamped.covers) == sorted(allowed.covers)[:2]
    assert clamped.write_offs == [WriteOff(START + 2 * DAY, spent, 20)]
