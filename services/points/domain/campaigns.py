"""Campaigns: which of them a purchase meets and what each would add, or the first condition that fails.

What depends on nothing but the purchase is judged here, once; what depends on the customer – tier, first purchase,
caps – is left to ``deciding``, which may have to look again when a late event changes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.points.domain.columns import Columns
from shared import clock
from shared.program.earning import Campaign as Written
from shared.program.model import Program

FROM, UNTIL, SHOPS, CHANNELS = "from", "until", "shops", "channels"
WEEKDAYS, HOURS, LINES, MINIMUM = "weekdays", "hours", "lines", "minimum"
ELIGIBLE = "an_eligible_line"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOUR_MINUTES = 60


class Offer(NamedTuple):
    """What a campaign adds to a purchase if tier, first purchase and caps allow it.

    ``exact`` is in base points, before any tier; ``lines`` are the indexes of those it counts, empty for all
    eligible ones. The bounds are in points; None is no bound.
    """

    id: str
    name: str
    exact: Fraction
    lines: tuple[int, ...] = ()
    exclusive: bool = False
    tiers: tuple[str, ...] = ()
    first: bool = False
    per_purchase: int | None = None
    per_customer: int | None = None
    total: int | None = None

    @property
    def changeable(self) -> bool:
        """Whether more than the purchase itself decides what it gives: then a late event may change it."""
        bounds = (self.per_purchase, self.per_customer, self.total)
        return bool(self.tiers) or self.first or any(bound is not None for bound in bounds)


class Missed(NamedTuple):
    """A campaign that gave nothing: its first condition that failed, what was needed, found, and lacking."""

    id: str
    name: str
    condition: str
    needed: str = ""
    found: str = ""
    by: str = ""


class Offers(NamedTuple):
    """All that a program's campaigns have to say to one purchase, before anything is known of the customer."""

    made: tuple[Offer, ...]
    missed: tuple[Missed, ...]

    @property
    def changeable(self) -> bool:
        """Whether what they give may have to be decided anew."""
        return any(offer.changeable for offer in self.made)


class Value(NamedTuple):
    """A valued purchase as campaigns look at it: ``spend`` in the program's currency, ``exact`` in base points."""

    shop: str
    channel: str | None
    occurred_at: datetime
    columns: Columns
    nets: Sequence[Decimal]
    reasons: Mapping[int, str]
    spend: Decimal
    exact: Fraction


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign laid out for quick checks: instants in UTC (None: no bound), minutes of the local day."""

    written: Written
    name: str
    start: datetime | None
    end: datetime | None
    weekdays: frozenset[int]
    minutes: tuple[int, int] | None
    tiers: tuple[str, ...]


def laid_out(program: Program) -> tuple[Campaign, ...]:
    """Lay out a program's campaigns, in the order of the file."""
    return tuple(_laid_out(written, program.zone) for written in program.earning.campaigns)


def offers(campaigns: Sequence[Campaign], value: Value, zone: ZoneInfo) -> Offers:
    """Ask each campaign what it offers for a purchase."""
    made: list[Offer] = []
    missed: list[Missed] = []
    local = value.occurred_at.astimezone(zone)
    for campaign in campaigns:
        found = _offer(campaign, value, local)
        if isinstance(found, Offer):
            made.append(found)
        else:
            missed.append(found)
    return Offers(tuple(made), tuple(missed))


def _offer(campaign: Campaign, value: Value, local: datetime) -> Offer | Missed:
    written, when, cap = campaign.written, campaign.written.when, campaign.written.cap
    for condition, needed, found, by in _failures(campaign, value, local):
        return Missed(written.id, campaign.name, condition, needed, found, by)
    lines = _lines(campaign, value)
    if not lines:
        named = ", ".join([*sorted(when.categories), *sorted(when.skus)])
        condition = LINES if value.exact else ELIGIBLE
        return Missed(written.id, campaign.name, condition, named)
    if when.minimum is not None and value.spend < when.minimum:
        short = f"{when.minimum - value.spend:f}"
        found = f"{value.spend:f}"
        return Missed(written.id, campaign.name, MINIMUM, f"{when.minimum:f}", found, short)
    all_lines = len(lines) == len(value.nets) - len(value.reasons)
    exact = Fraction(written.bonus or 0)
    if written.multiplier is not None:
        counted = value.exact if all_lines else value.exact * _share(lines, value)
        exact += counted * (written.multiplier - 1)
    return Offer(
        written.id,
        campaign.name,
        exact,
        () if all_lines else lines,
        written.exclusive,
        campaign.tiers,
        when.first_purchase,
        cap.per_purchase,
        cap.per_customer,
        cap.total,
    )


