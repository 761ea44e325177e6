"""Which points a hold reserves, what of it is captured, and where points go that are given back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from shared.errors import TreueError

CAPTURED = "captured"
RESTORED = "restored"
TRANSFERRED = "transferred"

HOLD_MAX = timedelta(days=7)
POINTS_MAX = 1_000_000_000

State = Literal["held", "captured", "released", "expired", "declined"]

_NEVER = datetime.max.replace(tzinfo=UTC)


class Refused(TreueError):
    """The rules say no, and nothing changes: a stable code, a sentence, and facts for programs."""

    def __init__(self, code: str, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.facts: Mapping[str, Any] = facts


class Part(NamedTuple):
    """So many points of one lot."""

    lot_id: UUID
    points: int


class Spendable(NamedTuple):
    """A lot as spending sees it: ``points`` in it, of which ``reserved`` by live holds. Below 0 it is owed.

    ``moves``: its end moves with the customer's activity, and ``expires_at`` is where that stands.
    """

    lot_id: UUID
    points: int
    reserved: int
    occurred_at: datetime
    available_at: datetime
    expires_at: datetime | None
    moves: bool = False

    def counts(self, at: datetime) -> bool:
        """Whether its points are spendable at that instant."""
        return self.available_at <= at and (self.expires_at is None or at < self.expires_at)


@dataclass(frozen=True, slots=True)
class Hold:
    """Points reserved for a while; ``parts`` in the order in which they are spent.

    It reserves in [``held_at``, ``ended_at``): up to ``expires_at``, or to what ended it before.
    """

    id: UUID
    customer_id: str
    state: State
    points: int
    captured: int
    restored: int
    parts: Sequence[Part]
    order_id: str | None
    redemption_id: str | None
    held_at: datetime
    expires_at: datetime
    ended_at: datetime

    def state_at(self, now: datetime) -> State:
        """How it stands: a time-out needs no job to have noticed it."""
        return "expired" if self.state == "held" and self.expires_at <= now else self.state


class Means(NamedTuple):
    """What a customer can spend, and what is owed."""

    available: int
    deficit: int


def means(lots: Sequence[Spendable], at: datetime) -> Means:
    """Add up what is spendable: open lots without what holds reserve of them; who owes has nothing to spend."""
    # What holds reserve of a lot that a refund has emptied the others will have to pay.
    open_lots = [lot for lot in lots if lot.counts(at)]
    free = sum(max(0, lot.points) - lot.reserved for lot in open_lots)
    deficit = sum(-lot.points for lot in lots if lot.points < 0)
    return Means(max(0, free), deficit)


def spend_order(lots: Iterable[Spendable]) -> list[Spendable]:
    """What expires first goes first, what never expires last; then the oldest."""
    return sorted(lots, key=lambda lot: (lot.expires_at or _NEVER, lot.occurred_at, lot.lot_id))


def allocate(lots: Sequence[Spendable], points: int, at: datetime) -> list[Part] | None:
    """Choose ``points`` of the open lots in spend order; None if there are not as many, or something is owed."""
    available, deficit = means(lots, at)
    if deficit or points > available:
        return None
    open_lots = spend_order(lot for lot in lots if lot.counts(at))
    return first([Part(lot.lot_id, max(0, lot.points - lot.reserved)) for lot in open_lots], points)


def first(parts: Sequence[Part], points: int) -> list[Part]:
    """The first ``points`` of the parts."""
    return list(_first(parts, points))


def given_back(parts: Sequence[Part], captured: int, restored: int, points: int) -> list[Part]:
    """The lots that the next ``points`` go back to, when ``restored`` of ``captured`` are back already.

    What was taken last comes back first, so that afterwards just as much is taken of each lot as if only the rest
    had been captured.
    """
    taken = first(parts, captured - restored)
    kept = dict(first(parts, captured - restored - points))
    back = [Part(lot, count - kept.get(lot, 0)) for lot, count in taken]
    return [part for part in reversed(back) if part.points]


def _first(parts: Sequence[Part], points: int) -> Iterator[Part]:
    for lot_id, count in parts:
        taken = min(count, points)
        if taken > 0:
            points -= taken
            yield Part(lot_id, taken)
