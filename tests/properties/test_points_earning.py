from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.points.domain.bonus import TierInForce, correction
from services.points.domain.columns import columns_of
from services.points.domain.earning import Assessment, Award, assess, award
from services.points.domain.explain import fingerprint, pack, unpack
from services.points.domain.validation import _check_lines, _numbers_pass, _texts_pass, check
from shared.contracts.purchases import Line, PurchaseCompleted
from shared.errors import Poison
from shared.money import round_points
from tests.unit.points.samples import NOON, NOW, program

ROUNDINGS = ("floor", "half_even", "ceil")
PROGRAMS = [
    program(
        earning={
            "base": {"points": points, "per": per},
            "rounding": rounding,
            "net_of_tax": net_of_tax,
            "exclude": {"kinds": ["fee"], "skus": ["B"], "categories": ["y"]},
        }
    )
    for points, per in ((1, "1.00"), (3, "7"), (100, "0.33"))
    for rounding in ROUNDINGS
    for net_of_tax in (False, True)
]

programs = st.sampled_from(PROGRAMS)
multipliers = st.fractions(0, 10, max_denominator=20)
at_least_one = st.fractions(1, 10, max_denominator=20)
prices = st.decimals(-50, 500, places=2)
money = st.decimals(0, 60, places=2)
quantities = st.decimals(0, 30, places=3) | st.integers(0, 12).map(Decimal)


@st.composite
def lines(draw: st.DrawFn, least: int = 1, most: int = 12) -> list[Line]:
    return [
        Line(
            line_id=str(index),
            sku=draw(st.sampled_from("ABC")),
            quantity=draw(quantities),
            unit_price=draw(prices),
            category=draw(st.sampled_from("xyz")),
            kind=draw(st.sampled_from(["product", "product", "fee"])),
            discount=draw(money),
            tax=draw(money),
        )
        for index in range(draw(st.integers(least, most)))
    ]


@st.composite
def purchases(draw: st.DrawFn) -> PurchaseCompleted:
    currency, rate = draw(st.sampled_from([("GBP", None), ("EUR", Decimal("0.8437"))]))
    return PurchaseCompleted(
        order_id="1",
        currency=currency,
        exchange_rate=rate,
        occurred_at=NOON,
        lines=draw(lines()),
        order_discount=draw(st.just(Decimal(0)) | money),
        prices_include_tax=draw(st.booleans()),
    )


def tier(multiplier: Fraction) -> TierInForce:
    return TierInForce("some", multiplier)


@given(purchases(), programs, multipliers)
def test_lines_add_up_to_the_total_and_none_is_negative(
    bought: PurchaseCompleted, rules: Any, multiplier: Fraction
) -> None:
    assessment = assess(bought, rules)
    found = award(assessment, tier(multiplier), rules)
    assert sum(found.lines) == found.total == found.base + found.bonus
    assert all(points >= 0 for points in found.lines)
    assert all(found.lines[index] == 0 for index in assessment.reasons)


@given(purchases(), programs, at_least_one)
def test_a_tier_never_takes_away(
    bought: PurchaseCompleted, rules: Any, multiplier: Fraction
) -> None:
    found = award(assess(bought, rules), tier(multiplier), rules)
    assert found.total >= found.base >= 0


@given(purchases(), programs, multipliers)
def test_each_line_is_within_a_point_of_its_exact_share(
    bought: PurchaseCompleted, rules: Any, multiplier: Fraction
) -> None:
    assessment = assess(bought, rules)
    found = award(assessment, tier(multiplier), rules)
    eligible = [
        Fraction(0) if index in assessment.reasons else Fraction(net)
        for index, net in enumerate(assessment.nets)
    ]
    for points, net in zip(found.lines, eligible, strict=True):
        assert not net or abs(points - found.total * net / sum(eligible)) < 1


