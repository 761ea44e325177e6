"""What refunds take, case by case: the rules of SEMANTICS, Refunds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from services.points.domain import refunds
from services.points.domain.refunds import AskedLine, Bought, Outcome, Refund, outcomes
from shared.ids import digest_uuid

DAY = timedelta(days=1)
START = datetime(2026, 5, 1, 10, tzinfo=UTC)


def bought(
    lot: str = "a", lines: Sequence[tuple[str, str, str]] = (("sku-1", "10.00", "1"),), **more: Any
) -> Bought:
    """A purchase of (SKU, net, quantity) lines that earned 1 point for 1.00, rounded down."""
    nets = [Decimal(net) for _, net, _ in lines]
    total = int(sum(nets))
    fields: dict[str, Any] = {
        "lot_id": key(lot),
        "shop": "shop",
        "occurred_at": START,
        "currency": "GBP",
        "line_ids": [str(number) for number, _ in enumerate(lines, 1)],
        "skus": [sku for sku, _, _ in lines],
        "quantities": [Decimal(quantity) for _, _, quantity in lines],
        "nets": nets,
        "weights": nets,
        "reasons": {},
        "net_spend": sum(nets),
        "total": total,
        "base": total,
    }
    return Bought(**(fields | more))


def refund(
    name: str,
    lot: str | None = "a",
    day: int = 1,
    lines: Sequence[tuple[str, str]] = (),
    **more: Any,
) -> Refund:
    """A refund ``day`` days after the purchase; ``lines`` are (line_id or SKU, quantity)."""
    asked = [
        AskedLine(name if lot else None, None if lot else name, Fraction(quantity))
        for name, quantity in lines
    ]
    fields: dict[str, Any] = {
        "key": key(name),
        "kind": refunds.REFUND,
        "shop": "shop",
        "purchase_id": key(lot) if lot else None,
        "occurred_at": START + day * DAY,
        "currency": "GBP",
        "lines": asked,
    }
    return Refund(**(fields | more))


def cancellation(lot: str = "a", day: int = 1) -> Refund:
    return refund(f"cancel {lot}", lot, day, kind=refunds.CANCELLATION, currency=None)


def key(name: str) -> UUID:
    return digest_uuid(name)


def told(found: Sequence[Outcome]) -> list[tuple[str, str | None, int]]:
    return [(one.state, one.code, one.points) for one in found]


def test_golden_two_partial_refunds() -> None:
    """1 of 2 units of a line that was granted 49 points, later the other: −24, then −25."""
    purchase = bought(lines=[("sku-1", "49.00", "2")])
    asked = [refund("first", lines=[("1", "1")]), refund("second", day=2, lines=[("1", "1")])]
    found = outcomes(asked, [purchase])
    assert told(found) == [("matched", None, 24), ("matched", None, 25)]
    assert [one.takings[0].purchases for one in found] == [0, 1]
    assert [one.takings[0].spend for one in found] == [Decimal("24.5"), Decimal("24.5")]


def test_golden_out_of_order() -> None:
    """A refund without its purchase waits, and then stands as if it had come in order."""
    asked = refund("early", lines=[("1", "1")])
    assert told(outcomes([asked], [])) == [("parked", "awaiting-purchase", 0)]
    assert told(outcomes([asked], [bought()])) == [("matched", None, 10)]


def test_a_refund_dated_before_its_purchase_counts_from_the_purchase_on() -> None:
    found = outcomes([refund("early", day=-3, lines=[("1", "1")])], [bought()])
    assert found[0].takings[0].at == START


def test_more_than_bought_is_bounded_and_recorded() -> None:
    purchase = bought(lines=[("sku-1", "10.00", "2"), ("sku-2", "5.00", "1")])
    asked = [
        refund("much", lines=[("1", "3")]),
        refund("again", day=2, lines=[("1", "1")]),
        refund("unknown", day=3, lines=[("9", "1"), ("2", "1")]),
    ]
    assert told(outcomes(asked, [purchase])) == [
        ("partly", "more-than-bought", 10),
        ("unmatched", "more-than-bought", 0),
        ("partly", "unknown-line", 5),
    ]


def test_a_whole_refund_and_what_comes_after_it() -> None:
    purchase = bought(lines=[("sku-1", "10.50", "2"), ("sku-2", "5.75", "1")])
    asked = [
        refund("part", lines=[("1", "1")]),
        refund("rest", day=2),
        refund("late", day=3, lines=[("2", "1")]),
        refund("whole again", day=4),
        refund("money", day=5, amount=Fraction(1)),
    ]
    assert told(outcomes(asked, [purchase])) == [
        ("matched", None, 5),
        ("matched", None, 11),
        ("unmatched", "more-than-bought", 0),
        ("unmatched", "more-than-bought", 0),
        ("unmatched", "more-than-bought", 0),
    ]


def test_a_cancellation_takes_everything_that_is_left() -> None:
    purchase = bought(lines=[("sku-1", "10.50", "2"), ("post", "5.75", "1")], reasons={1: "sku"})
    found = outcomes([refund("part", lines=[("1", "1")]), cancellation(day=2)], [purchase])
    assert told(found) == [("matched", None, 8), ("matched", None, 8)]
    assert found[1].takings[0].purchases == 1


def test_lines_that_earned_nothing_take_nothing() -> None:
    purchase = bought(
        lines=[("sku-1", "10.00", "1"), ("post", "5.00", "1")], reasons={1: "sku"}, total=10
    )
    found = outcomes([refund("postage", lines=[("2", "1")])], [purchase])
    assert told(found) == [("matched", None, 0)]
    assert found[0].takings[0].spend == 0


def test_amounts_are_pro_rata_and_meet_lines_at_the_bound() -> None:
    purchase = bought(lines=[("sku-1", "30.00", "3"), ("sku-2", "10.00", "1")])
    asked = [
        refund("money", amount=Fraction("13.33")),
        refund("goods", day=2, lines=[("1", "2")]),
        refund("more money", day=3, amount=Fraction(20)),
    ]
    found = outcomes(asked, [purchase])
    assert told(found) == [
        ("matched", None, 13),
        ("matched", None, 20),
        ("partly", "more-than-bought", 7),
    ]
    assert sum(one.takings[0].spend for one in found) == 40


def test_amounts_are_never_converted() -> None:
    euros = refund("euros", amount=Fraction(5), currency="EUR")
    assert told(outcomes([euros], [bought()])) == [("refused", "other-currency", 0)]


def test_tier_bonus_and_campaigns_go_with_their_lines_but_the_base_stays_the_base() -> None:
    purchase = bought(lines=[("sku-1", "100.00", "2")], total=150)
    found = outcomes([refund("half", lines=[("1", "1")])], [purchase])
    assert (found[0].points, found[0].takings[0].base) == (75, 50)


def test_points_that_no_line_earned_go_with_the_last_unit() -> None:
    purchase = bought(lines=[("sku-1", "0", "2")], reasons={0: "not_positive"}, total=20, base=20)
    asked = [refund("one", lines=[("1", "1")]), refund("two", day=2, lines=[("1", "1")])]
    assert [one.points for one in outcomes(asked, [purchase])] == [0, 20]


def test_without_an_order_the_newest_lines_before_it_are_meant() -> None:
    old, new = bought("old"), bought("new", occurred_at=START + 5 * DAY)
    later = bought("later", occurred_at=START + 50 * DAY)
    elsewhere = bought("else", shop="other", occurred_at=START + 6 * DAY)
    asked = [
        refund("both", None, 10, [("sku-1", "2")]),
        refund("one more", None, 11, [("sku-1", "1"), ("sku-2", "1")]),
    ]
    found = outcomes(asked, [old, new, later, elsewhere])
    assert told(found) == [("matched", None, 20), ("unmatched", "no-purchase-found", 0)]
    assert [taking.lot_id for taking in found[0].takings] == [key("new"), key("old")]


def test_without_an_order_what_came_back_already_is_passed_over() -> None:
    purchases = [bought("old"), bought("new", occurred_at=START + 5 * DAY)]
    asked = [
        refund("named", "new", 6, [("1", "1")]),
        refund("searched", None, 10, [("sku-1", "1")]),
        refund("nothing left", None, 11, [("sku-1", "3")]),
    ]
    found = outcomes(asked, purchases)
    assert found[1].takings[0].lot_id == key("old")
    assert told(found)[2] == ("unmatched", "no-purchase-found", 0)


def test_nothing_but_the_set_matters() -> None:
    purchases = [bought("old", [("sku-1", "9.99", "3")]), bought("new", occurred_at=START + DAY)]
    asked = [refund("x", None, 3, [("sku-1", "2")]), cancellation("old", 4), refund("y", "new", 2)]
    assert outcomes(asked[::-1], purchases[::-1]) == outcomes(asked, purchases)
