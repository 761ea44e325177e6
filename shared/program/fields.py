"""The types of a program file's fields: how each is read, and how the reference page calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, TypeAlias, get_args

from pydantic import BeforeValidator, Field, PlainValidator

from shared.clock import Period
from shared.program.values import (
    as_bool,
    as_clock_time,
    as_currency,
    as_days,
    as_decimal_from_zero,
    as_id,
    as_list,
    as_moment,
    as_multiplier,
    as_percent,
    as_period,
    as_positive,
    as_some_days,
    as_text,
    as_timezone,
    as_whole,
    as_written,
    did_you_mean,
    refuse,
    shown,
)


@dataclass(frozen=True, slots=True)
class Says:
    """How the reference page calls a kind of value."""

    words: str


def choice(words: Any) -> PlainValidator:
    """Read one of the words of a ``Literal``."""
    known: tuple[str, ...] = get_args(words)

    def as_choice(value: Any) -> str:
        if value not in known:
            hint = did_you_mean(value, known) if isinstance(value, str) else ""
            raise refuse(f"{shown(value)} is not allowed{hint}", ", ".join(known))
        return str(value)

    return PlainValidator(as_choice)


def optional(read: Callable[[Any], Any]) -> PlainValidator:
    """Read ``null`` or a key without anything after it as None."""

    def as_optional(value: Any) -> Any:
        return None if value is None else read(value)

    return PlainValidator(as_optional)


def _from_one(value: Any) -> int:
    return as_whole(value, 1)


def _from_zero(value: Any) -> int:
    return as_whole(value, 0)


Text: TypeAlias = Annotated[str, PlainValidator(as_text), Says("text")]
Written: TypeAlias = Annotated[str, PlainValidator(as_written), Says("text or number")]
Id: TypeAlias = Annotated[str, PlainValidator(as_id), Says("id")]
Flag: TypeAlias = Annotated[bool, PlainValidator(as_bool), Says("`true`, `false`")]
Count: TypeAlias = Annotated[int, PlainValidator(_from_one), Says("whole number from 1")]
Positive: TypeAlias = Annotated[Decimal, PlainValidator(as_positive), Says("number above 0")]
NotNegative: TypeAlias = Annotated[
    Decimal, PlainValidator(as_decimal_from_zero), Says("number from 0")
]
Multiplier: TypeAlias = Annotated[
    Fraction, PlainValidator(as_multiplier), Says("number above 0, at most 1000")
]
AnyPeriod: TypeAlias = Annotated[Period, PlainValidator(as_period), Says("period")]
Days: TypeAlias = Annotated[Period, PlainValidator(as_days), Says("period of whole days")]
SomeDays: TypeAlias = Annotated[
    Period, PlainValidator(as_some_days), Says("period of at least a day")
]
Moment: TypeAlias = Annotated[date | datetime, PlainValidator(as_moment), Says("day or moment")]
ClockTime: TypeAlias = Annotated[str, PlainValidator(as_clock_time), Says('`"00:00"` to `"24:00"`')]
Currency: TypeAlias = Annotated[str, PlainValidator(as_currency), Says("currency code")]
Timezone: TypeAlias = Annotated[str, PlainValidator(as_timezone), Says("time zone")]

MaybeText: TypeAlias = Annotated[str | None, optional(as_text), Says("text")]
MaybeWritten: TypeAlias = Annotated[str | None, optional(as_written), Says("text or number")]
MaybeId: TypeAlias = Annotated[str | None, optional(as_id), Says("id")]
MaybeCount: TypeAlias = Annotated[int | None, optional(_from_one), Says("whole number from 1")]
MaybeStock: TypeAlias = Annotated[int | None, optional(_from_zero), Says("whole number from 0")]
MaybePositive: TypeAlias = Annotated[Decimal | None, optional(as_positive), Says("number above 0")]
MaybePercent: TypeAlias = Annotated[
    Decimal | None, optional(as_percent), Says("number above 0, at most 100")
]
MaybeMultiplier: TypeAlias = Annotated[
    Fraction | None, optional(as_multiplier), Says("number above 0, at most 1000")
]
MaybeSomeDays: TypeAlias = Annotated[
    Period | None, optional(as_some_days), Says("period of at least a day")
]

Ids: TypeAlias = Annotated[tuple[Id, ...], BeforeValidator(as_list)]
# Not strict: pydantic then takes the tuple as it comes and names the index of a wrong item.
IdSet: TypeAlias = Annotated[frozenset[Id], Field(strict=False), BeforeValidator(as_list)]
WrittenSet: TypeAlias = Annotated[frozenset[Written], Field(strict=False), BeforeValidator(as_list)]
