"""What refunds and cancellations take back of what was granted: cumulative, bounded, a function of their set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from uuid import UUID

from services.points.domain.exact import exactly
from services.points.domain.refund_terms import (
    AWAITING_PURCHASE,
    CANCELLATION,
    CLAWED_BACK,
    GRANT_KINDS,
    GUEST_PURCHASE,
    MATCHED,
    MORE_THAN_BOUGHT,
    NO_PURCHASE_FOUND,
    OTHER_CURRENCY,
    OTHER_CUSTOMER,
    PARKED,
    PARTLY,
    REFUND,
    REFUSED,
    TEST_PURCHASE,
    UNCREDITED,
    UNKNOWN_LINE,
    UNMATCHED,
    ZERO,
    AskedLine,
    Bought,
    Outcome,
    Refund,
    Returned,
    Taking,
)
from services.points.domain.returning import Lot, rounded_down

__all__ = [
    "AWAITING_PURCHASE",
    "CANCELLATION",
    "CLAWED_BACK",
    "GRANT_KINDS",
    "GUEST_PURCHASE",
    "MATCHED",
    "MORE_THAN_BOUGHT",
    "NO_PURCHASE_FOUND",
    "OTHER_CURRENCY",
    "OTHER_CUSTOMER",
    "PARKED",
    "PARTLY",
    "REFUND",
    "REFUSED",
    "TEST_PURCHASE",
    "UNCREDITED",
    "UNKNOWN_LINE",
    "UNMATCHED",
    "AskedLine",
    "Bought",
    "Outcome",
    "Refund",
    "Returned",
    "Taking",
    "outcomes",
    "rounded_down",
    "targets_of",
    "uncredited",
]


@exactly
def outcomes(refunds: Iterable[Refund], purchases: Iterable[Bought]) -> list[Outcome]:
    """Decide all refunds of a customer, in the order in which they happened, over their purchases.

    Neither the order of the arguments nor anything outside of them matters: a purchase or a refund that comes
    late changes exactly what it would have changed in time.
    """
    lots = {bought.lot_id: Lot(bought) for bought in purchases}
    newest = sorted(lots.values(), key=lambda lot: (lot.at, lot.bought.lot_id), reverse=True)
    return [
        _decide(refund, lots, newest)
        for refund in sorted(refunds, key=lambda refund: (refund.occurred_at, refund.key))
    ]


def uncredited(why: str) -> str:
    """The code of a refund whose purchase earned nothing, by why it did not: ``guest-purchase``."""
    return f"{why.replace('_', '-')}-purchase"


def targets_of(decided: Iterable[Outcome]) -> dict[tuple[UUID, UUID], Taking]:
    """What each refund takes of each lot, by both their ids."""
    return {
        (outcome.refund.key, taking.lot_id): taking
        for outcome in decided
        for taking in outcome.takings
    }


def _decide(refund: Refund, lots: Mapping[UUID, Lot], newest: Sequence[Lot]) -> Outcome:
    if refund.purchase_id is None:
        return _search(refund, newest)
    lot = lots.get(refund.purchase_id)
    if lot is None:
        return Outcome(refund, PARKED, AWAITING_PURCHASE)
    if refund.whole:
        units = lot.take_all()
        if refund.kind == REFUND and not units and any(lot.bought.quantities):
            return Outcome(refund, UNMATCHED, MORE_THAN_BOUGHT)
        return Outcome(refund, MATCHED, None, [lot.taking(refund, units)])
    if refund.amount is not None:
        return _pay_back(refund, refund.amount, lot)
    return _give_back(refund, lot)


def _pay_back(refund: Refund, amount: Fraction, lot: Lot) -> Outcome:
    """An amount off the whole purchase."""
    if refund.currency != lot.bought.currency:
        return Outcome(refund, REFUSED, OTHER_CURRENCY)
    found = lot.take_amount(amount)
    state = _state(found, amount)
    takings = [lot.taking(refund, {})] if found else []
    return Outcome(refund, state, None if state == MATCHED else MORE_THAN_BOUGHT, takings)


def _give_back(refund: Refund, lot: Lot) -> Outcome:
    """Some units of some lines of a known purchase."""
    units: dict[int, Fraction] = {}
    unknown = False
    for line in refund.lines:
        places = lot.places(line)
        unknown = unknown or not places
        _collect(units, lot.take_units(places, line.quantity))
    state = _state(_sum(units.values()), _sum(line.quantity for line in refund.lines))
    code = UNKNOWN_LINE if unknown else None if state == MATCHED else MORE_THAN_BOUGHT
    return Outcome(refund, state, code, [lot.taking(refund, units)] if units else [])


def _search(refund: Refund, newest: Sequence[Lot]) -> Outcome:
    """Match lines without an order to the newest lines of their SKU that have not come back yet."""
    asked = _sum(line.quantity for line in refund.lines)
    touched: dict[UUID, tuple[Lot, dict[int, Fraction]]] = {}
    left = ZERO
    for line in refund.lines:
        rest = line.quantity
        for lot in newest:
            if not rest:
                break
            if lot.bought.shop != refund.shop or lot.at > refund.occurred_at or line.sku is None:
                continue
            units = lot.take_units(lot.by_sku.get(line.sku, ()), rest)
            if units:
                _collect(touched.setdefault(lot.bought.lot_id, (lot, {}))[1], units)
                rest -= _sum(units.values())
        left += rest
    takings = [lot.taking(refund, units) for lot, units in touched.values()]
    state = _state(asked - left, asked)
    return Outcome(refund, state, None if state == MATCHED else NO_PURCHASE_FOUND, takings)


def _state(found: Fraction, asked: Fraction) -> str:
    if not found:
        return UNMATCHED
    return MATCHED if found == asked else PARTLY


def _collect(into: dict[int, Fraction], units: Mapping[int, Fraction]) -> None:
    for line, quantity in units.items():
        into[line] = into[line] + quantity if line in into else quantity


def _sum(quantities: Iterable[Fraction]) -> Fraction:
    """Mostly of one line: that is not added to 0, for the sum of two fractions costs more than all the rest."""
    found = list(quantities)
    return sum(found[1:], found[0]) if found else ZERO
