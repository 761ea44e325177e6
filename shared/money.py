"""Money and points without a float: exact decimals, whole points, and splits that always add up."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import (
    Context,
    Decimal,
    DivisionByZero,
    FloatOperation,
    Inexact,
    InvalidOperation,
    Overflow,
)
from fractions import Fraction
from functools import lru_cache
from math import lcm
from typing import Literal

Rounding = Literal["floor", "half_even", "ceil"]

# Whatever would lose a digit raises instead; 60 digits hold any product of three 18-digit amounts.
EXACT = Context(
    prec=60, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero, FloatOperation]
)

_NO_CURRENCY = "XXX"


class UnknownCurrency(ValueError):
    """A code that ISO 4217 does not know."""


def allocate(total: int, weights: Sequence[Decimal | Fraction | int]) -> list[int]:
    """Split a whole number by weight into parts that add up to it (largest remainder; ties: order).

    Each part is less than 1 away from its exact quota. A negative total is split as its mirror.
    """
    ratios = [weight.as_integer_ratio() for weight in weights]
    common = lcm(*(denominator for _, denominator in ratios))
    shares = [numerator * (common // denominator) for numerator, denominator in ratios]
    whole = sum(shares)
    if any(share < 0 for share in shares):
        raise ValueError("weights must not be negative")
    if whole == 0:
        if total:
            raise ValueError(f"{total} cannot be split: there is no weight above zero")
        return [0] * len(shares)
    quotas = [divmod(abs(total) * share, whole) for share in shares]
    parts = [quotient for quotient, _ in quotas]
    missing = abs(total) - sum(parts)
    for index in sorted(range(len(parts)), key=lambda index: -quotas[index][1])[:missing]:
        parts[index] += 1
    return parts if total >= 0 else [-part for part in parts]


@lru_cache(maxsize=512)
def currency_digits(code: str) -> int:
    """Tell how many digits an amount of that currency has after the point."""
    from babel.core import get_global  # noqa: PLC0415 - loads locale data: only where it is needed

    if code == _NO_CURRENCY or code not in get_global("all_currencies"):
        raise UnknownCurrency(f"{code!r} is not a currency code of ISO 4217")
    fractions = get_global("currency_fractions")
    return int(fractions.get(code, fractions["DEFAULT"])[0])


def minor_units(amount: Decimal, code: str) -> int:
    """Count an amount in the currency's smallest unit; an amount with finer digits is refused."""
    scale: int = 10 ** currency_digits(code)
    numerator, denominator = amount.as_integer_ratio()
    units, rest = divmod(numerator * scale, denominator)
    if rest:
        raise ValueError(f"{amount} has more digits than {code} has ({currency_digits(code)})")
    return units


def round_points(value: Fraction, mode: Rounding) -> int:
    """Round an exact number of points to a whole one."""
    if mode == "floor":
        return value.numerator // value.denominator
    if mode == "ceil":
        return -(-value.numerator // value.denominator)
    return round(value)
