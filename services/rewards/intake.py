"""What the rewards service listens to, as one table: topic, type, struct, handler."""

from __future__ import annotations

from services.rewards.domain.codes import Keyring
from services.rewards.handlers import Handlers
from shared.contracts import points, tiers
from shared.contracts.points import CustomersMerged, PointsEarned
from shared.contracts.tiers import TierChanged
from shared.events.model import Route
from shared.program import Program

# Types on our topics that are none of our business, and no mistake either.
IGNORED = (
    *(points.ADJUSTED, points.UNLOCKED, points.EXPIRED, points.CLAWED_BACK, *points.SPENDING),
    tiers.WILL_DOWNGRADE,
)
# Getting to know a customer can wait for the next vouchers.
PATIENT = (points.TOPIC,)


def routes(program: Program, keyring: Keyring) -> tuple[Route, ...]:
    """The table, its handlers bound to the program in force and the secrets of the codes."""
    handle = Handlers(program, keyring)
    return (
        Route(points.TOPIC, points.EARNED, PointsEarned, handle.told),
        Route(tiers.TOPIC, tiers.UPGRADED, TierChanged, handle.told),
        Route(tiers.TOPIC, tiers.RETAINED, TierChanged, handle.told),
        Route(tiers.TOPIC, tiers.DOWNGRADED, TierChanged, handle.told),
        Route(points.TOPIC, points.MERGED, CustomersMerged, handle.merges),
    )
