"""What must hold of every correction, whatever the lots are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.points.domain import corrections
from services.points.domain.corrections import Adjustment, Line, Refused, Touched
from services.points.domain.spending import Spendable, means, spend_order
from shared.program import Program, load
from shared.program.corrections import Corrections

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DEMO = load(Path(__file__).parents[2] / "programs" / "demo.yaml")

days = st.integers(-400, 400).map(lambda number: timedelta(days=number))


def bounded(**rules: Any) -> Program:
    return DEMO.model_copy(update={"corrections": Corrections.model_construct(**rules)})


@st.composite
def a_lot(draw: st.DrawFn, least: int = 0) -> Spendable:
    points = draw(st.integers(least, 500))
    available = NOW + draw(days)
    length = draw(st.none() | st.integers(1, 500))
    return Spendable(
        lot_id=UUID(int=draw(st.integers(0, 2**64))),
        points=points,
        reserved=draw(st.integers(0, max(0, points))),
        occurred_at=available,
        available_at=available,
        expires_at=None if length is None else available + timedelta(days=length),
    )


def some_lots(least: int = 0) -> st.SearchStrategy[list[Spendable]]:
    return st.lists(a_lot(least), max_size=6, unique_by=lambda lot: lot.lot_id)


def adjustment(points: int, expires_at: datetime | None = None) -> Adjustment:
    return Adjustment(points, "goodwill", "because", expires_at)


@given(some_lots(), st.integers(1, 3000))
def test_a_debit_takes_exactly_what_it_says_from_open_lots_first_expiring_first(
    lots: list[Spendable], points: int
) -> None:
    available = means(lots, NOW).available
    if points > available:
        with pytest.raises(Refused) as refused:
            corrections.touched(adjustment(-points), lots, DEMO, NOW)
        assert (refused.value.code, refused.value.facts["available"]) == (
            "insufficient-points",
            available,
        )
        return
    found = corrections.touched(adjustment(-points), lots, DEMO, NOW)
    assert sum(part.points for part in found) == -points
    by_id = {lot.lot_id: lot for lot in lots}
    free = {lot.lot_id: lot.points - lot.reserved for lot in lots}
    for part in found:
        assert part.lot_id is not None
        lot = by_id[part.lot_id]
        assert lot.counts(NOW)
        assert -free[part.lot_id] <= part.points < 0
        assert (part.available_at, part.expires_at) == (lot.available_at, lot.expires_at)
    order = [lot.lot_id for lot in spend_order(lots) if lot.counts(NOW) and free[lot.lot_id]]
    assert [part.lot_id for part in found] == order[: len(found)]
    assert all(part.points == -free[part.lot_id] for part in found[:-1] if part.lot_id)


@given(some_lots(-500), st.integers(1, 3000))
def test_where_overdrawing_is_allowed_the_rest_is_one_lot_below_zero(
    lots: list[Spendable], points: int
) -> None:
    found = corrections.touched(adjustment(-points), lots, bounded(overdraw=True), NOW)
    assert sum(part.points for part in found) == -points
    own = [part for part in found if part.lot_id is None]
    available, deficit = means(lots, NOW)
    missing = max(0, points - (0 if deficit else available))
    assert [part.points for part in own] == ([-missing] if missing else [])


@given(st.integers(1, 10**9), some_lots(-500), st.none() | days)
def test_a_credit_is_one_lot_that_counts_at_once(
    points: int, lots: list[Spendable], ahead: timedelta | None
) -> None:
    until = None if ahead is None else NOW + ahead
    (part,) = corrections.touched(adjustment(points, until), lots, DEMO, NOW)
    assert (part.lot_id, part.points, part.available_at) == (None, points, NOW)
    assert part.expires_at is not None
    assert part.expires_at == until if until else part.expires_at > NOW + timedelta(days=364)


@given(a_lot(), st.none() | days)
def test_an_extension_moves_what_is_left_and_makes_nothing(
    lot: Spendable, ahead: timedelta | None
) -> None:
    until = None if ahead is None else NOW + ahead
    refused_rightly = False
    gone: Touched | None
    come: Touched | None
    try:
        gone, come = corrections.extended(lot, until, NOW)
    except Refused as refused:
        over = lot.expires_at is not None and lot.expires_at <= NOW
        reasons = {
            "nothing-to-extend": over or lot.points == lot.reserved,
            "lot-never-expires": lot.expires_at is None,
            "not-an-extension": until is not None
            and lot.expires_at is not None
            and until <= lot.expires_at,
        }
        refused_rightly = reasons[refused.code]
        gone = come = None
    if gone is None or come is None:
        assert refused_rightly
        return
    assert gone.points + come.points == 0
    assert come.points == lot.points - lot.reserved > 0
    assert (gone.lot_id, gone.expires_at, come.lot_id) == (lot.lot_id, lot.expires_at, None)
    assert come.available_at == max(lot.available_at, NOW)
    assert come.expires_at is None or (
        lot.expires_at is not None and come.expires_at > lot.expires_at
    )


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**9))
def test_the_limit_is_the_last_that_one_person_may_decide(points: int, limit: int) -> None:
    assume(points)
    assert not corrections.needs_second_person(points, DEMO)
    needed = corrections.needs_second_person(points, bounded(limit=limit))
    assert needed == (not -limit <= points <= limit)


@pytest.mark.parametrize(
    "kind",
    [
        *("earned", "tier_bonus", "campaign", "activity", "clawed_back", "covered", "written_off"),
        *("unlocked", "expired", "captured", "restored", "reversed", "transferred", "withdrawn"),
    ],
)
def test_only_adjustments_are_reversed_and_the_others_say_what_to_do(kind: str) -> None:
    some = UUID(int=1)
    assert kind in corrections.INSTEAD
    with pytest.raises(Refused) as refused:
        corrections.check_reversal(Line(some, some, kind, 5, None, reversed=False))
    assert refused.value.code == "not-reversible"
    assert corrections.INSTEAD[kind] in refused.value.detail


def test_an_adjustment_is_reversed_once_and_an_extension_never() -> None:
    some = UUID(int=1)
    corrections.check_reversal(Line(some, some, "adjusted", 5, "goodwill", reversed=False))
    for reason, done, code in (
        ("goodwill", True, "already-reversed"),
        ("extension", False, "not-reversible"),
    ):
        with pytest.raises(Refused) as refused:
            corrections.check_reversal(Line(some, some, "adjusted", 5, reason, reversed=done))
        assert refused.value.code == code
