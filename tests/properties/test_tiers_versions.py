"""Levels that change from an instant on: a function of the set of entries; a plain second opinion agrees."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from services.tiers.domain.progression import Later, timeline
from services.tiers.domain.qualification import Qualifying
from services.tiers.domain.standing import first_standing, standing_of, unmoved
from shared.contracts.tiers import TierMove
from shared.program.model import Level, Tiers
from tests.properties import test_tiers_properties as plain
from tests.properties.test_tiers_properties import INSTANTS, LISTS, START, UNTIL, ZONES
from tests.properties.test_tiers_refunds import histories
from tests.unit.tiers.ways import at, level, rules

WINDOWS = ["P1M", "P30D", "P7D", "P3M", "P12M", "calendar_year", "lifetime"]
Plan = tuple[Tiers, Later]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Rules and up to three that follow: other thresholds, levels in between, other ways down."""
    window = draw(st.sampled_from(WINDOWS))
    base = draw(st.booleans())
    names = ["b", "d"]
    instants = sorted(draw(st.sets(INSTANTS, min_size=1, max_size=3)))
    found: list[Tiers] = []
    for number in range(len(instants) + 1):
        if number and draw(st.booleans()):
            names.insert(draw(st.integers(0, len(names))), f"n{number}")
        asked = sorted(draw(st.sets(st.integers(1, 14), min_size=len(names), max_size=len(names))))
        levels: list[Level] = [
            level("a", "0", on_reach=["hello"] if draw(st.booleans()) else [])
        ] * base
        levels += [level(name, str(ask)) for name, ask in zip(names, asked, strict=True)]
        downgrade = draw(st.sampled_from(["full", "one_level", "none"]))
        grace = draw(st.sampled_from(["P0D", "P5D", "P1M"]))
        found.append(rules(window, downgrade=downgrade, grace=grace, levels=levels))
    return found[0], tuple(zip(instants, found[1:], strict=True))


