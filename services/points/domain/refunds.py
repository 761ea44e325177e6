"""What refunds and cancellations take back of what was granted: cumulative, bounded, a function of their set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID

from services.points.domain.exact import exactly
from services.points.domain.lots import EARNED, TIER_BONUS
from shared.money import allocate

REFUND, CANCELLATION = "refund", "cancellation"

MATCHED, PARTLY, UNMATCHED = "matched", "partly", "unmatched"
PARKED, UNCREDITED, REFUSED = "parked", "uncredited", "refused"

# Why a refund stands as it does: stable codes, told by the API.
AWAITING_PURCHASE = "awaiting-purchase"
UNKNOWN_LINE = "unknown-line"
MORE_THAN_BOUGHT = "more-than-bought"
NO_PURCHASE_FOUND = "no-purchase-found"
OTHER_CUSTOMER = "other-customer"
OTHER_CURRENCY = "other-currency"
GUEST_PURCHASE = "guest-purchase"
TEST_PURCHASE = "test-purchase"

CLAWED_BACK = "clawed_back"
# What a purchase was granted: a refund takes its part of these.
GRANT_KINDS = frozenset({EARNED, TIER_BONUS, "campaign"})
# Neither changes what expires of a lot: the clawbacks are counted apart, the expiry is their consequence.
_NO_SPENDING = GRANT_KINDS | {CLAWED_BACK, "expired", "unlocked", "written_off"}
_COVERED = "covered"
SPEND_DECIMALS = 9
ZERO = Fraction(0)


class AskedLine(NamedTuple):
    """So many units of a line, named by its id or else by its SKU."""

    line_id: str | None
    sku: str | None
    quantity: Fraction


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund or cancellation as it was told. Without lines and amount it is of the whole purchase.

    ``purchase_id`` is None where no order is named; ``amount`` is in ``currency``.
    """

    key: UUID
    kind: str
    shop: str
    purchase_id: UUID | None
    occurred_at: datetime
    currency: str | None = None
    lines: Sequence[AskedLine] = ()
    amount: Fraction | None = None

    @property
    def whole(self) -> bool:
        """Whether all of the purchase is given back."""
        return not self.lines and self.amount is None


class Movement(NamedTuple):
    """A line of the ledger, as far as it matters for what is left of its lot."""

    kind: str
    points: int
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class Bought:
    """A credited purchase with what it was granted; lines as columns, ``nets`` in ``currency``.

    ``total`` and ``base`` are the points granted in all, tier bonus and campaigns included, split to the lines by
    ``weights``; ``movements`` are all other lines of its lot. ``net_spend`` is in the program's currency.
    """

    lot_id: UUID
    shop: str
    occurred_at: datetime
    expires_at: datetime | None
    currency: str
    line_ids: Sequence[str]
    skus: Sequence[str]
    quantities: Sequence[Decimal]
    nets: Sequence[Decimal]
    weights: Sequence[Decimal | Fraction]
    reasons: Mapping[int, str]
    net_spend: Decimal
    total: int
    base: int
    movements: Sequence[Movement] = ()


class Returned(NamedTuple):
    """So many units of a line, by its index, with the points granted to these and taken for them."""

    line: int
    quantity: Fraction
    points: int


