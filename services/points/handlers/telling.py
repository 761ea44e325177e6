"""What is told of a correcting entry, the same for whatever it corrects."""

from __future__ import annotations

from services.points.ledger import Account, EntryRow
from shared.contracts.points import PointsAdjusted, Standing, TierRef


def adjusted(account: Account, row: EntryRow, standing: Standing | None = None) -> PointsAdjusted:
    """A line as its event tells it; ``standing`` where it changes what the purchase counts for at the tiers."""
    return PointsAdjusted(
        customer_id=account.customer_id,
        entry_id=str(row.entry_id),
        lot_id=str(row.lot_id),
        order_id=row.order_id,
        points=row.points,
        reason=row.reason or "",
        occurred_at=row.occurred_at,
        available_at=row.available_at,
        expires_at=row.expires_at,
        tier=TierRef(row.tier, row.multiplier),
        cause=row.event_id,
        standing=standing,
    )
