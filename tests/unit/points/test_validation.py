from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from services.points.domain.validation import check, shop_of
from shared.contracts.purchases import Line, PurchaseCompleted
from shared.errors import Poison
from tests.unit.points.samples import NOON, NOW, line, program, purchase

LONG = "x" * 201
BAD_TEXTS = ["nul\0", "bell\x07", "line\nfeed", "delete\x7f", "next\x85line", "half\ud800"]
BAD_NUMBERS = ["NaN", "sNaN", "-NaN", "Infinity", "-Infinity"]
TOO_LARGE = ["1000000000000", "1E12", "1E+999999", "9" * 5000]
TOO_FINE = ["0.0000000001", "1E-10", "1E-999999", "1." + "1" * 5000]
ABSURD = [*BAD_NUMBERS, *TOO_LARGE, *TOO_FINE]


def with_line(**changes: Any) -> PurchaseCompleted:
    """A sound first and second line, and the third changed."""
    third = msgspec.structs.replace(line(line_id="3"), **changes)
    return purchase(line(line_id="1"), line(line_id="2"), third)


def refusal(bad: PurchaseCompleted, **more: Any) -> Poison:
    with pytest.raises(Poison) as caught:
        check(bad, program(**more), NOW)
    return caught.value


@pytest.mark.parametrize("field", ["order_id", "customer_id"])
@pytest.mark.parametrize("text", ["", LONG, "k" * 10_000, *BAD_TEXTS])
def test_an_id_of_the_purchase_is_short_and_printable(field: str, text: str) -> None:
    assert refusal(purchase(**{field: text})).field == f"data.{field}"


@pytest.mark.parametrize("text", ["", LONG, *BAD_TEXTS])
def test_a_line_id_is_short_and_printable(text: str) -> None:
    assert refusal(with_line(line_id=text)).field == "data.lines[2].line_id"


@pytest.mark.parametrize("text", [LONG, *BAD_TEXTS])
def test_a_sku_is_short_and_printable(text: str) -> None:
    assert refusal(with_line(sku=text)).field == "data.lines[2].sku"


@pytest.mark.parametrize("field", ["name", "category"])
def test_text_that_is_not_stored_may_be_anything_but_nul(field: str) -> None:
    assert refusal(with_line(**{field: "a\0b"})).field == f"data.lines[2].{field}"
    check(with_line(**{field: "two\nlines of " + LONG}), program(), NOW)


@pytest.mark.parametrize(
    "text", ["Größe 40", "no\u00a0break", "zero\u200dwidth", "茶", "👩‍🚀", "x" * 200]
)
def test_any_printable_text_of_200_characters_is_fine(text: str) -> None:
    check(with_line(line_id=text, sku=text), program(), NOW)
    check(purchase(order_id=text, customer_id=text), program(), NOW)


def test_a_guest_has_no_customer_id() -> None:
    check(purchase(customer_id=None), program(), NOW)


@pytest.mark.parametrize("field", ["quantity", "discount", "tax"])
@pytest.mark.parametrize("value", ["-1", "-0.01", "-1E-9", *ABSURD])
def test_a_line_number_is_finite_in_range_and_not_negative(field: str, value: str) -> None:
    found = refusal(with_line(**{field: Decimal(value)}))
    assert found.field == f"data.lines[2].{field}"


@pytest.mark.parametrize("value", ABSURD)
def test_a_unit_price_is_finite_and_in_range(value: str) -> None:
    assert refusal(with_line(unit_price=Decimal(value))).field == "data.lines[2].unit_price"


@pytest.mark.parametrize(
    "value", ["0", "-0", "0.00", "0E+7", "0E-50", "999999999999", "1.10000000000000"]
)
def test_zero_large_and_trailing_zeros_are_legal(value: str) -> None:
    number = Decimal(value)
    check(
        with_line(quantity=number, unit_price=number, discount=number, tax=number), program(), NOW
    )


@pytest.mark.parametrize("value", ["-11062.06", "-0.000000001", "-999999999999.999999999"])
def test_a_negative_unit_price_is_legal(value: str) -> None:
    check(with_line(unit_price=Decimal(value)), program(), NOW)


def test_many_sound_numbers_whose_sum_is_out_of_range_are_sound() -> None:
    lines = [line("999999999999", "999999999999", str(index)) for index in range(1, 5)]
    check(purchase(*lines), program(), NOW)


@pytest.mark.parametrize("field", ["order_discount", "shipping"])
@pytest.mark.parametrize("value", ["-1", "-0.01", *ABSURD])
def test_a_purchase_number_is_finite_in_range_and_not_negative(field: str, value: str) -> None:
    assert refusal(purchase(**{field: value})).field == f"data.{field}"


@pytest.mark.parametrize("value", ABSURD)
def test_a_total_is_a_number(value: str) -> None:
    assert refusal(purchase(total=value)).field == "data.total"


