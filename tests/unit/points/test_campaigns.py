from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from services.points.domain import earning
from services.points.domain.bonus import TierInForce
from services.points.domain.deciding import NO_BOUNDS, Bounds, decide
from services.points.domain.earning import Award
from services.points.domain.explain import Explanation, pack, unpack
from services.points.domain.packed_campaigns import pack_decision
from services.points.domain.wording import Sentence
from shared.contracts.purchases import PurchaseCompleted
from shared.errors import Poison
from shared.program import load
from shared.program.model import Program
from tests.unit.points.samples import line, numbered, program, purchase

BRONZE = TierInForce("bronze", Fraction(1))
GOLD = TierInForce("gold", Fraction(3, 2))
GOLDEN = numbered(("1", "9.99"), ("2", "19.99"), ("1", "4.95"))


def campaign(campaign_id: str = "double", **more: Any) -> dict[str, Any]:
    """A campaign of January 2027 that doubles the points unless told otherwise."""
    content = {"id": campaign_id, "from": "2027-01-01", "until": "2027-01-31"}
    gives = {} if "bonus" in more else {"multiplier": "2"}
    return content | gives | more


def rules(*campaigns: dict[str, Any], **earning: Any) -> Program:
    return program(earning={"campaigns": list(campaigns)} | earning)


def granted(
    given: PurchaseCompleted,
    with_rules: Program,
    tier: TierInForce = BRONZE,
    *,
    shop: str = "web",
    first: bool = False,
    bounds: Bounds = NO_BOUNDS,
) -> Award:
    assessment = earning.assess(given, with_rules)
    found = earning.offered(given, shop, assessment, with_rules)
    assert found is not None
    case = earning.case_of(assessment, found, with_rules)
    decision = decide(case, tier, first=first, bounds=bounds)
    return earning.decided(assessment, found, tier, decision)


def story(given: PurchaseCompleted, with_rules: Program, **more: Any) -> Explanation:
    award = granted(given, with_rules, **more)
    tier = more.get("tier", BRONZE)
    return unpack(pack(given, award.assessment, award, tier, with_rules), {"gold": "Gold"})


def test_golden_net_allocation_under_a_campaign() -> None:
    given = purchase(*GOLDEN, order_discount="10.00")
    found = granted(given, rules(campaign(multiplier="1.5")))
    assert found.assessment.nets == [Decimal("8.17"), Decimal("32.70"), Decimal("4.05")]
    assert found.assessment.net_spend == Decimal("44.92")


def test_golden_round_once_by_a_campaign() -> None:
    given = purchase(*GOLDEN, order_discount="10.00")
    found = granted(given, rules(campaign(multiplier="1.5")))
    assert found.exact == Fraction("67.38")
    assert (found.total, found.base, found.bonus) == (67, 67, 0)
    assert found.lines == [12, 49, 6]


def test_campaigns_come_before_the_tier_and_all_is_rounded_once() -> None:
    found = granted(purchase(line(unit_price="33.33")), rules(campaign(multiplier="1.5")), GOLD)
    # 33.33 × 1.5 = 49.995, × 1.5 = 74.9925
    assert (found.value, found.exact) == (Fraction("49.995"), Fraction("74.9925"))
    assert (found.total, found.base, found.bonus) == (74, 49, 25)


def test_what_is_not_exclusive_adds_up() -> None:
    found = granted(purchase(), rules(campaign("a"), campaign("b"), campaign("c", bonus=7)))
    assert found.total == 10 + 10 + 10 + 7


def test_of_exclusive_ones_the_best_counts() -> None:
    with_rules = rules(
        campaign("a", exclusive=True),
        campaign("b", bonus=15, exclusive=True),
        campaign("c", bonus=1),
    )
    found = granted(purchase(), with_rules)
    assert found.total == 10 + 15 + 1
    told = story(purchase(), with_rules)
    assert [(x.rule, x.condition, x.needed, x.missed_by) for x in told.not_fired[2:]] == [
        ("campaign:a", "exclusive", "b", "5")
    ]


def test_the_best_exclusive_one_is_judged_after_its_caps() -> None:
    with_rules = rules(
        campaign("a", multiplier="5", exclusive=True, cap={"per_customer": 30}),
        campaign("b", exclusive=True),
    )
    assert granted(purchase(), with_rules).total == 10 + 30
    used_up = Bounds({"a": 25}, {}, {})
    assert granted(purchase(), with_rules, bounds=used_up).total == 10 + 10


