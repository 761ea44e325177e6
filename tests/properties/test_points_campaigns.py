from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.points.domain import earning
from services.points.domain.bonus import TierInForce
from services.points.domain.campaigns import Offer
from services.points.domain.deciding import (
    Bounds,
    Case,
    Decision,
    Recorded,
    decide,
    draws,
    replay,
)
from services.points.domain.explain import unpack
from services.points.domain.packing import PackedAward, decode, pack
from shared.contracts.purchases import PurchaseCompleted
from shared.contracts.tiers import TierMove
from shared.money import Rounding, round_points
from tests.properties.test_points_earning import purchases
from tests.unit.points.samples import LEVELS, NOON, program

ROUNDINGS: tuple[Rounding, ...] = ("floor", "half_even", "ceil")
PROGRAM = program()

exacts = st.fractions(0, 500, max_denominator=100)
tiers = st.builds(
    TierInForce,
    st.sampled_from(("bronze", "silver", "gold")),
    st.sampled_from((Fraction(1), Fraction(5, 4), Fraction(3, 2), Fraction(4, 3))),
)
bounds = st.none() | st.integers(1, 300)


@st.composite
def offers(draw: st.DrawFn, *, free: bool = False) -> list[Offer]:
    found = []
    for index in range(draw(st.integers(1, 5))):
        exact = draw(st.fractions(Fraction(1, 100), 300, max_denominator=100))
        offer = Offer(f"c{index}", "", exact)
        if not free:
            offer = offer._replace(
                exclusive=draw(st.booleans()),
                tiers=draw(st.sampled_from(((), (), ("silver", "gold")))),
                first=draw(st.sampled_from((False, False, True))),
                per_purchase=draw(bounds),
                per_customer=draw(bounds),
                total=draw(bounds),
            )
        found.append(offer)
    return found


@st.composite
def cases(draw: st.DrawFn, *, free: bool = False) -> Case:
    return Case(draw(exacts), draw(st.sampled_from(ROUNDINGS)), draw(offers(free=free)))


@given(cases(free=True), tiers)
def test_without_caps_all_is_rounded_once(case: Case, tier: TierInForce) -> None:
    found = decide(case, tier, first=True)
    exact = case.exact + sum(offer.exact for offer in case.offers)
    assert found.exact == exact
    assert found.total == round_points(exact * tier.multiplier, case.rounding)
    assert found.base == round_points(exact, case.rounding)
    plain = round_points(case.exact * tier.multiplier, case.rounding)
    assert plain + sum(grant.points for grant in found.grants) == found.total


@given(cases(), tiers, st.booleans())
def test_every_offer_fires_or_says_why_not(case: Case, tier: TierInForce, first: bool) -> None:  # noqa: FBT001
    found = decide(case, tier, first=first)
    told = [grant.offer.id for grant in found.grants] + [missed.id for missed in found.missed]
    assert sorted(told) == [offer.id for offer in case.offers]
    for grant in found.grants:
        offer = grant.offer
        assert 0 <= grant.points <= grant.asked
        limits = [offer.per_purchase, offer.per_customer, offer.total]
        assert all(grant.points <= limit for limit in limits if limit is not None)
        assert (grant.points < grant.asked) == bool(grant.capped)
    plain = round_points(case.exact * tier.multiplier, case.rounding)
    assert found.total == plain + sum(grant.points for grant in found.grants)


@given(cases(), tiers)
def test_no_other_exclusive_one_would_have_given_more(case: Case, tier: TierInForce) -> None:
    def alone(chosen: Offer | None) -> Decision:
        kept = [offer for offer in case.offers if not offer.exclusive or offer is chosen]
        return decide(case._replace(offers=kept), tier, first=True)

    totals = [alone(offer).total for offer in case.offers if offer.exclusive]
    assert decide(case, tier, first=True).total == max([*totals, alone(None).total])


