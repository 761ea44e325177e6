"""Money: exact or refused, and splits that add up."""

from __future__ import annotations

from decimal import Decimal, DivisionByZero, FloatOperation, Inexact, localcontext
from fractions import Fraction

import pytest

from shared.money import (
    EXACT,
    Rounding,
    UnknownCurrency,
    allocate,
    currency_digits,
    minor_units,
    round_points,
)


def decimals(*texts: str) -> list[Decimal]:
    return [Decimal(text) for text in texts]


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        # The golden cases of SEMANTICS.md: the order discount of 10.00, and the points of ×1.5.
        (1000, decimals("9.99", "39.98", "4.95"), [182, 728, 90]),
        (67, decimals("8.17", "32.70", "4.05"), [12, 49, 6]),
        (1, decimals("1", "1", "1"), [1, 0, 0]),
        (2, decimals("1", "1", "1"), [1, 1, 0]),
        (10, decimals("0", "5", "0"), [0, 10, 0]),
        (0, decimals("0", "0"), [0, 0]),
        (0, [], []),
        (-1000, decimals("9.99", "39.98", "4.95"), [-182, -728, -90]),
        (7, [Fraction(1, 3), Fraction(2, 3)], [2, 5]),
        (7, [1, 2], [2, 5]),
        (5, decimals("1E+3", "0.001"), [5, 0]),
    ],
)
def test_allocate(
    total: int, weights: list[Decimal] | list[Fraction] | list[int], parts: list[int]
) -> None:
    assert allocate(total, weights) == parts


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(ValueError, match="no weight above zero"):
        allocate(1, decimals("0"))
    with pytest.raises(ValueError, match="no weight above zero"):
        allocate(1, [])
    with pytest.raises(ValueError, match="negative"):
        allocate(1, decimals("2", "-1"))


@pytest.mark.parametrize(
    ("value", "floor", "half_even", "ceil"),
    [
        (Fraction("67.38"), 67, 67, 68),
        (Fraction("0.5"), 0, 0, 1),
        (Fraction("1.5"), 1, 2, 2),
        (Fraction("2.5"), 2, 2, 3),
        (Fraction(2, 3), 0, 1, 1),
        (Fraction(5), 5, 5, 5),
        (Fraction(-1, 2), -1, 0, 0),
    ],
)
def test_round_points(value: Fraction, floor: int, half_even: int, ceil: int) -> None:
    modes: tuple[Rounding, ...] = ("floor", "half_even", "ceil")
    assert [round_points(value, mode) for mode in modes] == [floor, half_even, ceil]


@pytest.mark.parametrize(
    ("code", "digits"), [("EUR", 2), ("GBP", 2), ("JPY", 0), ("KWD", 3), ("CHF", 2), ("USD", 2)]
)
def test_currency_digits(code: str, digits: int) -> None:
    assert currency_digits(code) == digits


@pytest.mark.parametrize("code", ["", "eur", "EURO", "XYZ", "XXX", "€", "GBP "])
def test_unknown_currencies_are_refused(code: str) -> None:
    with pytest.raises(UnknownCurrency, match="ISO 4217"):
        currency_digits(code)


def test_minor_units() -> None:
    assert minor_units(Decimal("9.9"), "GBP") == 990
    assert minor_units(Decimal("9.900"), "GBP") == 990
    assert minor_units(Decimal("-0.01"), "EUR") == -1
    assert minor_units(Decimal(100), "JPY") == 100
    with pytest.raises(ValueError, match="more digits than JPY has"):
        minor_units(Decimal("0.5"), "JPY")


def test_exact_context_never_loses_a_digit() -> None:
    eighteen = Decimal("0.123456789012345678")
    assert len((EXACT.multiply(eighteen, eighteen)).as_tuple().digits) <= 36
    with localcontext(EXACT):
        with pytest.raises(Inexact):
            Decimal(1) / Decimal(3)
        with pytest.raises(DivisionByZero):
            Decimal(1) / Decimal(0)
        with pytest.raises(FloatOperation):
            Decimal(0.1)  # noqa: RUF032 - the very thing that must not pass
