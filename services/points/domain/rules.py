"""What a program says about earning, laid out once for the hot path."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

from services.points.domain.campaigns import Campaign, laid_out
from shared.money import Rounding
from shared.program.model import Level, Program

PROGRAMS_MAX = 64


@dataclass(frozen=True, slots=True)
class Rules:
    """A program's earning rules; the two dicts are memos that belong to this program."""

    program: Program
    id: str
    version: str
    currency: str
    kinds: frozenset[str]
    skus: frozenset[str]
    categories: frozenset[str]
    points_per: tuple[int, Decimal]
    rate: Fraction
    rounding: Rounding
    net_of_tax: bool
    immediate: bool
    moving: bool
    levels: tuple[Level, ...]
    campaigns: tuple[Campaign, ...] = ()
    expiries: dict[date, datetime | None] = field(default_factory=dict)
    unfired: dict[tuple[str | None, int, int], list[list[str]]] = field(default_factory=dict)


_known: dict[int, Rules] = {}


def rules_of(program: Program) -> Rules:
    """Return the program's rules, made on first sight.

    Keyed by identity, because hashing a whole program for each purchase would cost more than the purchase;
    the memo holds the program, so an identity cannot be reused while it is known.
    """
    found = _known.get(id(program))
    if found is None:
        if len(_known) >= PROGRAMS_MAX:
            _known.clear()
        found = _known[id(program)] = _lay_out(program)
    return found


def _lay_out(program: Program) -> Rules:
    earning = program.earning
    return Rules(
        program=program,
        id=program.id,
        version=program.version,
        currency=program.currency,
        kinds=frozenset(earning.exclude.kinds),
        skus=frozenset(earning.exclude.skus),
        categories=frozenset(earning.exclude.categories),
        points_per=(earning.base.points, earning.base.per),
        rate=Fraction(earning.base.points) / Fraction(earning.base.per),
        rounding=earning.rounding,
        net_of_tax=earning.net_of_tax,
        immediate=earning.available_after.is_zero,
        moving=earning.expiry.kind == "inactivity",
        levels=program.tiers.levels if program.tiers else (),
        campaigns=laid_out(program),
    )
