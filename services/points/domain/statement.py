"""A customer's year: what was there, every line, what is left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from services.points.domain.expiry import TOLD_KINDS, Hold, Movement, losses
from services.points.domain.flows import EXPIRED, Flow
from shared import clock


class Move(NamedTuple):
    """A line of the ledger as far as sums need it; ``seq`` is its place in the account."""

    seq: int
    kind: str
    points: int
    lot_id: UUID
    occurred_at: datetime
    expires_at: datetime | None
    shop: str | None = None
    order_id: str | None = None


class Line(NamedTuple):
    """A line of a statement: an entry (``seq`` names it) or what was lost of a lot; ``balance`` after it."""

    seq: int | None
    kind: str
    points: int
    lot_id: UUID
    occurred_at: datetime
    expires_at: datetime | None
    shop: str | None
    order_id: str | None
    balance: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A year in the program's zone: [``start``, ``end``), as known at ``as_of``; ``flow`` sums up its lines."""

    year: int
    start: datetime
    end: datetime
    as_of: datetime
    flow: Flow
    lines: Sequence[Line]


def bounds(year: int, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the instants at which a year begins and ends (exclusive) in the zone, in UTC."""
    return (
        clock.local_midnight(date(year, 1, 1), zone),
        clock.local_midnight(date(year + 1, 1, 1), zone),
    )


def draw_up(
    moves: Iterable[Move],
    holds: Mapping[UUID, Sequence[Hold]],
    year: int,
    zone: ZoneInfo,
    now: datetime,
) -> Statement:
    """Sum up a customer's year from all lines of the ledger and what holds had reserved of lots.

    What was lost is worked out and not read, so it is the same whether or not the job has written it down. A loss
    at the midnight that ends the year belongs to that year: the points were good through its last day.
    """
    start, end = bounds(year, zone)
    as_of = min(end, now)
    found = [m for m in moves if m.kind not in TOLD_KINDS and m.occurred_at <= end]
    lines = [Line(*move, 0) for move in found if move.occurred_at < end]
    lines += _losses(found, holds, as_of)
    opening, within = 0, []
    for line in lines:
        if line.occurred_at < start or (line.kind == EXPIRED and line.occurred_at == start):
            opening += line.points
        else:
            within.append(line)
    # What is lost goes before what happens at that instant; lines of one instant in the order of the ledger.
    within.sort(
        key=lambda line: (line.occurred_at, line.kind != EXPIRED, line.seq or 0, line.lot_id)
    )
    flow, balance, shown = Flow(opening), opening, []
    for line in within:
        flow.add(line.kind, line.points)
        balance += line.points
        shown.append(line._replace(balance=balance))
    return Statement(year, start, end, as_of, flow, shown)


def _losses(
    moves: Sequence[Move], holds: Mapping[UUID, Sequence[Hold]], at: datetime
) -> list[Line]:
    lots: dict[UUID, list[Move]] = {}
    for move in moves:
        lots.setdefault(move.lot_id, []).append(move)
    found: list[Line] = []
    for lot_id, lines in lots.items():
        expires_at = lines[0].expires_at
        if expires_at is None or at < expires_at:
            continue
        moved = [Movement(line.occurred_at, line.points) for line in lines]
        for instant, points in losses(moved, holds.get(lot_id, ()), expires_at, at).items():
            lost = lines[0]._replace(kind=EXPIRED, points=-points, occurred_at=instant)
            found.append(Line(None, *lost[1:], 0))
    return found
