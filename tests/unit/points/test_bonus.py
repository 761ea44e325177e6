from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from typing import Literal

import pytest

from services.points.domain.bonus import TierInForce, correction, tier_in_force
from shared.contracts.tiers import TierMove
from shared.money import Rounding
from tests.unit.points.samples import LEVELS, NOON, program

TICK = timedelta(microseconds=1)
TIERS = program().tiers
assert TIERS is not None
FROM_ZERO = TIERS.levels
ABOVE_ZERO = FROM_ZERO[1:]


def move(
    tier: str,
    multiplier: str,
    since: datetime,
    kind: Literal["upgraded", "retained", "downgraded"] = "upgraded",
) -> TierMove:
    return TierMove(kind, tier, None, multiplier, since, None, 1, None)


WAY = [
    move("silver", "1.25", NOON),
    move("gold", "1.5", NOON + timedelta(days=10)),
    move("gold", "1.5", NOON + timedelta(days=375), "retained"),
    move("silver", "1.25", NOON + timedelta(days=740), "downgraded"),
]


@pytest.mark.parametrize(
    ("instant", "tier", "multiplier"),
    [
        (NOON - TICK, "bronze", 1),
        (NOON, "bronze", 1),
        (NOON + TICK, "silver", "1.25"),
        (NOON + timedelta(days=10), "silver", "1.25"),
        (NOON + timedelta(days=10) + TICK, "gold", "1.5"),
        (NOON + timedelta(days=375) + TICK, "gold", "1.5"),
        (NOON + timedelta(days=740), "gold", "1.5"),
        (NOON + timedelta(days=740) + TICK, "silver", "1.25"),
    ],
)
def test_a_tier_counts_strictly_after_it_was_reached(
    instant: datetime, tier: str, multiplier: str | int
) -> None:
    assert tier_in_force(WAY, FROM_ZERO, instant) == TierInForce(tier, Fraction(multiplier))


def test_of_two_moves_at_one_instant_the_later_in_the_timeline_counts() -> None:
    way = [move("silver", "1.25", NOON), move("gold", "1.5", NOON)]
    assert tier_in_force(way, FROM_ZERO, NOON + TICK).id == "gold"
    assert tier_in_force(way, FROM_ZERO, NOON).id == "bronze"


def test_before_any_move_there_is_the_level_that_asks_for_nothing_or_none() -> None:
    quick = program(levels=[LEVELS[0] | {"multiplier": "1.1"}, *LEVELS[1:]]).tiers
    assert quick is not None
    assert tier_in_force([], quick.levels, NOON) == TierInForce("bronze", Fraction(11, 10))
    assert tier_in_force([], ABOVE_ZERO, NOON) == TierInForce(None, Fraction(1))
    assert tier_in_force([], (), NOON) == TierInForce(None, Fraction(1))
    assert tier_in_force(WAY, ABOVE_ZERO, NOON) == TierInForce(None, Fraction(1))


@pytest.mark.parametrize(
    ("exact", "current", "multiplier", "rounding", "delta"),
    [
        ("44.92", 44, "1.5", "floor", 23),
        ("44.92", 67, "1", "floor", -23),
        ("44.92", 67, "1.5", "floor", 0),
        ("44.92", 67, "1.25", "floor", -11),
        ("44.92", 45, "1.5", "ceil", 23),
        ("0.5", 0, "3", "half_even", 2),
        ("1/3", 0, "3", "floor", 1),
        ("44.92", 44, "0", "floor", -44),
    ],
)
def test_a_correction_goes_up_or_down_to_what_a_direct_award_would_be(
    exact: str, current: int, multiplier: str, rounding: Rounding, delta: int
) -> None:
    assert correction(Fraction(exact), current, Fraction(multiplier), rounding) == delta
