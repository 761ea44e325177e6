"""Time: the one place that reads the clock, and calendar arithmetic in a program's own zone.

Instants are aware and returned in UTC. Years, months and days are counted on the zone's wall clock
(months clamped to the month's last day); hours, minutes and seconds are exact. A wall time skipped
by the change to summer time is moved on by the gap; one that happens twice means its first
occurrence (both as RFC 5545 has it).
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

RoundUp = Literal["month_end", "quarter_end", "year_end"]

PERIOD_NUMBER_DIGITS_MAX = 6
MONTHS_A_YEAR = 12
MONTHS_A_QUARTER = 3

_NUMBER = rf"\d{{1,{PERIOD_NUMBER_DIGITS_MAX}}}"
_PERIOD = re.compile(
    rf"P(?=.)(?:(?P<years>{_NUMBER})Y)?(?:(?P<months>{_NUMBER})M)?(?:(?P<weeks>{_NUMBER})W)?"
    rf"(?:(?P<days>{_NUMBER})D)?"
    rf"(?:T(?=.)(?:(?P<hours>{_NUMBER})H)?(?:(?P<minutes>{_NUMBER})M)?(?:(?P<seconds>{_NUMBER})S)?)?",
    re.ASCII,
)


class CalendarRangeError(ValueError):
    """A date outside of the years 1 to 9999, which no calendar here can name."""


@dataclass(frozen=True, slots=True)
class Period:
    """An ISO 8601 duration without fractions or signs; weeks are kept as days."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0
    minutes: int = 0
    seconds: int = 0

    @classmethod
    def parse(cls, text: str) -> Period:
        """Read ``P12M``, ``P30D``, ``P2W``, ``PT15M``, ``P1Y6M`` and the like."""
        match = _PERIOD.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not an ISO 8601 period such as P12M, P30D or PT15M")
        parts = {name: int(number or 0) for name, number in match.groupdict().items()}
        weeks = parts.pop("weeks")
        return cls(**{**parts, "days": parts["days"] + 7 * weeks})

    def __str__(self) -> str:
        units = (f"{self.years}Y" if self.years else "") + (
            f"{self.months}M" if self.months else ""
        )
        units += f"{self.days}D" if self.days else ""
        clock = (f"{self.hours}H" if self.hours else "") + (
            f"{self.minutes}M" if self.minutes else ""
        )
        clock += f"{self.seconds}S" if self.seconds else ""
        return f"P{units}{'T' if clock else ''}{clock}" if units or clock else "P0D"

    @property
    def is_zero(self) -> bool:
        """Whether adding it changes nothing."""
        return self == _ZERO

    @property
    def has_clock_part(self) -> bool:
        """Whether hours, minutes or seconds are part of it."""
        return bool(self.hours or self.minutes or self.seconds)


_ZERO = Period()


def now() -> datetime:
    """Read the clock; everything else takes the instant as an argument."""
    return datetime.now(UTC)


def add(instant: datetime, period: Period, zone: ZoneInfo) -> datetime:
    """Move an instant on by a period: calendar part on the zone's wall clock, the rest exactly."""
    return _shift(instant, period, zone, 1)


def subtract(instant: datetime, period: Period, zone: ZoneInfo) -> datetime:
    """Move an instant back by a period, with the same rules as ``add``."""
    return _shift(instant, period, zone, -1)


def local_date(instant: datetime, zone: ZoneInfo) -> date:
    """Tell the day it is in the zone at that instant."""
    return _to_local(instant, zone).date()


def local_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """Turn a wall-clock time of the zone (without zone) into the instant it means, in UTC."""
    try:
        return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    except OverflowError as error:
        raise CalendarRangeError(f"{wall.isoformat()} is outside of the years 1 to 9999") from error


@lru_cache(maxsize=4096)
def local_midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the instant at which that day begins in the zone, in UTC."""
    return local_instant(datetime.combine(day, time.min), zone)


def end_of_day(
    instant: datetime, period: Period, zone: ZoneInfo, round_up: RoundUp | None = None
) -> datetime:
    """Return the exclusive end of what lasts ``period``: the local midnight after its last day.

    The last valid day is the instant's local date plus the period, rounded up to the end of its
    month, quarter or year. The period must be whole days, months or years.
    """
    if period.has_clock_part:
        raise ValueError(f"{period} has hours, minutes or seconds: no day can be its end")
    return _midnight_after(local_date(instant, zone), period, zone, round_up)


def year_start(instant: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant at which the instant's local year begins in the zone, in UTC."""
    return local_midnight(date(_to_local(instant, zone).year, 1, 1), zone)


@lru_cache(maxsize=4096)
def _midnight_after(
    day: date, period: Period, zone: ZoneInfo, round_up: RoundUp | None
) -> datetime:
    last = _shift_days(_shift_months(day, period.years, period.months, 1), period.days)
    if round_up == "month_end":
        last = _month_end(last.year, last.month)
    elif round_up == "quarter_end":
        last = _month_end(last.year, last.month + -last.month % MONTHS_A_QUARTER)
    elif round_up == "year_end":
        last = _month_end(last.year, MONTHS_A_YEAR)
    return local_midnight(_shift_days(last, 1), zone)


def _shift(instant: datetime, period: Period, zone: ZoneInfo, sign: int) -> datetime:
    moved = instant
    if period.years or period.months or period.days:
        wall = _to_local(instant, zone)
        day = _shift_months(wall.date(), period.years, period.months, sign)
        moved = local_instant(
            datetime.combine(_shift_days(day, sign * period.days), wall.time()), zone
        )
    exact = timedelta(hours=period.hours, minutes=period.minutes, seconds=period.seconds)
    try:
        return (moved + sign * exact).astimezone(UTC)
    except OverflowError as error:
        raise CalendarRangeError(f"{moved.isoformat()} ± {period}: outside of the years") from error


def _to_local(instant: datetime, zone: ZoneInfo) -> datetime:
    if instant.tzinfo is None:
        raise ValueError("an instant needs its zone: this one is naive")
    try:
        return instant.astimezone(zone)
    except OverflowError as error:
        raise CalendarRangeError(f"{instant.isoformat()} is outside of the years") from error


def _shift_months(day: date, years: int, months: int, sign: int) -> date:
    if not (years or months):
        return day
    total = day.year * MONTHS_A_YEAR + day.month - 1 + sign * (years * MONTHS_A_YEAR + months)
    year, month = divmod(total, MONTHS_A_YEAR)
    if not date.min.year <= year <= date.max.year:
        raise CalendarRangeError(f"{day} shifted to year {year}: only 1 to 9999 exist")
    return day.replace(year=year, month=month + 1, day=min(day.day, monthrange(year, month + 1)[1]))


def _shift_days(day: date, days: int) -> date:
    try:
        return day + timedelta(days=days)
    except OverflowError as error:
        raise CalendarRangeError(f"{day} and {days} days: outside of the years") from error


def _month_end(year: int, month: int) -> date:
    return date(year, month, monthrange(year, month)[1])
