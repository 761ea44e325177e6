"""Who pays for a lot that is owed: a pure replay of everything that moved in an account's lots.

A lot falls below 0 when points of it are taken back that are spent already. At that instant the customer's open
lots pay for it in spend order; what they cannot pay is a deficit, and whatever becomes free next pays: credits as
they become available, points that a hold lets go, points given back. Nothing here depends on when something was
told, or on the clock: payments to come have their future instants, and count from those on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

COVERED = "covered"
WRITTEN_OFF = "written_off"

_NEVER = datetime.max.replace(tzinfo=UTC)


class Moved(NamedTuple):
    """A line of the ledger, as far as it matters here; of any kind but those that only tell what time does."""

    account_id: int
    entry_id: UUID
    lot_id: UUID
    kind: str
    points: int
    occurred_at: datetime
    available_at: datetime
    expires_at: datetime | None


class Movement(NamedTuple):
    """Signed points that went into or out of a lot, other than by covering or expiry."""

    lot_id: UUID
    occurred_at: datetime
    points: int


class Dates(NamedTuple):
    """A lot's own dates."""

    occurred_at: datetime
    available_at: datetime
    expires_at: datetime | None


class Reserve(NamedTuple):
    """Points of a lot that a hold kept from paying, after ``since`` and before ``until``."""

    lot_id: UUID
    since: datetime
    until: datetime
    points: int


class Cover(NamedTuple):
    """Points moved into a lot that is owed (above 0), or out of one that pays (below 0)."""

    occurred_at: datetime
    lot_id: UUID
    points: int


class WriteOff(NamedTuple):
    """What nobody could pay at once, given up."""

    occurred_at: datetime
    lot_id: UUID
    points: int


class Settlement(NamedTuple):
    """All covers there must be, and what has to be written off beyond what was."""

    covers: Sequence[Cover]
    write_offs: Sequence[WriteOff]


@dataclass(slots=True)
class _State:
    lots: Mapping[UUID, Dates]
    left: dict[UUID, int]
    owed_since: dict[UUID, datetime] = field(default_factory=dict)

    def debtors(self) -> list[UUID]:
        """Lots below 0, the longest owed first."""
        owed = [lot for lot in self.owed_since if self.left[lot] < 0]
        return sorted(owed, key=lambda lot: (self.owed_since[lot], self.lots[lot].occurred_at, lot))

    def payers(self, at: datetime, reserved: Mapping[UUID, int]) -> list[tuple[UUID, int]]:
        """Open lots with what is free in each, in spend order."""
        found = []
        for lot, left in self.left.items():
            dates = self.lots[lot]
            free = left - reserved.get(lot, 0)
            if free > 0 and dates.available_at <= at < (dates.expires_at or _NEVER):
                found.append((dates.expires_at or _NEVER, dates.occurred_at, lot, free))
        return [(lot, free) for _, _, lot, free in sorted(found)]


def settle(
    lots: Mapping[UUID, Dates],
    movements: Sequence[Movement],
    reserves: Sequence[Reserve],
    *,
    write_off: bool,
) -> Settlement:
    """Replay an account. ``movements`` hold all but covers and expiry, earlier write-offs among them."""
    steps: dict[datetime, list[Movement]] = defaultdict(list)
    for movement in movements:
        steps[movement.occurred_at].append(movement)
    instants = sorted({*steps, *_turns(lots.values(), reserves)})
    state = _State(lots, dict.fromkeys(lots, 0))
    covers: list[Cover] = []
    write_offs: list[WriteOff] = []
    for at in instants:
        for movement in steps.get(at, ()):
            state.left[movement.lot_id] += movement.points
        _note_debts(state, at, [movement.lot_id for movement in steps.get(at, ())])
        if not state.owed_since:
            continue
        owed = list(state.owed_since)
        covers += _pay(state, at, reserves)
        if write_off:
            # Once the instant is over: what is not there then is not asked for again.
            for lot in state.debtors():
                write_offs.append(WriteOff(at, lot, -state.left[lot]))
                state.left[lot] = 0
        _note_debts(state, at, owed)
    return Settlement(covers, write_offs)


def _turns(lots: Iterable[Dates], reserves: Sequence[Reserve]) -> Iterable[datetime]:
    """Instants at which points become free."""
    yield from (dates.available_at for dates in lots)
    yield from (reserve.until for reserve in reserves)


def _note_debts(state: _State, at: datetime, touched: Iterable[UUID]) -> None:
    for lot in touched:
        if state.left[lot] < 0:
            state.owed_since.setdefault(lot, at)
        else:
            state.owed_since.pop(lot, None)


def _pay(state: _State, at: datetime, reserves: Sequence[Reserve]) -> list[Cover]:
    reserved: dict[UUID, int] = defaultdict(int)
    for reserve in reserves:
        if reserve.since < at < reserve.until:
            reserved[reserve.lot_id] += reserve.points
    moved: dict[UUID, int] = defaultdict(int)
    payers = state.payers(at, reserved)
    for debtor in state.debtors():
        while state.left[debtor] < 0 and payers:
            payer, free = payers[0]
            paid = min(free, -state.left[debtor])
            for lot, points in ((debtor, paid), (payer, -paid)):
                state.left[lot] += points
                moved[lot] += points
            payers[0] = (payer, free - paid)
            if paid == free:
                payers.pop(0)
    return [Cover(at, lot, points) for lot, points in moved.items() if points]


def changes(
    lines: Sequence[Moved], reserves: Sequence[Reserve], *, write_off: bool
) -> list[Cover | WriteOff]:
    """What to write so that an account's covers are what its lines amount to, in a fixed order; mostly nothing."""
    present = [
        Cover(row.occurred_at, row.lot_id, row.points) for row in lines if row.kind == COVERED
    ]
    movements = [
        Movement(row.lot_id, row.occurred_at, row.points) for row in lines if row.kind != COVERED
    ]
    found = settle(dates_of(lines), movements, reserves, write_off=write_off)
    given_up = sorted(found.write_offs, key=lambda one: (one.occurred_at, one.lot_id))
    return [*_differences(found.covers, present), *given_up]


def dates_of(lines: Sequence[Moved]) -> dict[UUID, Dates]:
    """Each lot's dates; its own instant is that of the line that opened it."""
    found: dict[UUID, Dates] = {}
    for row in lines:
        if row.lot_id not in found or row.entry_id == row.lot_id:
            found[row.lot_id] = Dates(row.occurred_at, row.available_at, row.expires_at)
    return found


def _differences(target: Sequence[Cover], present: Sequence[Cover]) -> list[Cover]:
    """What to add so that what is present becomes the target: summed by instant and lot."""
    change: dict[tuple[datetime, UUID], int] = defaultdict(int)
    for cover in target:
        change[cover.occurred_at, cover.lot_id] += cover.points
    for cover in present:
        change[cover.occurred_at, cover.lot_id] -= cover.points
    return [Cover(at, lot, points) for (at, lot), points in sorted(change.items()) if points]
