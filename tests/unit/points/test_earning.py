from __future__ import annotations

from decimal import Decimal, getcontext
from fractions import Fraction
from typing import Any

import pytest

from services.points.domain.bonus import TierInForce
from services.points.domain.earning import Award, assess, award
from shared.contracts.purchases import PurchaseCompleted
from shared.errors import Poison
from shared.program.model import Program
from tests.unit.points.samples import line, numbered, program, purchase

NO_TIER = TierInForce(None, Fraction(1))
GOLD = TierInForce("gold", Fraction(3, 2))
GOLDEN = purchase(*numbered(("1", "9.99"), ("2", "19.99"), ("1", "4.95")), order_discount="10.00")


def granted(
    given: PurchaseCompleted, tier: TierInForce = NO_TIER, rules: Program | None = None
) -> Award:
    rules = rules or program()
    return award(assess(given, rules), tier, rules)


def test_golden_net_allocation() -> None:
    found = assess(GOLDEN, program())
    assert found.nets == [Decimal("8.17"), Decimal("32.70"), Decimal("4.05")]
    assert found.net_spend == Decimal("44.92")
    assert (found.exact, found.base) == (Fraction("44.92"), 44)


def test_golden_round_once() -> None:
    found = granted(GOLDEN, GOLD)
    assert found.exact == Fraction("67.38")
    assert (found.total, found.base, found.bonus) == (67, 44, 23)
    assert found.lines == [12, 49, 6]


@pytest.mark.parametrize(
    ("rounding", "price", "total"),
    [
        ("floor", "0.99", 0),
        ("floor", "1.99", 1),
        ("ceil", "0.01", 1),
        ("ceil", "1.00", 1),
        ("half_even", "0.50", 0),
        ("half_even", "1.50", 2),
        ("half_even", "2.50", 2),
        ("half_even", "2.51", 3),
    ],
)
def test_rounding(rounding: str, price: str, total: int) -> None:
    rules = program(earning={"rounding": rounding})
    assert granted(purchase(line(unit_price=price)), rules=rules).total == total


def test_rounded_once_a_purchase_not_once_a_line() -> None:
    assert granted(purchase(*numbered(*[("1", "0.50")] * 4))).total == 2
    assert granted(purchase(*numbered(*[("1", "0.99")] * 100))).total == 99


def test_ties_go_to_the_earlier_lines() -> None:
    assert granted(purchase(*numbered(*[("1", "0.50")] * 4))).lines == [1, 1, 0, 0]
    assert granted(purchase(*numbered(("1", "1"), ("1", "1"), ("1", "0.5")))).lines == [1, 1, 0]


def test_bonus_is_what_the_tier_adds_to_the_rounded_base() -> None:
    found = granted(purchase(line(unit_price="3.99")), GOLD)
    assert (found.exact, found.total, found.base, found.bonus) == (Fraction("5.985"), 5, 3, 2)


def test_a_multiplier_below_one_takes_away() -> None:
    found = granted(purchase(), TierInForce("slow", Fraction(1, 3)))
    assert (found.exact, found.total, found.base, found.bonus) == (Fraction(10, 3), 3, 10, -7)


@pytest.mark.parametrize(
    ("base", "price", "exact"),
    [
        ({"points": 1, "per": "3"}, "10", Fraction(10, 3)),
        ({"points": 5, "per": "2.50"}, "10", Fraction(20)),
        ({"points": 100, "per": "0.01"}, "10", Fraction(100_000)),
        ({"points": 1, "per": "1000"}, "10", Fraction(1, 100)),
    ],
)
def test_points_per_amount_stay_exact(base: dict[str, Any], price: str, exact: Fraction) -> None:
    given = purchase(line(unit_price=price))
    assert assess(given, program(earning={"base": base})).exact == exact


EXCLUDE = {"kinds": ["fee", "tip"], "skus": ["POST", "C2"], "categories": ["tobacco"]}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"kind": "fee"}, "kind:fee"),
        ({"kind": "tip", "sku": "POST"}, "kind:tip"),
        ({"sku": "POST"}, "sku"),
        ({"sku": "post"}, None),
        ({"category": "tobacco"}, "category:tobacco"),
        ({"category": "Tobacco"}, None),
        ({"kind": "gift_card"}, None),
        ({"discount": "10.00"}, "not_positive"),
        ({"discount": "10.01"}, "not_positive"),
        ({"discount": "9.99"}, None),
        ({"quantity": "0"}, "not_positive"),
        ({"unit_price": "0"}, "not_positive"),
        ({"unit_price": "-5"}, "not_positive"),
    ],
)
def test_what_earns_nothing_says_why(more: dict[str, Any], reason: str | None) -> None:
    rules = program(earning={"exclude": EXCLUDE})
    given = purchase(line("1", "20.00", "1"), line(line_id="2", **more))
    found = assess(given, rules)
    assert dict(found.reasons) == ({1: reason} if reason else {})
    points = award(found, GOLD, rules).lines
    assert points[0] == 30
    assert (points[1] == 0) == (reason is not None or "discount" in more)


@pytest.mark.parametrize("kind", ["gift_card", "shipping", "fee", "tip"])
def test_by_default_only_products_earn(kind: Any) -> None:
    assert granted(purchase(line(kind=kind))).total == 0


