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

NONE = Decimal(0)
SCALE = 10**SPEND_DECIMALS


@dataclass(slots=True)
class Lot:
    """A purchase while its refunds are gone through: what has come back so far, and what that took.

    ``back`` are the units of each line that came back, by its index. Products and quotients are of integers:
    a ``Fraction`` finds the greatest common divisor at every step, and most refunds are of one line.
    """

    bought: Bought
    at: datetime = field(init=False)
    by_sku: dict[str, list[int]] = field(default_factory=dict)
    by_id: dict[str, int] = field(default_factory=dict)
    back: dict[int, Fraction] = field(default_factory=dict)
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
            before = self.back.get(index, ZERO)
            free = Fraction(self.bought.quantities[index])
            if before:
                free -= before
            units = min(free, quantity)
            if units > 0:
                found[index] = units
                self.back[index] = before + units if before else units
                quantity -= units
        return found

    def take_all(self) -> dict[int, Fraction]:
        """Let all that is left come back."""
        quantities = self.bought.quantities
        found = self.take_units(range(len(quantities)), Fraction(sum(quantities, Decimal(0))))
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
        lines = [
            Returned(index, quantity, self._line_due(index, quantity))
            for index, quantity in units.items()
        ]
        taken, base, spend, purchases = self._targets()
        result = Taking(
            self.bought.lot_id,
            at,
            taken - self.taken,
            base - self.base,
            spend - self.spend,
            purchases - self.purchases,
            lines,
        )
        self.taken, self.base, self.spend, self.purchases = taken, base, spend, purchases
        return result

    def _lay_out(self) -> None:
        """Split the points to the lines, once: a search looks at many purchases and touches few."""
        if self.points:
            return
        bought = self.bought
        self.points = _split(bought.total, bought)
        self.bases = self.points if bought.base == bought.total else _split(bought.base, bought)
        nets = (net for index, net in enumerate(bought.nets) if index not in bought.reasons)
        self.eligible = Fraction(sum(nets, Decimal(0)))

    def _line_due(self, index: int, units: Fraction) -> int:
        """Points for the last units of a line that came back."""
        points, back = self.points[index], self.back[index]
        before = self._part(points, index, back - units) if back != units else 0
        return self._part(points, index, back) - before

    def _part(self, points: int, index: int, back: Fraction) -> int:
        """Points for so many units of a line, rounded down."""
        bought, scale = self.bought.quantities[index].as_integer_ratio()
        returned, parts = back.as_integer_ratio()
        return points * returned * scale // (parts * bought)

    def _lines_spend(self) -> Fraction:
        """What was paid for the units that came back, in the purchase's currency."""
        bought = self.bought
        found = ZERO
        for index, back in self.back.items():
            if index in bought.reasons:
                continue
            net, cents = bought.nets[index].as_integer_ratio()
            quantity, scale = bought.quantities[index].as_integer_ratio()
            returned, parts = back.as_integer_ratio()
            paid = Fraction(net * returned * scale, cents * parts * quantity)
            found = found + paid if found else paid
        return found

    def _complete(self) -> bool:
        """Whether every unit of every line has come back."""
        back = self.back
        return all(
            back[index] == Fraction(quantity) if index in back else not quantity
            for index, quantity in enumerate(self.bought.quantities)
        )

    def _targets(self) -> tuple[int, int, Decimal, int]:
        """Points, base points, spend and purchases that all refunds so far take in sum."""
        bought = self.bought
        money = self._lines_spend()
        if self.all or (self.amount and self.amount + money >= self.eligible) or self._complete():
            # Nothing that earned is left, however it came back.
            return bought.total, bought.base, bought.net_spend, 1
        due = sum(self._part(self.points[index], index, back) for index, back in self.back.items())
        base = due
        if self.bases is not self.points:
            base = sum(
                self._part(self.bases[index], index, back) for index, back in self.back.items()
            )
        if self.amount:
            money += self.amount
            due += int(bought.total * self.amount / self.eligible)
            base += int(bought.base * self.amount / self.eligible)
        return min(due, bought.total), min(base, bought.base), self._share(money), 0

    def _share(self, money: Fraction) -> Decimal:
        """What the customer spent, in the program's currency, as far as it was for this part of what earns."""
        if not money:
            return NONE
        spent, cents = self.bought.net_spend.as_integer_ratio()
        part, of_part = money.as_integer_ratio()
        whole, of_whole = self.eligible.as_integer_ratio()
        return _scaled(spent * part * of_whole * SCALE // (cents * of_part * whole))


def rounded_down(money: Fraction) -> Decimal:
    """Write money as a decimal, exactly where that has no more than 9 digits after the point."""
    return _scaled(int(money * SCALE))


def _scaled(units: int) -> Decimal:
    found = Decimal(units).scaleb(-SPEND_DECIMALS).normalize()
    return found if found % 1 else found.quantize(Decimal(1))


def _split(points: int, bought: Bought) -> Sequence[int]:
    weights = [
        0 if index in bought.reasons else weight for index, weight in enumerate(bought.weights)
    ]
    # Points that no line has earned, such as a fixed bonus, go with the last unit that comes back.
    return allocate(points, weights) if any(weights) else [0] * len(weights)
