"""How many points a purchase earns: exact to the last digit, then rounded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from operator import mul, sub
from typing import NamedTuple

from services.points.domain.bonus import TierInForce
from services.points.domain.campaigns import Offers, Value, offers
from services.points.domain.columns import Columns, columns_of
from services.points.domain.deciding import Case, Decision, weights
from services.points.domain.exact import ZERO, exactly
from services.points.domain.rules import Rules, rules_of
from shared.contracts.purchases import Line, PurchaseCompleted
from shared.errors import Poison
from shared.money import allocate, currency_digits, minor_units, round_points
from shared.program.model import Program

# Above these nothing is a purchase any more; what is stored stays far inside a 64-bit integer.
SPEND_MAX = Decimal(10) ** 12
POINTS_MAX = 10**15

TEST = "test"
NOT_POSITIVE = "not_positive"
KIND = "kind:"
SKU = "sku"
CATEGORY = "category:"


class Assessment(NamedTuple):
    """What a purchase is worth before any tier: ``nets`` per line in its own currency, the rest in the program's.

    ``nets`` covers every line; those named in ``reasons`` (by index) earn nothing, and there stands why.
    ``exact`` is the base value before rounding, which a later correction starts from again.
    """

    nets: Sequence[Decimal]
    reasons: Mapping[int, str]
    net_spend: Decimal
    exact: Fraction
    base: int


class Award(NamedTuple):
    """The points granted: ``total`` = ``base`` + ``bonus``; ``exact`` is before rounding and caps.

    ``decided`` is what campaigns gave and did not give; None where the program has none.
    """

    total: int
    base: int
    bonus: int
    exact: Fraction
    assessment: Assessment
    offered: Offers | None = None
    decided: Decision | None = None

    @property
    def value(self) -> Fraction:
        """The exact value before the tier's multiplier, campaigns included: what a tier bonus starts from."""
        return self.assessment.exact if self.decided is None else self.decided.exact

    @property
    def weights(self) -> Sequence[Fraction] | None:
        """What the total is split by, where campaigns for some lines make that other than by their nets."""
        if self.offered is None or self.decided is None or not self.decided.grants:
            return None
        case = Case(self.assessment.exact, "floor", self.offered.made)
        return weights(self.decided, case, self.assessment.nets, self.assessment.reasons)

    @property
    def lines(self) -> Sequence[int]:
        """The total split to the lines: a function of what is stored, so it is worked out by those who ask."""
        return split(self.total, self.weights or self.assessment.nets, self.assessment.reasons)


@exactly
def assess(
    purchase: PurchaseCompleted, program: Program, columns: Columns | None = None
) -> Assessment:
    """Value a checked purchase; ``Poison`` if it is larger than any purchase can be."""
    rules = rules_of(program)
    columns = columns or columns_of(purchase.lines)
    nets = _nets(purchase, columns, rules)
    reasons = _reasons(purchase, columns, nets, rules)
    if reasons:
        spend = sum((net for index, net in enumerate(nets) if index not in reasons), ZERO)
    else:
        spend = sum(nets, ZERO)
    if spend < SPEND_MAX and purchase.exchange_rate is not None:
        spend *= purchase.exchange_rate
    if spend >= SPEND_MAX:
        raise Poison("data.lines", "are worth 10^12 or more: no purchase is")
    spent, unit = spend.as_integer_ratio()
    exact = Fraction(spent * rules.rate.numerator, unit * rules.rate.denominator)
    return Assessment(nets, reasons, spend, exact, _rounded(exact, rules))


def award(assessment: Assessment, tier: TierInForce, program: Program) -> Award:
    """Apply the tier's multiplier and round once."""
    rules = rules_of(program)
    exact, base = assessment.exact, assessment.base
    if tier.multiplier == 1:
        return Award(base, base, 0, exact, assessment)
    exact *= tier.multiplier
    total = _rounded(exact, rules)
    return Award(total, base, total - base, exact, assessment)


