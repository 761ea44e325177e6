"""A purchase while its refunds are gone through: what has come back so far, and what that takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from services.points.domain.refund_terms import (
    SPEND_DECIMALS,
    ZERO,
    AskedLine,
    Bought,
    Refund,
    Returned,
    Taking,
)
from shared.money import allocate


@dataclass(slots=True)
class Lot:
    """A purchase while its refunds are gone through: what has come back so far, and what that took."""

    bought: Bought
    at: datetime = field(init=False)
    by_sku: dict[str, list[int]] = field(default_factory=dict)
    by_id: dict[str, int] = field(default_factory=dict)
    back: list[Fraction] = field(default_factory=list)
    points: Sequence[int] = ()
    bases: Sequence[int] = ()
    amount: Fraction = ZERO
    eligible: Fraction = ZERO
    all: bool = False
    # Running sums of what was taken.
    taken: int = 0
    base: int = 0
    spend: Decimal = Decimal(0)
    purchases: int = 0

    def __post_init__(self) -> None:
        bought = self.bought
        self.at = bought.occurred_at
        for index, (line_id, sku) in enumerate(zip(bought.line_ids, bought.skus, strict=True)):
            self.by_id[line_id] = index
            self.by_sku.setdefault(sku, []).append(index)
        self.back = [ZERO] * len(bought.skus)

    def places(self, line: AskedLine) -> Sequence[int]:
        """Return the lines that are meant."""
        if line.line_id is not None:
            index = self.by_id.get(line.line_id)
            return () if index is None else (index,)
        return self.by_sku.get(line.sku or "", ())

    def take_units(self, places: Sequence[int], quantity: Fraction) -> dict[int, Fraction]:
        """Let units of these lines come back, never more than were bought; returns those that did."""
        found: dict[int, Fraction] = {}
        if self.all:
            return found
        for index in places:
            free = Fraction(self.bought.quantities[index]) - self.back[index]
            units = min(free, quantity)
            if units > 0:
                found[index] = units
                self.back[index] += units
                quantity -= units
        return found

    def take_all(self) -> dict[int, Fraction]:
        """Let all that is left come back."""
        found = self.take_units(
            range(len(self.back)), sum(map(Fraction, self.bought.quantities), ZERO)
        )
        self.all = True
        return found

    def take_amount(self, amount: Fraction) -> Fraction:
        """Let money come back, never more than is left of what was paid for what earns; returns what did."""
        self._lay_out()
        room = ZERO if self.all else max(ZERO, self.eligible - self.amount - self._lines_spend())
        taken = min(room, amount)
        self.amount += taken
        return taken

    def taking(self, refund: Refund, units: Mapping[int, Fraction]) -> Taking:
        """Work out anew what all refunds up to this one take, and what of it is this one's."""
        self._lay_out()
        at = max(refund.occurred_at, self.at)
        before = [self._line_due(index, units.get(index, ZERO)) for index in units]
        taken, base, spend, purchases = self._targets()
        result = Taking(
            self.bought.lot_id,
            at,
            taken - self.taken,
            base - self.base,
            spend - self.spend,
            purchases - self.purchases,
            [
                Returned(index, quantity, points)
                for (index, quantity), points in zip(units.items(), before, strict=True)
            ],
        )
        self.taken, self.base, self.spend, self.purchases = taken, base, spend, purchases
        return result

    def _lay_out(self) -> None:
        """Split the points to the lines, once: a search looks at many purchases and touches few."""
        if self.points:
            return
        bought = self.bought
        self.points = _split(bought.total, bought)
        self.bases = _split(bought.base, bought)
        self.eligible = sum(
            (Fraction(net) for index, net in enumerate(bought.nets) if index not in bought.reasons),
            ZERO,
        )

    def _line_due(self, index: int, units: Fraction) -> int:
        """Points for the last units of a line that came back."""
        return self._part(self.points[index], index) - self._part(
            self.points[index], index, self.back[index] - units
        )

    def _part(self, points: int, index: int, back: Fraction | None = None) -> int:
        back = self.back[index] if back is None else back
        return int(points * back / Fraction(self.bought.quantities[index])) if back else 0

    def _lines_spend(self) -> Fraction:
        """What was paid for the units that came back, in the purchase's currency."""
        bought = self.bought
        return sum(
            (
                Fraction(bought.nets[index]) * back / Fraction(bought.quantities[index])
                for index, back in enumerate(self.back)
                if back and index not in bought.reasons
            ),
            ZERO,
        )

    def _targets(self) -> tuple[int, int, Decimal, int]:
        """Points, base points, spend and purchases that all refunds so far take in sum."""
        bought = self.bought
        full = [Fraction(quantity) for quantity in bought.quantities] == self.back
        if self.all or full or (self.amount and self.amount + self._lines_spend() >= self.eligible):
            # Nothing that earned is left, however it came back.
            return bought.total, bought.base, bought.net_spend, 1
        due = sum(self._part(points, index) for index, points in enumerate(self.points))
        base = sum(self._part(points, index) for index, points in enumerate(self.bases))
        money = self._lines_spend() + self.amount
        if self.amount:
            due += int(bought.total * self.amount / self.eligible)
            base += int(bought.base * self.amount / self.eligible)
        spend = Fraction(bought.net_spend) * money / self.eligible if money else ZERO
        return (
            min(due, bought.total),
            min(base, bought.base),
            rounded_down(spend),
            0,
        )


def rounded_down(money: Fraction) -> Decimal:
    """Write money as a decimal, exactly where that has no more than 9 digits after the point."""
    scaled = Decimal(int(money * 10**SPEND_DECIMALS)).scaleb(-SPEND_DECIMALS).normalize()
    return scaled if scaled % 1 else scaled.quantize(Decimal(1))


def _split(points: int, bought: Bought) -> Sequence[int]:
    weights = [
        Fraction(0) if index in bought.reasons else Fraction(weight)
        for index, weight in enumerate(bought.weights)
    ]
    # Points that no line has earned, such as a fixed bonus, go with the last unit that comes back.
    return allocate(points, weights) if any(weights) else [0] * len(weights)