def test_named_lines_alone_are_multiplied_and_get_the_points() -> None:
    lines = [line(line_id="1", category="home"), line(line_id="2"), line(line_id="3", sku="X")]
    found = granted(purchase(*lines), rules(campaign(when={"categories": ["home"]})))
    assert (found.total, found.lines) == (40, [20, 10, 10])
    both = granted(purchase(*lines), rules(campaign(when={"categories": ["home"], "skus": ["X"]})))
    assert both.total == 30


def test_points_of_capped_lines_are_split_as_they_were_granted() -> None:
    lines = [line(line_id="1", category="home"), line(line_id="2")]
    capped = campaign(when={"categories": ["home"]}, cap={"per_purchase": 4})
    assert granted(purchase(*lines), rules(capped)).lines == [14, 10]


@pytest.mark.parametrize(
    ("tier", "total", "base"),
    [(BRONZE, 10 + 6, 10 + 6), (GOLD, 15 + 6, 10 + 6)],
)
def test_caps_apply_last(tier: TierInForce, total: int, base: int) -> None:
    found = granted(purchase(), rules(campaign(cap={"per_purchase": 6})), tier)
    assert (found.total, found.base, found.bonus) == (total, base, total - base)


@pytest.mark.parametrize(
    ("cap", "bounds", "given", "capped"),
    [
        ({"per_purchase": 10}, NO_BOUNDS, 10, None),
        ({"per_purchase": 9}, NO_BOUNDS, 9, "cap.per_purchase"),
        ({"per_customer": 25}, Bounds({"double": 20}, {}, {}), 5, "cap.per_customer"),
        ({"total": 100}, Bounds({}, {}, {"double": 97}), 3, "cap.total"),
        ({"total": 100}, Bounds({}, {"double": 4}, {"double": 100}), 4, "cap.total"),
        ({"total": 100, "per_purchase": 2}, Bounds({}, {}, {"double": 97}), 2, "cap.per_purchase"),
    ],
)
def test_each_cap(cap: dict[str, int], bounds: Bounds, given: int, capped: str | None) -> None:
    with_rules = rules(campaign(cap=cap))
    found = granted(purchase(), with_rules, bounds=bounds)
    assert found.total == 10 + given
    (told,) = story(purchase(), with_rules, bounds=bounds).campaigns
    assert (told.points, told.asked, told.capped_by) == (given, 10, capped)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("window", "when", "fires"),
    [
        ({}, "2026-12-31T23:59:59+00:00", False),
        ({}, "2027-01-01T00:00:00+00:00", True),
        ({}, "2027-01-31T23:59:59+00:00", True),
        ({}, "2027-02-01T00:00:00+00:00", False),
        ({"until": "2027-01-31T18:00"}, "2027-01-31T17:59:59+00:00", True),
        ({"until": "2027-01-31T18:00"}, "2027-01-31T18:00:00+00:00", False),
        ({"until": "2027-01-31T18:00Z"}, "2027-01-31T18:00:00+00:00", False),
        ({"from": "2027-01-31T18:00"}, "2027-01-31T18:00:00+00:00", True),
        ({"from": "0001-01-01", "until": "9999-12-31"}, "2027-01-31T18:00:00+00:00", True),
    ],
)
def test_the_window(window: dict[str, str], when: str, fires: bool) -> None:  # noqa: FBT001
    found = granted(purchase(occurred_at=at(when)), rules(campaign(**window)))
    assert found.total == (20 if fires else 10)


def test_the_window_and_the_hours_are_the_program_s_own() -> None:
    given = program(
        earning={"campaigns": [campaign(when={"hours": {"from": "00:00", "until": "00:30"}})]},
        timezone="Europe/Berlin",
    )
    # The local year begins an hour before UTC's.
    assert granted(purchase(occurred_at=at("2026-12-31T23:15:00+00:00")), given).total == 20
    assert granted(purchase(occurred_at=at("2027-01-01T00:15:00+00:00")), given).total == 10


@pytest.mark.parametrize(
    ("until", "clock", "fires"),
    [
        ("20:00", "17:59", False), ("20:00", "18:00", True), ("20:00", "19:59", True),
        ("20:00", "20:00", False), ("24:00", "23:59", True), ("02:00", "23:00", True),
        ("02:00", "01:59", True), ("02:00", "02:00", False),
    ],
)  # fmt: skip
def test_hours(until: str, clock: str, fires: bool) -> None:  # noqa: FBT001
    hours = {"hours": {"from": "18:00", "until": until}}
    given = purchase(occurred_at=at(f"2027-01-15T{clock}:30+00:00"))
    assert granted(given, rules(campaign(when=hours))).total == (20 if fires else 10)