@pytest.mark.parametrize(
    ("currency", "discount", "fine"),
    [
        ("GBP", "0.01", True),
        ("GBP", "0.010000", True),
        ("GBP", "0.005", False),
        ("JPY", "100", True),
        ("JPY", "1E+2", True),
        ("JPY", "0.5", False),
        ("BHD", "0.001", True),
        ("BHD", "0.0001", False),
    ],
)
def test_an_order_discount_is_in_minor_units(*, currency: str, discount: str, fine: bool) -> None:
    given = purchase(currency=currency, order_discount=discount)
    if fine:
        check(given, program(currency=currency), NOW)
    else:
        assert refusal(given, currency=currency).field == "data.order_discount"


@pytest.mark.parametrize("code", ["", "gbp", "£", "XXX", "QQQ", "GB", "GBPX", "G\0P", "E" * 9000])
def test_a_currency_is_of_iso_4217(code: str) -> None:
    found = refusal(purchase(currency=code, exchange_rate="1.1"))
    assert found.field == "data.currency"
    assert len(found.reason) < 200


def test_another_currency_needs_its_rate_and_is_never_one_to_one() -> None:
    found = refusal(purchase(currency="EUR"))
    assert (found.field, "GBP" in found.reason) == ("data.exchange_rate", True)
    check(purchase(currency="EUR", exchange_rate="0.85"), program(), NOW)


@pytest.mark.parametrize("rate", ["0", "-0.85", "0E+3", *ABSURD])
def test_an_exchange_rate_is_above_zero(rate: str) -> None:
    found = refusal(purchase(currency="EUR", exchange_rate=rate))
    assert found.field == "data.exchange_rate"


def test_the_rate_of_a_currency_into_itself_is_one() -> None:
    check(purchase(exchange_rate="1.00"), program(), NOW)
    assert refusal(purchase(exchange_rate="1.1")).field == "data.exchange_rate"


def test_a_purchase_has_one_to_2000_lines_with_ids_of_their_own() -> None:
    many = [line(line_id=str(index)) for index in range(2001)]
    check(purchase(*many[:2000]), program(), NOW)
    assert refusal(purchase(*many)).field == "data.lines"
    assert refusal(msgspec.structs.replace(purchase(), lines=[])).field == "data.lines"
    found = refusal(purchase(line(line_id="a"), line(line_id="b"), line(line_id="a")))
    assert (found.field, "data.lines[0]" in found.reason) == ("data.lines[2].line_id", True)


EAST = timezone(timedelta(hours=14))
WEST = timezone(timedelta(hours=-12))


@pytest.mark.parametrize(
    "occurred_at",
    [
        NOON.replace(tzinfo=None),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=EAST),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=EAST),
        NOW + timedelta(days=1, microseconds=1),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=WEST),
    ],
)
def test_an_instant_has_a_zone_and_is_neither_ancient_nor_ahead(occurred_at: datetime) -> None:
    assert refusal(purchase(occurred_at=occurred_at)).field == "data.occurred_at"


@pytest.mark.parametrize(
    "occurred_at",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=WEST),
        NOW + timedelta(days=1),
        (NOW + timedelta(days=1)).astimezone(EAST),
    ],
)
def test_an_instant_at_the_bounds_is_fine(occurred_at: datetime) -> None:
    check(purchase(occurred_at=occurred_at), program(), NOW)


@pytest.mark.parametrize(
    ("source", "shop"),
    [
        ("/shops/online-retail", "online-retail"),
        ("urn:till:7", "urn:till:7"),
        ("/shops/a/b", "a/b"),
    ],
)
def test_a_shop_is_named_by_its_source(source: str, shop: str) -> None:
    assert shop_of(source, program()) == shop


@pytest.mark.parametrize("source", ["", "/shops/", "/shops/" + LONG, "/shops/a\0", "/shops/other"])
def test_a_shop_that_takes_no_part_is_refused(source: str) -> None:
    with pytest.raises(Poison) as caught:
        shop_of(source, program(shops=["online-retail", "corner"]))
    assert caught.value.field == "source"


def test_of_several_mistakes_the_first_line_is_named() -> None:
    first = line("-1", line_id="1")
    assert refusal(purchase(first, line("NaN", line_id="2"))).field == "data.lines[0].quantity"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"6"', "6"),
        lambda text: text.replace('"6"', "6.0"),
        lambda text: text.replace('"6"', '"6E0"'),
    ],
)
def test_numbers_come_as_texts_or_as_json_numbers(change: Callable[[str], str]) -> None:
    text = (
        '{"order_id":"1","currency":"GBP","occurred_at":"2011-01-01T00:00:00Z",'
        '"lines":[{"line_id":"1","sku":"A","quantity":"6","unit_price":"2.55"}]}'
    )
    read = msgspec.json.decode(change(text), type=PurchaseCompleted)
    check(read, program(), NOW)
    assert read.lines[0] == Line("1", "A", Decimal(6), Decimal("2.55"))
