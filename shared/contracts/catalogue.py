"""Topics and event types in one table: what is created, routed, documented and checked."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from shared.contracts import activities, points, purchases, rewards, tiers

DEAD_LETTERS = "treue.dead-letters"
PARTITIONS = 6
MIB = 1024 * 1024
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is created. ``retention_ms`` -1 keeps for ever."""

    name: str
    max_message_bytes: int = MIB
    retention_ms: int = -1
    partitions: int = PARTITIONS


# Topics that shops write accept more than an event may weigh (256 KiB): an oversized event shall reach
# the dead letters with its reason, not vanish in a shop's producer.
TOPICS: tuple[TopicSpec, ...] = (
    TopicSpec(purchases.TOPIC, max_message_bytes=4 * MIB),
    TopicSpec(activities.TOPIC, max_message_bytes=4 * MIB),
    TopicSpec(points.TOPIC),
    TopicSpec(tiers.TOPIC),
    TopicSpec(rewards.TOPIC),
    TopicSpec(DEAD_LETTERS, max_message_bytes=6 * MIB, retention_ms=90 * DAY_MS),
)

STRUCTS: dict[str, type[msgspec.Struct]] = {
    purchases.COMPLETED: purchases.PurchaseCompleted,
    purchases.REFUNDED: purchases.PurchaseRefunded,
    purchases.CANCELLED: purchases.PurchaseCancelled,
    activities.COMPLETED: activities.ActivityCompleted,
    activities.ENROLLED: activities.CustomerEnrolled,
    activities.UPDATED: activities.CustomerUpdated,
    activities.CARD_CHANGED: activities.CardChanged,
    activities.MERGED: activities.CustomerMerged,
    points.EARNED: points.PointsEarned,
    points.ADJUSTED: points.PointsAdjusted,
    points.CLAWED_BACK: points.PointsClawedBack,
    points.HELD: points.PointsHeld,
    points.HOLD_DECLINED: points.HoldDeclined,
    points.CAPTURED: points.PointsCaptured,
    points.RELEASED: points.PointsReleased,
    points.RESTORED: points.PointsRestored,
    points.UNLOCKED: points.PointsUnlocked,
    points.EXPIRED: points.PointsExpired,
    points.MERGED: points.CustomersMerged,
    tiers.UPGRADED: tiers.TierChanged,
    tiers.RETAINED: tiers.TierChanged,
    tiers.DOWNGRADED: tiers.TierChanged,
    rewards.REDEMPTION_REQUESTED: rewards.RedemptionRequested,
    rewards.REDEMPTION_COMPLETED: rewards.RedemptionEnded,
    rewards.REDEMPTION_DECLINED: rewards.RedemptionEnded,
    rewards.VOUCHER_ISSUED: rewards.VoucherChanged,
    rewards.VOUCHER_EXPIRED: rewards.VoucherChanged,
    rewards.VOUCHER_REVOKED: rewards.VoucherChanged,
    rewards.VOUCHER_REINSTATED: rewards.VoucherChanged,
}

_TOPIC_BY_PREFIX = {
    "treue.purchase.": purchases.TOPIC,
    "treue.activity.": activities.TOPIC,
    "treue.customer.": activities.TOPIC,
    "treue.points.": points.TOPIC,
    "treue.tier.": tiers.TOPIC,
    "treue.voucher.": rewards.TOPIC,
    "treue.redemption.": rewards.TOPIC,
}
TOPIC_OF: dict[str, str] = {
    event_type: topic
    for event_type in STRUCTS
    for prefix, topic in _TOPIC_BY_PREFIX.items()
    if event_type.startswith(prefix)
}

# Which topics each service reads; the services' own intake tables agree with it (tested).
CONSUMES: dict[str, tuple[str, ...]] = {
    "points": (purchases.TOPIC, tiers.TOPIC, activities.TOPIC, rewards.TOPIC),
    "tiers": (points.TOPIC,),
    "rewards": (tiers.TOPIC, points.TOPIC),
}
