"""What the points service publishes to ``treue.points``."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

TOPIC = "treue.points"
EARNED = "treue.points.earned.v1"
ADJUSTED = "treue.points.adjusted.v1"
CLAWED_BACK = "treue.points.clawed_back.v1"
HELD = "treue.points.held.v1"
HOLD_DECLINED = "treue.points.hold_declined.v1"
CAPTURED = "treue.points.captured.v1"
RELEASED = "treue.points.released.v1"
RESTORED = "treue.points.restored.v1"
UNLOCKED = "treue.points.unlocked.v1"
EXPIRED = "treue.points.expired.v1"
MERGED = "treue.points.merged.v1"
# What holds say: of interest to redemptions and to partner apps.
SPENDING = (HELD, HOLD_DECLINED, CAPTURED, RELEASED, RESTORED)


class TierRef(msgspec.Struct, frozen=True, gc=False):
    """The tier whose multiplier was applied; ``id`` is null below the first level."""

    id: str | None
    multiplier: str


class PointsEarned(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One purchase was credited. Published for every purchase of a known customer, also at 0 points.

    ``base`` is what the purchase earned before the tier's own multiplier: tiers qualify on it, never on
    ``points``. ``net_spend`` is the eligible net in the program's currency, exact, as a decimal string.
    ``bought_as`` is there where it was bought under an id that lives on as ``customer_id``: that id.
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
    bought_as: str | None = None


class Reduction(msgspec.Struct, frozen=True, gc=False):
    """What a refund took out of what its purchase counts for; the numbers are not negative.

    ``at`` is the refund's instant, ``net_spend`` in the program's currency, ``purchases`` 1 where nothing is left.
    """

    at: datetime
    base: int
    net_spend: str
    purchases: int


class Standing(msgspec.Struct, frozen=True, gc=False):
    """What a purchase counts for in full, as of the account's entry ``seq``: of two, the one with the higher.

    ``base``, ``net_spend`` and ``purchases`` are what it counted for before any refund, from ``occurred_at`` on;
    ``reductions``, by instant, what was taken out again since. It may come before the purchase's own ``earned``.
    """

    lot_id: str
    seq: int
    base: int
    net_spend: str
    purchases: int
    occurred_at: datetime
    reductions: list[Reduction]


class PointsAdjusted(msgspec.Struct, frozen=True, gc=False):
    """A correcting entry on an existing lot, or one that opens a lot (``points`` is the signed change).

    ``kind`` is the entry's. ``standing`` is there where the correction changes what the purchase counts for at the
    tiers; ``actor`` and ``note`` where a person made it: the id of their API key, and why in their words.
    """

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
    standing: Standing | None = None
    kind: str = "tier_bonus"
    actor: str | None = None
    note: str | None = None


class PointsClawedBack(msgspec.Struct, frozen=True, gc=False):
    """A refund took points, or gave them back where a late event changed what it takes (``points`` is signed).

    ``base`` is the part of ``points`` that tiers qualify on, ``occurred_at`` the refund's instant, ``cause`` the
    id of the event that told the refund. ``refund_id`` is null for a cancellation. At 0 points it only tells the
    ``standing``.
    """

    customer_id: str
    entry_id: str
    lot_id: str
    order_id: str | None
    refund_id: str | None
    points: int
    base: int
    occurred_at: datetime
    reason: str
    standing: Standing
    cause: str


class CustomersMerged(msgspec.Struct, frozen=True, gc=False):
    """Since ``occurred_at`` ``customer_id`` lives on as ``into``: decided here, told once, and never taken back.

    ``into`` may live on as another itself. ``cause`` is the id of the event that told it; one that was refused
    is not told. What an id had bought is not told again: it counts for whom it lives on as.
    """

    customer_id: str
    into: str
    occurred_at: datetime
    cause: str


class PointsUnlocked(msgspec.Struct, frozen=True, gc=False):
    """A lot's points can be spent from ``available_at`` on; told some time after it, and true without it.

    ``points`` is what was in the lot at that instant, as far as was known when it was told.
    """

    customer_id: str
    entry_id: str
    lot_id: str
    order_id: str | None
    points: int
    available_at: datetime
    expires_at: datetime | None


class PointsExpired(msgspec.Struct, frozen=True, gc=False):
    """What was left in a lot is lost: since ``occurred_at``, whether or not this had been told.

    ``points`` is the signed change of the ledger: below 0, or above where a late event shows that fewer were lost.
    """

    customer_id: str
    entry_id: str
    lot_id: str
    order_id: str | None
    points: int
    occurred_at: datetime
    expires_at: datetime


class LotPart(msgspec.Struct, frozen=True, gc=False):
    """So many points of one lot; the number is not negative."""

    lot_id: str
    points: int


class PointsHeld(msgspec.Struct, frozen=True, gc=False):
    """Points are reserved from ``held_at`` to before ``expires_at``, in these lots; ``available`` is what is left.

    ``redemption_id`` names the redemption that asked for it; null for a hold of a shop's own.
    """

    customer_id: str
    hold_id: str
    points: int
    available: int
    allocations: list[LotPart]
    order_id: str | None
    redemption_id: str | None
    held_at: datetime
    expires_at: datetime


class HoldDeclined(msgspec.Struct, frozen=True, gc=False):
    """A redemption's points could not be reserved: ``reason`` is a stable code, as the API's problems have."""

    customer_id: str
    redemption_id: str
    points: int
    reason: str
    available: int
    deficit: int
    occurred_at: datetime


class PointsCaptured(msgspec.Struct, frozen=True, gc=False):
    """Reserved points were spent: ``points`` of these lots. ``released`` were reserved and are free again."""

    customer_id: str
    hold_id: str
    points: int
    released: int
    allocations: list[LotPart]
    order_id: str | None
    redemption_id: str | None
    occurred_at: datetime


class PointsReleased(msgspec.Struct, frozen=True, gc=False):
    """All that a hold reserved is free again since ``occurred_at``, by word or because its time was over."""

    customer_id: str
    hold_id: str
    points: int
    reason: Literal["released", "timed_out"]
    order_id: str | None
    redemption_id: str | None
    occurred_at: datetime


class RestoredPart(msgspec.Struct, frozen=True, gc=False):
    """What came back to a lot. ``expired``: to one that is over, and so lost again.

    ``into_lot_id`` is another than ``lot_id`` where that had expired and the program lets its points live on in a
    lot of their own.
    """

    lot_id: str
    points: int
    into_lot_id: str
    expires_at: datetime | None
    expired: bool


class PointsRestored(msgspec.Struct, frozen=True, gc=False):
    """Spent points were given back; ``restored`` is the sum of all that was given back of this hold so far."""

    customer_id: str
    hold_id: str
    points: int
    restored: int
    lots: list[RestoredPart]
    order_id: str | None
    redemption_id: str | None
    reason: str
    occurred_at: datetime