@given(purchases(), programs)
def test_the_value_is_what_fractions_say(bought: PurchaseCompleted, rules: Any) -> None:
    """The rule of SEMANTICS written a second time, slowly, in fractions."""
    amounts = [
        Fraction(item.quantity) * Fraction(item.unit_price) - Fraction(item.discount)
        for item in bought.lines
    ]
    assessment = assess(bought, rules)
    taken = [
        amount - Fraction(net) - (tax_in_price(item, bought, rules))
        for amount, net, item in zip(amounts, assessment.nets, bought.lines, strict=True)
    ]
    positive = sum(max(Fraction(0), amount) for amount in amounts)
    discount = Fraction(bought.order_discount)
    assert sum(taken) == (discount if positive else 0)
    for share, amount in zip(taken, amounts, strict=True):
        exact = discount * max(Fraction(0), amount) / positive if positive else 0
        assert abs(share - exact) < Fraction(1, 100)
    spend = sum(
        Fraction(net)
        for net, item in zip(assessment.nets, bought.lines, strict=True)
        if net > 0 and item.kind != "fee" and item.sku != "B" and item.category != "y"
    ) * Fraction(bought.exchange_rate or 1)
    base = rules.earning.base
    assert Fraction(assessment.net_spend) == spend
    assert assessment.exact == spend * base.points / Fraction(base.per)
    assert assessment.base == round_points(assessment.exact, rules.earning.rounding)


def tax_in_price(item: Line, bought: PurchaseCompleted, rules: Any) -> Fraction:
    included = rules.earning.net_of_tax and bought.prices_include_tax
    return Fraction(item.tax) if included else Fraction(0)


@given(purchases(), programs, multipliers, st.randoms(use_true_random=False))
def test_the_order_of_lines_decides_nothing_but_ties(
    bought: PurchaseCompleted, rules: Any, multiplier: Fraction, random: Any
) -> None:
    order = list(range(len(bought.lines)))
    random.shuffle(order)
    # Equal remainders of the order discount go by line order, which moves a penny: left out here.
    plain = msgspec.structs.replace(bought, order_discount=Decimal(0))
    moved = msgspec.structs.replace(plain, lines=[plain.lines[index] for index in order])
    first, second = assess(plain, rules), assess(moved, rules)
    assert (first.exact, first.net_spend) == (second.exact, second.net_spend)
    here = award(first, tier(multiplier), rules)
    there = award(second, tier(multiplier), rules)
    assert (here.total, here.base) == (there.total, there.base)
    remainders = [remainder(here, first, index) for index in order]
    if len(set(remainders)) == len(remainders):
        assert [here.lines[index] for index in order] == there.lines
    for index, place in zip(order, range(len(order)), strict=True):
        assert abs(here.lines[index] - there.lines[place]) <= 1


def remainder(found: Award, assessment: Assessment, index: int) -> Fraction:
    nets = assessment.nets
    whole = sum(Fraction(net) for at, net in enumerate(nets) if at not in assessment.reasons)
    if index in assessment.reasons or not whole:
        return Fraction(-1 - index)
    return found.total * Fraction(nets[index]) / whole % 1


@given(purchases(), programs, st.lists(multipliers, min_size=1, max_size=8))
def test_corrections_end_where_a_direct_award_would(
    bought: PurchaseCompleted, rules: Any, path: list[Fraction]
) -> None:
    assessment = assess(bought, rules)
    rounding = rules.earning.rounding
    total = award(assessment, tier(path[0]), rules).total
    for multiplier in path[1:]:
        total += correction(assessment.exact, total, multiplier, rounding)
    direct = award(assessment, tier(path[-1]), rules).total
    assert total == direct
    assert correction(assessment.exact, total, path[-1], rounding) == 0


@given(st.lists(purchases(), min_size=2, max_size=4), programs)
def test_splitting_a_purchase_moves_less_than_a_point_each(
    parts: list[PurchaseCompleted], rules: Any
) -> None:
    assessments = [assess(part, rules) for part in parts]
    together = reduce(lambda total, part: total + part.exact, assessments, Fraction(0))
    apart = sum(part.base for part in assessments)
    assert abs(round_points(together, rules.earning.rounding) - apart) < len(parts) + 1


@given(purchases(), programs, st.lists(multipliers, min_size=2, max_size=6))
def test_a_larger_multiplier_never_gives_less(
    bought: PurchaseCompleted, rules: Any, factors: list[Fraction]
) -> None:
    assessment = assess(bought, rules)
    totals = [award(assessment, tier(factor), rules).total for factor in sorted(factors)]
    assert all(lower <= higher for lower, higher in pairwise(totals))


@given(purchases(), programs, multipliers)
def test_what_is_stored_tells_what_was_decided(
    bought: PurchaseCompleted, rules: Any, multiplier: Fraction
) -> None:
    assessment = assess(bought, rules)
    found = award(assessment, tier(multiplier), rules)
    told = unpack(pack(bought, assessment, found, tier(multiplier), rules))
    assert (told.total, told.base, told.bonus) == (found.total, found.base, found.bonus)
    assert [item.points for item in told.lines] == list(found.lines)
    assert [item.net for item in told.lines] == list(assessment.nets)
    assert [item.line_id for item in told.lines] == [item.line_id for item in bought.lines]
    reasons = {at: item.reason for at, item in enumerate(told.lines) if item.reason}
    assert reasons == dict(assessment.reasons)
    assert told.sentence.de
    assert told.sentence.en