SILVER = {"tiers": ["silver", "gold"]}
# A Sunday, noon.
WHY_NOT: list[tuple[dict[str, Any], str, tuple[str | None, str | None, str | None], str, str]] = [
    (
        {"from": "2027-02-03", "until": "2027-02-03"}, "from", ("2027-02-03", "2027-01-31", "P2D"),
        "Aktion double beginnt am 03.02.2027, der Einkauf war 2 Tage davor",
        "campaign double begins on 3 February 2027, the purchase was 2 days before",
    ),
    (
        {"until": "2027-01-30"}, "until", ("2027-01-30", "2027-01-31", "PT12H"),
        "Aktion double endete am 30.01.2027, der Einkauf war 12 Stunden nach ihrem Ende",
        "campaign double ended on 30 January 2027, the purchase was 12 hours after its end",
    ),
    (
        {"name": "Doppelt", "until": "2027-01-31T11:59"}, "until",
        ("2027-01-31 11:59", "2027-01-31 12:00", "PT1M"),
        "Aktion Doppelt endete am 31.01.2027, 11:59 Uhr, der Einkauf war 1 Minute nach ihrem Ende",
        "campaign Doppelt ended on 31 January 2027, 11:59, the purchase was 1 minute after its end",
    ),
    (
        {"when": {"shops": ["berlin", "bonn"]}}, "shops", ("berlin, bonn", "web", None),
        "Aktion double gilt nur in berlin, bonn, nicht in web",
        "campaign double is for berlin, bonn, not for web",
    ),
    (
        {"when": {"channels": ["app"]}}, "channels", ("app", None, None),
        "Aktion double gilt nur über app, der Einkauf nennt keinen Weg",
        "campaign double is for app, the purchase names no channel",
    ),
    (
        {"when": {"weekdays": ["fri", "mon"]}}, "weekdays", ("mon, fri", "sun", None),
        "Aktion double gilt nur am Montag, Freitag, der Einkauf war am Sonntag",
        "campaign double is for Monday, Friday, the purchase was on Sunday",
    ),
    (
        {"when": {"hours": {"from": "12:30", "until": "14:00"}}}, "hours",
        ("12:30–14:00", "12:00", "PT30M"),
        "Aktion double gilt nur von 12:30–14:00 Uhr, der Einkauf um 12:00 Uhr war 30 Minuten daneben",
        "campaign double is for 12:30–14:00, the purchase at 12:00 was 30 minutes off",
    ),
    (
        {"when": {"categories": ["home"]}}, "lines", ("home", None, None),
        "Aktion double gilt nur für home, keine anrechenbare Position gehört dazu",
        "campaign double is for home, none of the eligible lines is of it",
    ),
    (
        {"when": {"minimum": "16.50"}}, "minimum", ("16.50", "10.00", "6.50"),
        "Aktion double gilt ab 16,50 GBP: bei 10,00 GBP fehlten 6,50 GBP",
        "campaign double begins at 16.50 GBP: 10.00 GBP missed it by 6.50 GBP",
    ),
    (
        {"when": {"tiers": ["gold"]}}, "tiers", ("gold", "bronze", None),
        "Aktion double gilt nur für Stufe Gold, vor dem Einkauf galt Stufe bronze",
        "campaign double is for tier Gold, before the purchase it was tier bronze",
    ),
    (
        {"when": {"first_purchase": True}}, "first_purchase", (None, None, None),
        "Aktion double gilt nur für den ersten Einkauf",
        "campaign double is for the first purchase only",
    ),
    (
        {"cap": {"per_customer": 50}}, "cap.per_customer", ("50", None, "10"),
        "Aktion double bringt höchstens 50 Punkte je Kunde: ausgeschöpft, 10 Punkte mehr wären es gewesen",
        "campaign double gives at most 50 points a customer: used up, it would have been 10 points more",
    ),
    (
        {"cap": {"total": 1000}}, "cap.total", ("1000", None, "10"),
        "Aktion double bringt höchstens 1.000 Punkte insgesamt: ausgeschöpft, 10 Punkte mehr wären es gewesen",
        "campaign double gives at most 1,000 points in all: used up, it would have been 10 points more",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("more", "condition", "by", "german", "english"), WHY_NOT)
def test_why_not(
    more: dict[str, Any],
    condition: str,
    by: tuple[str | None, str | None, str | None],
    german: str,
    english: str,
) -> None:
    spent = Bounds({"double": 50}, {}, {"double": 1000})
    found = story(purchase(), rules(campaign(**more)), bounds=spent)
    assert found.total == 10
    (missed,) = (rule for rule in found.not_fired if rule.rule == "campaign:double")
    assert missed.condition == condition
    assert (missed.needed, missed.found, missed.missed_by) == by
    assert (missed.text.de, missed.text.en) == (german, english)


def test_a_purchase_without_an_eligible_line_says_so_of_each_campaign() -> None:
    found = story(purchase(line(kind="gift_card")), rules(campaign(bonus=50)))
    assert found.total == 0
    assert ("campaign:double", "an_eligible_line") in [
        (rule.rule, rule.condition) for rule in found.not_fired
    ]


def test_the_whole_story_of_a_capped_campaign() -> None:
    with_rules = rules(campaign(name="Advent", multiplier="3", cap={"per_purchase": 60}))
    found = story(purchase(*GOLDEN, order_discount="10.00"), with_rules, tier=GOLD)
    assert found.sentence.de == (
        "127 Punkte: 1 Punkt je 1,00 GBP auf 44,92 GBP, Aktion Advent (+ 89,84), Stufe Gold (× 1,5),"
        " abgerundet; Aktion Advent bringt höchstens 60 Punkte je Einkauf: 60 statt 135."
    )
    assert found.sentence.en == (
        "127 points: 1 point per 1.00 GBP on 44.92 GBP, campaign Advent (+ 89.84), tier Gold (× 1.5),"
        " rounded down; campaign Advent gives at most 60 points a purchase: 60 instead of 135."
    )
    assert [(step.rule, step.value) for step in found.steps] == [
        ("order_discount", "10.00"),
        ("net", "44.92"),
        ("base", "44.92"),
        ("campaign:double", "89.84"),
        ("tier", "202.14"),
        ("rounding", "202"),
        ("cap:double", "-75"),
        ("bonus", "23"),
    ]
    assert (found.points, found.base, found.bonus) == (127, 104, 23)
    assert sum(item.points for item in found.lines) == 127


def test_a_decision_made_anew_tells_what_stands_since() -> None:
    with_rules = rules(campaign(name="Advent", cap={"per_customer": 20}), campaign("b", bonus=5))
    before = granted(purchase(), with_rules)
    after = granted(purchase(), with_rules, GOLD, bounds=Bounds({"double": 13}, {}, {}))
    assert before.decided is not None
    assert after.decided is not None
    assert after.offered is not None
    case = earning.case_of(after.assessment, after.offered, with_rules)
    stood = before.base, before.total
    found = unpack(pack_decision(case, stood, (GOLD, after.decided), None, ("demo", "v1")))
    assert (found.program, found.program_version) == ("demo", "v1")
    assert found.sentence == Sentence(
        "+4 Punkte: die Aktionen dieses Einkaufs neu gerechnet, weil etwas später bekannt wurde;"
        " 29 Punkte statt 25 Punkte.",
        "+4 points: the campaigns of this purchase worked out anew, as something became known later;"
        " 29 points instead of 25 points.",
    )
    assert [(step.rule, step.value) for step in found.steps] == [
        ("base", "10"),
        ("campaign:double", "10"),
        ("campaign:b", "5"),
        ("tier", "37.5"),
        ("rounding", "37"),
        ("cap:double", "-8"),
        ("difference", "4"),
    ]
    assert (found.points, found.total, found.base, found.bonus) == (4, 29, -3, 7)


def test_a_campaign_that_gives_more_than_any_purchase_earns_is_refused() -> None:
    with_rules = rules(campaign(multiplier="1000"), base={"points": 1000, "per": "1.00"})
    with pytest.raises(Poison, match="10\\^15"):
        granted(purchase(line("1000000", "9999")), with_rules)


EXAMPLE = Path(__file__).parents[3] / "programs" / "campaigns.yaml"


@pytest.mark.parametrize(
    ("when", "amount", "more", "fired"),
    [
        ("2011-12-24T23:59:59+00:00", "10.00", {"category": "home"}, {"advent"}),
        ("2011-12-25T00:00:00+00:00", "10.00", {"category": "home"}, set()),
        ("2010-12-01T08:26:00+00:00", "20.00", {}, {"welcome"}),
        ("2011-05-06T18:30:00+01:00", "19.99", {}, {"happy-hour"}),
        ("2011-05-06T18:30:00+01:00", "600.00", {}, {"welcome", "happy-hour"}),
        ("2011-05-05T18:30:00+01:00", "600.00", {}, {"welcome", "bulk"}),
        ("2011-10-09T17:59:59+01:00", "10.00", {}, {"gold-weekend"}),
        ("2011-02-14T12:00:00+00:00", "10.00", {"sku": "85123A"}, {"hearts"}),
    ],
)
def test_the_example_program(when: str, amount: str, more: dict[str, Any], fired: set[str]) -> None:
    given = purchase(line(unit_price=amount, **more), occurred_at=at(when), channel="web")
    found = granted(given, load(EXAMPLE), GOLD, shop="high-street", first=True)
    assert found.decided is not None
    assert {grant.offer.id for grant in found.decided.grants} == fired
