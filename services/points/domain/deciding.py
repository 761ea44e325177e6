"""What campaigns give a purchase once its customer is known: conditions, the best exclusive one, and caps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID

from services.points.domain.bonus import TierInForce, tier_at
from services.points.domain.campaigns import Missed, Offer
from shared.contracts.tiers import TierMove
from shared.money import Rounding, round_points
from shared.program.model import Program

TIERS, FIRST, EXCLUSIVE = "tiers", "first_purchase", "exclusive"
PER_PURCHASE, PER_CUSTOMER, TOTAL = "cap.per_purchase", "cap.per_customer", "cap.total"
ONE = Fraction(1)


class Case(NamedTuple):
    """What a decision starts from: the exact base value without any campaign, and what campaigns offer."""

    exact: Fraction
    rounding: Rounding
    offers: Sequence[Offer]


class Grant(NamedTuple):
    """What a campaign gave: ``points`` of the ``asked``, both with the tier; ``capped`` names its bound."""

    offer: Offer
    asked: int
    points: int
    capped: str = ""
    bound: int = 0


class Decision(NamedTuple):
    """``total`` and ``base`` after caps; ``exact`` with what fired, before tier, rounding and caps."""

    total: int
    base: int
    exact: Fraction
    grants: tuple[Grant, ...]
    missed: tuple[Missed, ...]


class Recorded(NamedTuple):
    """A purchase whose campaigns may have to be decided anew; ``drawn`` is what the budgets gave to it by now."""

    lot_id: UUID
    occurred_at: datetime
    case: Case
    drawn: Mapping[str, int]


class Bounds(NamedTuple):
    """What is known around a purchase, by campaign, in points.

    ``given`` to the customer before; ``drawn`` from the budget by this purchase, ``spent`` of it by all.
    """

    given: Mapping[str, int]
    drawn: Mapping[str, int]
    spent: Mapping[str, int]


NO_BOUNDS = Bounds({}, {}, {})


def decide(case: Case, tier: TierInForce, *, first: bool, bounds: Bounds = NO_BOUNDS) -> Decision:
    """Decide a purchase's campaigns: all that are not exclusive add up, of the exclusive ones the best counts.

    Whole points are told apart in this order, each campaign's as the difference it makes to the rounded sum, so
    that all of them together are the sum rounded once; caps then cut these.
    """
    fits, missed = _fitting(case.offers, tier, first=first)
    sums = _Sums(case, tier.multiplier)
    for offer in fits:
        if not offer.exclusive:
            missed += sums.add(sums.grant(offer, bounds))
    exclusive = [sums.grant(offer, bounds) for offer in fits if offer.exclusive]
    if exclusive:
        best = max(exclusive, key=lambda grant: (grant.points, grant.offer.exact))
        for grant in exclusive:
            if grant is not best:
                short = str(best.points - grant.points)
                missed.append(_missed(grant.offer, EXCLUSIVE, best.offer.id, "", short))
        missed += sums.add(best)
    return Decision(sums.total, sums.base, sums.exact, tuple(sums.grants), tuple(missed))


def replay(
    recorded: Iterable[Recorded],
    moves: Sequence[TierMove],
    program: Program,
    first: UUID | None,
    spent: dict[str, int],
) -> dict[UUID, tuple[TierInForce, Decision]]:
    """Decide all of a customer's purchases with campaigns, in the order in which caps fill.

    ``first`` is the customer's first purchase; ``spent``, what budgets have given, grows by what is drawn here.
    """
    given: dict[str, int] = {}
    found: dict[UUID, tuple[TierInForce, Decision]] = {}
    for one in sorted(recorded, key=lambda one: (one.occurred_at, one.lot_id.bytes)):
        tier = tier_at(moves, program, one.occurred_at)
        bounds = Bounds(given, one.drawn, spent)
        decision = decide(one.case, tier, first=one.lot_id == first, bounds=bounds)
        for campaign, points in draws(decision, one.drawn).items():
            spent[campaign] = spent.get(campaign, 0) + points
        for grant in decision.grants:
            # What was given under rules without this cap counts for none: not all of it is remembered.
            if grant.offer.per_customer is not None:
                given[grant.offer.id] = given.get(grant.offer.id, 0) + grant.points
        found[one.lot_id] = tier, decision
    return found


def draws(decision: Decision, drawn: Mapping[str, int]) -> dict[str, int]:
    """What a decision takes from budgets beyond what its purchase has drawn already."""
    return {
        grant.offer.id: more
        for grant in decision.grants
        if grant.offer.total is not None
        and (more := grant.points - drawn.get(grant.offer.id, 0)) > 0
    }


def weights(
    decision: Decision, case: Case, nets: Sequence[Decimal], reasons: Mapping[int, str]
) -> list[Fraction] | None:
    """What each line is worth with its campaigns, to split points by; None where that is as their nets are."""
    if not any(grant.offer.lines for grant in decision.grants):
        return None
    values = [Fraction(0 if i in reasons else net) for i, net in enumerate(nets)]
    whole = sum(values)
    found = [value * case.exact / whole for value in values]
    for grant in decision.grants:
        lines = grant.offer.lines or tuple(i for i in range(len(nets)) if i not in reasons)
        of = sum(values[index] for index in lines)
        kept = Fraction(grant.points, grant.asked) if grant.asked else ONE
        for index in lines:
            found[index] += grant.offer.exact * kept * values[index] / of
    return found


def _fitting(
    offers: Sequence[Offer], tier: TierInForce, *, first: bool
) -> tuple[list[Offer], list[Missed]]:
    """Tell the offers that this customer's tier and history allow from the others."""
    fits: list[Offer] = []
    missed: list[Missed] = []
    for offer in offers:
        if offer.tiers and tier.id not in offer.tiers:
            missed.append(_missed(offer, TIERS, ", ".join(offer.tiers), tier.id or ""))
        elif offer.first and not first:
            missed.append(_missed(offer, FIRST))
        else:
            fits.append(offer)
    return fits, missed


