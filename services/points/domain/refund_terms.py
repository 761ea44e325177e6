"""Refunds and what they are about, in the words of the rules: what was told, bought, given back and taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID

from services.points.domain.lots import EARNED, TIER_BONUS

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


@dataclass(frozen=True, slots=True)
class Bought:
    """A credited purchase with what it was granted; lines as columns, ``nets`` in ``currency``.

    ``total`` and ``base`` are the points granted in all, tier bonus and campaigns included, split to the lines by
    ``weights``. ``net_spend`` is in the program's currency.
    """

    lot_id: UUID
    shop: str
    occurred_at: datetime
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


class Returned(NamedTuple):
    """So many units of a line, by its index, with the points granted to these and taken for them."""

    line: int
    quantity: Fraction
    points: int


@dataclass(frozen=True, slots=True)
class Taking:
    """What one refund takes out of one lot: the numbers are not negative.

    ``points`` leave the lot also where it has expired: they come out of what had expired, or are owed as far as
    they had been spent. ``base``, ``spend`` and ``purchases`` are what the purchase counts for less at the tiers.
    """

    lot_id: UUID
    at: datetime
    points: int
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
