"""What the rewards service publishes to ``treue.rewards``. Voucher codes never travel on Kafka."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

TOPIC = "treue.rewards"
VOUCHER_ISSUED = "treue.voucher.issued.v1"
VOUCHER_REVOKED = "treue.voucher.revoked.v1"
VOUCHER_REINSTATED = "treue.voucher.reinstated.v1"

VoucherKind = Literal["percent", "amount", "gift_card", "free_product", "free_shipping"]


class Cause(msgspec.Struct, frozen=True):
    """Why a voucher exists: ``promotion`` with the level and how often it was reached, e.g. ``gold#1``."""

    type: str
    id: str


class VoucherChanged(msgspec.Struct, frozen=True):
    """A voucher was issued, revoked, reinstated, or re-dated because its cause moved (``issued`` again)."""

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
