"""The way through the levels as a function of the set of entries – and against a slow, plain second opinion."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from services.tiers.domain.changes import WITHDRAWN, announced, between
from services.tiers.domain.periods import grace_until, window_of
from services.tiers.domain.progression import timeline
from services.tiers.domain.qualification import Amount, Qualifying
from services.tiers.domain.standing import Standing, first_standing, standing_of, unmoved
from shared import clock
from shared.contracts.tiers import TierMove
from shared.program.model import Tiers
from tests.unit.tiers.ways import BERLIN, UTC_ZONE, at, level, rules

START = at("2027-01-01")
# Midnights, ends of months and ties are where mistakes hide: most instants are whole days.
INSTANTS = st.builds(
    lambda day, hours: START + timedelta(days=day, hours=hours),
    st.one_of(st.integers(0, 420), st.integers(0, 75)),
    st.sampled_from([0, 0, 0, 12, 23]),
)
AMOUNTS: st.SearchStrategy[Amount] = st.one_of(
    st.integers(0, 4), st.sampled_from([Decimal("0.5"), Decimal("1.25"), 10])
)
LISTS = st.lists(st.tuples(INSTANTS, AMOUNTS), max_size=14).map(
    lambda pairs: [Qualifying(UUID(int=n), when, what) for n, (when, what) in enumerate(pairs)]
)
LEVELS = st.sampled_from(
    [
        (level("a", "0"), level("b", "4"), level("c", "8"), level("d", "12")),
        (level("b", "3"), level("c", "9")),
        (level("a", "0", on_reach=["hello"]), level("b", "5")),
        (level("a", "0"),),
    ]
)
RULES = st.builds(
    lambda window, downgrade, grace, levels: rules(
        window, downgrade=downgrade, grace=grace, levels=levels
    ),
    st.sampled_from(["P1M", "P30D", "P7D", "P3M", "P12M", "calendar_year", "lifetime"]),
    st.sampled_from(["full", "one_level", "none"]),
    st.sampled_from(["P0D", "P5D", "P1M"]),
    LEVELS,
)
ZONES = st.sampled_from([BERLIN, UTC_ZONE, ZoneInfo("America/New_York")])
UNTIL = st.integers(0, 900).map(lambda half: START + timedelta(hours=12 * half))


@given(LISTS, RULES, ZONES, UNTIL, st.randoms())
def test_order_and_repetition_do_not_show(
    entries: list[Qualifying], by: Tiers, zone: ZoneInfo, until: datetime, random: object
) -> None:
    shuffled = [*entries, *entries[: len(entries) // 2]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert timeline(shuffled, by, zone, until) == timeline(entries, by, zone, until)


@given(LISTS, RULES, ZONES, UNTIL, UNTIL)
def test_an_earlier_look_sees_a_prefix(
    entries: list[Qualifying], by: Tiers, zone: ZoneInfo, one: datetime, other: datetime
) -> None:
    early = timeline(entries, by, zone, min(one, other)).moves
    late = timeline(entries, by, zone, max(one, other)).moves
    assert late[: len(early)] == early


@given(LISTS, RULES, ZONES, UNTIL)
def test_what_comes_later_does_not_show(
    entries: list[Qualifying], by: Tiers, zone: ZoneInfo, until: datetime
) -> None:
    known = [entry for entry in entries if entry.occurred_at <= until]
    assert timeline(known, by, zone, until) == timeline(entries, by, zone, until)


@given(LISTS, RULES, ZONES, UNTIL)
def test_moves_are_a_way(
    entries: list[Qualifying], by: Tiers, zone: ZoneInfo, until: datetime
) -> None:
    found = timeline(entries, by, zone, until)
    position = {item.id: n for n, item in enumerate(by.levels)}
    reached = [(move.tier, move.reach) for move in found.moves if move.kind == "upgraded"]
    assert len(set(reached)) == len(reached)
    for before, move in zip(found.moves, found.moves[1:], strict=False):
        assert before.since <= move.since
        assert move.previous == (before.tier or None)
        step = position.get(move.tier, -1) - position.get(before.tier, -1)
        assert step == {"upgraded": 1, "retained": 0}.get(move.kind, min(step, -1))
        assert move.valid_until is None or move.valid_until > move.since
    assert found.moves == () or (found.moves[-1].tier or None) == (
        found.level.id if found.level else None
    )
    assert found.due_at is None or found.due_at > until


@settings(max_examples=400)
@given(LISTS, RULES, ZONES, UNTIL)
def test_a_plain_second_opinion_agrees(
    entries: list[Qualifying], by: Tiers, zone: ZoneInfo, until: datetime
) -> None:
    found = timeline(entries, by, zone, until)
    second = _SecondOpinion(by, zone)
    second.walk(entries, until)
    assert [_plain(move) for move in found.moves] == second.moves
    assert found.amount == _amount(entries, by, zone, until)


@settings(max_examples=400)
@given(LISTS, RULES, ZONES, st.data())
def test_what_needs_no_walk_would_move_nothing(
    entries: list[Qualifying], by: Tiers, zone: ZoneInfo, data: st.DataObject
) -> None:
    """Batches in any order: where ``unmoved`` says so, a full walk finds the same moves and no less room."""
    waiting = data.draw(st.permutations(entries)) if data.draw(st.booleans()) else _ordered(entries)
    known: list[Qualifying] = []
    standing = first_standing(by)
    moves: tuple[TierMove, ...] = ()
    while waiting:
        size = data.draw(st.integers(1, 3))
        batch, waiting = waiting[:size], waiting[size:]
        known += batch
        skipped = unmoved(standing, batch)
        newest = max(entry.occurred_at for entry in batch)
        until = max(newest, standing.computed_until or newest)
        full = timeline(known, by, zone, until)
        if skipped is None:
            standing, moves = standing_of(full, by), full.moves
        else:
            assert full.moves == moves
            assert full.due_at == skipped.due_at
            assert skipped.computed_until == until
            _assert_no_more_room(skipped, standing_of(full, by))
            standing = skipped


@given(LISTS, RULES, ZONES, st.integers(0, 14), UNTIL)
def test_changes_lead_from_one_timeline_to_the_other(
    entries: list[Qualifying], by: Tiers, zone: ZoneInfo, some: int, until: datetime
) -> None:
    before = timeline(entries[:some], by, zone, until).moves
    after = timeline(entries, by, zone, until).moves
    kept = set(before)
    for change in between(before, after):
        if change.replaced is not None:
            kept.remove(change.replaced)
        if change.kind != WITHDRAWN:
            kept.add(change.move)
    assert kept == set(after)
    assert bool(announced(before, after, by)) == (before != after)


def _ordered(entries: Sequence[Qualifying]) -> list[Qualifying]:
    return sorted(entries, key=lambda entry: (entry.occurred_at, entry.id))


def _assert_no_more_room(held: Standing, fresh: Standing) -> None:
    for mine, right in ((held.room, fresh.room), (held.late_room, fresh.late_room)):
        assert right is None or (mine is not None and mine <= max(right, 0))


def _plain(move: TierMove) -> tuple[str, str, datetime, datetime | None, int]:
    return move.kind, move.tier, move.since, move.valid_until, move.reach


def _amount(
    entries: Sequence[Qualifying], by: Tiers, zone: ZoneInfo, instant: datetime
) -> int | Decimal:
    """SEMANTICS.md word for word: what was earned in (t - length, t], since 1 January, ever."""

    def counts(entry: Qualifying) -> bool:
        if by.window.length is not None:
            start = clock.subtract(instant, by.window.length, zone)
            return start < entry.occurred_at <= instant
        if by.window.kind == "calendar_year":
            return clock.year_start(instant, zone) <= entry.occurred_at <= instant
        return entry.occurred_at <= instant

    return sum((entry.amount for entry in entries if counts(entry)), start=0)


class _SecondOpinion:
    """Goes through entries and deadlines and sums everything anew at each, without running sums or short cuts."""

    def __init__(self, by: Tiers, zone: ZoneInfo) -> None:
        self.by, self.zone, self.levels = by, zone, by.levels
        self.window = window_of(by, zone)
        self.base = bool(self.levels) and self.levels[0].threshold == 0
        self.position = 0 if self.base else -1
        self.valid: datetime | None = None
        self.grace: datetime | None = None
        self.known: list[Qualifying] = []
        self.known_at_end: list[Qualifying] = []
        self.moves: list[tuple[str, str, datetime, datetime | None, int]] = []

    def walk(self, entries: Sequence[Qualifying], until: datetime) -> None:
        for entry in _ordered([e for e in entries if e.occurred_at <= until]):
            self.pass_time(entry.occurred_at, at_it=self.by.window.kind == "calendar_year")
            self.known.append(entry)
            self.take(entry.occurred_at)
        self.pass_time(until, at_it=True)

    def take(self, now: datetime) -> None:
        if len(self.known) == 1 and self.base and self.levels[0].on_reach:
            self.note("upgraded", now)
        target = self.met(_amount(self.known, self.by, self.zone, now))
        if target > self.position:
            while self.position < target:
                self.position += 1
                self.valid, self.grace = self.ending(self.window.valid_until(now)), None
                self.note("upgraded", now)
        elif self.grace and self.valid and self.met(self.judged(self.valid)) >= self.position:
            self.valid, self.grace = self.window.renewed(self.valid, now), None
            self.note("retained", now)

    def pass_time(self, to: datetime, *, at_it: bool) -> None:
        while self.valid is not None:
            now = self.grace or self.valid
            if now > to or (now == to and not at_it):
                return
            if self.grace is None:
                self.known_at_end = list(self.known)
            met = self.met(self.judged(self.valid))
            ends = grace_until(self.valid, self.by.grace, self.zone)
            if met >= self.position or self.by.downgrade == "none":
                self.valid, self.grace = self.window.renewed(self.valid, now), None
                self.note("retained", now)
            elif self.grace is None and ends > self.valid:
                self.grace = ends
            else:
                one_level = self.by.downgrade == "one_level"
                self.position = max(met, self.position - 1) if one_level else met
                self.valid, self.grace = self.ending(self.window.held(now)), None
                self.note("downgraded", now)

    def judged(self, end: datetime) -> int | Decimal:
        """What the window held when validity ended, and what came since."""
        year = self.by.window.kind == "calendar_year"
        instant = end - timedelta(microseconds=1) if year else end
        since = [entry for entry in self.known if entry not in self.known_at_end]
        window = _amount(self.known_at_end, self.by, self.zone, instant)
        return window + sum((entry.amount for entry in since), start=0)

    def met(self, amount: int | Decimal) -> int:
        reached = (n for n, item in enumerate(self.levels) if item.threshold <= amount)
        return max(reached, default=-1)

    def ending(self, end: datetime | None) -> datetime | None:
        return end if self.position >= 0 and self.levels[self.position].threshold > 0 else None

    def note(self, kind: str, now: datetime) -> None:
        name = self.levels[self.position].id if self.position >= 0 else ""
        before = sum(1 for move in self.moves if move[:2] == ("upgraded", name))
        reach = before + 1 if kind == "upgraded" else 0
        self.moves.append((kind, name, now, self.valid, reach))