def test_the_order_discount_also_falls_on_lines_that_earn_nothing() -> None:
    card = line("1", "50.00", "2", kind="gift_card")
    found = assess(purchase(line("1", "50.00", "1"), card, order_discount="10.00"), program())
    assert found.nets == [Decimal("45.00"), Decimal("45.00")]
    assert found.net_spend == Decimal("45.00")


def test_a_negative_line_takes_no_share_of_the_order_discount() -> None:
    lines = numbered(("1", "10.00"), ("1", "-5.00"))
    found = assess(purchase(*lines, order_discount="1.00"), program())
    assert found.nets == [Decimal("9.00"), Decimal("-5.00")]


def test_the_line_discount_comes_before_the_order_discount() -> None:
    lines = [line("1", "20.00", "1", discount="10.00"), line("1", "30.00", "2")]
    found = assess(purchase(*lines, order_discount="4.00"), program())
    assert found.nets == [Decimal("9.00"), Decimal("27.00")]


def test_an_order_discount_above_the_amounts_leaves_nothing() -> None:
    found = assess(purchase(order_discount="10.01"), program())
    assert (found.net_spend, dict(found.reasons)) == (Decimal(0), {0: "not_positive"})


def test_an_order_discount_on_free_lines_is_nobodys() -> None:
    found = assess(purchase(line(unit_price="0"), order_discount="1.00"), program())
    assert (found.nets, found.base) == ([Decimal(0)], 0)


def test_an_order_discount_is_split_in_the_minor_unit_of_the_currency() -> None:
    lines = numbered(("1", "100"), ("1", "100"), ("1", "100"))
    found = assess(purchase(*lines, currency="JPY", order_discount="100"), program(currency="JPY"))
    assert found.nets == [Decimal(66), Decimal(67), Decimal(67)]


@pytest.mark.parametrize(
    ("net_of_tax", "included", "spend"),
    [
        (False, True, "12.00"),
        (False, False, "12.00"),
        (True, True, "10.00"),
        (True, False, "12.00"),
    ],
)
def test_tax_is_taken_off_where_it_is_in_the_price(
    *, net_of_tax: bool, included: bool, spend: str
) -> None:
    rules = program(earning={"net_of_tax": net_of_tax})
    given = purchase(line(unit_price="12.00", tax="2.00"), prices_include_tax=included)
    assert assess(given, rules).net_spend == Decimal(spend)


def test_a_foreign_purchase_is_converted_once_and_exactly() -> None:
    given = purchase(
        *numbered(("3", "3.33"), ("1", "0.01")), currency="EUR", exchange_rate="0.8437"
    )
    found = assess(given, program())
    assert found.nets == [Decimal("9.99"), Decimal("0.01")]
    assert (found.net_spend, found.base) == (Decimal("8.4370"), 8)


def test_the_order_discount_of_a_foreign_purchase_is_in_its_own_currency() -> None:
    lines = numbered(("1", "1000"), ("2", "500"))
    given = purchase(*lines, currency="JPY", exchange_rate="0.005", order_discount="101")
    found = assess(given, program())
    assert found.nets == [Decimal(949), Decimal(950)]
    assert found.net_spend == Decimal("9.495")


def test_a_test_order_earns_nothing_and_spends_nothing() -> None:
    found = assess(purchase(*numbered(("1", "10"), ("1", "20")), is_test=True), program())
    assert (found.net_spend, found.base) == (Decimal(0), 0)
    assert dict(found.reasons) == {0: "test", 1: "test"}


def test_weighed_goods_and_fractions_of_pence_stay_exact() -> None:
    found = assess(purchase(line("0.123456789", "9.123456789")), program())
    assert found.net_spend == Decimal("0.123456789") * Decimal("9.123456789")


def test_the_largest_numbers_do_not_lose_a_digit() -> None:
    given = purchase(
        line("0.999999999", "999999999999.999999998"),
        currency="EUR",
        exchange_rate="0.999999999",
    )
    found = assess(given, program())
    assert found.exact == Fraction("0.999999999") ** 2 * Fraction("999999999999.999999998")


@pytest.mark.parametrize(
    ("given", "earning"),
    [
        (purchase(line("1000000", "1000000")), {}),
        (purchase(line("999999999999", "999999999999")), {}),
        (purchase(*numbered(*[("1", "999999999")] * 1001)), {}),
        (purchase(currency="EUR", exchange_rate="999999999999"), {}),
        (purchase(line("10", "100000")), {"base": {"points": 10**9, "per": "0.01"}}),
    ],
)
def test_what_no_purchase_is_worth_is_poison(
    given: PurchaseCompleted, earning: dict[str, Any]
) -> None:
    with pytest.raises(Poison) as caught:
        assess(given, program(earning=earning))
    assert caught.value.field == "data.lines"


def test_a_huge_excluded_line_does_not_disturb_the_others() -> None:
    huge = line("999999999999", "999999999999.999999999", "2", kind="fee")
    assert granted(purchase(line(), huge, order_discount="0.00")).total == 10


def test_the_callers_decimal_context_is_left_as_it_was() -> None:
    before = getcontext()
    assess(GOLDEN, program())
    with pytest.raises(Poison):
        assess(purchase(line("1000000", "1000000")), program())
    assert getcontext() is before
