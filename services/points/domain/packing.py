"""The short form of an explanation, as it is stored with each entry, and the fingerprint of a purchase.

An explanation is written once for every purchase and read for few of them: writing is one encode of columns,
about 20 bytes a line, and whatever words can be derived from is left to the reading side.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from struct import Struct

import msgspec

from services.points.domain.bonus import TierInForce
from services.points.domain.clawbacks import PackedClawback
from services.points.domain.columns import Columns, columns_of
from services.points.domain.deciding import Case, Decision
from services.points.domain.earning import TEST, Assessment, Award, split
from services.points.domain.exact import ZERO, exactly
from services.points.domain.facts import PackedFact
from services.points.domain.packed_campaigns import (
    PackedCampaign,
    PackedGrant,
    PackedOffer,
    missed_rules,
    texts,
)
from services.points.domain.rules import Rules, rules_of
from services.points.domain.validation import LINES_MAX
from shared.contracts.purchases import PurchaseCompleted
from shared.money import Rounding
from shared.program.model import Program

AWARD = "award"
CORRECTION = "correction"

# A line id that only counts (1, 2, 3 …) says nothing that its place does not say, and is left out.
COUNTED_IDS = tuple(str(number) for number in range(1, LINES_MAX + 1))

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FACTS = Struct("<qqqq????")
_AMBIGUOUS = -2
# Numbers rather than strings: two bytes less each, and read back as the same exact decimals.
_encode = msgspec.json.Encoder(decimal_format="number").encode


class PackedAward(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    tag_field="k",
    tag=AWARD,
    rename={
        "program": "p",
        "version": "v",
        "currency": "c",
        "points_per": "b",
        "rounding": "m",
        "skus": "s",
        "quantities": "q",
        "nets": "n",
        "net_spend": "w",
        "exact": "x",
        "base": "g",
        "total": "t",
        "paid_in": "pc",
        "exchange_rate": "r",
        "order_discount": "d",
        "net_of_tax": "nt",
        "tax_on_top": "tt",
        "line_ids": "i",
        "reasons": "z",
        "tier": "l",
        "multiplier": "f",
        "unfired": "u",
        "plain": "x0",
        "fired": "cf",
        "offers": "co",
        "weights": "lw",
    },
):
    """An award, its lines as columns; ``exact`` and ``multiplier`` are fractions (``1123/25``).

    Each line's points are a function of ``total``, ``nets`` and ``reasons``, and left to the reading side;
    ``weights`` are there instead of the nets where campaigns counted some lines more than others. ``plain`` is the
    exact value without campaigns where ``exact`` is more; ``offers`` are there where they may be decided anew.
    """

    program: str
    version: str
    currency: str
    points_per: Sequence[Decimal | int]
    rounding: Rounding
    skus: Sequence[str]
    quantities: Sequence[Decimal]
    nets: Sequence[Decimal]
    net_spend: Decimal
    exact: str
    base: int
    total: int
    paid_in: str | None = None
    exchange_rate: Decimal | None = None
    order_discount: Decimal = ZERO
    net_of_tax: bool = False
    tax_on_top: bool = False
    line_ids: Sequence[str] | None = None
    reasons: Mapping[int, str] | None = None
    tier: str | None = None
    multiplier: str = "1"
    unfired: list[list[str]] = []
    plain: str | None = None
    fired: Sequence[PackedGrant] = ()
    offers: Sequence[PackedOffer] = ()
    weights: Sequence[str] | None = None

    def lines(self, total: int) -> Sequence[int]:
        """Split a total of this award's lot to its lines."""
        weights = [Fraction(weight) for weight in self.weights] if self.weights else self.nets
        return split(total, weights, self.reasons or {})

    def case(self) -> Case:
        """What its campaigns were decided from."""
        offers = [offer.offer() for offer in self.offers]
        return Case(Fraction(self.plain or self.exact), self.rounding, offers)


class PackedCorrection(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    tag_field="k",
    tag=CORRECTION,
    rename={
        "program": "p",
        "version": "v",
        "rounding": "m",
        "exact": "x",
        "tier": "l",
        "multiplier": "f",
        "total": "t",
        "tier_before": "l0",
        "multiplier_before": "f0",
        "total_before": "t0",
    },
):
    """A correction of an award by a tier that became known later."""

    program: str
    version: str
    rounding: Rounding
    exact: str
    total: int
    total_before: int
    tier: str | None = None
    multiplier: str = "1"
    tier_before: str | None = None
    multiplier_before: str = "1"


Packed = PackedAward | PackedCorrection | PackedCampaign | PackedFact | PackedClawback
decode = msgspec.json.Decoder(Packed).decode


def pack(
    purchase: PurchaseCompleted,
    assessment: Assessment,
    award: Award,
    tier: TierInForce,
    program: Program,
    columns: Columns | None = None,
) -> bytes:
    """Write down how an award came about, as JSON to be stored with its entry."""
    rules = rules_of(program)
    columns = columns or columns_of(purchase.lines)
    packed = _packed(purchase, assessment, award, tier, rules, columns)
    if award.decided is not None:
        packed = _with_campaigns(packed, award, award.decided)
    return _encode(packed)


