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
    quantities: tuple[Decimal, ...]
    prices: tuple[Decimal, ...]
    discounts: tuple[Decimal, ...]
    taxes: tuple[Decimal, ...]


NONE = Columns((), (), (), (), (), (), (), (), ())


def columns_of(lines: Sequence[Line]) -> Columns:
    """Collect the columns, in one walk: a list comprehension each costs more where lines are few."""
    rows = [
        (
            line.line_id, line.sku, line.name, line.category, line.kind,
            line.quantity, line.unit_price, line.discount, line.tax,
        )
        for line in lines
    ]  # fmt: skip
    if not rows:
        return NONE
    ids, skus, names, categories, kinds, quantities, prices, discounts, taxes = zip(
        *rows, strict=True
    )
    return Columns(
        ids, skus, names, categories, kinds, quantities, prices,
        discounts if any(discounts) else (), taxes if any(taxes) else (),
    )  # fmt: skip
