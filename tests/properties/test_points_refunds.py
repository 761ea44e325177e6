"""Refunds: whatever comes back in whatever portions, all that was granted and never more is taken."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.points.domain import refunds
from services.points.domain.refunds import Bought, Refund, outcomes
from shared.money import allocate
from tests.unit.points.test_refunds import START, bought, cancellation, refund

LOTS = ("a", "b", "c")
SKUS = ("x", "y", "z")

moneys = st.integers(0, 20_000).map(lambda cents: Decimal(cents).scaleb(-2))
quantities = st.sampled_from(("1", "2", "3", "7", "0.5", "0"))
lines = st.lists(
    st.tuples(st.sampled_from(SKUS), moneys.map(str), quantities), min_size=1, max_size=4
)


@st.composite
def purchases(draw: st.DrawFn) -> list[Bought]:
    found = []
    for name in draw(st.sets(st.sampled_from(LOTS), min_size=1)):
        plain = bought(name, draw(lines))
        # Tier bonus and campaigns: more than the base, or nothing at all.
        total = draw(st.integers(0, 3)) * plain.base // 2
        excluded = draw(st.sets(st.integers(0, len(plain.skus) - 1), max_size=1))
        nets = [net for index, net in enumerate(plain.nets) if index not in excluded]
        found.append(
            bought(
                name,
                list(
                    zip(plain.skus, map(str, plain.nets), map(str, plain.quantities), strict=True)
                ),
                occurred_at=START + timedelta(days=draw(st.integers(0, 20))),
                reasons=dict.fromkeys(excluded, "sku"),
                net_spend=sum(nets, Decimal(0)),
                total=total if sum(nets) else 0,
                base=min(plain.base, total) if sum(nets) else 0,
            )
        )
    return found


@st.composite
def asked(draw: st.DrawFn) -> list[Refund]:
    found = []
    for number in range(draw(st.integers(0, 8))):
        lot = draw(st.sampled_from((*LOTS, None)))
        day = draw(st.integers(0, 500))
        names = SKUS if lot is None else ("1", "2", "3", "9")
        some = draw(st.lists(st.tuples(st.sampled_from(names), quantities), min_size=1, max_size=3))
        positive = [(name, quantity) for name, quantity in some if quantity != "0"]
        kind = draw(st.sampled_from(("lines", "lines", "whole", "amount")))
        if lot is None or (kind == "lines" and positive):
            found.append(refund(f"r{number}", lot, day, positive or [("x", "1")]))
        elif kind == "amount":
            cents = draw(st.integers(1, 30_000))
            found.append(refund(f"r{number}", lot, day, amount=Fraction(cents, 100)))
        else:
            found.append(refund(f"r{number}", lot, day))
    if draw(st.booleans()):
        found.append(cancellation(draw(st.sampled_from(LOTS)), draw(st.integers(0, 500))))
    return found


@given(purchases(), asked(), st.integers())
def test_only_the_set_matters(lots: list[Bought], told: list[Refund], seed: int) -> None:
    chance = random.Random(seed)
    expected = outcomes(told, lots)
    chance.shuffle(lots)
    chance.shuffle(told)
    assert outcomes(told, lots) == expected


@given(purchases(), asked())
def test_never_beyond_the_grant_and_never_giving(lots: list[Bought], told: list[Refund]) -> None:
    taken: dict[UUID, list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 4)
    for outcome in outcomes(told, lots):
        for one in outcome.takings:
            parts: tuple[Decimal | int, ...] = (one.points, one.base, one.spend, one.purchases)
            assert min(parts) >= 0
            taken[one.lot_id] = [a + b for a, b in zip(taken[one.lot_id], parts, strict=True)]
    for lot in lots:
        points, base, spend, count = taken[lot.lot_id]
        assert points <= lot.total
        assert base <= lot.base
        assert spend <= lot.net_spend
        assert count <= 1


@given(purchases(), asked())
def test_a_cancelled_purchase_has_given_back_all_it_counted_for(
    lots: list[Bought], told: list[Refund]
) -> None:
    last = [cancellation(name, 1000) for name in LOTS]
    told = [one for one in told if one.kind == refunds.REFUND]
    taken: dict[UUID, list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 4)
    for outcome in outcomes([*told, *last], lots):
        for one in outcome.takings:
            parts: tuple[Decimal | int, ...] = (one.points, one.base, one.spend, one.purchases)
            taken[one.lot_id] = [a + b for a, b in zip(taken[one.lot_id], parts, strict=True)]
    for lot in lots:
        assert taken[lot.lot_id] == [lot.total, lot.base, lot.net_spend, 1]


@given(purchases(), asked())
def test_refunds_of_one_purchase_do_not_mind_those_of_another(
    lots: list[Bought], told: list[Refund]
) -> None:
    """What lets a purchase be settled alone: where every refund names its order."""
    named = [one for one in told if one.purchase_id is not None]
    together = {one.refund.key: one for one in outcomes(named, lots)}
    for lot in lots:
        own = [one for one in named if one.purchase_id == lot.lot_id]
        for outcome in outcomes(own, [lot]):
            assert outcome == together[outcome.refund.key]


@given(purchases(), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=6))
def test_any_portions_of_a_line_take_the_floor_of_what_was_granted_to_it(
    lots: list[Bought], portions: list[tuple[int, int]]
) -> None:
    """Against the rule as SEMANTICS has it, written down once more and naively."""
    lot = lots[0]
    count = len(lot.skus)
    told = [
        refund(f"r{number}", _name(lot), number, [(str(index % count + 1), str(units))])
        for number, (index, units) in enumerate(portions)
    ]
    weights = [Decimal(0) if i in lot.reasons else net for i, net in enumerate(lot.nets)]
    granted = allocate(lot.total, weights) if any(weights) else [0] * count
    back = [
        min(
            lot.quantities[i],
            Decimal(sum(units for index, units in portions if index % count == i)),
        )
        for i in range(count)
    ]
    expected = sum(
        int(granted[i] * Fraction(back[i]) / Fraction(lot.quantities[i]))
        for i in range(count)
        if lot.quantities[i]
    )
    if back == list(lot.quantities):
        expected = lot.total
    found = outcomes(told, [lot])
    assert sum(taking.points for one in found for taking in one.takings) == (
        expected if any(one.takings for one in found) else 0
    )


def _name(lot: Bought) -> str:
    return next(name for name in LOTS if bought(name).lot_id == lot.lot_id)
