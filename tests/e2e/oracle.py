"""What the real purchases are worth under programs/demo.yaml, worked out from the CSV and nothing of ours.

Plain and slow on purpose: it reads the rules as a person would, and looks at everything again for each question.
"""

from __future__ import annotations

import csv
import gzip
from calendar import monthrange
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_FLOOR, Decimal
from functools import cache
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
class Purchase:
    order: str
    at: datetime
    spent: Decimal

    @property
    def base(self) -> int:
        return floor(self.spent)


@dataclass
class Customer:
    """What a customer bought, oldest first."""

    id: str
    purchases: list[Purchase] = field(default_factory=list)


@dataclass(frozen=True)
class Step:
    """A change of level."""

    kind: str
    level: int
    since: datetime


@dataclass(frozen=True)
class Lot:
    points: int
    available_at: datetime
    expires_at: datetime


def floor(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_FLOOR))


@cache
def orders(file: Path) -> tuple[tuple[str, str, datetime, Decimal], ...]:
    """Every purchase: order, customer, local time, and what was spent on what earns points."""
    spent: defaultdict[str, Decimal] = defaultdict(Decimal)
    begun: dict[str, datetime] = {}
    owner: dict[str, str] = {}
    with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            order, quantity, price = (
                row["InvoiceNo"],
                int(row["Quantity"]),
                Decimal(row["UnitPrice"]),
            )
            if order[0] in "CA" or quantity <= 0 or price < 0:
                continue
            when = datetime.fromisoformat(row["InvoiceDate"])
            begun[order] = min(when, begun.get(order, when))
            owner[order] = row["CustomerID"] or owner.get(order, "")
            sku = row["StockCode"]
            if sku not in EARNS_NOTHING and not sku.startswith("gift_"):
                spent[order] += quantity * price
    return tuple((order, owner[order], when, spent[order]) for order, when in begun.items())


def customers(file: Path, moved: timedelta | None = None) -> dict[str, Customer]:
    """Everybody with a name and a purchase; ``moved`` shifts all wall-clock times by whole days."""
    found: dict[str, Customer] = {}
    for order, owner, when, spent in orders(file):
        if owner:
            at = (when + (moved or timedelta(0))).replace(tzinfo=LONDON).astimezone(UTC)
            found.setdefault(owner, Customer(owner)).purchases.append(Purchase(order, at, spent))
    for who in found.values():
        who.purchases.sort(key=lambda purchase: purchase.at)
    return found


def last_day(file: Path) -> date:
    """The day of the last purchase."""
    return max(when.date() for _, _, when, _ in orders(file))


def day_of(instant: datetime) -> date:
    return instant.astimezone(LONDON).date()


def a_year_later(day: date, years: int = 1) -> date:
    year = day.year + years
    return date(year, day.month, min(day.day, monthrange(year, day.month)[1]))


def end_of(day: date) -> datetime:
    """The midnight after a day, in London."""
    return datetime.combine(day + timedelta(days=1), time(), LONDON).astimezone(UTC)


def earned_in_the_year_to(who: Customer, instant: datetime, *, known: datetime) -> int:
    """Base points of (instant - 12 months, instant], of the purchases made until ``known``."""
    wall = instant.astimezone(LONDON)
    start = datetime.combine(a_year_later(wall.date(), -1), wall.time(), LONDON).astimezone(UTC)
    return sum(p.base for p in who.purchases if start < p.at <= known)


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

    def buy(self, who: Customer, purchase: Purchase) -> None:
        if self.since is None:
            self.since = purchase.at
        reached = met(earned_in_the_year_to(who, purchase.at, known=purchase.at))
        if reached > self.level:
            for level in range(self.level + 1, reached + 1):
                end = end_of(a_year_later(day_of(purchase.at)))
                self.step("upgraded", level, purchase.at, end)
        elif self._judged_at is not None and self.grace_until is not None:
            # What was in the window when validity ended, and what was earned since.
            counts = earned_in_the_year_to(who, self._judged_at, known=purchase.at)
            if met(counts) >= self.level:
                self._renew()

    def _renew(self) -> None:
        assert self.valid_until is not None
        self.valid_until, self.grace_until = held_from(self.valid_until), None


def held_from(end: datetime) -> datetime:
    """A year more than what ended then."""
    return end_of(a_year_later(day_of(end - INSTANT)))


def standing(who: Customer, at: datetime) -> Standing:
    """How a customer stands at an instant."""
    found = Standing()
    for purchase in who.purchases:
        if purchase.at > at:
            break
        found.let_time_pass(who, purchase.at - INSTANT)
        found.buy(who, purchase)
    found.let_time_pass(who, at)
    return found


def lots(who: Customer, at: datetime) -> list[Lot]:
    """What each purchase up to the instant granted: base and tier bonus together."""
    steps = standing(who, at).steps
    found = []
    for purchase in who.purchases:
        if purchase.at > at:
            break
        before = [step for step in steps if step.since < purchase.at]
        multiplier = LEVELS[before[-1].level if before else 0][2]
        day = a_year_later(day_of(purchase.at))
        end = end_of(day.replace(day=monthrange(day.year, day.month)[1]))
        found.append(Lot(floor(purchase.spent * multiplier), purchase.at, end))
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
