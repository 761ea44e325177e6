from __future__ import annotations

from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from services.points.domain.explain import fingerprint
from shared.contracts.purchases import Line, PurchaseCompleted
from tests.unit.points.samples import NOON, line, purchase

LINE = line("6", "2.55", "1", category="home", discount="0.10", tax="0.43")
GIVEN = purchase(LINE, line("1", "10", "2"), order_discount="1.00")


def changed(**changes: Any) -> PurchaseCompleted:
    return msgspec.structs.replace(GIVEN, **changes)


def with_line(**changes: Any) -> PurchaseCompleted:
    return changed(lines=[msgspec.structs.replace(LINE, **changes), GIVEN.lines[1]])


@pytest.mark.parametrize(
    "same",
    [
        with_line(quantity=Decimal("6.000")),
        with_line(unit_price=Decimal("255E-2")),
        with_line(discount=Decimal("0.1")),
        with_line(name="another name"),
        changed(order_discount=Decimal(1)),
        changed(occurred_at=NOON.astimezone(timezone(timedelta(hours=-7)))),
        changed(metadata={"till": 4}, channel="web", total=Decimal(99), shipping=Decimal(3)),
        changed(lines=[LINE, line("1.0", "1E+1", "2", discount="-0.00", tax="0E-3")]),
    ],
)
def test_it_is_equal_for_equal_values_however_written(same: PurchaseCompleted) -> None:
    assert fingerprint(same) == fingerprint(GIVEN)


@pytest.mark.parametrize(
    "other",
    [
        with_line(quantity=Decimal("6.001")),
        with_line(quantity=Decimal("2.55"), unit_price=Decimal(6)),
        with_line(unit_price=Decimal("2.56")),
        with_line(discount=Decimal(0)),
        with_line(discount=Decimal("0.43"), tax=Decimal("0.10")),
        with_line(tax=Decimal("0.44")),
        with_line(line_id="01"),
        with_line(unit_price=Decimal("-2.55")),
        with_line(sku="sku-1"),
        with_line(kind="fee"),
        with_line(category="garden"),
        changed(lines=[LINE]),
        changed(lines=GIVEN.lines[::-1]),
        changed(order_id="536366"),
        changed(customer_id="17851"),
        changed(customer_id=None),
        changed(currency="EUR"),
        changed(exchange_rate=Decimal(1)),
        changed(occurred_at=NOON + timedelta(microseconds=1)),
        changed(order_discount=Decimal("1.01")),
        changed(prices_include_tax=False),
        changed(is_test=True),
    ],
)
def test_it_differs_where_something_that_decides_differs(other: PurchaseCompleted) -> None:
    assert fingerprint(other) != fingerprint(GIVEN)


def test_it_is_a_signed_64_bit_number_that_stays_the_same_for_ever() -> None:
    # Stored with entries: a change of this number would make every repetition look like other content.
    plain = PurchaseCompleted("1", "GBP", NOON, [Line("1", "A", Decimal(6), Decimal("2.55"))])
    assert fingerprint(plain) == 8024936845319454416
    found = [fingerprint(changed(order_id=str(number))) for number in range(64)]
    assert all(-(2**63) <= number < 2**63 for number in found)
    assert min(found) < 0 < max(found)


def test_prices_whose_python_hashes_agree_are_told_apart() -> None:
    assert hash(Decimal(-1)) == hash(Decimal(-2))
    assert fingerprint(with_line(unit_price=Decimal(-1))) != fingerprint(
        with_line(unit_price=Decimal(-2))
    )
    assert fingerprint(with_line(unit_price=Decimal(-1))) == fingerprint(
        with_line(unit_price=Decimal("-1.00"))
    )