class _Sums:
    """The running sums of a decision, with the tier's multiplier and without."""

    def __init__(self, case: Case, multiplier: Fraction) -> None:
        self._rounding, self._multiplier = case.rounding, multiplier
        self.exact = case.exact
        self.total, self.base = self._rounded(case.exact)
        self.grants: list[Grant] = []

    def grant(self, offer: Offer, bounds: Bounds) -> Grant:
        """What an offer gives on top of what has been added so far, within its bounds."""
        with_tier, _ = self._parts(offer)
        most, capped, bound = with_tier, "", 0
        for name, limit, said in _limits(offer, bounds):
            if limit < most:
                most, capped, bound = limit, name, said
        return Grant(offer, with_tier, most, capped, bound)

    def add(self, grant: Grant) -> list[Missed]:
        """Add what is granted; what a cap leaves nothing of has not fired."""
        if grant.asked and not grant.points:
            asked = str(grant.asked)
            return [_missed(grant.offer, grant.capped, str(grant.bound), "", asked)]
        with_tier, without = self._parts(grant.offer)
        self.total += min(with_tier, grant.points)
        self.base += min(without, grant.points) if grant.capped else without
        self.exact += grant.offer.exact
        self.grants.append(grant)
        return []

    def _parts(self, offer: Offer) -> tuple[int, int]:
        """The whole points that an offer makes of difference, with and without the tier."""
        before, after = self._rounded(self.exact), self._rounded(self.exact + offer.exact)
        return after[0] - before[0], after[1] - before[1]

    def _rounded(self, exact: Fraction) -> tuple[int, int]:
        base = round_points(exact, self._rounding)
        if self._multiplier == 1:
            return base, base
        return round_points(exact * self._multiplier, self._rounding), base


def _limits(offer: Offer, bounds: Bounds) -> Iterable[tuple[str, int, int]]:
    """The bounds of an offer: name, what is left of it, and the bound itself."""
    if offer.per_purchase is not None:
        yield PER_PURCHASE, offer.per_purchase, offer.per_purchase
    if offer.per_customer is not None:
        left = offer.per_customer - bounds.given.get(offer.id, 0)
        yield PER_CUSTOMER, max(0, left), offer.per_customer
    if offer.total is not None:
        left = max(0, offer.total - bounds.spent.get(offer.id, 0))
        yield TOTAL, bounds.drawn.get(offer.id, 0) + left, offer.total


def _missed(
    offer: Offer, condition: str, needed: str = "", found: str = "", by: str = ""
) -> Missed:
    return Missed(offer.id, offer.name, condition, needed, found, by)
