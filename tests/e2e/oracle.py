"""What the real purchases and cancellations are worth under programs/demo.yaml, from the CSV and nothing of ours.

Plain and slow on purpose: it reads the rules as a person would, and looks at everything again for each question.
"""

from __future__ import annotations

import csv
import gzip
from calendar import monthrange
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

LONDON = ZoneInfo("Europe/London")
EARNS_NOTHING = {"POST", "DOT", "C2", "M", "D", "BANK CHARGES", "AMAZONFEE", "CRUK"}
LEVELS = (
    ("bronze", 0, Decimal(1)),
    ("silver", 500, Decimal("1.25")),
    ("gold", 2000, Decimal("1.5")),
)
VOUCHERS = {"silver": ("percent", "10"), "gold": ("amount", "25.00")}
VOUCHER_DAYS = 90
GRACE_DAYS = 30
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Line:
    """``worth`` is what was spent on it, and 0 for what earns nothing."""

    sku: str
    units: int
    worth: Decimal


@dataclass(frozen=True)
class Return:
    """So many units of a purchase's line, by its place, came back at an instant."""

    line: int
    units: int
    at: datetime


@dataclass(frozen=True)
class Purchase:
    order: str
    at: datetime
    lines: tuple[Line, ...]
    back: tuple[Return, ...] = ()

    @cached_property
    def spent(self) -> Decimal:
        return sum((line.worth for line in self.lines), Decimal(0))

    @cached_property
    def base(self) -> int:
        return floor(self.spent)

    @cached_property
    def skus(self) -> set[str]:
        return {line.sku for line in self.lines}

    @cached_property
    def base_parts(self) -> list[int]:
        return self.parts(self.base)

    def parts(self, points: int) -> list[int]:
        """So many points for this purchase, by line."""
        return split(points, [line.worth for line in self.lines])

    def taken(self, parts: list[int], known: datetime) -> int:
        """What goes for what came back until then: of each line by its units in sum, rounded down."""
        units = Counter[int]()
        for one in self.back:
            if one.at <= known:
                units[one.line] += one.units
        return sum(parts[place] * n // self.lines[place].units for place, n in units.items())

    def counts(self, known: datetime) -> int:
        """The base points that are left of it, as far as is known by then."""
        if not self.back:
            return self.base
        return self.base - self.taken(self.base_parts, max(known, self.at))


@dataclass(frozen=True)
class Cancellation:
    """What somebody gave back, without saying of which purchase."""

    number: str
    at: datetime
    lines: tuple[tuple[str, int], ...]


@dataclass
class Customer:
    """What a customer bought and cancelled, oldest first; ``found``: by cancellation, units asked and found."""

    id: str
    purchases: list[Purchase] = field(default_factory=list)
    cancellations: list[Cancellation] = field(default_factory=list)
    found: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """A change of level."""

    kind: str
    level: int
    since: datetime


@dataclass(frozen=True)
class Lot:
    """``points`` are what is left of those ``granted``."""

    granted: int
    points: int
    available_at: datetime
    expires_at: datetime


def floor(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_FLOOR))


def split(points: int, worths: Sequence[Decimal]) -> list[int]:
    """By largest remainder, and of equal ones the first."""
    whole = sum(worths)
    if not whole:
        return [0] * len(worths)
    exact = [Fraction(worth) * points / Fraction(whole) for worth in worths]
    parts = [int(one) for one in exact]
    rest = sorted(range(len(parts)), key=lambda place: (parts[place] - exact[place], place))
    for place in rest[: points - sum(parts)]:
        parts[place] += 1
    return parts


@dataclass
class Invoice:
    begun: datetime
    owner: str = ""
    rows: list[tuple[str, int, Decimal]] = field(default_factory=list)


@cache
def invoices(file: Path) -> dict[str, Invoice]:
    """Every purchase and cancellation, by number, in the order of the file; times are local."""
    found: dict[str, Invoice] = {}
    with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            number, units = row["InvoiceNo"], int(row["Quantity"])
            price = Decimal(row["UnitPrice"])
            if number[0] == "A" or (units <= 0 and number[0] != "C") or price < 0:
                continue
            when = datetime.fromisoformat(row["InvoiceDate"])
            invoice = found.setdefault(number, Invoice(when))
            invoice.begun = min(when, invoice.begun)
            invoice.owner = row["CustomerID"] or invoice.owner
            invoice.rows.append((row["StockCode"], units, price))
    return found


