"""An entry of kind ``activity`` on a lot of its own, and the event that tells it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from services.points.domain import facts, lots
from services.points.handlers.telling import adjusted
from services.points.ledger import Account, EntryRow
from shared.contracts import points as contract
from shared.contracts.points import PointsAdjusted, PointsEarned, Standing, TierRef
from shared.events.model import Work
from shared.ids import derive, digest_uuid
from shared.program import Program

ACTIVITY = "activity"
NO_TIER = TierRef(None, "1")


class Lot(NamedTuple):
    """Where the points of one act lie, since ``occurred_at``, and the event that told the act."""

    id: UUID
    occurred_at: datetime
    event_key: UUID
    event_id: str
    fingerprint: int


def grant(
    work: Work,
    program: Program,
    account: Account,
    lot: Lot,
    points: tuple[int | None, int],
    why: tuple[str, Sequence[str]],
) -> EntryRow:
    """Return the entry that brings a lot from what it holds (None: it is new) to what it shall, and publish it.

    ``points`` is both; ``why`` is a code of ``domain/facts`` with its particulars. All of it is base: an activity
    has no tier bonus, and counts for the tiers like points of a purchase.
    """
    held, target = points
    change = target - (held or 0)
    account.seq += 1
    account.balance += change
    entry_id = lot.id if held is None else digest_uuid(ACTIVITY, str(lot.id), str(account.seq))
    rules = program.at(lot.occurred_at)
    available_at, expires_at = lots.dates(lot.occurred_at, rules)
    row = EntryRow(
        entry_id=entry_id,
        account_id=account.id,
        seq=account.seq,
        kind=ACTIVITY,
        points=change,
        base=change,
        bonus=0,
        balance_after=account.balance,
        lot_id=lot.id,
        occurred_at=lot.occurred_at,
        recorded_at=work.now,
        available_at=available_at,
        expires_at=expires_at,
        shop=None,
        order_id=None,
        event_key=lot.event_key,
        event_id=lot.event_id,
        fingerprint=lot.fingerprint,
        net_spend=Decimal(0),
        exact=str(change),
        tier=None,
        multiplier="1",
        reason=why[1][0],
        explanation=facts.pack_fact(why[0], change, target, why[1], program),
        active_from=lots.active_from(lot.occurred_at, rules) if held is None else None,
    )
    if held is None:
        told, data = contract.EARNED, _earned(row, account, program)
    else:
        standing = Standing(str(row.lot_id), row.seq, target, "0", 0, row.occurred_at, [])
        told, data = contract.ADJUSTED, adjusted(account, row, standing)
    event_id = derive(told, str(entry_id))
    work.publish(contract.TOPIC, account.customer_id, told, event_id, lot.occurred_at, data)
    return row


def _earned(row: EntryRow, account: Account, program: Program) -> PointsEarned | PointsAdjusted:
    return PointsEarned(
        customer_id=account.customer_id,
        entry_id=str(row.entry_id),
        lot_id=str(row.lot_id),
        shop="",
        order_id="",
        points=row.points,
        base=row.base,
        bonus=0,
        currency=program.currency,
        net_spend="0",
        occurred_at=row.occurred_at,
        available_at=row.available_at,
        expires_at=row.expires_at,
        tier=NO_TIER,
        cause=row.event_id,
    )
