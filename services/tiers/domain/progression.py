"""A customer's way through the levels: a pure function of what they earned and gave back, the rules, an instant.

What a refund does to it is decided in docs/decisions/0031-tiers-and-refunds.md, what a version of the program does
in docs/decisions/0047-versions-of-the-whole-program.md.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from fractions import Fraction
from zoneinfo import ZoneInfo

from services.tiers.domain import periods
from services.tiers.domain.qualification import Amount, Entries, Qualifying
from shared.contracts.tiers import ChangeKind, TierMove
from shared.money import EXACT
from shared.program.model import Level, Tiers

BELOW = -1
# What a move's ``tier`` says for a customer who falls below the first level of a program without a base level.
NO_TIER = ""

# Rules that follow, each with the instant it is valid from.
Later = Sequence[tuple[datetime, Tiers]]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The way as known from a set of entries, walked until an instant.

    ``level`` is None below the first level. ``since`` of a base level is when the customer was first seen.
    ``missing`` is what the next level asks for beyond ``amount``; both are None at the top.
    ``ceiling`` bounds the amount at any instant from ``until`` on, as long as no entry is added;
    ``total`` is everything ever earned until then, also what was given back later.
    ``next_asks`` is the least that the next level asks for from ``until`` on, ``first_asks`` the least that the
    first one above the base has ever asked for, or will; None if there is no such level.
    """

    moves: tuple[TierMove, ...]
    until: datetime
    level: Level | None
    since: datetime | None
    valid_until: datetime | None
    grace_until: datetime | None
    amount: Amount
    window_from: datetime | None
    window_until: datetime | None
    next_level: Level | None
    missing: Decimal | None
    ceiling: Amount
    total: Amount
    next_asks: Decimal | None
    first_asks: Decimal | None

    @property
    def due_at(self) -> datetime | None:
        """When time alone decides next: the end of the grace, or else of the validity."""
        return self.grace_until or self.valid_until


def timeline(
    entries: Iterable[Qualifying],
    rules: Tiers,
    zone: ZoneInfo,
    until: datetime,
    later: Later = (),
) -> Timeline:
    """Walk the entries and deadlines up to ``until`` (inclusive). Their order and repetition do not matter.

    ``later`` are the rules that follow, of which each has all levels of the one before, in their order.
    """
    with localcontext(EXACT):
        walk = _Walk(Entries(entries), rules, zone, later)
        walk.run(until)
        return walk.result(until)


def announces_base(rules: Tiers) -> bool:
    """Whether the base level is reached with a move of its own, at the first entry.

    It is in force from the beginning and needs none; but vouchers hang on ``upgraded`` moves, so it gets one
    exactly if reaching it gives something.
    """
    base = base_level(rules)
    return base is not None and bool(base.on_reach)


def base_level(rules: Tiers) -> Level | None:
    """The level that asks for nothing, if the program has one."""
    return rules.levels[0] if rules.levels and rules.levels[0].threshold <= 0 else None


def next_asks(rules: Iterable[Tiers], level: str | None) -> Decimal | None:
    """The least that these rules ask for above a level (None: below the first); None at the top of all."""
    asked: list[Decimal] = []
    for one in rules:
        ids = [item.id for item in one.levels]
        above = one.levels[ids.index(level) + 1 if level in ids else 0 :]
        asked += [item.threshold for item in above[:1]]
    return min(asked, default=None)


def first_asks(rules: Iterable[Tiers]) -> Decimal | None:
    """The least that these rules ever ask for above the base level; None if there is nothing above."""
    asked = (item.threshold for one in rules for item in one.levels if item.threshold > 0)
    return min(asked, default=None)


