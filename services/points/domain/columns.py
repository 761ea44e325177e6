"""A purchase's lines turned into columns, once for all who look at them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from shared.contracts.purchases import Line


class Columns(NamedTuple):
    """One list a field of ``Line``, in the order of the lines; discounts and taxes are empty if all are zero.

    Checks, valuation, fingerprint and explanation all work on whole columns: to collect them once costs a
    quarter of what each of them collecting its own did.
    """

    line_ids: Sequence[str]
    skus: Sequence[str]
    names: Sequence[str]
    categories: Sequence[str]
    kinds: Sequence[str]
    quantities: list[Decimal]
    prices: list[Decimal]
    discounts: list[Decimal]
    taxes: list[Decimal]


def columns_of(lines: Sequence[Line]) -> Columns:
    """Collect the columns."""
    discounts = [line.discount for line in lines]
    taxes = [line.tax for line in lines]
    return Columns(
        [line.line_id for line in lines],
        [line.sku for line in lines],
        [line.name for line in lines],
        [line.category for line in lines],
        [line.kind for line in lines],
        [line.quantity for line in lines],
        [line.unit_price for line in lines],
        discounts if any(discounts) else [],
        taxes if any(taxes) else [],
    )
