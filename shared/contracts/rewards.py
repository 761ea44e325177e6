"""What the rewards service publishes to ``treue.rewards``. Voucher codes never travel on Kafka."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

TOPIC = "treue.rewards"
REDEMPTION_REQUESTED = "treue.redemption.requested.v1"
REDEMPTION_COMPLETED = "treue.redemption.completed.v1"
REDEMPTION_DECLINED = "treue.redemption.declined.v1"
VOUCHER_ISSUED = "treue.voucher.issued.v1"
VOUCHER_EXPIRED = "treue.voucher.expired.v1"
VOUCHER_REVOKED = "treue.voucher.revoked.v1"
VOUCHER_REINSTATED = "treue.voucher.reinstated.v1"

VoucherKind = Literal["percent", "amount", "gift_card", "free_product", "free_shipping"]


class Cause(msgspec.Struct, frozen=True, gc=False):
    """Why a voucher exists: ``promotion`` with the level and how often it was reached, e.g. ``gold#1``."""

    type: str
    id: str


class VoucherChanged(msgspec.Struct, frozen=True, gc=False):
    """A voucher was issued, has expired, was revoked or reinstated; re-dated ones are ``issued`` again.

    ``voucher`` names its definition; ``value`` is per cent or money in ``currency``, as a decimal string.
    ``revision`` is that of the customer's way through the levels: of two events of one voucher the higher
    tells how it stands, and of equal ones ``expired`` does. Whether it counts at an instant is told by
    ``expires_at`` (exclusive) alone; the event ``expired`` comes some time after it.
    """

    customer_id: str
    voucher_id: str
    voucher: str
    kind: VoucherKind
    value: str | None
    currency: str | None
    issued_at: datetime
    expires_at: datetime | None
    cause: Cause
    revision: int


class RedemptionRequested(msgspec.Struct, frozen=True, gc=False):
    """A customer asks for a reward: points reserves what it costs, once per ``redemption_id``, and tells.

    The answer is ``points.held`` or ``points.hold_declined`` with the same ``redemption_id``.
    """

    redemption_id: str
    customer_id: str
    reward: str
    points: int
    requested_at: datetime


class RedemptionEnded(msgspec.Struct, frozen=True, gc=False):
    """A redemption was completed: points spends what it reserved for it. Or declined: points lets go of it."""

    redemption_id: str
    customer_id: str
    reward: str
    points: int
    occurred_at: datetime
    voucher_id: str | None = None
    reason: str | None = None
