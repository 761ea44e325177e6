"""What other rules would have changed: two outcomes of the same events, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from shared.contracts.tiers import TierMove
from shared.program import Program
from shared.program.model import base_level

SHOWN_MAX = 5


class Outcome(NamedTuple):
    """What a customer has under one program.

    ``digest`` tells any two sets of lots and dates apart, ``given`` any two of vouchers with terms and dates.
    """

    earned: int
    taken: int
    left: int
    expired: int
    digest: str
    tier: str | None
    way: Sequence[TierMove]
    vouchers: int = 0
    given: str = ""

    @property
    def granted(self) -> int:
        """Points earned, without what refunds took back."""
        return self.earned - self.taken


NOBODY = Outcome(0, 0, 0, 0, "", None, ())


@dataclass(slots=True)
class Totals:
    """All customers under one program; ``worth`` is that of the granted points, where a point has a value."""

    earned: int = 0
    taken: int = 0
    left: int = 0
    expired: int = 0
    granted: int = 0
    worth: Decimal | None = None
    dead_letters: int = 0
    upgrades: int = 0
    downgrades: int = 0
    vouchers: int = 0
    levels: dict[str, int] = field(default_factory=dict)


class Shift(NamedTuple):
    """A customer who would have more or fewer points."""

    customer_id: str
    granted: int
    left: int


@dataclass(slots=True)
class Comparison:
    """Old and new rules; ``moves`` counts the customers who would stand on another level, by (old, new)."""

    old: Totals
    new: Totals
    customers: int
    winners: list[Shift]
    losers: list[Shift]
    moves: dict[tuple[str, str], int]
    touched: int

    @property
    def changes(self) -> bool:
        """Whether anything at all would be different: a point, a date of a lot, a step of a way, a voucher."""
        return bool(self.touched) or self.old.dead_letters != self.new.dead_letters


def tier_at(way: Iterable[TierMove], now: datetime, program: Program) -> str | None:
    """The level a customer stands on at an instant; the one that asks for nothing before any move."""
    lowest = base_level(program.tiers.levels if program.tiers else ())
    tier = lowest.id if lowest else None
    for move in way:
        if move.since <= now:
            tier = move.tier or None
    return tier


def compare(
    old: Mapping[str, Outcome], new: Mapping[str, Outcome], programs: tuple[Program, Program]
) -> Comparison:
    """Hold two outcomes against each other, customer by customer."""
    shifts: list[Shift] = []
    moves: Counter[tuple[str, str]] = Counter()
    touched = 0
    for customer in sorted(old.keys() | new.keys()):
        one, other = old.get(customer, NOBODY), new.get(customer, NOBODY)
        touched += one != other
        shift = Shift(customer, other.granted - one.granted, other.left - one.left)
        if shift.granted or shift.left:
            shifts.append(shift)
        if one.tier != other.tier:
            moves[one.tier or "", other.tier or ""] += 1
    shifts.sort(key=lambda shift: (-_gain(shift), shift.customer_id))
    return Comparison(
        totals(old.values(), programs[0]),
        totals(new.values(), programs[1]),
        len(old.keys() | new.keys()),
        [shift for shift in shifts if _gain(shift) > 0],
        [shift for shift in reversed(shifts) if _gain(shift) < 0],
        dict(moves.most_common()),
        touched,
    )


def _gain(shift: Shift) -> int:
    """Who gets more points wins; of those who get the same, who has more left."""
    return shift.granted or shift.left


def totals(outcomes: Iterable[Outcome], program: Program) -> Totals:
    """Add up all customers."""
    found = Totals()
    levels: Counter[str] = Counter()
    for outcome in outcomes:
        found.earned += outcome.earned
        found.taken += outcome.taken
        found.left += outcome.left
        found.expired += outcome.expired
        found.granted += outcome.granted
        found.vouchers += outcome.vouchers
        found.upgrades += sum(move.kind == "upgraded" for move in outcome.way)
        found.downgrades += sum(move.kind == "downgraded" for move in outcome.way)
        levels[outcome.tier or ""] += 1
    known = program.tiers.levels if program.tiers else ()
    found.levels = {level.id: levels.pop(level.id, 0) for level in known} | dict(levels)
    if program.earning.point_value is not None:
        found.worth = found.granted * program.earning.point_value
    return found


def plain(found: Comparison) -> dict[str, Any]:
    """The comparison for programs; money as decimal strings."""
    return {
        "changes": found.changes,
        "customers": found.customers,
        "customers_touched": found.touched,
        "old": _plain(found.old),
        "new": _plain(found.new),
        "tier_moves": [
            {"from": one or None, "to": other or None, "customers": count}
            for (one, other), count in found.moves.items()
        ],
        "winners": _group(found.winners),
        "losers": _group(found.losers),
    }


def _plain(found: Totals) -> dict[str, Any]:
    return {
        "granted": found.granted,
        "earned": found.earned,
        "taken_back": found.taken,
        "expired": found.expired,
        "left": found.left,
        "worth": None if found.worth is None else f"{found.worth:f}",
        "upgrades": found.upgrades,
        "downgrades": found.downgrades,
        "vouchers": found.vouchers,
        "levels": found.levels,
        "dead_letters": found.dead_letters,
    }


def _group(shifts: Sequence[Shift]) -> dict[str, Any]:
    return {
        "customers": len(shifts),
        "granted": sum(shift.granted for shift in shifts),
        "left": sum(shift.left for shift in shifts),
        "most": [shift._asdict() for shift in shifts[:SHOWN_MAX]],
    }