def customers(file: Path, moved: timedelta | None = None) -> dict[str, Customer]:
    """Everybody with a name; ``moved`` shifts all wall-clock times by whole days."""
    found: dict[str, Customer] = {}
    for number, invoice in invoices(file).items():
        if not invoice.owner:
            continue
        who = found.setdefault(invoice.owner, Customer(invoice.owner))
        wall = invoice.begun + (moved or timedelta(0))
        at = wall.replace(tzinfo=LONDON).astimezone(UTC)
        if number[0] == "C":
            lines = tuple((sku, -units) for sku, units, _ in invoice.rows)
            who.cancellations.append(Cancellation(number, at, lines))
        else:
            who.purchases.append(Purchase(number, at, tuple(_line(*row) for row in invoice.rows)))
    for who in found.values():
        who.purchases.sort(key=lambda purchase: purchase.at)
        who.cancellations.sort(key=lambda cancellation: cancellation.at)
        give_back(who)
    return found


def _line(sku: str, units: int, price: Decimal) -> Line:
    earns = sku not in EARNS_NOTHING and not sku.startswith("gift_")
    return Line(sku, units, units * price if earns else Decimal(0))


def give_back(who: Customer) -> None:
    """Each cancellation takes the newest units of its goods that were bought before it and are still there."""
    for cancellation in who.cancellations:
        asked = sum(units for _, units in cancellation.lines)
        left = sum(_take(who, cancellation.at, *line) for line in cancellation.lines)
        who.found[cancellation.number] = (asked, asked - left)


def _take(who: Customer, at: datetime, sku: str, wanted: int) -> int:
    """Returns how many units were not found."""
    for number in reversed(range(len(who.purchases))):
        purchase = who.purchases[number]
        if purchase.at > at or sku not in purchase.skus:
            continue
        for place, line in enumerate(purchase.lines):
            if line.sku == sku and wanted:
                gone = sum(one.units for one in purchase.back if one.line == place)
                units = min(wanted, line.units - gone)
                if units:
                    back = (*purchase.back, Return(place, units, at))
                    purchase = who.purchases[number] = replace(purchase, back=back)
                    wanted -= units
    return wanted


def states(file: Path) -> Counter[str]:
    """How many cancellations found all, some or none of what they bring back; guests' look for nothing."""
    found = Counter[str]()
    for who in customers(file).values():
        for asked, units in who.found.values():
            found["matched" if units == asked else "partly" if units else "unmatched"] += 1
    found["uncredited"] = sum(
        number[0] == "C" and not invoice.owner for number, invoice in invoices(file).items()
    )
    return found


def last_day(file: Path) -> date:
    """The day of the last purchase."""
    return max(one.begun.date() for number, one in invoices(file).items() if number[0] != "C")


def day_of(instant: datetime) -> date:
    return instant.astimezone(LONDON).date()


def a_year_later(day: date, years: int = 1) -> date:
    year = day.year + years
    return date(year, day.month, min(day.day, monthrange(year, day.month)[1]))


def end_of(day: date) -> datetime:
    """The midnight after a day, in London."""
    return datetime.combine(day + timedelta(days=1), time(), LONDON).astimezone(UTC)


def earned_in_the_year_to(who: Customer, instant: datetime, *, known: datetime) -> int:
    """Base points of (instant - 12 months, instant], of what was bought and given back until ``known``."""
    wall = instant.astimezone(LONDON)
    start = datetime.combine(a_year_later(wall.date(), -1), wall.time(), LONDON).astimezone(UTC)
    return sum(p.counts(known) for p in who.purchases if start < p.at <= known)


def met(points: int) -> int:
    return max(number for number, level in enumerate(LEVELS) if points >= level[1])


