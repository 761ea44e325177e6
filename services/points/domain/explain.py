"""Why these points, and why not more: what is stored with an entry, told in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

from services.points.domain import campaign_wording, clawbacks, wording
from services.points.domain.clawbacks import PackedClawback
from services.points.domain.earning import TEST
from services.points.domain.exact import exactly
from services.points.domain.facts import PackedFact, sentence
from services.points.domain.packed_campaigns import CAMPAIGN, PackedCampaign, PackedGrant
from services.points.domain.packing import (
    AWARD,
    CORRECTION,
    COUNTED_IDS,
    PackedAward,
    PackedCorrection,
    decode,
    fingerprint,
    pack,
    pack_correction,
)
from services.points.domain.story import (
    ExplainedLine,
    Explanation,
    Fired,
    Inputs,
    NotFired,
    Step,
)
from services.points.domain.wording import Sentence
from shared.money import Rounding

__all__ = ["Explanation", "fingerprint", "pack", "pack_correction", "unpack"]


@exactly
def unpack(stored: bytes | str, names: Mapping[str, str] | None = None) -> Explanation:
    """Tell an entry's story from its stored form; ``names`` turns tier ids into what customers read."""
    packed = decode(stored)
    if isinstance(packed, PackedAward):
        return _award(packed, names or {})
    if isinstance(packed, PackedCampaign):
        return _campaign(packed, names or {})
    if isinstance(packed, PackedFact):
        return _fact(packed)
    if isinstance(packed, PackedClawback):
        return _clawback(packed)
    return _correction(packed, names or {})


def _award(packed: PackedAward, names: Mapping[str, str]) -> Explanation:
    multiplier = Fraction(packed.multiplier)
    return Explanation(
        kind=AWARD,
        program=packed.program,
        program_version=packed.version,
        sentence=_award_sentence(packed, names),
        steps=_award_steps(packed, names),
        points=packed.total,
        total=packed.total,
        base=packed.base,
        bonus=packed.total - packed.base,
        exact=wording.exact_text(Fraction(packed.exact) * multiplier),
        rounding=packed.rounding,
        tier=packed.tier,
        multiplier=wording.exact_text(multiplier),
        inputs=Inputs(
            currency=packed.paid_in or packed.currency,
            exchange_rate=packed.exchange_rate,
            order_discount=packed.order_discount,
            prices_include_tax=not packed.tax_on_top,
            net_spend=packed.net_spend,
        ),
        lines=_lines(packed),
        not_fired=[_not_fired(rule, names, packed.currency) for rule in packed.unfired],
        campaigns=_fired(packed.fired),
    )


def _lines(packed: PackedAward) -> list[ExplainedLine]:
    reasons = packed.reasons or {}
    ids = packed.line_ids or COUNTED_IDS
    points = packed.lines(packed.total)
    columns = zip(ids, packed.skus, packed.quantities, packed.nets, points, strict=False)
    return [
        ExplainedLine(
            line_id=line_id,
            sku=sku,
            quantity=quantity,
            net=net,
            points=line_points,
            reason=reasons.get(index),
            text=wording.reason(reasons[index], sku) if index in reasons else None,
        )
        for index, (line_id, sku, quantity, net, line_points) in enumerate(columns)
    ]


def _award_sentence(packed: PackedAward, names: Mapping[str, str]) -> Sentence:
    multiplier = Fraction(packed.multiplier)
    if not Fraction(packed.exact):
        if TEST in (packed.reasons or {}).values():
            return Sentence("Keine Punkte: eine Testbestellung.", "No points: a test order.")
        german = "Keine Punkte: keine Position des Einkaufs ist anrechenbar."
        return Sentence(german, "No points: no line of the purchase is eligible.")
    total, per = wording.points(packed.total), _points_per(packed)
    spend = wording.money(packed.net_spend, packed.currency)
    german, english = f"{total.de}: {per.de} auf {spend.de}", f"{total.en}: {per.en} on {spend.en}"
    for grant in packed.fired:
        added = campaign_wording.added(grant)
        german, english = f"{german}, {added.de}", f"{english}, {added.en}"
    if multiplier != 1:
        tier = wording.tier(_name(packed.tier, names), multiplier)
        german, english = f"{german}, {tier.de}", f"{english}, {tier.en}"
    if Fraction(packed.exact) * multiplier != _uncapped(packed):
        rounded = wording.rounded(packed.rounding)
        german, english = f"{german}, {rounded.de}", f"{english}, {rounded.en}"
    for grant in packed.fired:
        if grant.capped:
            cut = campaign_wording.cut(grant)
            german, english = f"{german}; {cut.de}", f"{english}; {cut.en}"
    return Sentence(f"{german}.", f"{english}.")


