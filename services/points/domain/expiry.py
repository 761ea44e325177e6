"""What of a lot is lost, and when: a function of what moved in it and of what holds had reserved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

EXPIRED = "expired"
UNLOCKED = "unlocked"
# What only writes down what time does: no balance counts these lines, so it does not matter when they are written.
TOLD_KINDS = frozenset({EXPIRED, UNLOCKED})


class Movement(NamedTuple):
    """Signed points that went into or out of a lot, other than by expiry."""

    occurred_at: datetime
    points: int


class Hold(NamedTuple):
    """Points of a lot reserved in [``since``, ``until``): they stay usable for it, even if the lot expires."""

    since: datetime
    until: datetime
    points: int


class Span(NamedTuple):
    """How long an activity of a customer keeps their moving lots: [``since``, ``until``); empty: it keeps none."""

    since: datetime
    until: datetime


def renewed(expires_at: datetime, spans: Iterable[Span]) -> datetime:
    """Return where a moving lot ends: its own end, or that of the unbroken activity in which that lies.

    At its very end a lot is gone, so an activity at that instant does not keep it.
    """
    for span in sorted(spans):
        if span.since >= expires_at:
            break
        expires_at = max(expires_at, span.until)
    return expires_at


def losses(
    movements: Sequence[Movement], holds: Sequence[Hold], expires_at: datetime, at: datetime
) -> Mapping[datetime, int]:
    """Return what of a lot is lost by ``at``, by instant: positive, or negative where it comes back to life.

    At ``expires_at`` it is what is left and not held; afterwards what a hold lets go, or what is given back to the
    lot. So the sum up to an instant t is ``max(0, left(t) - held(t))``, in whatever order things became known.
    """
    if at < expires_at:
        return {}
    instants = {expires_at}
    instants |= {m.occurred_at for m in movements if expires_at < m.occurred_at <= at}
    instants |= {h.until for h in holds if expires_at < h.until <= at}
    found: dict[datetime, int] = {}
    lost = 0
    for instant in sorted(instants):
        left = sum(m.points for m in movements if m.occurred_at <= instant)
        held = sum(h.points for h in holds if h.since <= instant < h.until)
        step = max(0, left - held) - lost
        if step:
            found[instant] = step
            lost += step
    return found