@dataclass
class Standing:
    """A customer's level at an instant, and the steps that led there."""

    level: int = 0
    since: datetime | None = None
    valid_until: datetime | None = None
    grace_until: datetime | None = None
    steps: list[Step] = field(default_factory=list)
    _judged_at: datetime | None = None

    def step(self, kind: str, level: int, at: datetime, valid_until: datetime | None) -> None:
        self.level, self.since = level, at
        self.valid_until, self.grace_until = (valid_until if level else None), None
        self.steps.append(Step(kind, level, at))

    def let_time_pass(self, who: Customer, until: datetime) -> None:
        """Every deadline up to the instant."""
        while self.valid_until is not None:
            deadline = self.grace_until or self.valid_until
            if deadline > until:
                return
            if self.grace_until is not None:
                self.step("downgraded", self.level - 1, deadline, held_from(deadline))
            elif met(earned_in_the_year_to(who, deadline, known=deadline)) >= self.level:
                self._renew()
            else:
                self._judged_at = deadline
                self.grace_until = end_of(day_of(deadline - INSTANT) + timedelta(days=GRACE_DAYS))

    def buy(self, who: Customer, purchase: Purchase, known: datetime) -> None:
        """``known``: a moment before the next purchase's turn, among those of one instant."""
        if self.since is None:
            self.since = purchase.at
        reached = met(earned_in_the_year_to(who, purchase.at, known=known))
        if reached > self.level:
            for level in range(self.level + 1, reached + 1):
                end = end_of(a_year_later(day_of(purchase.at)))
                self.step("upgraded", level, purchase.at, end)
        elif self.grace_until is not None and self._in_grace(who, known) >= self.level:
            self._renew()

    def give_back(self, who: Customer, at: datetime) -> None:
        """A level that would not be held without what came back at this instant is lost at once."""
        reached = met(earned_in_the_year_to(who, at, known=at))
        if reached >= self.level:
            return
        held = _held_without(who, at, lambda back: back <= at)
        before = _held_without(who, at, lambda back: back < at)
        if held < min(self.level, before):
            self.step("downgraded", max(held, reached), at, held_from(at))

    def without_grace(self, who: Customer, at: datetime) -> int:
        return self.level if self.grace_until is None else self._in_grace(who, at)

    def _in_grace(self, who: Customer, known: datetime) -> int:
        """What the window held when validity ended, and what was earned since."""
        assert self._judged_at is not None
        return met(earned_in_the_year_to(who, self._judged_at, known=known))

    def _renew(self) -> None:
        assert self.valid_until is not None
        self.valid_until, self.grace_until = held_from(self.valid_until), None


def held_from(end: datetime) -> datetime:
    """A year more than what ended then."""
    return end_of(a_year_later(day_of(end - INSTANT)))


def _held_without(who: Customer, at: datetime, missing: Callable[[datetime], bool]) -> int:
    """The level of somebody who had never bought what is missing, and never gave anything back."""
    other = Customer(who.id)
    for purchase in who.purchases:
        never = [one for one in purchase.back if one.at <= purchase.at or missing(one.at)]
        back = tuple(replace(one, at=purchase.at) for one in never)
        other.purchases.append(replace(purchase, back=back))
    return _walk(other, at).without_grace(other, at)


def _walk(who: Customer, at: datetime) -> Standing:
    """Purchases and returns up to the instant, and the deadlines before it."""
    found = Standing()
    returns = {one.at for p in who.purchases for one in p.back if one.at > p.at}
    for instant in sorted({p.at for p in who.purchases} | returns):
        if instant > at:
            break
        found.let_time_pass(who, instant - INSTANT)
        at_once = [purchase for purchase in who.purchases if purchase.at == instant]
        for number, purchase in enumerate(at_once):
            until_now = [p for p in who.purchases if p not in at_once[number + 1 :]]
            found.buy(replace(who, purchases=until_now), purchase, instant)
        if instant in returns:
            found.give_back(who, instant)
    found.let_time_pass(who, at - INSTANT)
    return found


def standing(who: Customer, at: datetime) -> Standing:
    """How a customer stands at an instant."""
    found = _walk(who, at)
    found.let_time_pass(who, at)
    return found


def lots(who: Customer, at: datetime) -> list[Lot]:
    """What each purchase up to the instant granted, base and tier bonus together, and what is left of that."""
    steps = standing(who, at).steps
    found = []
    for purchase in who.purchases:
        if purchase.at > at:
            break
        before = [step for step in steps if step.since < purchase.at]
        multiplier = LEVELS[before[-1].level if before else 0][2]
        day = a_year_later(day_of(purchase.at))
        end = end_of(day.replace(day=monthrange(day.year, day.month)[1]))
        granted = floor(purchase.spent * multiplier)
        taken = purchase.taken(purchase.parts(granted), at) if purchase.back else 0
        found.append(Lot(granted, granted - taken, purchase.at, end))
    return found


def vouchers(who: Customer, at: datetime) -> list[dict[str, Any]]:
    """The vouchers of a customer, as the API shows them at the instant."""
    times: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    for step in standing(who, at).steps:
        level = LEVELS[step.level][0]
        if step.kind != "upgraded" or level not in VOUCHERS:
            continue
        times[level] += 1
        kind, value = VOUCHERS[level]
        end = end_of(day_of(step.since) + timedelta(days=VOUCHER_DAYS))
        found.append(
            {
                "voucher": f"welcome-{level}",
                "kind": kind,
                "value": value,
                "state": "expired" if end <= at else "issued",
                "issued_at": step.since,
                "expires_at": end,
                "cause": {"type": "promotion", "id": f"{level}#{times[level]}"},
            }
        )
    return found