class _Walk:
    """The state on the way. Entries in order; deadlines in between, each at its instant.

    What happens at an instant is decided by the rules valid from it; a deadline ends what was, so it is decided by
    those before it.
    """

    def __init__(self, entries: Entries, rules: Tiers, zone: ZoneInfo, later: Later = ()) -> None:
        self.entries = entries
        self.first_rules, self.later = rules, later
        self.turns = [valid_from for valid_from, _ in later]
        self.turn = 0
        self.rules = rules
        self.zone = zone
        self.levels = rules.levels
        self.window = periods.window_of(rules, zone)
        self.position = BELOW if base_level(rules) is None else 0
        self.since: datetime | None = None
        self.valid_until: datetime | None = None
        self.grace_until: datetime | None = None
        self.grace_first = 0
        self.seen = 0
        self.moves: list[TierMove] = []
        self.reaches: Counter[str] = Counter()

    def run(self, until: datetime) -> None:
        entries = self.entries
        for instant in entries.refunds:
            if instant > until:
                break
            self._take_until(entries.before(instant))
            self._pass_time(instant, at_it=not self.window.includes_end)
            entries.lower(instant)
            self._take_until(entries.through(instant))
            self._refund(instant)
        self._take_until(entries.through(until))
        self._pass_time(until, at_it=True)
        self._under(until)

    def _take_until(self, end: int) -> None:
        for entry in self.entries.ordered[self.seen : end]:
            self._pass_time(entry.occurred_at, at_it=not self.window.includes_end)
            self.seen += 1
            self._under(entry.occurred_at)
            self._take(entry)

    def _under(self, instant: datetime, *, at_it: bool = True) -> None:
        """Take the rules in force at an instant, or just before it."""
        if not self.later:
            return
        turn = (bisect_right if at_it else bisect_left)(self.turns, instant)
        if turn == self.turn:
            return
        name = self._id()
        self.turn = turn
        self.rules = self.later[turn - 1][1] if turn else self.first_rules
        self.levels = self.rules.levels
        if name is not None:
            # A level is never left behind: who is on one has reached it under these rules or earlier ones.
            self.position = [level.id for level in self.levels].index(name)

    def _refund(self, at: datetime) -> None:
        """Take the level that would not be held without what was refunded at this instant, and no other.

        It is asked of two walks as if what was refunded by then, and what was refunded before, had never been
        bought: a level that an earlier refund would have cost is not lost by the next one.
        """
        entries = self.entries
        self._under(at)
        met = self._met(entries.amount(self.window.first(entries, at), self.seen))
        if met >= self.position:
            return
        held = self._without(at, at_it=True)
        if held < self.position and held < self._without(at, at_it=False):
            previous = self._id()
            self.position = max(held, met)
            self._enter(at, self._end(self.window.held(at)))
            refunded = entries.ordered[entries.refunds[at][0][0]]
            self._move("downgraded", at, previous, refunded)

    def _without(self, at: datetime, *, at_it: bool) -> int:
        """Where a walk stands that knows nothing of what was refunded before the instant, or at it."""
        entries = self.entries.without(at, at_it=at_it)
        return _Walk(entries, self.first_rules, self.zone, self.later).standing_at(at)

    def standing_at(self, instant: datetime) -> int:
        """Walk as far as a refund at the instant finds it; returns the position that needs no grace."""
        self._take_until(self.entries.through(instant))
        self._pass_time(instant, at_it=not self.window.includes_end)
        self._under(instant)
        return self.position if self.grace_until is None else self._met(self._in_grace())

    def result(self, until: datetime) -> Timeline:
        entries, window = self.entries, self.window
        amount = entries.amount(window.first(entries, until), self.seen)
        following = self.levels[self.position + 1] if self._can_rise() else None
        window_from, window_until = window.bounds(until)
        return Timeline(
            moves=tuple(self.moves),
            until=until,
            level=None if self.position == BELOW else self.levels[self.position],
            since=self.since,
            valid_until=self.valid_until,
            grace_until=self.grace_until,
            amount=amount,
            window_from=window_from,
            window_until=window_until,
            next_level=following,
            missing=None if following is None else max(Decimal(0), following.threshold - amount),
            ceiling=entries.amount(window.first_at_most(entries, until), self.seen),
            total=entries.granted[self.seen],
            next_asks=next_asks(self._rules_from(self.turn), self._id()),
            first_asks=first_asks(self._rules_from(0)),
        )

    def _rules_from(self, turn: int) -> list[Tiers]:
        """The rules from a turn on."""
        return [self.first_rules, *(rules for _, rules in self.later)][turn:]

    def _can_rise(self) -> bool:
        return self.position + 1 < len(self.levels)

    def _take(self, entry: Qualifying) -> None:
        if self.seen == 1:
            self._begin(entry)
        reached = self._reached(entry.occurred_at) if self._can_rise() else self.position
        if reached > self.position:
            self._rise(entry, reached)
        elif self.grace_until is not None and self._met(self._in_grace()) >= self.position:
            self._retain(entry.occurred_at, entry)

    def _begin(self, entry: Qualifying) -> None:
        if self.position == BELOW:
            return
        self.since = entry.occurred_at
        if announces_base(self.rules):
            self._move("upgraded", entry.occurred_at, None, entry)

    def _reached(self, instant: datetime) -> int:
        """The level that is met at the instant of the entry just seen."""
        entries, window = self.entries, self.window
        at_most = entries.amount(window.first_at_most(entries, instant), self.seen)
        if at_most < self.levels[self.position + 1].threshold:
            return self.position
        return self._met(entries.amount(window.first(entries, instant), self.seen))

    def _met(self, amount: Amount) -> int:
        met = BELOW
        for position, level in enumerate(self.levels):
            if amount >= level.threshold:
                met = position
        return met

    def _in_grace(self) -> Amount:
        """What was in the window when validity ended, and what was earned since."""
        return self.entries.amount(self.grace_first, self.seen)

    def _pass_time(self, instant: datetime, *, at_it: bool) -> None:
        """Let the deadlines before the instant (``at_it``: and at it) take effect."""
        while self.valid_until is not None:
            deadline = self.grace_until or self.valid_until
            if deadline > instant or (deadline == instant and not at_it):
                return
            self._under(deadline, at_it=False)
            if self.grace_until is not None:
                self._end_grace(deadline)
            else:
                self._judge(deadline)

    def _end_grace(self, end: datetime) -> None:
        met = self._met(self._in_grace())
        # Only other rules, begun in the grace, can let it end well: what is earned in it renews the level at once.
        if met >= self.position or self.rules.downgrade == "none":
            self._retain(end, None)
        else:
            self._fall(end, met)

    def _judge(self, end: datetime) -> None:
        self.grace_first = self.window.first_judged(self.entries, end)
        met = self._met(self._in_grace())
        if met >= self.position or self.rules.downgrade == "none":
            self._retain(end, None)
            return
        grace_until = periods.grace_until(end, self.rules.grace, self.zone)
        if grace_until > end:
            self.grace_until = grace_until
        else:
            self._fall(end, met)

    def _rise(self, entry: Qualifying, met: int) -> None:
        while self.position < met:
            previous = self._id()
            self.position += 1
            end = self._end(self.window.valid_until(entry.occurred_at))
            self._enter(entry.occurred_at, end)
            self._move("upgraded", entry.occurred_at, previous, entry)

    def _retain(self, at: datetime, entry: Qualifying | None) -> None:
        if self.valid_until is not None:
            self.valid_until, self.grace_until = self.window.renewed(self.valid_until, at), None
        self._move("retained", at, self._id(), entry)

    def _fall(self, at: datetime, met: int) -> None:
        previous = self._id()
        # What is met lies below the level that is lost, so one level down is never below it.
        self.position = self.position - 1 if self.rules.downgrade == "one_level" else met
        self._enter(at, self._end(self.window.held(at)))
        self._move("downgraded", at, previous, None)

    def _enter(self, at: datetime, valid_until: datetime | None) -> None:
        self.since, self.valid_until, self.grace_until = at, valid_until, None

    def _end(self, end: datetime | None) -> datetime | None:
        """A level that asks for nothing, or none at all, is never judged."""
        asks = self.position != BELOW and self.levels[self.position].threshold > 0
        return end if asks else None

    def _id(self) -> str | None:
        return None if self.position == BELOW else self.levels[self.position].id

    def _move(
        self, kind: ChangeKind, at: datetime, previous: str | None, entry: Qualifying | None
    ) -> None:
        level = None if self.position == BELOW else self.levels[self.position]
        tier = NO_TIER if level is None else level.id
        if kind == "upgraded":
            self.reaches[tier] += 1
        self.moves.append(
            TierMove(
                kind=kind,
                tier=tier,
                previous=previous,
                multiplier="1" if level is None else multiplier_text(level.multiplier),
                since=at,
                valid_until=self.valid_until,
                reach=self.reaches[tier] if kind == "upgraded" else 0,
                cause=None if entry is None else str(entry.id),
            )
        )


def multiplier_text(multiplier: Fraction) -> str:
    """Write a multiplier as the decimal it has in the program file: 5/4 is ``1.25``."""
    exact = EXACT.divide(Decimal(multiplier.numerator), Decimal(multiplier.denominator))
    return format(exact.normalize(EXACT), "f")
