"""What the tiers service publishes to ``treue.tiers``."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

TOPIC = "treue.tiers"
UPGRADED = "treue.tier.upgraded.v1"
RETAINED = "treue.tier.retained.v1"
WILL_DOWNGRADE = "treue.tier.will_downgrade.v1"
DOWNGRADED = "treue.tier.downgraded.v1"

ChangeKind = Literal["upgraded", "retained", "downgraded"]


class TierMove(msgspec.Struct, frozen=True, gc=False):
    """One step of a customer's way through the levels, in force for instants strictly after ``since``.

    ``reach`` counts how often the customer has reached this level by an upgrade, from 1; with the level it
    names the promotion for ever, also when a late event moves its ``since``. 0 for retained and downgraded.
    ``cause`` is the id of the qualifying entry that crossed the threshold; null when time alone decided.
    """

    kind: ChangeKind
    tier: str
    previous: str | None
    multiplier: str
    since: datetime
    valid_until: datetime | None
    reach: int
    cause: str | None


class TierChanged(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A customer's way through the levels changed. The same shape serves upgraded, retained and downgraded.

    ``move`` is the step this event announces, ``timeline`` the customer's whole way as known now, oldest first.
    A consumer that keeps state takes ``timeline`` when ``revision`` is at least the one it holds, and may ignore
    the rest: so late and repeated events need no history at the receiver.

    ``promotions`` is there where somebody lives on as this customer: the upgrades for which there is something to
    be given to them. Not those of ``timeline``: that is the way by all that both ever bought, and may show levels
    which the other had reached, and been given something for, before they were one.
    """

    customer_id: str
    revision: int
    move: TierMove
    timeline: list[TierMove]
    promotions: list[TierMove] | None = None
