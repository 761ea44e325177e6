"""Lines of the ledger that no purchase explains: of spending, covering and giving."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from services.points.domain.facts import pack_fact
from services.points.domain.spending import Spendable
from services.points.ledger import Account, EntryRow
from shared.events.model import Work
from shared.program import Program


class Line(NamedTuple):
    """A line to be written: signed ``points`` of a lot, with that lot's dates; ``code`` says why."""

    entry_id: UUID
    kind: str
    code: str
    points: int
    lot_id: UUID
    dates: Spendable
    occurred_at: datetime


def line(
    work: Work,
    program: Program,
    account: Account,
    written: Line,
    cause: UUID,
    said: Sequence[str],
    *,
    order_id: str | None = None,
    actor: str | None = None,
) -> EntryRow:
    """Move the account by a line and return its row; ``cause`` is the id of what it is written for."""
    account.seq += 1
    account.balance += written.points
    total = written.dates.points + written.points
    return EntryRow(
        entry_id=written.entry_id,
        account_id=account.id,
        seq=account.seq,
        kind=written.kind,
        points=written.points,
        base=0,
        bonus=0,
        balance_after=account.balance,
        lot_id=written.lot_id,
        occurred_at=written.occurred_at,
        recorded_at=work.now,
        available_at=written.dates.available_at,
        expires_at=written.dates.expires_at,
        shop=None,
        order_id=order_id,
        event_key=cause,
        event_id=str(cause),
        fingerprint=0,
        net_spend=Decimal(0),
        exact="0",
        tier=None,
        multiplier="1",
        reason=written.code,
        explanation=pack_fact(written.code, written.points, total, said, program),
        actor=actor,
    )