@given(LISTS | histories(), plans(), ZONES, UNTIL, UNTIL, st.randoms())
def test_order_does_not_show_and_an_earlier_look_sees_a_prefix(
    entries: list[Qualifying],
    plan: Plan,
    zone: ZoneInfo,
    one: datetime,
    other: datetime,
    random: object,
) -> None:
    by, later = plan
    early, late = min(one, other), max(one, other)
    found = timeline(entries, by, zone, late, later)
    shuffled = [*entries, *entries[: len(entries) // 2]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert timeline(shuffled, by, zone, late, later) == found
    before = timeline(entries, by, zone, early, later).moves
    assert found.moves[: len(before)] == before
    # What has not begun decides nothing yet.
    begun = [item for item in later if item[0] <= early]
    assert timeline(entries, by, zone, early, begun).moves == before


@given(LISTS | histories(), plans(), ZONES, UNTIL, INSTANTS)
def test_a_version_that_says_the_same_changes_nothing(
    entries: list[Qualifying], plan: Plan, zone: ZoneInfo, until: datetime, since: datetime
) -> None:
    by, _ = plan
    assert timeline(entries, by, zone, until, [(since, by)]) == timeline(entries, by, zone, until)


@settings(max_examples=400)
@given(LISTS, plans(), ZONES, UNTIL)
def test_a_plain_second_opinion_agrees(
    entries: list[Qualifying], plan: Plan, zone: ZoneInfo, until: datetime
) -> None:
    by, later = plan
    found = timeline(entries, by, zone, until, later)
    second = _SecondOpinion(by, later, zone)
    second.walk(entries, until)
    assert [plain._plain(move) for move in found.moves] == second.moves


@settings(max_examples=400)
@given(LISTS, plans(), ZONES, st.data())
def test_what_needs_no_walk_would_move_nothing(
    entries: list[Qualifying], plan: Plan, zone: ZoneInfo, data: st.DataObject
) -> None:
    by, later = plan
    in_order = data.draw(st.booleans())
    waiting = plain._ordered(entries) if in_order else data.draw(st.permutations(entries))
    known: list[Qualifying] = []
    standing = first_standing(by, later)
    moves: tuple[TierMove, ...] = ()
    while waiting:
        size = data.draw(st.integers(1, 3))
        batch, waiting = waiting[:size], waiting[size:]
        known += batch
        skipped = unmoved(standing, batch)
        newest = max(entry.occurred_at for entry in batch)
        until = max(newest, standing.computed_until or newest)
        full = timeline(known, by, zone, until, later)
        right = standing_of(full, by, later)
        if skipped is None:
            standing, moves = right, full.moves
        else:
            assert full.moves == moves
            assert full.due_at == skipped.due_at
            plain._assert_no_more_room(skipped, right)
            standing = skipped


def test_raised_thresholds_cost_nobody_a_level_before_it_ends() -> None:
    low, high = (level("b", "4"),), (level("b", "9"),)
    turn = START + timedelta(days=100)
    by, later = rules("P12M", levels=low), [(turn, rules("P12M", levels=high))]
    entries = [Qualifying(UUID(int=1), START, 5)]
    held = timeline(entries, by, ZoneInfo("UTC"), turn + timedelta(days=200), later)
    assert held.level is not None
    assert held.level.threshold == Decimal(9)
    ended = timeline(entries, by, ZoneInfo("UTC"), turn + timedelta(days=300), later)
    assert [move.kind for move in ended.moves] == ["upgraded", "downgraded"]


def test_what_ends_with_a_version_s_beginning_is_judged_by_the_rules_before() -> None:
    low, high = (level("b", "4"),), (level("b", "9"),)
    turn = at("2029-01-01")
    later = [(turn, rules("calendar_year", levels=high))]
    entries = [Qualifying(UUID(int=n), at(f"{2026 + n}-06-01"), 5) for n in (1, 2)]
    by = rules("calendar_year", levels=low)
    found = timeline(entries, by, ZoneInfo("UTC"), at("2029-06-01"), later)
    assert [move.kind for move in found.moves] == ["upgraded", "retained"]
    assert found.valid_until == at("2030-01-01")


def test_a_lowered_threshold_lifts_with_the_next_purchase() -> None:
    low, high = (level("b", "4"),), (level("b", "9"),)
    turn = START + timedelta(days=100)
    by, later = rules("P12M", levels=high), [(turn, rules("P12M", levels=low))]
    entries = [Qualifying(UUID(int=1), START, 5)]
    assert timeline(entries, by, ZoneInfo("UTC"), turn, later).moves == ()
    entries.append(Qualifying(UUID(int=2), turn, 0))
    (move,) = timeline(entries, by, ZoneInfo("UTC"), turn, later).moves
    assert (move.kind, move.since) == ("upgraded", turn)


class _SecondOpinion(plain._SecondOpinion):
    """The same, with the rules looked up anew at each entry and each deadline."""

    def __init__(self, by: Tiers, later: Sequence[tuple[datetime, Tiers]], zone: ZoneInfo) -> None:
        super().__init__(by, zone)
        self.stages = [(START - timedelta(days=9999), by), *later]

    def under(self, now: datetime, *, at_it: bool) -> None:
        name = self.levels[self.position].id if self.position >= 0 else None
        self.by = [by for start, by in self.stages if start < now or (at_it and start == now)][-1]
        self.levels = self.by.levels
        ids = [item.id for item in self.levels]
        self.position = -1 if name is None else ids.index(name)

    def take(self, now: datetime) -> None:
        self.under(now, at_it=True)
        super().take(now)

    def pass_time(self, to: datetime, *, at_it: bool) -> None:
        while self.valid is not None:
            now = self.grace or self.valid
            if now > to or (now == to and not at_it):
                return
            self.under(now, at_it=False)
            super().pass_time(now, at_it=True)