def _award_steps(packed: PackedAward, names: Mapping[str, str]) -> list[Step]:
    plain = Fraction(packed.plain or packed.exact)
    exact, per = wording.number(plain), _points_per(packed)
    steps = _spend_steps(packed)
    text = Sentence(f"{per.de}: {exact.de}", f"{per.en}: {exact.en}")
    steps.append(Step("base", wording.exact_text(plain), text))
    steps += _decided_steps(packed, names)
    basic, bonus = wording.points(packed.base), wording.points(packed.total - packed.base)
    text = Sentence(
        f"{basic.de} und {bonus.de} Stufenbonus", f"{basic.en} and {bonus.en} tier bonus"
    )
    steps.append(Step("bonus", str(packed.total - packed.base), text))
    return steps


def _decided_steps(packed: PackedAward | PackedCampaign, names: Mapping[str, str]) -> list[Step]:
    """From the exact value to whole points: campaigns, tier, rounding, caps."""
    exact, multiplier = Fraction(packed.exact), Fraction(packed.multiplier)
    steps = [
        Step(
            f"{CAMPAIGN}:{grant.id}",
            wording.exact_text(Fraction(grant.exact)),
            campaign_wording.added(grant),
        )
        for grant in packed.fired
    ]
    tier = wording.tier(_name(packed.tier, names), multiplier)
    shown = wording.number(exact * multiplier)
    text = Sentence(f"{tier.de}: {shown.de}", f"{tier.en}: {shown.en}")
    steps.append(Step("tier", wording.exact_text(exact * multiplier), text))
    steps.append(_rounding_step(packed.rounding, _uncapped(packed)))
    steps += [
        Step(f"cap:{grant.id}", str(grant.points - grant.asked), campaign_wording.cut(grant))
        for grant in packed.fired
        if grant.capped
    ]
    return steps


def _uncapped(packed: PackedAward | PackedCampaign) -> int:
    """The rounded value before caps cut something of it."""
    return packed.total + sum(grant.asked - grant.points for grant in packed.fired)


def _fired(fired: Sequence[PackedGrant]) -> list[Fired]:
    return [
        Fired(
            campaign=grant.id,
            name=grant.name or None,
            exact=wording.exact_text(Fraction(grant.exact)),
            asked=grant.asked,
            points=grant.points,
            capped_by=grant.capped or None,
            text=campaign_wording.cut(grant) if grant.capped else campaign_wording.added(grant),
        )
        for grant in fired
    ]


def _campaign(packed: PackedCampaign, names: Mapping[str, str]) -> Explanation:
    exact, multiplier = Fraction(packed.exact), Fraction(packed.multiplier)
    points, base = packed.total - packed.total_before, packed.base - packed.base_before
    change = wording.points(points, signed=True)
    old, new = wording.points(packed.total_before), wording.points(packed.total)
    sentence = Sentence(
        f"{change.de}: die Aktionen dieses Einkaufs neu gerechnet, weil etwas später bekannt wurde;"
        f" {new.de} statt {old.de}.",
        f"{change.en}: the campaigns of this purchase worked out anew, as something became known"
        f" later; {new.en} instead of {old.en}.",
    )
    booked = Sentence(f"bisher {old.de}, also {change.de}", f"so far {old.en}, hence {change.en}")
    plain = wording.number(Fraction(packed.plain))
    before = Sentence(f"ohne Aktionen: {plain.de}", f"without campaigns: {plain.en}")
    return Explanation(
        kind=CAMPAIGN,
        program=packed.program,
        program_version=packed.version,
        sentence=sentence,
        steps=[
            Step("base", wording.exact_text(Fraction(packed.plain)), before),
            *_decided_steps(packed, names),
            Step("difference", str(points), booked),
        ],
        points=points,
        total=packed.total,
        base=base,
        bonus=points - base,
        exact=wording.exact_text(exact * multiplier),
        rounding=packed.rounding,
        tier=packed.tier,
        multiplier=wording.exact_text(multiplier),
        inputs=None,
        lines=[],
        not_fired=[_not_fired(rule, names, "") for rule in packed.unfired],
        campaigns=_fired(packed.fired),
    )


def _spend_steps(packed: PackedAward) -> list[Step]:
    steps = []
    paid_in = packed.paid_in or packed.currency
    if packed.order_discount:
        discount = wording.money(packed.order_discount, paid_in)
        text = Sentence(
            f"{discount.de} Rabatt auf die Bestellung, nach Beträgen auf alle Positionen verteilt",
            f"{discount.en} off the order, split to all lines by amount",
        )
        steps.append(Step("order_discount", str(packed.order_discount), text))
    reasons = packed.reasons or {}
    net = sum((net for index, net in enumerate(packed.nets) if index not in reasons), Decimal(0))
    counted, of = len(packed.nets) - len(reasons), len(packed.nets)
    spend = wording.money(net, paid_in)
    after_tax = packed.net_of_tax and not packed.tax_on_top
    german = f"{counted} von {of} Positionen anrechenbar: {spend.de}"
    english = f"{counted} of {of} lines eligible: {spend.en}"
    text = Sentence(german + " ohne Steuer", english + " without tax")
    steps.append(Step("net", str(net), text if after_tax else Sentence(german, english)))
    if packed.exchange_rate is not None:
        rate = wording.number(packed.exchange_rate)
        spend = wording.money(packed.net_spend, packed.currency)
        text = Sentence(f"zum Kurs {rate.de}: {spend.de}", f"at a rate of {rate.en}: {spend.en}")
        steps.append(Step("exchange_rate", str(packed.net_spend), text))
    return steps


