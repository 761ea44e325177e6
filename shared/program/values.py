"""Readers of a program file's values: each reads one exactly, or says what is allowed instead."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from typing import Any
from unicodedata import category
from zoneinfo import ZoneInfo

from pydantic_core import PydanticCustomError

from shared.clock import Period
from shared.money import UnknownCurrency, currency_digits

ID_CHARS_MAX = 64
TEXT_CHARS_MAX = 200
COUNT_MAX = 1_000_000_000
WHOLE_DIGITS_MAX = 15
FRACTION_DIGITS_MAX = 10
MULTIPLIER_MAX = 1000
PERIOD_YEARS_MAX = 100
SHOWN_CHARS_MAX = 40

_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{ID_CHARS_MAX - 1}}}")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(rf"[+-]?[0-9]{{1,{WHOLE_DIGITS_MAX}}}(?:\.[0-9]{{1,{FRACTION_DIGITS_MAX}}})?")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:\d{2})?", re.ASCII)
_CLOCK = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d|24:00", re.ASCII)
_ZONE = re.compile(r"(?!posix/|right/)[A-Z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")
# Controls (NUL and line ends among them), halves of characters, line and paragraph separators.
_NOT_IN_TEXT = frozenset({"Cc", "Cs", "Zl", "Zp"})
_NO_ZONES = frozenset({"Factory", "localtime", "posixrules"})


class Number(str):
    """A number of the file as it is written there; it never passes through a binary float."""

    __slots__ = ()


def refuse(message: str, allowed: str = "") -> PydanticCustomError:
    """Build the error that carries a mistake's message and what is allowed."""
    return PydanticCustomError("mistake", "{said}", {"said": message, "allowed": allowed})


def shown(value: object) -> str:
    """Show a value of the file in a message, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = str(value)
    text = text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 1] + "…"
    return text if isinstance(value, Number) else repr(text)


def did_you_mean(wrong: str, known: list[str] | tuple[str, ...]) -> str:
    """Suggest the nearest of the known words, as the end of a message."""
    nearest = get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def as_text(value: Any) -> str:
    """Read a text; a number or true/false must be put in quotes to be one."""
    if value is None:
        raise refuse("is empty", "a text")
    if not isinstance(value, str):
        raise refuse(f"must be a text, not {shown(value)}", "a text in quotes")
    if isinstance(value, Number):
        raise refuse(f"must be a text, not the number {value}", f'a text in quotes: "{value}"')
    return _checked_text(value)


def as_written(value: Any) -> str:
    """Read a text that may look like a number, as an article number does: kept as it is written."""
    return _checked_text(str(value)) if isinstance(value, Number) else as_text(value)


def _checked_text(value: str) -> str:
    if not value.strip():
        raise refuse("is empty", "a text")
    if len(value) > TEXT_CHARS_MAX:
        raise refuse(f"has {len(value)} characters", f"at most {TEXT_CHARS_MAX} characters")
    if any(category(char) in _NOT_IN_TEXT for char in value):
        raise refuse(f"has unprintable characters: {shown(value)}", "printable characters")
    return value


def as_id(value: Any) -> str:
    """Read an identifier, which events and URLs carry and which must therefore stay plain."""
    text = as_text(value)
    if _ID.fullmatch(text) is None:
        allowed = f"letters, digits, '-', '_' and '.', at most {ID_CHARS_MAX}, no spaces"
        raise refuse(f"{shown(text)} is not an id", allowed)
    return text


def as_whole(value: Any, least: int, most: int = COUNT_MAX) -> int:
    """Read a whole number within bounds."""
    allowed = f"a whole number from {least} to {most}"
    if not isinstance(value, str) or _WHOLE.fullmatch(value) is None:
        raise refuse(f"must be a whole number, not {shown(value)}", allowed)
    # Told by its length first: Python refuses to read numbers of thousands of digits.
    if len(value) > len(str(COUNT_MAX)) + 1 or not least <= int(value) <= most:
        raise refuse(f"{shown(value)} is out of bounds", allowed)
    return int(value)


def as_decimal(value: Any) -> Decimal:
    """Read a decimal number exactly as it is written."""
    if not isinstance(value, str) or _DECIMAL.fullmatch(value) is None:
        allowed = (
            f'a decimal number such as "1.25", at most {WHOLE_DIGITS_MAX} digits before'
            f" and {FRACTION_DIGITS_MAX} after the point"
        )
        raise refuse(f"must be a decimal number, not {shown(value)}", allowed)
    return Decimal(value)


def as_positive(value: Any) -> Decimal:
    """Read a decimal number above zero."""
    number = as_decimal(value)
    if number <= 0:
        raise refuse(f"{shown(value)} is not above 0", "a number above 0")
    return number


def as_decimal_from_zero(value: Any) -> Decimal:
    """Read a decimal number of zero or more."""
    number = as_decimal(value)
    if number < 0:
        raise refuse(f"{shown(value)} is below 0", "0 or more")
    return number or Decimal(0)  # also for -0


def as_percent(value: Any) -> Decimal:
    """Read a percentage above 0 and up to 100."""
    number = as_decimal(value)
    if not 0 < number <= 100:  # noqa: PLR2004 - a percentage
        raise refuse(f"{shown(value)} is out of bounds", "above 0, at most 100")
    return number


def as_multiplier(value: Any) -> Fraction:
    """Read a multiplier as an exact fraction."""
    number = as_positive(value)
    if number > MULTIPLIER_MAX:
        raise refuse(f"{shown(value)} is out of bounds", f"above 0, at most {MULTIPLIER_MAX}")
    return Fraction(number)


def as_period(value: Any) -> Period:
    """Read an ISO 8601 period."""
    allowed = "such as P12M (months), P30D (days), P2W (weeks), P1Y (years), PT15M (minutes)"
    if not isinstance(value, str):
        raise refuse(f"must be an ISO 8601 period, not {shown(value)}", allowed)
    try:
        period = Period.parse(value)
    except ValueError:
        message = f"must be an ISO 8601 period, not {shown(value)}"
        raise refuse(message, allowed) from None
    # Longer ones would run out of the calendar in the middle of a purchase.
    days = period.years * 366 + period.months * 31 + period.days
    seconds = (days * 24 + period.hours) * 3600 + period.minutes * 60 + period.seconds
    if seconds > PERIOD_YEARS_MAX * 366 * 24 * 3600:
        raise refuse(f"{shown(value)} is too long", f"at most {PERIOD_YEARS_MAX} years")
    return period


def as_days(value: Any) -> Period:
    """Read a period of whole days, for what ends with a day."""
    period = as_period(value)
    if period.has_clock_part:
        raise refuse(f"{shown(value)} has hours, minutes or seconds", "whole days, months or years")
    return period


def as_some_days(value: Any) -> Period:
    """Read a period of at least one whole day."""
    period = as_days(value)
    if period.is_zero:
        raise refuse(f"{shown(value)} lasts no time at all", "a period of at least a day")
    return period


def as_moment(value: Any) -> date | datetime:
    """Read a day or a moment; a moment without a zone is on the program's wall clock."""
    if isinstance(value, str):
        try:
            if _DAY.fullmatch(value):
                return date.fromisoformat(value)
            if _MOMENT.fullmatch(value):
                return datetime.fromisoformat(value)
        except ValueError:
            pass
    allowed = "a day such as 2027-11-28, or a moment such as 2027-11-28T18:00"
    raise refuse(f"must be a date, not {shown(value)}", allowed)


