"""Where points came from and went in a period: opening + earned - spent - expired + corrected = closing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from shared import clock

EARNED = frozenset({"earned", "tier_bonus", "campaign", "activity"})
SPENT = frozenset({"captured", "restored"})
EXPIRED = "expired"

TICK = timedelta(microseconds=1)
MONTHS_A_YEAR = 12


@dataclass(slots=True)
class Flow:
    """The sums of a period, in points; ``kinds`` has them by kind of entry, signed as in the ledger.

    ``earned``, ``spent`` and ``expired`` are positive where points were; ``corrected`` is signed: what refunds
    took, what was written off, what people and reversals did, what customers handed on.
    """

    opening: int
    kinds: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, points: int) -> None:
        """Count signed points of a kind."""
        if points:
            self.kinds[kind] = self.kinds.get(kind, 0) + points

    def _sum(self, kinds: Iterable[str]) -> int:
        return sum(self.kinds.get(kind, 0) for kind in kinds)

    @property
    def earned(self) -> int:
        """For purchases and activities, with tier bonus and campaigns."""
        return self._sum(EARNED)

    @property
    def spent(self) -> int:
        """Captured, without what was given back."""
        return -self._sum(SPENT)

    @property
    def expired(self) -> int:
        """Lost by time."""
        return -self._sum({EXPIRED})

    @property
    def corrected(self) -> int:
        """All the rest, signed."""
        return self._sum(self.kinds.keys() - EARNED - SPENT - {EXPIRED})

    @property
    def closing(self) -> int:
        """What is there at the end."""
        return self.opening + self.earned - self.spent - self.expired + self.corrected


def month_of(instant: datetime, kind: str, zone: ZoneInfo) -> str:
    """Name the month that an entry counts in (``2011-12``).

    What is lost at the midnight that ends a day was good through that day, and lost with it: it counts in the
    month that ends there. Anything else at that very instant is the first of the new month.
    """
    moment = instant - TICK if kind == EXPIRED else instant
    return f"{clock.local_date(moment, zone):%Y-%m}"


def months(first: str, last: str) -> list[str]:
    """Name all months from one to another, both included."""
    start, end = _number(first), _number(last)
    return [_name(number) for number in range(start, end + 1)]


def month_start(month: str, zone: ZoneInfo) -> datetime:
    """Return the instant at which a month begins in the zone, in UTC."""
    number = _number(month)
    return clock.local_midnight(date(number // MONTHS_A_YEAR, number % MONTHS_A_YEAR + 1, 1), zone)


def month_after(month: str) -> str:
    """Name the next month."""
    return _name(_number(month) + 1)


def months_back(month: str, count: int) -> str:
    """Name the month that was so many months before."""
    return _name(_number(month) - count)


def monthly(sums: Mapping[tuple[str, str], int], first: str, last: str) -> list[tuple[str, Flow]]:
    """Chain the flows of months from the sums of points by (month, kind); earlier ones make the opening."""
    opening = sum(points for (month, _), points in sums.items() if month < first)
    found: list[tuple[str, Flow]] = []
    for month in months(first, last):
        flow = Flow(opening)
        for (of, kind), points in sums.items():
            if of == month:
                flow.add(kind, points)
        found.append((month, flow))
        opening = flow.closing
    return found


def _number(month: str) -> int:
    return int(month[:4]) * MONTHS_A_YEAR + int(month[5:]) - 1


def _name(number: int) -> str:
    return f"{number // MONTHS_A_YEAR:04d}-{number % MONTHS_A_YEAR + 1:02d}"
