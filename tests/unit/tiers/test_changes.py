"""What a new walk changed, and what is told of it."""

from __future__ import annotations

from services.tiers.domain.changes import announced, between
from tests.unit.tiers.ways import THREE, entries, level, rules, walked

SILVER_IN_MARCH = walked(entries(("2026-03-10", 500)), rules(), "2026-12-31").moves
SILVER_IN_MAY = walked(entries(("2026-05-10", 500)), rules(), "2026-12-31").moves
LOST = walked(entries(("2026-03-10", 500)), rules(), "2027-12-31").moves


def test_a_new_move() -> None:
    (change,) = between((), SILVER_IN_MAY)
    assert (change.kind, change.move, change.replaced) == ("upgraded", SILVER_IN_MAY[0], None)
    assert announced((), SILVER_IN_MAY, rules()) == [SILVER_IN_MAY[0]]


def test_a_moved_since_takes_the_place_of_the_former_one() -> None:
    (change,) = between(SILVER_IN_MAY, SILVER_IN_MARCH)
    assert (change.move, change.replaced) == (SILVER_IN_MARCH[0], SILVER_IN_MAY[0])


def test_only_what_is_new_is_told() -> None:
    assert announced(SILVER_IN_MARCH, LOST, rules()) == [LOST[1]]
    assert [change.move for change in between(SILVER_IN_MARCH, LOST)] == [LOST[1]]


def test_a_withdrawn_move_is_recorded_and_told_with_the_last_one_left() -> None:
    (change,) = between(LOST, SILVER_IN_MARCH)
    assert (change.kind, change.replaced) == ("withdrawn", LOST[1])
    assert list(announced(LOST, SILVER_IN_MARCH, rules())) == [SILVER_IN_MARCH[0]]


def test_a_way_that_vanishes_is_told_as_a_fall_to_the_base_level() -> None:
    (move,) = announced(SILVER_IN_MARCH, (), rules())
    assert (move.kind, move.tier, move.previous) == ("downgraded", "bronze", "silver")
    (move,) = announced(SILVER_IN_MARCH, (), rules(levels=(level("gold", "9"),)))
    assert move.tier == ""


def test_nothing_is_told_of_nothing() -> None:
    assert between(LOST, LOST) == []
    assert announced(LOST, LOST, rules(levels=THREE)) == []


def test_repeated_moves_of_a_kind_are_matched_in_order() -> None:
    by = rules(downgrade="none")
    early = walked(entries(("2026-03-10", 500)), by, "2029-01-01").moves
    late = walked(entries(("2026-03-12", 500)), by, "2029-01-01").moves
    assert [(c.move, c.replaced) for c in between(early, late)] == list(
        zip(late, early, strict=True)
    )