def _failures(
    campaign: Campaign, value: Value, local: datetime
) -> Iterator[tuple[str, str, str, str]]:
    """Conditions of time and place that fail: which, what it needs, what it found, and what is between them."""
    written, when, at = campaign.written, campaign.written.when, value.occurred_at
    if campaign.start is not None and at < campaign.start:
        yield FROM, _moment(written.from_), _seen(written.from_, local), _period(at, campaign.start)
    if campaign.end is not None and at >= campaign.end:
        yield UNTIL, _moment(written.until), _seen(written.until, local), _period(campaign.end, at)
    if when.shops and value.shop not in when.shops:
        yield SHOPS, ", ".join(sorted(when.shops)), value.shop, ""
    if when.channels and value.channel not in when.channels:
        yield CHANNELS, ", ".join(sorted(when.channels)), value.channel or "", ""
    if campaign.weekdays and local.weekday() not in campaign.weekdays:
        needed = ", ".join(DAYS[day] for day in sorted(campaign.weekdays))
        yield WEEKDAYS, needed, DAYS[local.weekday()], ""
    if campaign.minutes is not None and when.hours is not None:
        minute, (start, end) = local.hour * HOUR_MINUTES + local.minute, campaign.minutes
        inside = start <= minute < end if start < end else minute >= start or minute < end
        if not inside:
            needed = f"{when.hours.from_}–{when.hours.until}"
            yield HOURS, needed, f"{local:%H:%M}", _minutes_away(minute, start, end)


def _lines(campaign: Campaign, value: Value) -> tuple[int, ...]:
    """The eligible lines that a campaign counts, by index."""
    when, columns = campaign.written.when, value.columns
    return tuple(
        index
        for index, (sku, category) in enumerate(zip(columns.skus, columns.categories, strict=True))
        if index not in value.reasons
        and (not when.categories or category in when.categories)
        and (not when.skus or sku in when.skus)
    )


def _share(lines: Sequence[int], value: Value) -> Fraction:
    """What part of the eligible value these lines are."""
    whole = sum(Fraction(net) for i, net in enumerate(value.nets) if i not in value.reasons)
    return sum((Fraction(value.nets[index]) for index in lines), Fraction(0)) / whole


def _laid_out(written: Written, zone: ZoneInfo) -> Campaign:
    when = written.when
    return Campaign(
        written=written,
        name=written.name or "",
        start=_instant(written.from_, zone),
        end=_instant(written.until, zone, end=True),
        weekdays=frozenset(map(DAYS.index, when.weekdays)),
        minutes=(_minute(when.hours.from_), _minute(when.hours.until)) if when.hours else None,
        tiers=tuple(sorted(when.tiers)),
    )


def _instant(moment: date | datetime, zone: ZoneInfo, *, end: bool = False) -> datetime | None:
    """The first instant of a campaign, or the first one after it; None where the calendar ends."""
    try:
        if isinstance(moment, datetime):
            return moment if moment.tzinfo else clock.local_instant(moment, zone)
        return clock.local_midnight(moment + timedelta(days=1) if end else moment, zone)
    except (clock.CalendarRangeError, OverflowError):
        return None


def _minute(text: str) -> int:
    return int(text[:2]) * HOUR_MINUTES + int(text[3:])


def _moment(moment: date | datetime) -> str:
    if isinstance(moment, datetime):
        return f"{moment:%Y-%m-%d %H:%M}"
    return moment.isoformat()


def _seen(moment: date | datetime, local: datetime) -> str:
    """The purchase's local time, as finely as the campaign says its own."""
    return f"{local:%Y-%m-%d %H:%M}" if isinstance(moment, datetime) else f"{local:%Y-%m-%d}"


def _period(start: datetime, end: datetime) -> str:
    """Write the time between as an ISO 8601 period, in days where it is at least one."""
    gap = end - start
    if gap.days:
        return f"P{gap.days}D"
    return _clock_period(max(1, -(-gap // timedelta(minutes=1))))


def _minutes_away(minute: int, start: int, end: int) -> str:
    """How far outside of the hours a minute of the day is, to the nearer end."""
    day = 24 * HOUR_MINUTES
    return _clock_period(min((start - minute) % day, (minute - end) % day + 1))


def _clock_period(minutes: int) -> str:
    hours, rest = divmod(minutes, HOUR_MINUTES)
    return f"PT{f'{hours}H' if hours else ''}{f'{rest}M' if rest else ''}"
