"""The words of an explanation, German and English side by side."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from services.points.domain.earning import CATEGORY, KIND, SKU, TEST
from shared.money import Rounding

DECIMALS_SHOWN_MAX = 30
_COMMA = str.maketrans(",.", ".,")

_KINDS = {
    "gift_card": ("Geschenkkarten", "gift cards"),
    "shipping": ("Versandkosten", "shipping"),
    "fee": ("Gebühren", "fees"),
    "tip": ("Trinkgeld", "tips"),
}
_ROUNDED = {
    "floor": ("abgerundet", "rounded down"),
    "half_even": ("gerundet, genau die Hälfte zur geraden Zahl", "rounded, halves to even"),
    "ceil": ("aufgerundet", "rounded up"),
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """The same in both languages."""

    de: str
    en: str


def number(value: Decimal | Fraction | int) -> Sentence:
    """Write a number exactly: as a decimal where that ends, else as a mixed fraction (``67 1/3``)."""
    text = exact_text(value)
    if "/" in text or "." not in text:
        whole, _, rest = text.partition(" ")
        english = f"{int(whole):,}" + (f" {rest}" if rest else "")
    else:
        english = f"{Decimal(text):,f}"
    return Sentence(english.translate(_COMMA), english)


def exact_text(value: Decimal | Fraction | int) -> str:
    """Write a number without loss for machines: ``1.5``, ``44.92``, ``67 1/3``."""
    if isinstance(value, Decimal | int):
        return f"{value:f}" if isinstance(value, Decimal) else str(value)
    digits = _decimals(value.denominator)
    if digits is None:
        whole, rest = divmod(value.numerator, value.denominator)
        return f"{whole} {rest}/{value.denominator}"
    scaled = value.numerator * 10**digits // value.denominator
    text = str(scaled).rjust(digits + 1, "0")
    return f"{text[:-digits]}.{text[-digits:]}" if digits else text


def multiplier_text(value: Fraction) -> str:
    """Write a tier's multiplier as it is stored and published: ``1.5``, or ``4/3`` where no decimal is exact."""
    return _multiplier_text(value.numerator, value.denominator)


@lru_cache(maxsize=256)
def _multiplier_text(numerator: int, denominator: int) -> str:
    value = Fraction(numerator, denominator)
    return str(value) if _decimals(denominator) is None else exact_text(value)


def points(count: int, *, signed: bool = False) -> Sentence:
    """Count points: ``1 Punkt``, ``67 Punkte``, with a sign where it is a change."""
    shown = number(abs(count))
    sign = ("−" if count < 0 else "+" if signed else "") if count else ""
    german, english = ("Punkt", "point") if abs(count) == 1 else ("Punkte", "points")
    return Sentence(f"{sign}{shown.de} {german}", f"{sign}{shown.en} {english}")


def money(value: Decimal, currency: str) -> Sentence:
    """Write an amount with its currency, as exactly as it is known."""
    shown = number(value)
    return Sentence(f"{shown.de} {currency}", f"{shown.en} {currency}")


def tier(name: str | None, multiplier: Fraction) -> Sentence:
    """Name a tier with its multiplier."""
    factor = number(multiplier)
    if name is None:
        return Sentence(f"ohne Stufe (× {factor.de})", f"no tier (× {factor.en})")
    return Sentence(f"Stufe {name} (× {factor.de})", f"tier {name} (× {factor.en})")


def rounded(mode: Rounding) -> Sentence:
    """Say how was rounded."""
    return Sentence(*_ROUNDED[mode])


def reason(code: str, sku: str) -> Sentence:
    """Say why a line earned nothing."""
    if code.startswith(KIND):
        kind = code.removeprefix(KIND)
        german, english = _KINDS.get(kind, (kind, kind))
        return Sentence(f"{german} bringen keine Punkte", f"{english} earn no points")
    if code == SKU:
        return Sentence(f"Artikel {sku} ist ausgenommen", f"article {sku} is excluded")
    if code.startswith(CATEGORY):
        name = code.removeprefix(CATEGORY)
        return Sentence(f"die Warengruppe {name} ist ausgenommen", f"category {name} is excluded")
    if code == TEST:
        return Sentence("Testbestellung", "test order")
    return Sentence("kein Betrag über null bleibt übrig", "no amount above zero is left")


def _decimals(denominator: int) -> int | None:
    """Count the decimals of 1/denominator, or None if they never end (or fill lines)."""
    digits = 0
    while 10**digits % denominator and digits <= DECIMALS_SHOWN_MAX:
        digits += 1
    return digits if digits <= DECIMALS_SHOWN_MAX else None