@exactly
def offered(
    purchase: PurchaseCompleted,
    shop: str,
    assessment: Assessment,
    program: Program,
    columns: Columns | None = None,
) -> Offers | None:
    """What the program's campaigns offer for a valued purchase; None where it has no campaigns.

    ``Poison`` if the customer could earn more with them than any purchase can.
    """
    rules = rules_of(program)
    if not rules.campaigns:
        return None
    value = Value(
        shop,
        purchase.channel,
        purchase.occurred_at,
        columns or columns_of(purchase.lines),
        assessment.nets,
        assessment.reasons,
        assessment.net_spend,
        assessment.exact,
    )
    found = offers(rules.campaigns, value, program.zone)
    most = max((Fraction(1), *(level.multiplier for level in rules.levels)))
    _rounded((assessment.exact + sum(offer.exact for offer in found.made)) * most, rules)
    return found


def case_of(assessment: Assessment, found: Offers, program: Program) -> Case:
    """What campaigns are decided from."""
    return Case(assessment.exact, rules_of(program).rounding, found.made)


def decided(assessment: Assessment, found: Offers, tier: TierInForce, decision: Decision) -> Award:
    """The award that a decision about campaigns makes of an assessment."""
    total, base = decision.total, decision.base
    exact = decision.exact * tier.multiplier
    return Award(total, base, total - base, exact, assessment, found, decision)


def split(
    total: int, nets: Sequence[Decimal] | Sequence[Fraction], reasons: Mapping[int, str]
) -> Sequence[int]:
    """Split a total back to the lines by their nets; those with a reason earn nothing."""
    if not total:
        return [0] * len(nets)
    if not reasons:
        return allocate(total, nets)
    weights: list[Decimal | Fraction | int] = list(nets)
    for index in reasons:
        weights[index] = 0
    return allocate(total, weights)


def _rounded(exact: Fraction, rules: Rules) -> int:
    points = round_points(exact, rules.rounding)
    if points > POINTS_MAX:
        raise Poison("data.lines", "earn more than 10^15 points: no purchase does")
    return points


def _nets(purchase: PurchaseCompleted, columns: Columns, rules: Rules) -> list[Decimal]:
    """Net of each line: what is paid for it after all discounts, without tax if the program says so."""
    nets = list(map(mul, columns.quantities, columns.prices))
    if columns.discounts:
        nets = list(map(sub, nets, columns.discounts))
    if purchase.order_discount:
        shares = _shares(purchase.order_discount, purchase.currency, nets)
        nets = list(map(sub, nets, shares))
    if columns.taxes and rules.net_of_tax and purchase.prices_include_tax:
        nets = list(map(sub, nets, columns.taxes))
    return nets


def _shares(discount: Decimal, currency: str, amounts: Sequence[Decimal]) -> list[Decimal]:
    """Split the order discount over all lines, those that earn nothing included, in minor units."""
    weights = [max(ZERO, amount) for amount in amounts]
    if not any(weights):
        return [ZERO] * len(amounts)
    digits = currency_digits(currency)
    return [
        Decimal(share).scaleb(-digits)
        for share in allocate(minor_units(discount, currency), weights)
    ]


def _reasons(
    purchase: PurchaseCompleted, columns: Columns, nets: Sequence[Decimal], rules: Rules
) -> dict[int, str]:
    """Say of each line that earns nothing why, by index; most purchases have none and stop early."""
    lines = purchase.lines
    if purchase.is_test:
        return dict.fromkeys(range(len(lines)), TEST)
    if (
        min(nets) > 0
        and rules.skus.isdisjoint(columns.skus)
        and rules.kinds.isdisjoint(columns.kinds)
        and rules.categories.isdisjoint(columns.categories)
    ):
        return {}
    found: dict[int, str] = {}
    for index, (line, net) in enumerate(zip(lines, nets, strict=True)):
        if reason := _reason(line, net, rules):
            found[index] = reason
    return found


def _reason(line: Line, net: Decimal, rules: Rules) -> str:
    if line.kind in rules.kinds:
        return KIND + line.kind
    if line.sku in rules.skus:
        return SKU
    if line.category in rules.categories:
        return CATEGORY + line.category
    return "" if net > 0 else NOT_POSITIVE