@st.composite
def histories(draw: st.DrawFn) -> list[Recorded]:
    """Purchases of a customer under the same campaigns, which offer each of them something else."""
    shapes = draw(offers())
    found = []
    for number in range(draw(st.integers(1, 8))):
        made = [
            shape._replace(exact=draw(st.fractions(Fraction(1, 100), 100, max_denominator=100)))
            for shape in shapes
            if draw(st.booleans())
        ]
        case = Case(draw(exacts), "floor", made)
        when = NOON + timedelta(hours=draw(st.integers(0, 5)))
        found.append(Recorded(UUID(int=number), when, case, {}))
    return found


MOVES = [
    TierMove("upgraded", "gold", "bronze", "1.5", NOON + timedelta(hours=2), None, 1, None),
]


@given(histories(), st.randoms(use_true_random=False))
def test_caps_hold_and_fill_in_one_order_however_they_are_told(
    history: list[Recorded], chance: Any
) -> None:
    spent: dict[str, int] = {}
    found = replay(history, MOVES, PROGRAM, history[0].lot_id, spent)
    stirred = list(history)
    chance.shuffle(stirred)
    assert replay(stirred, MOVES, PROGRAM, history[0].lot_id, {}) == found
    given_: dict[str, int] = {}
    for _, decision in found.values():
        for grant in decision.grants:
            given_[grant.offer.id] = given_.get(grant.offer.id, 0) + grant.points
    limits = {offer.id: offer for one in history for offer in one.case.offers}
    for name, points in given_.items():
        most = limits[name].per_customer
        assert most is None or points <= most
        budget = limits[name].total
        assert budget is None or points == spent.get(name, 0) <= budget


@given(histories())
def test_what_was_drawn_is_kept_when_nothing_is_left(history: list[Recorded]) -> None:
    found = replay(history, MOVES, PROGRAM, None, {})
    drawn = [one._replace(drawn=draws(found[one.lot_id][1], {})) for one in history]
    nothing = {offer.id: 10**18 for one in history for offer in one.case.offers}
    again = replay(drawn, MOVES, PROGRAM, None, nothing)
    assert {lot: decision.total for lot, (_, decision) in again.items()} == {
        lot: decision.total for lot, (_, decision) in found.items()
    }


def _program(rounding: str) -> Any:
    window = {"from": "2027-01-01", "until": "2027-12-31"}
    told: list[dict[str, Any]] = [
        {"id": "x", "multiplier": "1.7", "when": {"categories": ["x"]}},
        {"id": "b", "bonus": 11, "cap": {"per_purchase": 5}, "when": {"skus": ["A", "C"]}},
        {"id": "e", "multiplier": "2", "exclusive": True, "cap": {"per_customer": 40}},
        {"id": "f", "bonus": 30, "exclusive": True, "when": {"minimum": "50"}},
    ]
    return program(
        earning={"rounding": rounding, "campaigns": [window | one for one in told]}, levels=LEVELS
    )


@given(purchases(), st.sampled_from(ROUNDINGS), tiers)
def test_what_is_stored_decides_and_explains_the_same_again(
    purchase: PurchaseCompleted, rounding: Rounding, tier: TierInForce
) -> None:
    rules = _program(rounding)
    assessment = earning.assess(purchase, rules)
    found = earning.offered(purchase, "web", assessment, rules)
    assert found is not None
    used = Bounds({"e": 20}, {}, {})
    decision = decide(earning.case_of(assessment, found, rules), tier, first=False, bounds=used)
    award = earning.decided(assessment, found, tier, decision)
    stored = pack(purchase, assessment, award, tier, rules)
    packed = decode(stored)
    assert isinstance(packed, PackedAward)
    if found.changeable:
        assert decide(packed.case(), tier, first=False, bounds=used) == decision
    told = unpack(stored)
    assert sum(line.points for line in told.lines) == told.total == award.total
    assert [line.points for line in told.lines] == list(award.lines)
    assert len(told.campaigns) == len(decision.grants)
    assert told.base == award.base
