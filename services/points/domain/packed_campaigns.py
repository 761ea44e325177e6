"""What campaigns offered and gave, in the short form in which it is stored with entries."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import msgspec

from services.points.domain.bonus import TierInForce
from services.points.domain.campaigns import Missed, Offer
from services.points.domain.deciding import Case, Decision, Grant
from shared.money import Rounding

CAMPAIGN = "campaign"


class PackedOffer(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a campaign offered: all that deciding anew needs of it, the bounds of its day included."""

    id: str
    name: str
    exact: str
    lines: Sequence[int] = ()
    exclusive: bool = False
    tiers: Sequence[str] = ()
    first: bool = False
    per_purchase: int | None = None
    per_customer: int | None = None
    total: int | None = None

    @classmethod
    def of(cls, offer: Offer) -> PackedOffer:
        """Write an offer down."""
        return cls(offer.id, offer.name, str(offer.exact), *offer[3:])

    def offer(self) -> Offer:
        """Read it again."""
        return Offer(
            self.id, self.name, Fraction(self.exact), tuple(self.lines), self.exclusive, tuple(self.tiers),
            self.first, self.per_purchase, self.per_customer, self.total,
        )  # fmt: skip


class PackedGrant(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a campaign gave: ``points`` of ``asked``, with the tier; ``exact`` before it."""

    id: str
    name: str
    exact: str
    asked: int
    points: int
    capped: str = ""
    bound: int = 0

    @classmethod
    def of(cls, grant: Grant) -> PackedGrant:
        """Write a grant down."""
        offer = grant.offer
        return cls(offer.id, offer.name, str(offer.exact), *grant[1:])


class PackedCampaign(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    tag_field="k",
    tag=CAMPAIGN,
    rename={
        "program": "p",
        "version": "v",
        "rounding": "m",
        "plain": "x0",
        "exact": "x",
        "base": "g",
        "total": "t",
        "base_before": "g0",
        "total_before": "t0",
        "tier": "l",
        "multiplier": "f",
        "fired": "cf",
        "unfired": "u",
        "weights": "lw",
    },
):
    """A purchase's campaigns, decided anew: what it stands at since, and what it stood at before."""

    program: str
    version: str
    rounding: Rounding
    plain: str
    exact: str
    base: int
    total: int
    base_before: int
    total_before: int
    tier: str | None = None
    multiplier: str = "1"
    fired: Sequence[PackedGrant] = ()
    unfired: list[list[str]] = []
    weights: Sequence[str] | None = None


def pack_decision(
    case: Case,
    before: tuple[int, int],
    after: tuple[TierInForce, Decision],
    weights: Sequence[Fraction] | None,
    rules: tuple[str, str],
) -> bytes:
    """Write down what a purchase's campaigns give since they were decided anew.

    ``before`` is base and total as they were, ``rules`` the program and the version that the award was made by.
    """
    tier, decision = after
    return msgspec.json.encode(
        PackedCampaign(
            program=rules[0],
            version=rules[1],
            rounding=case.rounding,
            plain=str(case.exact),
            exact=str(decision.exact),
            base=decision.base,
            total=decision.total,
            base_before=before[0],
            total_before=before[1],
            tier=tier.id,
            multiplier=str(tier.multiplier),
            fired=[PackedGrant.of(grant) for grant in decision.grants],
            unfired=missed_rules(decision.missed),
            weights=texts(weights),
        )
    )


def missed_rules(missed: Sequence[Missed]) -> list[list[str]]:
    """Name campaigns that gave nothing among the rules that did not fire."""
    return [[CAMPAIGN, *one] for one in missed]


def texts(weights: Sequence[Fraction] | None) -> list[str] | None:
    """Write the weights of lines as fractions."""
    return None if weights is None else [str(weight) for weight in weights]
