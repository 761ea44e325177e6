"""What the points service publishes to ``treue.points``."""

from __future__ import annotations

from datetime import datetime

import msgspec

TOPIC = "treue.points"
EARNED = "treue.points.earned.v1"
ADJUSTED = "treue.points.adjusted.v1"


class TierRef(msgspec.Struct, frozen=True, gc=False):
    """The tier whose multiplier was applied; ``id`` is null below the first level."""

    id: str | None
    multiplier: str


class PointsEarned(msgspec.Struct, frozen=True, gc=False):
    """One purchase was credited. Published for every purchase of a known customer, also at 0 points.

    ``base`` is what the purchase earned before the tier's own multiplier: tiers qualify on it, never on
    ``points``. ``net_spend`` is the eligible net in the program's currency, exact, as a decimal string.
    """

    customer_id: str
    entry_id: str
    lot_id: str
    shop: str
    order_id: str
    points: int
    base: int
    bonus: int
    currency: str
    net_spend: str
    occurred_at: datetime
    available_at: datetime
    expires_at: datetime | None
    tier: TierRef
    cause: str


class PointsAdjusted(msgspec.Struct, frozen=True, gc=False):
    """A correcting entry on an existing lot (``points`` is the signed change)."""

    customer_id: str
    entry_id: str
    lot_id: str
    order_id: str | None
    points: int
    reason: str
    occurred_at: datetime
    available_at: datetime
    expires_at: datetime | None
    tier: TierRef
    cause: str