def _correction(packed: PackedCorrection, names: Mapping[str, str]) -> Explanation:
    base, multiplier = Fraction(packed.exact), Fraction(packed.multiplier)
    before = wording.tier(_name(packed.tier_before, names), Fraction(packed.multiplier_before))
    after = wording.tier(_name(packed.tier, names), multiplier)
    delta = packed.total - packed.total_before
    change, exact = wording.points(delta, signed=True), wording.number(base * multiplier)
    old, new = wording.points(packed.total_before), wording.points(packed.total)
    sentence = Sentence(
        f"{change.de}: für diesen Einkauf gilt {after.de} statt {before.de};"
        f" {new.de} statt {old.de}.",
        f"{change.en}: this purchase earns with {after.en}, not with {before.en};"
        f" {new.en} instead of {old.en}.",
    )
    text = Sentence(f"{after.de}: {exact.de}", f"{after.en}: {exact.en}")
    booked = Sentence(f"bisher {old.de}, also {change.de}", f"so far {old.en}, hence {change.en}")
    return Explanation(
        kind=CORRECTION,
        program=packed.program,
        program_version=packed.version,
        sentence=sentence,
        steps=[
            Step("tier", wording.exact_text(base * multiplier), text),
            _rounding_step(packed.rounding, packed.total),
            Step("difference", str(delta), booked),
        ],
        points=delta,
        total=packed.total,
        base=None,
        bonus=None,
        exact=wording.exact_text(base * multiplier),
        rounding=packed.rounding,
        tier=packed.tier,
        multiplier=wording.exact_text(multiplier),
        inputs=None,
        lines=[],
        not_fired=[],
    )


def _fact(packed: PackedFact) -> Explanation:
    told = sentence(packed)
    return Explanation(
        kind=packed.code,
        program=packed.program,
        program_version=packed.version,
        sentence=told,
        steps=[Step(packed.code, str(packed.points), told)],
        points=packed.points,
        total=packed.total,
        base=None,
        bonus=None,
        exact=str(packed.points),
        rounding=packed.rounding,
        tier=None,
        multiplier="1",
        inputs=None,
        lines=[],
        not_fired=[],
    )


def _clawback(packed: PackedClawback) -> Explanation:
    taken = packed.points_before - packed.points
    return Explanation(
        kind=clawbacks.CLAWBACK,
        program=packed.program,
        program_version=packed.version,
        sentence=clawbacks.sentence(packed),
        steps=[Step(*step) for step in clawbacks.steps(packed)],
        points=taken,
        total=-packed.points,
        base=None,
        bonus=None,
        exact=str(taken),
        rounding="floor",
        tier=None,
        multiplier="1",
        inputs=None,
        lines=[
            ExplainedLine(line_id, sku, quantity, net, -points, None, None)
            for line_id, sku, quantity, points, net in packed.lines
        ],
        not_fired=[],
    )


def _rounding_step(mode: Rounding, total: int) -> Step:
    rounded, points = wording.rounded(mode), wording.points(total)
    text = Sentence(f"einmal {rounded.de}: {points.de}", f"once {rounded.en}: {points.en}")
    return Step("rounding", str(total), text)


def _points_per(packed: PackedAward) -> Sentence:
    count, per = packed.points_per
    points, amount = wording.points(int(count)), wording.money(Decimal(per), packed.currency)
    return Sentence(f"{points.de} je {amount.de}", f"{points.en} per {amount.en}")


def _not_fired(rule: list[str], names: Mapping[str, str], currency: str) -> NotFired:
    if rule[0] == CAMPAIGN:
        _, campaign, _, condition, needed, found, by = rule
        told = campaign_wording.missed(rule[1:], names, currency)
        return NotFired(
            f"{CAMPAIGN}:{campaign}", condition, told, needed or None, found or None, by or None
        )
    if rule[0] == "tier":
        level = wording.tier(_name(rule[1], names), Fraction(rule[2]))
        text = Sentence(
            f"{level.de} galt vor dem Einkauf nicht",
            f"{level.en} was not in force before the purchase",
        )
        return NotFired(f"tier:{rule[1]}", "in_force_before_purchase", text)
    if rule[1] == TEST:
        text = Sentence("Testbestellungen bringen keine Punkte", "test orders earn no points")
        return NotFired(rule[0], "not_a_test_order", text)
    text = Sentence("keine Position ist anrechenbar", "no line is eligible")
    return NotFired(rule[0], "an_eligible_line", text)


def _name(tier: str | None, names: Mapping[str, str]) -> str | None:
    return None if tier is None else names.get(tier, tier)
