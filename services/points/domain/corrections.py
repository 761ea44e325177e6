"""Corrections by people: what may be given, taken, reversed or extended, and which lots it touches.

A correction is a fact: decided once, when it is made, and never decided anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from services.points.domain import spending
from services.points.domain.spending import Part, Spendable
from shared import clock
from shared.errors import TreueError
from shared.program.model import Program

ADJUSTED = "adjusted"
REVERSED = "reversed"
# Only by POST /v1/lots/{id}/extension: both halves stand or fall together.
EXTENSION = "extension"
POINTS_MAX = 1_000_000_000

# Only what a person decided is reversed by a person: what follows from rules would be decided anew. How else.
INSTEAD = {
    "earned": "what a purchase earned is taken back by a refund or a cancellation",
    "tier_bonus": "it follows the customer's tier: correct the difference by an adjustment",
    "campaign": "it follows the campaign's rules: correct the difference by an adjustment",
    "activity": "it follows the program's activities: correct the difference by an adjustment",
    "covered": "it pays what was owed: correct the difference by an adjustment",
    "written_off": "it gives up what was owed: take points by an adjustment",
    "withdrawn": "it follows the card: give points back by an adjustment",
    "clawed_back": "it follows the refund: give points back by an adjustment",
    "captured": "what was spent is given back by restoring its hold",
    "restored": "take the points by an adjustment, or have them spent again",
    "transferred": "transfer the points back",
    "reversed": "an entry is reversed once and for all: make a new adjustment",
    "expired": "it only tells what time did: give points by an adjustment",
    "unlocked": "it only tells what time did, and moved no points",
}


class Refused(TreueError):
    """The rules say no: nothing changes. ``code`` is stable; ``facts`` are for programs."""

    def __init__(self, code: str, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.code, self.detail, self.facts = code, detail, facts


class Adjustment(NamedTuple):
    """Points to be given (above 0) or taken (below), why, and until when they count; None: by the program."""

    points: int
    reason_code: str
    reason: str
    expires_at: datetime | None


class Touched(NamedTuple):
    """So many signed points in a lot with these dates; no ``lot_id``: a lot of its own.

    ``moves``: the end of the lot that it makes moves with the customer's activity.
    """

    lot_id: UUID | None
    points: int
    available_at: datetime
    expires_at: datetime | None
    moves: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A ledger line that somebody wants to be undone."""

    entry_id: UUID
    lot_id: UUID
    kind: str
    points: int
    reason: str | None
    reversed: bool


def expiry(available_at: datetime, program: Program) -> datetime | None:
    """Up to when points given at this instant count by the program's rule: those of a purchase of that day."""
    rule = program.earning.expiry
    if rule.kind == "none" or rule.after is None:
        return None
    return clock.end_of_day(available_at, rule.after, program.zone, rule.round_up)


def check(wanted: Adjustment, program: Program, now: datetime) -> None:
    """Refuse what no second person could approve either."""
    allowed = program.corrections.reasons
    if wanted.reason_code == EXTENSION or (allowed and wanted.reason_code not in allowed):
        says = ", ".join(allowed) if allowed else f"anything but {EXTENSION}"
        raise Refused("unknown-reason-code", f"The reason code must be one of: {says}.")
    if wanted.expires_at is None:
        return
    if wanted.points < 0:
        raise Refused("debit-cannot-expire", "expires_at has a meaning for credits only.")
    if wanted.expires_at <= now:
        raise Refused("expires-in-the-past", "expires_at must lie ahead.")


def needs_second_person(points: int, program: Program) -> bool:
    """Whether one person alone may not decide this."""
    limit = program.corrections.limit
    return limit is not None and abs(points) > limit


def touched(
    wanted: Adjustment, lots: Sequence[Spendable], program: Program, now: datetime
) -> list[Touched]:
    """The lots that a correction changes: a credit makes its own, a debit takes them as spending would."""
    if wanted.points > 0:
        if wanted.expires_at is not None:
            return [Touched(None, wanted.points, now, wanted.expires_at)]
        moves = program.earning.expiry.kind == "inactivity"
        return [Touched(None, wanted.points, now, expiry(now, program), moves)]
    dates = {lot.lot_id: lot for lot in lots}
    taken, rest = _taken(-wanted.points, lots, now, overdraw=program.corrections.overdraw)
    found = [
        Touched(part.lot_id, -part.points, lot.available_at, lot.expires_at)
        for part in taken
        for lot in (dates[part.lot_id],)
    ]
    # What nobody has: a lot below 0, which the next credits pay.
    return [*found, Touched(None, -rest, now, None)] if rest else found


def _taken(
    points: int, lots: Sequence[Spendable], now: datetime, *, overdraw: bool
) -> tuple[list[Part], int]:
    """What each open lot gives, in spend order, and what is missing."""
    available, deficit = spending.means(lots, now)
    can = 0 if deficit else min(points, available)
    if can < points and not overdraw:
        raise Refused(
            "insufficient-points",
            f"{points} points cannot be taken: {available} are available.",
            available=available,
            deficit=deficit,
        )
    return spending.allocate(lots, can, now) or [], points - can


def check_reversal(line: Line) -> None:
    """Refuse what has been reversed, and what is undone in another way."""
    if line.reversed:
        raise Refused("already-reversed", "This entry has been reversed.")
    if line.kind != ADJUSTED:
        instead = INSTEAD.get(line.kind, "correct the difference by an adjustment")
        raise Refused("not-reversible", f"An entry of kind {line.kind} stays: {instead}.")
    if line.reason == EXTENSION:
        raise Refused("not-reversible", "An extension stays: extend the new lot, or adjust.")


def extended(
    lot: Spendable | None, expires_at: datetime | None, now: datetime
) -> tuple[Touched, Touched]:
    """Move what is left and free in a lot to a new one that counts longer; returns what leaves and what comes.

    ``lot`` is None if nothing is left in it, or time is over: what has expired stays expired.
    """
    if lot is None or (lot.expires_at is not None and lot.expires_at <= now):
        raise Refused("nothing-to-extend", "Nothing is left in this lot that could count longer.")
    if lot.expires_at is None:
        raise Refused("lot-never-expires", "This lot never expires.")
    if expires_at is not None and expires_at <= lot.expires_at:
        until = lot.expires_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        raise Refused("not-an-extension", f"It counts until {until} already.")
    left = lot.points - lot.reserved
    if left <= 0:
        raise Refused("nothing-to-extend", "Nothing is left in this lot that no hold reserves.")
    return (
        Touched(lot.lot_id, -left, lot.available_at, lot.expires_at),
        Touched(None, left, max(lot.available_at, now), expires_at, lot.moves),
    )