def _packed(
    purchase: PurchaseCompleted,
    assessment: Assessment,
    award: Award,
    tier: TierInForce,
    rules: Rules,
    columns: Columns,
) -> PackedAward:
    line_ids = columns.line_ids
    foreign = purchase.currency != rules.currency
    return PackedAward(
        program=rules.id,
        version=rules.version,
        currency=rules.currency,
        points_per=rules.points_per,
        rounding=rules.rounding,
        skus=columns.skus,
        quantities=columns.quantities,
        nets=assessment.nets,
        net_spend=assessment.net_spend,
        exact=str(assessment.exact),
        base=award.base,
        total=award.total,
        paid_in=purchase.currency if foreign else None,
        exchange_rate=purchase.exchange_rate if foreign else None,
        order_discount=purchase.order_discount or ZERO,
        net_of_tax=rules.net_of_tax,
        tax_on_top=not purchase.prices_include_tax,
        line_ids=None if line_ids == COUNTED_IDS[: len(line_ids)] else line_ids,
        reasons=assessment.reasons or None,
        tier=tier.id,
        multiplier=str(tier.multiplier),
        unfired=_unfired(assessment, tier, rules),
    )


def _with_campaigns(packed: PackedAward, award: Award, decision: Decision) -> PackedAward:
    """Add what campaigns gave, what they did not and why, and what deciding anew would need."""
    offered = award.offered
    assert offered is not None  # noqa: S101 - nothing is decided that was not offered
    fired = [PackedGrant.of(grant) for grant in decision.grants]
    return msgspec.structs.replace(
        packed,
        exact=str(decision.exact),
        plain=str(award.assessment.exact) if fired else None,
        fired=fired,
        offers=[PackedOffer.of(offer) for offer in offered.made] if offered.changeable else (),
        weights=texts(award.weights),
        unfired=[*packed.unfired, *missed_rules(offered.missed), *missed_rules(decision.missed)],
    )


def pack_correction(
    exact: Fraction,
    before: tuple[TierInForce, int],
    after: tuple[TierInForce, int],
    program: Program,
) -> bytes:
    """Write down why an award was corrected: tier and total as they were and as they are now."""
    rules = rules_of(program)
    (tier_before, total_before), (tier, total) = before, after
    return _encode(
        PackedCorrection(
            program=rules.id,
            version=rules.version,
            rounding=rules.rounding,
            exact=str(exact),
            total=total,
            total_before=total_before,
            tier=tier.id,
            multiplier=str(tier.multiplier),
            tier_before=tier_before.id,
            multiplier_before=str(tier_before.multiplier),
        )
    )


@exactly
def fingerprint(purchase: PurchaseCompleted, columns: Columns | None = None) -> int:
    """Hash what decides a purchase's points to a signed 64-bit number.

    Equal values have the equal fingerprint however they were written (``6``, ``"6.0"``, another zone's clock);
    what decides nothing, such as names or metadata, may differ.
    """
    columns = columns or columns_of(purchase.lines)
    texts = [
        purchase.order_id,
        purchase.customer_id or purchase.card_number or "",
        purchase.currency,
        *columns.line_ids,
        *columns.skus,
        *columns.kinds,
        *columns.categories,
    ]
    numbers = columns.quantities + columns.prices + columns.discounts + columns.taxes
    facts = _FACTS.pack(
        (purchase.occurred_at - _EPOCH) // _MICROSECOND,
        len(columns.skus),
        hash(purchase.exchange_rate or 0),
        hash(purchase.order_discount),
        purchase.prices_include_tax,
        purchase.is_test,
        bool(columns.discounts),
        bool(columns.taxes),
    )
    # No checked text contains a NUL character, so nothing can move from one text to the next.
    content = b"\0".join((facts, "\0".join(texts).encode(), _hashed(numbers)))
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big", signed=True)


def _hashed(numbers: Sequence[Decimal]) -> bytes:
    """Bring numbers to 8 bytes each, equal for equal values.

    Python defines the hash of a number by its value alone, for every version (Hashing of numeric types in the
    library reference); the one ambiguity is -2, which stands for -1 too.
    """
    hashes = list(map(hash, numbers))
    hashed = array("q", hashes).tobytes()
    if _AMBIGUOUS in hashes:
        hashed += bytes([number == -1 for number in numbers])
    return hashed


def _unfired(assessment: Assessment, tier: TierInForce, rules: Rules) -> list[list[str]]:
    """Name the rules that could have given more, each with the condition that failed."""
    key = (tier.id, tier.multiplier.numerator, tier.multiplier.denominator)
    found = rules.unfired.get(key)
    if found is None:
        found = [
            ["tier", level.id, str(level.multiplier)]
            for level in rules.levels
            if level.multiplier > tier.multiplier
        ]
        rules.unfired[key] = found
    if assessment.exact:
        return found
    return [["base", TEST if assessment.reasons.get(0) == TEST else "no_eligible_line"], *found]
