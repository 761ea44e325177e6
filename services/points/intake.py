"""What the points service listens to, as one table: topic, type, struct, handler."""

from __future__ import annotations

from services.points.handlers import Handlers
from shared.contracts import activities, purchases, rewards, tiers
from shared.contracts.activities import (
    ActivityCompleted,
    CardChanged,
    CustomerEnrolled,
    CustomerMerged,
    CustomerUpdated,
)
from shared.contracts.purchases import PurchaseCancelled, PurchaseCompleted, PurchaseRefunded
from shared.contracts.rewards import RedemptionEnded, RedemptionRequested
from shared.contracts.tiers import TierChanged
from shared.events.model import Route
from shared.program import Program

# Types on our topics that are none of our business, and no mistake either.
IGNORED = (
    tiers.WILL_DOWNGRADE,
    *(rewards.VOUCHER_ISSUED, rewards.VOUCHER_EXPIRED),
    *(rewards.VOUCHER_REVOKED, rewards.VOUCHER_REINSTATED),
)
# Corrections of a tier's bonus can wait for the next purchases and go with them.
PATIENT = (tiers.TOPIC,)


def routes(program: Program) -> tuple[Route, ...]:
    """The table, its handlers bound to the program in force."""
    handle = Handlers(program)
    return (
        # First, so that purchases, of which most batches are made, are what is written last.
        Route(tiers.TOPIC, tiers.UPGRADED, TierChanged, handle.tier_changes),
        Route(tiers.TOPIC, tiers.RETAINED, TierChanged, handle.tier_changes),
        Route(tiers.TOPIC, tiers.DOWNGRADED, TierChanged, handle.tier_changes),
        Route(purchases.TOPIC, purchases.COMPLETED, PurchaseCompleted, handle.purchases),
        Route(purchases.TOPIC, purchases.REFUNDED, PurchaseRefunded, handle.refunds),
        Route(purchases.TOPIC, purchases.CANCELLED, PurchaseCancelled, handle.refunds),
        Route(activities.TOPIC, activities.COMPLETED, ActivityCompleted, handle.activities),
        Route(activities.TOPIC, activities.ENROLLED, CustomerEnrolled, handle.enrolments),
        Route(activities.TOPIC, activities.UPDATED, CustomerUpdated, handle.enrolments),
        Route(activities.TOPIC, activities.CARD_CHANGED, CardChanged, handle.cards),
        Route(activities.TOPIC, activities.MERGED, CustomerMerged, handle.merges),
        *(
            Route(rewards.TOPIC, kind, struct, handle.redemptions)
            for kind, struct in (
                (rewards.REDEMPTION_REQUESTED, RedemptionRequested),
                (rewards.REDEMPTION_COMPLETED, RedemptionEnded),
                (rewards.REDEMPTION_DECLINED, RedemptionEnded),
            )
        ),
    )
