"""Levels and refunds: order does not show, and a slow, plain second opinion finds the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from services.tiers.domain.progression import timeline
from services.tiers.domain.qualification import Qualifying, Reduction
from services.tiers.domain.standing import first_standing, standing_of, unmoved
from shared.program.model import Tiers
from tests.properties import test_tiers_properties as plain
from tests.properties.test_tiers_properties import (
    INSTANTS,
    RULES,
    START,
    UNTIL,
    ZONES,
    _amount,
    _plain,
)

QUARTERS = st.integers(1, 4)


@st.composite
def histories(draw: st.DrawFn) -> list[Qualifying]:
    """Purchases, most with refunds: near them in time or long after, at shared instants, in parts."""
    found = []
    bought = draw(st.lists(st.tuples(INSTANTS, st.sampled_from([0, 4, 4, 8, 12])), max_size=9))
    for number, (when, amount) in enumerate(bought):
        parts = draw(st.lists(QUARTERS, max_size=2)) if amount else []
        later = st.one_of(
            st.integers(-2, 30).map(lambda days: when + timedelta(days=days)),  # noqa: B023
            INSTANTS,
            st.sampled_from([other for other, _ in bought]),
        )
        taken = tuple(
            Reduction(draw(later), amount * part // 4) for part in parts if sum(parts) <= 4
        )
        found.append(Qualifying(UUID(int=number), when, amount, taken))
    return found


@given(histories(), RULES, ZONES, UNTIL, st.randoms())
def test_order_and_repetition_do_not_show(
    entries: list[Qualifying], by: Tiers, zone: ZoneInfo, until: datetime, random: object
) -> None:
    shuffled = [*entries, *entries[: len(entries) // 2]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    turned = [replace(entry, reductions=entry.reductions[::-1]) for entry in shuffled]
    assert timeline(turned, by, zone, until) == timeline(entries, by, zone, until)


@given(histories(), RULES, ZONES, UNTIL, UNTIL)
def test_history_stays_as_it_was_known(
    entries: list[Qualifying], by: Tiers, zone: ZoneInfo, one: datetime, other: datetime
) -> None:
    early, late = min(one, other), max(one, other)
    known = [_known(entry, early) for entry in entries if entry.occurred_at <= early]
    then = timeline(known, by, zone, early)
    assert then == timeline(entries, by, zone, early)
    assert timeline(entries, by, zone, late).moves[: len(then.moves)] == then.moves


@given(histories(), RULES, ZONES, UNTIL)
def test_a_refund_of_nothing_changes_nothing(
    entries: list[Qualifying], by: Tiers, zone: ZoneInfo, until: datetime
) -> None:
    without = [replace(entry, reductions=()) for entry in entries]
    of_nothing = [
        replace(e, reductions=tuple(Reduction(r.at, 0) for r in e.reductions)) for e in entries
    ]
    assert timeline(of_nothing, by, zone, until) == timeline(without, by, zone, until)


@given(histories(), RULES, ZONES, UNTIL)
def test_upgrades_before_the_first_refund_stay_and_falls_name_what_was_refunded(
    entries: list[Qualifying], by: Tiers, zone: ZoneInfo, until: datetime
) -> None:
    at = {(str(e.id), r.at) for e in entries for r in e.reductions if r.at > e.occurred_at}
    bought = {(str(e.id), e.occurred_at) for e in entries}
    for move in timeline(entries, by, zone, until).moves:
        if move.cause is not None:
            named = at if move.kind == "downgraded" else bought
            assert (move.cause, move.since) in named


@settings(max_examples=600)
@given(histories(), RULES, ZONES, UNTIL)
def test_a_plain_second_opinion_agrees(
    entries: list[Qualifying], by: Tiers, zone: ZoneInfo, until: datetime
) -> None:
    found = timeline(entries, by, zone, until)
    second = _SecondOpinion(by, zone)
    second.walk(entries, until)
    assert [_plain(move) for move in found.moves] == second.moves
    left = [_bought(entry, until, at_it=True) for entry in entries]
    assert found.amount == _amount(left, by, zone, until)


@settings(max_examples=400)
@given(histories(), RULES, ZONES, st.data())
def test_what_needs_no_walk_would_move_nothing(
    entries: list[Qualifying], by: Tiers, zone: ZoneInfo, data: st.DataObject
) -> None:
    """Purchases and what is told of refunds, in any order and batches: skipped walks would have found nothing."""
    told = [(e.id, replace(e, reductions=e.reductions[:n])) for e in entries for n in (0, 1, 2)]
    waiting = data.draw(st.permutations(told))
    known: dict[UUID, Qualifying] = {}
    standing = first_standing(by)
    moves = timeline([], by, zone, START).moves
    while waiting:
        size = data.draw(st.integers(1, 3))
        batch, waiting = waiting[:size], waiting[size:]
        new, news = [], False
        for key, entry in batch:
            before = known.get(key)
            if before is None or len(entry.reductions) > len(before.reductions):
                known[key] = entry
                news = news or bool(entry.reductions) or before is not None
                new.append(entry)
        if not new:
            continue
        skipped = None if news else unmoved(standing, new)
        newest = max(entry.known_until for entry in new)
        until = max(newest, standing.computed_until or newest)
        full = timeline(known.values(), by, zone, until)
        if skipped is None:
            standing, moves = standing_of(full, by), full.moves
        else:
            assert full.moves == moves
            assert (full.due_at, skipped.computed_until) == (skipped.due_at, until)
            plain._assert_no_more_room(skipped, standing_of(full, by))
            standing = skipped


def _known(entry: Qualifying, until: datetime) -> Qualifying:
    return replace(entry, reductions=tuple(r for r in entry.reductions if r.at <= until))


def _bought(entry: Qualifying, instant: datetime, *, at_it: bool) -> Qualifying:
    """What would have been bought without what was refunded before an instant, or at it."""
    taken = [
        r.amount
        for r in entry.reductions
        if r.at <= entry.occurred_at or r.at < instant or (at_it and r.at == instant)
    ]
    return Qualifying(entry.id, entry.occurred_at, entry.amount - sum(taken))


class _SecondOpinion(plain._SecondOpinion):
    """Goes through all instants at which anything happens, and writes down anew what all counts for then."""

    def walk(self, entries: Sequence[Qualifying], until: datetime) -> None:
        deadlines_first = self.by.window.kind == "calendar_year"
        refunds = {r.at for e in entries for r in e.reductions if r.amount and r.at > e.occurred_at}
        for now in sorted({entry.occurred_at for entry in entries} | refunds):
            if now > until:
                break
            self.pass_time(now, at_it=deadlines_first)
            self.known = self.as_of(entries, self.known, now)
            self.known_at_end = self.as_of(entries, self.known_at_end, now)
            for entry in plain._ordered([e for e in entries if e.occurred_at == now]):
                self.known.append(_bought(entry, now, at_it=True))
                self.take(now)
            if now in refunds:
                self.judge(entries, now)
        self.pass_time(until, at_it=True)

    def as_of(
        self, entries: Sequence[Qualifying], some: Sequence[Qualifying], now: datetime
    ) -> list[Qualifying]:
        ids = {entry.id for entry in some}
        return [_bought(entry, now, at_it=True) for entry in entries if entry.id in ids]

    def judge(self, entries: Sequence[Qualifying], now: datetime) -> None:
        met = self.met(_amount(self.known, self.by, self.zone, now))
        held, before = (self.without(entries, now, at_it=at_it) for at_it in (True, False))
        if met < self.position and held < self.position and held < before:
            self.position = max(held, met)
            self.valid, self.grace = self.ending(self.window.held(now)), None
            self.note("downgraded", now)

    def without(self, entries: Sequence[Qualifying], now: datetime, *, at_it: bool) -> int:
        """Where somebody would be who had never bought it."""
        other = plain._SecondOpinion(self.by, self.zone)
        deadlines_first = self.by.window.kind == "calendar_year"
        for entry in plain._ordered([e for e in entries if e.occurred_at <= now]):
            other.pass_time(entry.occurred_at, at_it=deadlines_first)
            other.known.append(_bought(entry, now, at_it=at_it))
            other.take(entry.occurred_at)
        other.pass_time(now, at_it=deadlines_first)
        if other.grace is None or other.valid is None:
            return other.position
        return other.met(other.judged(other.valid))
