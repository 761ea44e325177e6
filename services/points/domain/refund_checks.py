"""What a refund or cancellation must look like before it may touch a balance; each refusal names its field."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from uuid import UUID

from services.points.domain.refunds import CANCELLATION, REFUND, AskedLine, Refund
from services.points.domain.validation import (
    LINES_MAX,
    check_id,
    check_instant,
    check_number,
    check_text,
)
from shared.contracts.purchases import PurchaseCancelled, PurchaseRefunded, RefundedLine
from shared.errors import Poison
from shared.ids import digest_uuid
from shared.money import UnknownCurrency, currency_digits

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def purchase_id(shop: str, order_id: str | None) -> UUID | None:
    """Name the purchase that is meant, if one is."""
    return None if order_id is None else digest_uuid("purchase", shop, order_id)


def refund(data: PurchaseRefunded, shop: str, now: datetime) -> Refund:
    """Check a refund; its key is a function of shop and refund id. Raises ``Poison`` with the field's path."""
    check_id(data.refund_id, "data.refund_id")
    for text, field in ((data.order_id, "order_id"), (data.customer_id, "customer_id")):
        if text is not None:
            check_id(text, f"data.{field}")
    check_instant(data.occurred_at, now)
    _check_currency(data.currency)
    if len(data.lines) > LINES_MAX:
        raise Poison("data.lines", f"has {len(data.lines)} lines, more than {LINES_MAX}")
    lines = [
        _line(line, f"data.lines[{index}]", known=data.order_id is not None)
        for index, line in enumerate(data.lines)
    ]
    if data.amount is not None:
        _check_above_zero(data.amount, "data.amount")
    if data.order_id is None and not lines:
        raise Poison("data.order_id", "is missing: without lines it must say which order is meant")
    check_text(data.reason, "data.reason")
    return Refund(
        key=digest_uuid(REFUND, shop, data.refund_id),
        kind=REFUND,
        shop=shop,
        purchase_id=purchase_id(shop, data.order_id),
        occurred_at=data.occurred_at,
        currency=data.currency,
        lines=lines,
        amount=None if lines or data.amount is None else Fraction(data.amount),
    )


def cancellation(
    data: PurchaseCancelled, shop: str, told_at: datetime | None, now: datetime
) -> Refund:
    """Check a cancellation; ``told_at`` is the event's own time, for one that does not say when it happened."""
    check_id(data.order_id, "data.order_id")
    if data.customer_id is not None:
        check_id(data.customer_id, "data.customer_id")
    occurred_at = data.occurred_at or told_at
    if occurred_at is None:
        raise Poison("data.occurred_at", "is missing, and the event itself has no time either")
    check_instant(occurred_at, now)
    check_text(data.reason, "data.reason")
    return Refund(
        key=digest_uuid(CANCELLATION, shop, data.order_id),
        kind=CANCELLATION,
        shop=shop,
        purchase_id=purchase_id(shop, data.order_id),
        occurred_at=occurred_at,
    )


def fingerprint(data: PurchaseRefunded | PurchaseCancelled) -> int:
    """Hash what decides a refund to a signed 64-bit number, equal for equal values however they were written.

    The time of the event itself is left out: a cancellation that is told again is the same one.
    """
    at = "" if data.occurred_at is None else str((data.occurred_at - _EPOCH) // _MICROSECOND)
    texts = [data.order_id or "", data.customer_id or "", at]
    if isinstance(data, PurchaseRefunded):
        amount = "" if data.amount is None else str(Fraction(data.amount))
        texts += [data.refund_id, data.currency, amount]
        for line in data.lines:
            texts += [line.line_id or "", line.sku or "", str(Fraction(line.quantity))]
    # No checked text contains a NUL character, so nothing can move from one text to the next.
    content = "\0".join(texts).encode()
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big", signed=True)


def _line(line: RefundedLine, path: str, *, known: bool) -> AskedLine:
    for text, field in ((line.line_id, "line_id"), (line.sku, "sku")):
        if text is not None:
            check_id(text, f"{path}.{field}")
    if line.sku is None and (line.line_id is None or not known):
        why = "is missing: a line is named by its line_id or its SKU"
        raise Poison(f"{path}.sku", why if known else "is missing: no order says what is meant")
    _check_above_zero(line.quantity, f"{path}.quantity")
    return AskedLine(line.line_id if known else None, line.sku, Fraction(line.quantity))


def _check_above_zero(value: Decimal, field: str) -> None:
    check_number(value, field, negative=False)
    if not value:
        raise Poison(field, "is zero: it must be above 0")


def _check_currency(code: str) -> None:
    try:
        currency_digits(code)
    except UnknownCurrency:
        raise Poison("data.currency", f"{code[:40]!a} is not a currency of ISO 4217") from None
