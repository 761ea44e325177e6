"""What spending tells: each change of a hold as an event, with an id that follows from the hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.points.domain.spending import Hold, Means, Part
from shared.contracts import points as contract
from shared.contracts.points import (
    HoldDeclined,
    LotPart,
    PointsCaptured,
    PointsHeld,
    PointsReleased,
    PointsRestored,
    RestoredPart,
)
from shared.events.model import Work
from shared.ids import derive


def held(work: Work, hold: Hold, available: int) -> None:
    """Points are reserved; ``available`` is what is left."""
    told = PointsHeld(
        customer_id=hold.customer_id,
        hold_id=str(hold.id),
        points=hold.points,
        available=available,
        allocations=_parts(hold.parts),
        order_id=hold.order_id,
        redemption_id=hold.redemption_id,
        held_at=hold.held_at,
        expires_at=hold.expires_at,
    )
    _publish(work, hold, contract.HELD, hold.held_at, told)


def declined(work: Work, hold: Hold, found: Means, reason: str) -> None:
    """A redemption's points could not be reserved."""
    told = HoldDeclined(
        customer_id=hold.customer_id,
        redemption_id=hold.redemption_id or "",
        points=hold.points,
        reason=reason,
        available=0 if found.deficit else found.available,
        deficit=found.deficit,
        occurred_at=hold.held_at,
    )
    _publish(work, hold, contract.HOLD_DECLINED, hold.held_at, told)


def captured(work: Work, hold: Hold, taken: Sequence[Part]) -> None:
    """Reserved points were spent."""
    told = PointsCaptured(
        customer_id=hold.customer_id,
        hold_id=str(hold.id),
        points=hold.captured,
        released=hold.points - hold.captured,
        allocations=_parts(taken),
        order_id=hold.order_id,
        redemption_id=hold.redemption_id,
        occurred_at=hold.ended_at,
    )
    _publish(work, hold, contract.CAPTURED, hold.ended_at, told)


def released(work: Work, hold: Hold) -> None:
    """All that was reserved is free again."""
    told = PointsReleased(
        customer_id=hold.customer_id,
        hold_id=str(hold.id),
        points=hold.points,
        reason="timed_out" if hold.state == "expired" else "released",
        order_id=hold.order_id,
        redemption_id=hold.redemption_id,
        occurred_at=hold.ended_at,
    )
    _publish(work, hold, contract.RELEASED, hold.ended_at, told)


def restored(
    work: Work, hold: Hold, points: int, parts: Sequence[RestoredPart], reason: str, at: datetime
) -> None:
    """Spent points were given back; each time is an event of its own."""
    told = PointsRestored(
        customer_id=hold.customer_id,
        hold_id=str(hold.id),
        points=points,
        restored=hold.restored,
        lots=list(parts),
        order_id=hold.order_id,
        redemption_id=hold.redemption_id,
        reason=reason,
        occurred_at=at,
    )
    _publish(work, hold, contract.RESTORED, at, told, str(hold.restored))


def _parts(parts: Sequence[Part]) -> list[LotPart]:
    return [LotPart(str(part.lot_id), part.points) for part in parts]


def _publish(
    work: Work, hold: Hold, kind: str, at: datetime, told: msgspec.Struct, number: str = ""
) -> None:
    event_id = derive(kind, str(hold.id), number)
    work.publish(contract.TOPIC, hold.customer_id, kind, event_id, at, told)
