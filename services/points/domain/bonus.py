"""Which tier's multiplier a purchase earns with, and what a later change of it corrects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from shared.contracts.tiers import TierMove
from shared.money import Rounding, round_points
from shared.program.model import Level, Program, base_level

ONE = Fraction(1)


class TierInForce(NamedTuple):
    """The tier that decides a purchase's bonus; ``id`` is None below the first level."""

    id: str | None
    multiplier: Fraction


def tier_in_force(
    moves: Sequence[TierMove], levels: Sequence[Level], instant: datetime
) -> TierInForce:
    """Return the tier reached strictly before the instant: no purchase raises its own multiplier.

    Before any move it is the level that asks for nothing, if the program has one.
    """
    for move in reversed(moves):
        if move.since < instant:
            return TierInForce(move.tier or None, exact_multiplier(move.multiplier))
    return _base(levels)


def tier_at(moves: Sequence[TierMove], program: Program, instant: datetime) -> TierInForce:
    """Return the tier in force for a purchase, with the multiplier that the version of its instant gives it.

    ``program`` is the running one: its later versions may multiply otherwise than when the level was reached.
    """
    several = program.later
    tiers = program.at(instant).tiers if several else program.tiers
    levels = tiers.levels if tiers else ()
    found = tier_in_force(moves, levels, instant)
    for level in levels if several else ():
        if level.id == found.id:
            return TierInForce(level.id, level.multiplier)
    return found


def correction(
    exact: Fraction, current_total: int, multiplier: Fraction, rounding: Rounding
) -> int:
    """Return the signed points that bring a lot to what it earns with this multiplier.

    Starts from the exact base value each time, so that no path of changes leaves a trace of its roundings.
    """
    return round_points(exact * multiplier, rounding) - current_total


@lru_cache(maxsize=256)
def exact_multiplier(text: str) -> Fraction:
    """Read a multiplier as it travels in events (``1.25``)."""
    return Fraction(text)


def _base(levels: Sequence[Level]) -> TierInForce:
    lowest = base_level(levels)
    return TierInForce(lowest.id, lowest.multiplier) if lowest else TierInForce(None, ONE)
