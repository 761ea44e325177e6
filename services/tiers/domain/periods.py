"""Windows and validity: from when amounts count at an instant, and until when a level is held."""

# ruff: noqa: D102 - the windows do what their protocol says
from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import ClassVar, Protocol
from zoneinfo import ZoneInfo

from services.tiers.domain.qualification import Entries
from shared import clock
from shared.clock import CalendarRangeError, Period
from shared.program.model import Tiers

# Validity ends at a local midnight, exclusively: this much earlier it is still the last valid day.
TICK = timedelta(microseconds=1)
# The start of a rolling window goes back by less than a day where a month's end is clamped (29 March 23:00 and
# 30 March 01:00 both look back to 28 February), and by an hour or a day where a zone changes its offset.
BACKWARDS_MAX = timedelta(days=3)
# Where a long period of the program file leaves the calendar: everything counts, and nothing ever ends.
EARLIEST = datetime.min.replace(tzinfo=UTC)
FOREVER = datetime.max.replace(tzinfo=UTC)


class Window(Protocol):
    """How amounts count and how long a level is held. Indexes are those of ``Entries``."""

    @property
    def includes_end(self) -> bool:
        """Whether an entry at the very instant of a judgement counts for it."""

    def first(self, entries: Entries, instant: datetime) -> int:
        """Index of the first entry that counts at the instant."""

    def first_at_most(self, entries: Entries, instant: datetime) -> int:
        """A lower bound of ``first`` for the instant and all later ones; quick, and never decreasing."""

    def first_judged(self, entries: Entries, end: datetime) -> int:
        """Index of the first entry that counts when a validity that ends at ``end`` is judged."""

    def bounds(self, instant: datetime) -> tuple[datetime | None, datetime | None]:
        """From when to when amounts count at the instant."""

    def valid_until(self, since: datetime) -> datetime | None:
        """Exclusive end of a level reached at ``since``; None: never lost."""

    def renewed(self, end: datetime, at: datetime) -> datetime | None:
        """The next end, counted on from ``end``, of a level retained at ``at``."""

    def held(self, since: datetime) -> datetime | None:
        """Exclusive end of a level fallen to at ``since``."""


@dataclass(frozen=True, slots=True)
class Rolling:
    """What was earned in (t - length, t]; valid to the end of the local day ``since`` + length."""

    length: Period
    zone: ZoneInfo
    includes_end: ClassVar[bool] = True

    def first(self, entries: Entries, instant: datetime) -> int:
        return entries.through(self._start(instant))

    def first_at_most(self, entries: Entries, instant: datetime) -> int:
        months = 12 * self.length.years + self.length.months
        longest = timedelta(days=31 * months + self.length.days) + BACKWARDS_MAX
        return entries.before(instant - longest) if instant - EARLIEST > longest else 0

    def first_judged(self, entries: Entries, end: datetime) -> int:
        return self.first(entries, end)

    def bounds(self, instant: datetime) -> tuple[datetime, datetime]:
        return self._start(instant), instant

    def valid_until(self, since: datetime) -> datetime:
        return _last_day_end(since, self.length, self.zone)

    def renewed(self, end: datetime, at: datetime) -> datetime:
        following = _last_day_end(end - TICK, self.length, self.zone)
        # A grace longer than the window: what is left of the window after it would be nothing.
        return following if following > at else self.valid_until(at)

    def held(self, since: datetime) -> datetime:
        return _last_day_end(since - TICK, self.length, self.zone)

    def _start(self, instant: datetime) -> datetime:
        try:
            return clock.subtract(instant, self.length, self.zone)
        except CalendarRangeError:
            return EARLIEST


@dataclass(frozen=True, slots=True)
class CalendarYear:
    """What was earned since 1 January; valid to the end of the next calendar year."""

    zone: ZoneInfo
    includes_end: ClassVar[bool] = False

    def first(self, entries: Entries, instant: datetime) -> int:
        return entries.before(clock.year_start(instant, self.zone))

    def first_at_most(self, entries: Entries, instant: datetime) -> int:
        return self.first(entries, instant)

    def first_judged(self, entries: Entries, end: datetime) -> int:
        return self.first(entries, end - TICK)

    def bounds(self, instant: datetime) -> tuple[datetime, datetime]:
        return clock.year_start(instant, self.zone), self._year_end(instant)

    def valid_until(self, since: datetime) -> datetime:
        return self._year_end(self._year_end(since))

    def renewed(self, end: datetime, at: datetime) -> datetime:
        return self._year_end(max(end, at))

    def held(self, since: datetime) -> datetime:
        return self._year_end(since)

    def _year_end(self, instant: datetime) -> datetime:
        year = clock.local_date(instant, self.zone).year
        return clock.local_midnight(date(year + 1, 1, 1), self.zone)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Everything ever earned; a level is never lost."""

    includes_end: ClassVar[bool] = True

    def first(self, entries: Entries, instant: datetime) -> int:
        del entries, instant
        return 0

    first_at_most = first
    first_judged = first

    def bounds(self, instant: datetime) -> tuple[None, None]:
        del instant
        return None, None

    def valid_until(self, since: datetime) -> None:
        del since

    def renewed(self, end: datetime, at: datetime) -> None:
        del end, at

    def held(self, since: datetime) -> None:
        del since


def window_of(rules: Tiers, zone: ZoneInfo) -> Window:
    """The program's window. An anniversary window never gets here: the program file is refused."""
    if rules.window.kind == "calendar_year":
        return CalendarYear(zone)
    if rules.window.kind == "lifetime":
        return Lifetime()
    if rules.window.kind == "rolling" and rules.window.length is not None:
        return Rolling(rules.window.length, zone)
    raise ValueError(f"tiers.window: {rules.window.kind} is not supported")


def grace_until(end: datetime, grace: Period, zone: ZoneInfo) -> datetime:
    """Exclusive end of the grace after a validity that ended at ``end``: whole local days."""
    return _last_day_end(end - TICK, grace, zone)


def _last_day_end(instant: datetime, period: Period, zone: ZoneInfo) -> datetime:
    try:
        return clock.end_of_day(instant, period, zone)
    except CalendarRangeError:
        return FOREVER
