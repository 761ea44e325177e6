"""Ids that are one person: whose way is by what, and which promotions each id keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from services.tiers.domain.persons import Merge, Way, ways
from services.tiers.domain.progression import Timeline, timeline
from services.tiers.domain.qualification import Qualifying
from shared.ids import derive
from tests.unit.tiers.ways import LONDON, at, rules

ANN, ANNA, ANNE = 1, 2, 3
NAMES = {ANN: "ann", ANNA: "anna", ANNE: "anne"}
NOW = at("2026-11-22")
RULES = rules("P12M")

Told = tuple[str, int]


def walk(entries: Sequence[Qualifying], until: datetime) -> Timeline:
    return timeline(entries, RULES, LONDON, until)


def merged(into: int, when: str) -> Merge:
    return Merge(into, at(when))


def of(
    bought: Mapping[int, Sequence[Told]], merges: Mapping[int, Merge], survivor: int = ANNA
) -> dict[int, Way]:
    entries = {
        who: [Qualifying(derive(NAMES[who], when), at(when), amount) for when, amount in told]
        for who, told in bought.items()
    }
    return ways(entries, merges, survivor, NOW, walk)


def reached(way: Way) -> list[tuple[str, int, str]]:
    """Levels with the number and day of each upgrade for which there is something to be given."""
    moves = way.timeline.moves if way.promotions is None else way.promotions
    return [(m.tier, m.reach, f"{m.since:%Y-%m-%d}") for m in moves if m.kind == "upgraded"]


ONE = {ANN: merged(ANNA, "2026-06-01")}


def test_what_both_bought_counts_for_the_survivor() -> None:
    found = of({ANN: [("2026-03-01", 300)], ANNA: [("2026-04-01", 250)]}, ONE)
    level = found[ANNA].timeline.level
    assert level is not None
    assert level.id == "silver"
    # Neither had reached it: that is news, from the purchase on that crossed.
    assert reached(found[ANNA]) == [("silver", 1, "2026-04-01")]
    assert reached(found[ANN]) == []


def test_what_only_the_other_had_reached_is_not_given_again() -> None:
    found = of({ANN: [("2026-03-01", 600)], ANNA: [("2026-04-01", 250)]}, ONE)
    level = found[ANNA].timeline.level
    assert level is not None
    assert level.id == "silver"
    assert reached(found[ANNA]) == []
    assert reached(found[ANN]) == [("silver", 1, "2026-03-01")]


def test_what_both_had_reached_both_keep_with_its_day() -> None:
    found = of({ANN: [("2026-03-01", 600)], ANNA: [("2026-04-01", 700)]}, ONE)
    assert [m.since for m in found[ANNA].timeline.moves] == [at("2026-03-01")]
    assert reached(found[ANNA]) == [("silver", 1, "2026-04-01")]
    assert reached(found[ANN]) == [("silver", 1, "2026-03-01")]


def test_a_level_that_neither_had_is_given_once() -> None:
    found = of({ANN: [("2026-03-01", 1100)], ANNA: [("2026-04-01", 1200)]}, ONE)
    assert reached(found[ANNA]) == [("silver", 1, "2026-04-01"), ("gold", 1, "2026-04-01")]
    assert reached(found[ANN]) == [("silver", 1, "2026-03-01")]


def test_after_the_merge_there_is_one_way() -> None:
    bought = {
        ANN: [("2026-03-01", 300), ("2026-07-01", 400), ("2026-08-01", 400)],
        ANNA: [("2026-04-01", 100), ("2026-09-01", 600)],
    }
    found = of(bought, ONE)
    # 800 by July; what each alone would have reached later is nothing.
    assert reached(found[ANNA]) == [("silver", 1, "2026-07-01")]
    assert reached(found[ANN]) == []
    assert found[ANN].timeline.until == at("2026-06-01")


def test_at_the_instant_of_the_merge_each_still_goes_alone() -> None:
    found = of({ANN: [("2026-06-01", 600)], ANNA: [("2026-06-01", 700)]}, ONE)
    assert reached(found[ANN]) == [("silver", 1, "2026-06-01")]
    assert reached(found[ANNA]) == [("silver", 1, "2026-06-01")]


def test_a_level_that_is_reached_again_later_is_given_again() -> None:
    # Both were silver before; together they fall in 2025 and rise in 2026.
    bought = {
        ANN: [("2024-01-10", 600)],
        ANNA: [("2024-02-10", 500), ("2026-08-01", 800)],
    }
    found = of(bought, {ANN: merged(ANNA, "2025-01-01")})
    assert reached(found[ANNA]) == [("silver", 1, "2024-02-10"), ("silver", 2, "2026-08-01")]
    assert reached(found[ANN]) == [("silver", 1, "2024-01-10")]


def test_what_somebody_reached_who_is_merged_later_stays_theirs() -> None:
    merges = {ANN: merged(ANNA, "2026-03-01"), ANNE: merged(ANNA, "2026-06-01")}
    bought = {
        ANN: [("2026-01-01", 300)],
        ANNA: [("2026-02-01", 100), ("2026-04-01", 200)],
        ANNE: [("2026-01-15", 900)],
    }
    found = of(bought, merges)
    # Silver in April by what ann and anna had: given before anybody knew of anne, who had hers.
    assert reached(found[ANNA]) == [("silver", 1, "2026-04-01")]
    assert reached(found[ANNE]) == [("silver", 1, "2026-01-15")]


def test_who_lives_on_as_somebody_who_lives_on_as_another() -> None:
    merges = {ANN: merged(ANNA, "2026-03-01"), ANNA: merged(ANNE, "2026-06-01")}
    bought = {
        ANN: [("2026-01-01", 300)],
        ANNA: [("2026-02-01", 300)],
        ANNE: [("2026-01-15", 100), ("2026-07-01", 1400)],
    }
    found = of(bought, merges, ANNE)
    assert set(found) == {ANN, ANNA, ANNE}
    assert reached(found[ANNA]) == [("silver", 1, "2026-02-01")]
    assert reached(found[ANNE]) == [("gold", 1, "2026-07-01")]
    assert found[ANNE].timeline.amount == 2100


def test_merged_the_other_way_round_in_time() -> None:
    # Told that ann is anna only after, and with a day after, anna had turned out to be anne.
    merges = {ANN: merged(ANNA, "2026-08-01"), ANNA: merged(ANNE, "2026-06-01")}
    bought = {ANN: [("2026-07-01", 600)], ANNA: [("2026-02-01", 300)], ANNE: []}
    found = of(bought, merges, ANNE)
    assert reached(found[ANN]) == [("silver", 1, "2026-07-01")]
    assert reached(found[ANNE]) == []
    assert found[ANNE].timeline.amount == 900
