"""Programs and purchases for the tests of points, each with only what a test wants to say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from shared.contracts.purchases import Line, PurchaseCompleted
from shared.program import Program, parse

NOON = datetime(2027, 1, 31, 12, tzinfo=UTC)
NOW = datetime(2027, 2, 1, tzinfo=UTC)

LEVELS = [
    {"id": "bronze", "name": "Bronze", "threshold": 0, "multiplier": "1"},
    {"id": "silver", "name": "Silber", "threshold": 500, "multiplier": "1.25"},
    {"id": "gold", "name": "Gold", "threshold": 2000, "multiplier": "1.5"},
]


def program(
    earning: dict[str, Any] | None = None, levels: Sequence[dict[str, Any]] = LEVELS, **top: Any
) -> Program:
    """Build a program: 1 point per 1.00 GBP unless told otherwise."""
    content: dict[str, Any] = {
        "program": "demo",
        "name": "Treueprogramm",
        "currency": "GBP",
        "timezone": "Europe/London",
        "earning": {"base": {"points": 1, "per": "1.00"}} | (earning or {}),
    }
    if levels:
        window = {"kind": "lifetime"}
        content["tiers"] = {"window": window, "levels": list(levels)}
    return _parsed(json.dumps(content | top))


def line(quantity: str = "1", unit_price: str = "10.00", line_id: str = "1", **more: Any) -> Line:
    """Build a line; money may be given as text."""
    for name in ("discount", "tax"):
        if name in more:
            more[name] = Decimal(more[name])
    return Line(
        line_id=line_id,
        sku=more.pop("sku", f"SKU-{line_id}"),
        quantity=Decimal(quantity),
        unit_price=Decimal(unit_price),
        **more,
    )


def purchase(*lines: Line, **more: Any) -> PurchaseCompleted:
    """Build a purchase of these lines in GBP."""
    for name in ("exchange_rate", "order_discount", "shipping", "total"):
        if isinstance(more.get(name), str):
            more[name] = Decimal(more[name])
    content: dict[str, Any] = {
        "order_id": "536365",
        "customer_id": "17850",
        "currency": "GBP",
        "occurred_at": NOON,
    } | more
    return PurchaseCompleted(lines=list(lines) or [line()], **content)


def numbered(*pairs: tuple[str, str], **more: Any) -> list[Line]:
    """Build lines of (quantity, unit price), numbered from 1."""
    return [
        line(quantity, price, str(index), **more)
        for index, (quantity, price) in enumerate(pairs, start=1)
    ]


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Program:
    return parse(text)
