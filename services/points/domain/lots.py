"""Lots: the points of one award, from when to when they count, and what they add up to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from services.points.domain.expiry import TOLD_KINDS, Span, renewed
from services.points.domain.rules import rules_of
from services.points.domain.settlement import Reserve
from shared import clock
from shared.program.model import Program

EARNED = "earned"
TIER_BONUS = "tier_bonus"
CAMPAIGN = "campaign"
EARNING_KINDS = frozenset({EARNED, TIER_BONUS, CAMPAIGN, "activity"})
DAYS_KEPT_MAX = 20_000

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """One immutable signed line of the ledger. A correction bears the dates of the lot it corrects.

    ``active_from``: it opens a lot whose end moves, and from then to its ``expires_at`` keeps all that do.
    """

    id: UUID
    lot_id: UUID
    kind: str
    points: int
    occurred_at: datetime
    available_at: datetime
    expires_at: datetime | None
    active_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lot:
    """The points of one award with all its corrections; ``entry_id`` is the award's own entry."""

    id: UUID
    entry_id: UUID
    points: int
    occurred_at: datetime
    available_at: datetime
    expires_at: datetime | None

    def counts(self, at: datetime) -> bool:
        """Whether its points are spendable at that instant: from ``available_at`` to before ``expires_at``."""
        return self.available_at <= at and (self.expires_at is None or at < self.expires_at)


@dataclass(frozen=True, slots=True)
class ExpiringNext:
    """What is lost next, and when, unless it is spent before."""

    points: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Balance:
    """A customer's points at an instant."""

    available: int
    pending: int
    held: int
    deficit: int
    lifetime_earned: int
    expiring_next: ExpiringNext | None


def dates(occurred_at: datetime, program: Program) -> tuple[datetime, datetime | None]:
    """Return from when a purchase's points count, and up to when (exclusive; None: for ever), in UTC."""
    rules = rules_of(program)
    if rules.immediate:
        available_at = occurred_at.astimezone(UTC)
    else:
        available_at = clock.add(occurred_at, program.earning.available_after, program.zone)
    # All that becomes available on one local day expires at one midnight: worked out once a day.
    day = available_at.astimezone(program.zone).date()
    expiries = rules.expiries
    if day not in expiries:
        if len(expiries) >= DAYS_KEPT_MAX:
            expiries.clear()
        expiries[day] = _expiry(available_at, program)
    return available_at, expiries[day]


def active_from(occurred_at: datetime, program: Program) -> datetime | None:
    """Since when an activity of the customer keeps all their points; None: it keeps none."""
    return occurred_at if rules_of(program).moving else None


def lots(entries: Iterable[Entry]) -> list[Lot]:
    """Fold a customer's entries into their lots, oldest award first."""
    groups: dict[UUID, list[Entry]] = {}
    spans: list[Span] = []
    for entry in entries:
        groups.setdefault(entry.lot_id, []).append(entry)
        if entry.active_from is not None and entry.expires_at is not None:
            spans.append(Span(entry.active_from, entry.expires_at))
    found = [_lot(group, spans) for group in groups.values()]
    return sorted(found, key=lambda lot: (lot.occurred_at, lot.entry_id))


def spend_order(found: Iterable[Lot]) -> list[Lot]:
    """Sort lots as they are spent: what expires first goes first, what never expires goes last."""
    return sorted(found, key=lambda lot: (lot.expires_at or _NEVER, lot.occurred_at, lot.entry_id))


def balance(entries: Iterable[Entry], at: datetime, reserves: Iterable[Reserve] = ()) -> Balance:
    """Add up what counts at an instant; what had not happened by then is left out.

    What live holds reserve is taken off what is open; a lot below 0 is owed.
    """
    reserved: dict[UUID, int] = defaultdict(int)
    for reserve in reserves:
        if reserve.since <= at < reserve.until:
            reserved[reserve.lot_id] += reserve.points
    known = [e for e in entries if e.occurred_at <= at and e.kind not in TOLD_KINDS]
    found = lots(known)
    spendable = [lot for lot in found if lot.counts(at)]
    return Balance(
        available=max(0, sum(max(0, lot.points) - reserved[lot.id] for lot in spendable)),
        pending=sum(max(0, lot.points) for lot in found if at < lot.available_at),
        held=sum(reserved.values()),
        deficit=sum(max(0, -lot.points) for lot in found),
        lifetime_earned=sum(entry.points for entry in known if entry.kind in EARNING_KINDS),
        expiring_next=_expiring_next((lot, lot.points - reserved[lot.id]) for lot in spendable),
    )


def _expiring_next(spendable: Iterable[tuple[Lot, int]]) -> ExpiringNext | None:
    by_end: dict[datetime, int] = {}
    for lot, free in spendable:
        if lot.expires_at is not None and free > 0:
            by_end[lot.expires_at] = by_end.get(lot.expires_at, 0) + free
    if not by_end:
        return None
    first = min(by_end)
    return ExpiringNext(by_end[first], first)


def _lot(entries: list[Entry], spans: Iterable[Span]) -> Lot:
    # Its award is the entry that is no correction; a fragment without one still adds up.
    award = next(
        (entry for entry in entries if entry.kind not in (TIER_BONUS, CAMPAIGN)), entries[0]
    )
    expires_at = award.expires_at
    if award.active_from is not None and expires_at is not None:
        expires_at = renewed(expires_at, spans)
    return Lot(
        id=award.lot_id,
        entry_id=award.id,
        points=sum(entry.points for entry in entries),
        occurred_at=award.occurred_at,
        available_at=award.available_at,
        expires_at=expires_at,
    )


def _expiry(available_at: datetime, program: Program) -> datetime | None:
    expiry = program.earning.expiry
    if expiry.kind == "none" or expiry.after is None:
        return None
    return clock.end_of_day(available_at, expiry.after, program.zone, expiry.round_up)
