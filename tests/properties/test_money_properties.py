"""Money: what holds for every split and every rounding."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import assume, given
from hypothesis import strategies as st

from shared.money import Rounding, allocate, round_points

TOTALS = st.integers(-(10**12), 10**12) | st.integers(-20, 20)
WEIGHTS = st.lists(
    st.decimals(0, 10**9, places=4, allow_nan=False, allow_infinity=False)
    | st.sampled_from([Decimal(0), Decimal(1), Decimal("0.01")]),
    min_size=1,
    max_size=30,
).filter(any)


@given(TOTALS, WEIGHTS)
def test_parts_add_up_and_stay_within_one_of_their_quota(
    total: int, weights: list[Decimal]
) -> None:
    parts = allocate(total, weights)
    whole = sum(map(Fraction, weights))
    quotas = [total * Fraction(weight) / whole for weight in weights]
    assert sum(parts) == total
    assert all(abs(part - quota) < 1 for part, quota in zip(parts, quotas, strict=True))
    assert all(part == 0 for part, weight in zip(parts, weights, strict=True) if weight == 0)


@given(TOTALS, WEIGHTS)
def test_the_largest_remainders_get_what_is_left_and_ties_go_in_order(
    total: int, weights: list[Decimal]
) -> None:
    parts = allocate(abs(total), weights)
    whole = sum(map(Fraction, weights))
    quotas = [abs(total) * Fraction(weight) / whole for weight in weights]
    # (remainder, earliness) of those that were rounded up is never below that of the others.
    ranked = [(quota % 1, -index) for index, quota in enumerate(quotas)]
    raised = [rank for rank, part, quota in zip(ranked, parts, quotas, strict=True) if part > quota]
    lowered = [
        rank for rank, part, quota in zip(ranked, parts, quotas, strict=True) if part < quota
    ]
    assert not raised or not lowered or min(raised) > max(lowered)


@given(TOTALS, WEIGHTS)
def test_scaling_all_weights_changes_nothing(total: int, weights: list[Decimal]) -> None:
    assert allocate(total, [Fraction(weight) / 7 for weight in weights]) == allocate(total, weights)


@given(TOTALS, WEIGHTS)
def test_a_negative_total_is_split_as_its_mirror(total: int, weights: list[Decimal]) -> None:
    assert allocate(-total, weights) == [-part for part in allocate(total, weights)]


@given(st.fractions(), st.sampled_from(["floor", "half_even", "ceil"]))
def test_rounding_is_within_its_bound(value: Fraction, mode: Rounding) -> None:
    points = round_points(value, mode)
    bounds = {"floor": ("0", "1"), "half_even": ("-1/2", "1/2"), "ceil": ("-1", "0")}
    low, high = map(Fraction, bounds[mode])
    assert low <= value - points <= high
    assert abs(value - points) < 1


@given(st.integers(-(10**9), 10**9), st.sampled_from(["floor", "half_even", "ceil"]))
def test_whole_points_stay_and_halves_go_to_even(points: int, mode: Rounding) -> None:
    assert round_points(Fraction(points), mode) == points
    assume(mode == "half_even")
    assert round_points(Fraction(2 * points + 1, 2), mode) % 2 == 0
