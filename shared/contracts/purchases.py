"""What shops publish to ``treue.purchases``."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

TOPIC = "treue.purchases"
COMPLETED = "treue.purchase.completed.v1"
REFUNDED = "treue.purchase.refunded.v1"
CANCELLED = "treue.purchase.cancelled.v1"

Kind = Literal["product", "gift_card", "shipping", "fee", "tip"]


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line of a purchase; money in the purchase's currency, as decimal strings or numbers."""

    line_id: str
    sku: str
    quantity: Decimal
    unit_price: Decimal
    name: str = ""
    category: str = ""
    kind: Kind = "product"
    discount: Decimal = Decimal(0)
    tax: Decimal = Decimal(0)


class PurchaseCompleted(msgspec.Struct, frozen=True, gc=False):
    """An order that a shop regards as done. Without ``customer_id`` it is a guest's."""

    order_id: str
    currency: str
    occurred_at: datetime
    lines: list[Line]
    customer_id: str | None = None
    exchange_rate: Decimal | None = None
    prices_include_tax: bool = True
    order_discount: Decimal = Decimal(0)
    shipping: Decimal = Decimal(0)
    total: Decimal | None = None
    channel: str | None = None
    card_number: str | None = None
    voucher_codes: list[str] = msgspec.field(default_factory=list)
    redemption_ids: list[str] = msgspec.field(default_factory=list)
    is_test: bool = False
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class RefundedLine(msgspec.Struct, frozen=True, gc=False):
    """So many units of a line came back. Without ``line_id``, ``sku`` says which lines are meant."""

    quantity: Decimal
    line_id: str | None = None
    sku: str | None = None


class PurchaseRefunded(msgspec.Struct, frozen=True, gc=False):
    """A shop gave money back: for ``lines``, or an ``amount`` off the whole order; with neither, for all of it.

    ``amount`` is in ``currency``, that of the purchase; where lines are told too, they decide. Without an order id
    the lines are looked for among the customer's purchases at this shop by SKU, the newest first.
    """

    refund_id: str
    currency: str
    occurred_at: datetime
    order_id: str | None = None
    customer_id: str | None = None
    lines: list[RefundedLine] = msgspec.field(default_factory=list)
    amount: Decimal | None = None
    reason: str = ""
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class PurchaseCancelled(msgspec.Struct, frozen=True, gc=False):
    """An order was called off as a whole. Without ``occurred_at`` the CloudEvent's ``time`` says when."""

    order_id: str
    customer_id: str | None = None
    occurred_at: datetime | None = None
    reason: str = ""
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