def as_clock_time(value: Any) -> str:
    """Read a time of the day."""
    if not isinstance(value, str) or _CLOCK.fullmatch(value) is None:
        raise refuse(f"must be a time of the day, not {shown(value)}", '"00:00" to "24:00"')
    return str(value)


def as_bool(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise refuse(f"must be true or false, not {shown(value)}", "true, false")
    return value


def as_currency(value: Any) -> str:
    """Read a currency code of ISO 4217."""
    text = as_text(value)
    try:
        currency_digits(text)
    except UnknownCurrency:
        hint = f"; did you mean {text.upper()}?" if _is_currency(text.upper()) else ""
        raise refuse(
            f"{shown(text)} is not a currency{hint}", "an ISO 4217 code such as EUR, GBP, CHF"
        ) from None
    return text


def _is_currency(code: str) -> bool:
    try:
        return currency_digits(code) >= 0
    except UnknownCurrency:
        return False


def as_timezone(value: Any) -> str:
    """Read the name of a time zone of the IANA database."""
    text = as_text(value)
    try:
        if _ZONE.fullmatch(text) and text not in _NO_ZONES:
            return ZoneInfo(text).key
    except (OSError, ValueError, LookupError):
        pass
    from zoneinfo import available_timezones  # noqa: PLC0415 - reads hundreds of files

    hint = did_you_mean(text, sorted(available_timezones()))
    raise refuse(f"{shown(text)} is not a time zone{hint}", "an IANA name such as Europe/Berlin")


def as_list(value: Any) -> tuple[Any, ...]:
    """Read a list; a key without anything after it is an empty one."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise refuse(f"must be a list, not {shown(value)}", "a list such as [a, b]")
    return tuple(value)


def as_mapping(value: Any) -> dict[str, Any]:
    """Read a mapping; a key without anything after it is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refuse(f"must be a mapping, not {shown(value)}", "key: value pairs")
    return value