@dataclass(frozen=True, slots=True)
class Taking:
    """What one refund takes out of one lot: the numbers are not negative.

    ``points`` is what leaves the ledger, ``due`` what was granted for it: the difference had expired before.
    ``base``, ``spend`` and ``purchases`` are what the purchase counts for less at the tiers.
    """

    lot_id: UUID
    at: datetime
    points: int
    due: int
    base: int
    spend: Decimal
    purchases: int
    lines: Sequence[Returned]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a refund: its state, a stable code where that needs a reason, and what it takes."""

    refund: Refund
    state: str
    code: str | None
    takings: Sequence[Taking] = ()

    @property
    def points(self) -> int:
        """What it takes in all."""
        return sum(taking.points for taking in self.takings)


@exactly
def outcomes(refunds: Iterable[Refund], purchases: Iterable[Bought]) -> list[Outcome]:
    """Decide all refunds of a customer, in the order in which they happened, over their purchases.

    Neither the order of the arguments nor anything outside of them matters: a purchase or a refund that comes
    late changes exactly what it would have changed in time.
    """
    lots = {bought.lot_id: _Lot(bought) for bought in purchases}
    newest = sorted(lots.values(), key=lambda lot: (lot.at, lot.bought.lot_id), reverse=True)
    return [
        _decide(refund, lots, newest)
        for refund in sorted(refunds, key=lambda refund: (refund.occurred_at, refund.key))
    ]


def targets_of(decided: Iterable[Outcome]) -> dict[tuple[UUID, UUID], Taking]:
    """What each refund takes of each lot, by both their ids."""
    return {
        (outcome.refund.key, taking.lot_id): taking
        for outcome in decided
        for taking in outcome.takings
    }


def _decide(refund: Refund, lots: Mapping[UUID, _Lot], newest: Sequence[_Lot]) -> Outcome:
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


def _pay_back(refund: Refund, amount: Fraction, lot: _Lot) -> Outcome:
    """An amount off the whole purchase."""
    if refund.currency != lot.bought.currency:
        return Outcome(refund, REFUSED, OTHER_CURRENCY)
    found = lot.take_amount(amount)
    state = _state(found, amount)
    takings = [lot.taking(refund, {})] if found else []
    return Outcome(refund, state, None if state == MATCHED else MORE_THAN_BOUGHT, takings)


def _give_back(refund: Refund, lot: _Lot) -> Outcome:
    """Some units of some lines of a known purchase."""
    units: dict[int, Fraction] = {}
    unknown = False
    for line in refund.lines:
        places = lot.places(line)
        unknown = unknown or not places
        _collect(units, lot.take_units(places, line.quantity))
    asked = sum((line.quantity for line in refund.lines), ZERO)
    state = _state(sum(units.values(), ZERO), asked)
    code = UNKNOWN_LINE if unknown else None if state == MATCHED else MORE_THAN_BOUGHT
    return Outcome(refund, state, code, [lot.taking(refund, units)] if units else [])


def _search(refund: Refund, newest: Sequence[_Lot]) -> Outcome:
    """Match lines without an order to the newest lines of their SKU that have not come back yet."""
    asked = sum((line.quantity for line in refund.lines), ZERO)
    touched: dict[UUID, tuple[_Lot, dict[int, Fraction]]] = {}
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
                rest -= sum(units.values(), ZERO)
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
        into[line] = into.get(line, ZERO) + quantity


@dataclass(slots=True)
class _Lot:
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
    # Running sums of what was taken: ``open`` of it before the lot expired.
    due: int = 0
    taken: int = 0
    open: int = 0
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
        due, base, spend, purchases = self._targets()
        taken = self._taken(due, at)
        result = Taking(
            self.bought.lot_id,
            at,
            taken - self.taken,
            due - self.due,
            base - self.base,
            spend - self.spend,
            purchases - self.purchases,
            [
                Returned(index, quantity, points)
                for (index, quantity), points in zip(units.items(), before, strict=True)
            ],
        )
        self.due, self.taken, self.base = due, taken, base
        self.spend, self.purchases = spend, purchases
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

    def _taken(self, due: int, at: datetime) -> int:
        """What of it leaves the ledger by that instant: what had expired before is not taken twice."""
        bought = self.bought
        if bought.expires_at is None or at < bought.expires_at:
            self.open = due
            return due
        spent = sum(
            movement.points
            for movement in bought.movements
            if movement.kind not in _NO_SPENDING
            and movement.occurred_at <= at
            and (movement.kind != _COVERED or movement.points < 0)
        )
        expired = max(0, bought.total + spent - self.open)
        return max(self.taken, self.open + max(0, due - self.open - expired))


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
