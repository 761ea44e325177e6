"""What is stored with a clawback, and its story: what came back, what it had earned, what was left of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

import msgspec

from services.points.domain import wording
from services.points.domain.exact import exactly
from services.points.domain.refunds import (
    CANCELLATION,
    Bought,
    Refund,
    Returned,
    Taking,
    rounded_down,
)
from services.points.domain.wording import Sentence
from shared.program.model import Program

CLAWBACK = "clawback"

_encode = msgspec.json.Encoder(decimal_format="number").encode


class PackedClawback(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    tag_field="k",
    tag=CLAWBACK,
    rename={
        "program": "p",
        "version": "v",
        "refund_kind": "rk",
        "refund_id": "ri",
        "order_id": "o",
        "at": "a",
        "granted": "g",
        "points": "t",
        "points_before": "t0",
        "base": "b",
        "spend": "w",
        "purchases": "n",
        "amount": "am",
        "currency": "c",
        "lines": "l",
    },
):
    """What one refund takes out of one lot since this entry, in full: the last one of a pair is how it stands.

    ``points`` are taken of those granted; ``base``, ``spend`` and ``purchases`` are what the purchase counts for
    less. ``lines``: [line_id, SKU, quantity, points, net in ``currency``].
    """

    program: str
    version: str
    refund_kind: str
    refund_id: str | None
    order_id: str | None
    at: datetime
    granted: int
    points: int
    points_before: int
    base: int
    spend: Decimal
    purchases: int
    amount: Decimal | None = None
    currency: str | None = None
    lines: Sequence[tuple[str, str, Decimal, int, Decimal]] = ()

    @property
    def standing(self) -> tuple[int, int, Decimal, int]:
        """What is compared to see whether anything has changed."""
        return self.points, self.base, self.spend, self.purchases


@dataclass(frozen=True, slots=True)
class Told:
    """What a clawback is told with: the refund, its own id, and the order that the points were granted for."""

    refund: Refund
    refund_id: str | None
    order_id: str | None


@exactly
def packed(
    told: Told,
    bought: Bought,
    taking: Taking | None,
    before: PackedClawback | None,
    program: Program,
) -> PackedClawback:
    """Write down what a refund takes out of a lot now (nothing any more without a ``taking``)."""
    refund = told.refund
    amount = refund.amount
    return PackedClawback(
        program=program.id,
        version=program.version,
        refund_kind=refund.kind,
        refund_id=told.refund_id,
        order_id=told.order_id,
        at=max(refund.occurred_at, bought.occurred_at),
        granted=bought.total,
        points=taking.points if taking else 0,
        points_before=before.points if before else 0,
        base=taking.base if taking else 0,
        spend=taking.spend if taking else Decimal(0),
        purchases=taking.purchases if taking else 0,
        amount=None if amount is None else _decimal(amount.numerator, amount.denominator),
        currency=bought.currency,
        lines=[
            (
                bought.line_ids[line.line],
                bought.skus[line.line],
                _decimal(line.quantity.numerator, line.quantity.denominator),
                line.points,
                _net(bought, line),
            )
            for line in (taking.lines if taking else ())
        ],
    )


def encode(clawback: PackedClawback) -> str:
    """Write it as it is stored."""
    return _encode(clawback).decode()


def sentence(clawback: PackedClawback) -> Sentence:
    """Tell a clawback in one sentence."""
    change = clawback.points_before - clawback.points
    points = wording.points(change, signed=True)
    what = _what(clawback)
    if clawback.points_before or change > 0:
        new, old = wording.points(clawback.points), wording.points(clawback.points_before)
        return Sentence(
            f"{points.de}: {what.de}; nach einer späteren Meldung {new.de} statt {old.de}.",
            f"{points.en}: {what.en}; since something was told late, {new.en} instead of {old.en}.",
        )
    return Sentence(f"{points.de}: {what.de}.", f"{points.en}: {what.en}.")


def steps(clawback: PackedClawback) -> list[tuple[str, str, Sentence]]:
    """Tell a clawback step by step: (rule, value, text) each."""
    granted, due = wording.points(clawback.granted), wording.points(clawback.points)
    found = [
        (
            "granted",
            str(clawback.granted),
            Sentence(
                f"für den Einkauf gutgeschrieben: {granted.de}",
                f"granted for the purchase: {granted.en}",
            ),
        ),
        (
            "due",
            str(clawback.points),
            Sentence(
                f"davon für das Zurückgegebene, über alle Erstattungen zusammen abgerundet: {due.de}",
                f"of these for what came back, rounded down over all refunds together: {due.en}",
            ),
        ),
    ]
    if clawback.points_before:
        before = wording.points(clawback.points_before)
        text = Sentence(f"bisher zurückgenommen: {before.de}", f"taken back so far: {before.en}")
        found.append(("before", str(clawback.points_before), text))
    return found


def _what(clawback: PackedClawback) -> Sentence:
    order = clawback.order_id or ""
    if clawback.refund_kind == CANCELLATION:
        return Sentence(f"Bestellung {order} storniert", f"order {order} cancelled")
    german, english = f"Erstattung {clawback.refund_id}", f"refund {clawback.refund_id}"
    if clawback.amount is not None and clawback.currency:
        amount = wording.money(clawback.amount, clawback.currency)
        return Sentence(
            f"{german}, {amount.de} der Bestellung {order} zurückgezahlt",
            f"{english}, {amount.en} of order {order} paid back",
        )
    count = sum((line[2] for line in clawback.lines), Decimal(0))
    units, noun = wording.number(count), "unit" if count == 1 else "units"
    return Sentence(
        f"{german}, {units.de} Stück aus Bestellung {order} zurückgegeben",
        f"{english}, {units.en} {noun} of order {order} returned",
    )


def _net(bought: Bought, line: Returned) -> Decimal:
    """What was paid for the units of a line that came back, rounded down where it has no end."""
    whole = Fraction(bought.nets[line.line]) / Fraction(bought.quantities[line.line])
    return rounded_down(whole * line.quantity)


def _decimal(numerator: int, denominator: int) -> Decimal:
    """Read a fraction that was a decimal when it came."""
    return Decimal(numerator) / Decimal(denominator)