@given(purchases(), programs, multipliers)
def test_there_is_no_float_anywhere(
    bought: PurchaseCompleted, rules: Any, multiplier: Fraction
) -> None:
    assessment = assess(bought, rules)
    found = award(assessment, tier(multiplier), rules)
    told = unpack(pack(bought, assessment, found, tier(multiplier), rules))
    assert not any(isinstance(value, float) for value in leaves([assessment, found, told]))


def leaves(value: Any) -> list[Any]:
    if is_dataclass(value):
        return leaves([getattr(value, field.name) for field in fields(value)])
    if isinstance(value, dict):
        return leaves(list(value.values()))
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


@given(purchases(), st.integers(0, 6), st.randoms(use_true_random=False))
def test_the_fingerprint_does_not_see_how_numbers_are_written(
    bought: PurchaseCompleted, zeros: int, random: Any
) -> None:
    def rewritten(value: Decimal) -> Decimal:
        return value * Decimal("1." + "0" * random.randint(0, zeros))

    changed = [
        msgspec.structs.replace(
            item, quantity=rewritten(item.quantity), unit_price=rewritten(item.unit_price)
        )
        for item in bought.lines
    ]
    other = msgspec.structs.replace(bought, lines=changed)
    assert fingerprint(other) == fingerprint(bought)


wild_numbers = st.decimals() | st.decimals(-2, 2, places=10) | st.decimals(0, 10**13) | quantities
wild_texts = st.text(max_size=6) | st.text("ab\0\n\x85", max_size=3) | st.just("x" * 201)


@st.composite
def wild_lines(draw: st.DrawFn) -> list[Line]:
    return [
        Line(
            line_id=draw(wild_texts | st.just(str(index))),
            sku=draw(wild_texts),
            quantity=draw(wild_numbers),
            unit_price=draw(wild_numbers),
            name=draw(wild_texts),
            category=draw(wild_texts),
            discount=draw(st.just(Decimal(0)) | wild_numbers),
            tax=draw(st.just(Decimal(0)) | wild_numbers),
        )
        for index in range(draw(st.integers(1, 4)))
    ]


@settings(max_examples=200)
@given(wild_lines())
def test_the_quick_look_never_lets_pass_what_the_close_look_refuses(found: list[Line]) -> None:
    if _texts_pass(columns_of(found)) and _numbers_pass(columns_of(found)):
        _check_lines(found)


@settings(max_examples=150)
@given(
    wild_lines(),
    st.datetimes(timezones=st.none() | st.just(UTC)),
    wild_texts,
    wild_numbers,
    wild_numbers,
)
def test_whatever_comes_is_refused_by_name_or_valued(
    found: list[Line], occurred_at: datetime, text: str, number: Decimal, rate: Decimal
) -> None:
    rules = PROGRAMS[0]
    bought = PurchaseCompleted(
        text, "EUR", occurred_at, found, exchange_rate=rate, order_discount=number
    )
    refused = refusal(bought, rules)
    if refused is not None:
        assert refused.field.startswith("data.")
        assert refused.reason.isprintable()
        assert len(refused.reason) < 300
        return
    assessment = assess(bought, rules)
    done = award(assessment, tier(Fraction(3, 2)), rules)
    unpack(pack(bought, assessment, done, tier(Fraction(3, 2)), rules))
    fingerprint(bought)


def refusal(bought: PurchaseCompleted, rules: Any) -> Poison | None:
    try:
        check(bought, rules, NOW)
        assess(bought, rules)
    except Poison as found:
        return found
    return None


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_purchase_of_2000_lines_adds_up(rounding: str) -> None:
    rules = program(earning={"rounding": rounding})
    many = [
        Line(str(index), "A", Decimal(1), Decimal(index % 97) / 100) for index in range(1, 2001)
    ]
    bought = PurchaseCompleted("1", "GBP", NOON, many, order_discount=Decimal("123.45"))
    check(bought, rules, NOW)
    assessment = assess(bought, rules)
    found = award(assessment, tier(Fraction(7, 3)), rules)
    assert sum(found.lines) == found.total == round_points(found.exact, rules.earning.rounding)
