"""When entries may be added without a new walk, and when not."""

from __future__ import annotations

from collections.abc import Sequence

from services.tiers.domain.qualification import Qualifying
from services.tiers.domain.standing import Standing, first_standing, standing_of, unmoved
from shared.program.model import Tiers
from tests.unit.tiers.ways import THREE, at, entries, level, rules, walked


def standing(given: Sequence[Qualifying], by: Tiers, until: str) -> Standing:
    return standing_of(walked(given, by, until), by)


def test_first_entry_below_the_threshold_needs_no_walk() -> None:
    held = unmoved(first_standing(rules()), entries(("2026-03-10", 499)))
    assert held is not None
    assert (held.room, held.late_room, held.computed_until) == (1, 1, at("2026-03-10"))


def test_first_entry_at_the_threshold_needs_one() -> None:
    assert unmoved(first_standing(rules()), entries(("2026-03-10", 500))) is None


def test_first_entry_needs_one_where_the_base_level_gives_something() -> None:
    by = rules(levels=(level("bronze", "0", on_reach=["hello"]), *THREE[1:]))
    assert unmoved(first_standing(by), entries(("2026-03-10", 0))) is None


def test_late_entries_need_none_while_nothing_was_ever_reached() -> None:
    held = standing(entries(("2026-03-10", 200)), rules(), "2026-03-10")
    assert unmoved(held, entries(("2024-03-10", 299))) is not None
    assert unmoved(held, entries(("2024-03-10", 300))) is None


def test_late_entries_need_one_once_something_was() -> None:
    held = standing(entries(("2026-03-10", 500)), rules(), "2026-03-10")
    assert unmoved(held, entries(("2026-03-10", 1))) is None
    assert unmoved(held, entries(("2026-03-10T00:00:01", 1))) is not None


def test_at_the_top_there_is_no_end_of_room() -> None:
    held = standing(entries(("2026-03-10", 2000)), rules(), "2026-03-10")
    assert held.room is None
    assert unmoved(held, entries(("2026-03-11", 10**9))) is not None


def test_a_deadline_needs_a_walk() -> None:
    held = standing(entries(("2026-03-10", 2000)), rules(), "2026-03-10")
    assert unmoved(held, entries(("2027-03-10T23:59", 1))) is not None
    assert unmoved(held, entries(("2027-03-11T00:00", 1))) is None


def test_in_a_grace_every_entry_needs_one() -> None:
    held = standing(entries(("2026-03-10", 500)), rules(grace="P30D"), "2027-03-12")
    assert held.due_at == at("2027-04-10")
    assert unmoved(held, entries(("2027-03-13", 1))) is None


def test_room_is_what_the_window_can_still_take() -> None:
    given = entries(("2026-03-10", 500), ("2027-03-05", 600), ("2028-03-01", 700))
    held = standing(given, rules(), "2028-03-01")
    # The entry of 2027 may still be in the window; the first one is long gone.
    assert held.room == 2000 - 1300
    assert unmoved(held, entries(("2028-03-02", 699))) is not None
    assert unmoved(held, entries(("2028-03-02", 700))) is None
