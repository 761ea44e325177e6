"""What the tiers service listens to, as one table: topic, type, struct, handler."""

from __future__ import annotations

from services.tiers.handlers import Handlers
from shared.contracts import points
from shared.contracts.points import (
    CustomersMerged,
    PointsAdjusted,
    PointsClawedBack,
    PointsEarned,
)
from shared.events.model import Route
from shared.program import Program

# Corrections of the tier bonus are none of our business: tiers qualify on base points, which they never change.
IGNORED = (points.ADJUSTED, points.UNLOCKED, points.EXPIRED, *points.SPENDING)
PATIENT = ()


def routes(program: Program) -> tuple[Route, ...]:
    """The table, its handlers bound to the program in force."""
    handle = Handlers(program)
    return (
        Route(points.TOPIC, points.EARNED, PointsEarned, handle.points_told),
        Route(points.TOPIC, points.CLAWED_BACK, PointsClawedBack, handle.points_told),
        # Of corrections those that change what a purchase counts for; not those of the tier bonus.
        Route(points.TOPIC, points.ADJUSTED, PointsAdjusted, handle.points_told),
        Route(points.TOPIC, points.MERGED, CustomersMerged, handle.merges),
    )
