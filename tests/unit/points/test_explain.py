from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from services.points.domain.bonus import TierInForce
from services.points.domain.earning import assess, award
from services.points.domain.explain import Explanation, pack, pack_correction, unpack
from services.points.domain.wording import Sentence, exact_text, number
from shared.contracts.purchases import PurchaseCompleted
from shared.program.model import Program
from tests.unit.points.samples import line, numbered, program, purchase

BRONZE = TierInForce("bronze", Fraction(1))
GOLD = TierInForce("gold", Fraction(3, 2))
GOLDEN = purchase(*numbered(("1", "9.99"), ("2", "19.99"), ("1", "4.95")), order_discount="10.00")


def packed(given: PurchaseCompleted, tier: TierInForce, rules: Program) -> bytes:
    assessment = assess(given, rules)
    return pack(given, assessment, award(assessment, tier, rules), tier, rules)


def story(
    given: PurchaseCompleted, tier: TierInForce = BRONZE, rules: Program | None = None
) -> Explanation:
    return unpack(packed(given, tier, rules or program()))


def test_the_golden_purchase_tells_its_whole_story() -> None:
    found = story(GOLDEN, GOLD)
    assert found.sentence == Sentence(
        "67 Punkte: 1 Punkt je 1,00 GBP auf 44,92 GBP, Stufe gold (× 1,5), abgerundet.",
        "67 points: 1 point per 1.00 GBP on 44.92 GBP, tier gold (× 1.5), rounded down.",
    )
    assert [(step.rule, step.value) for step in found.steps] == [
        ("order_discount", "10.00"),
        ("net", "44.92"),
        ("base", "44.92"),
        ("tier", "67.38"),
        ("rounding", "67"),
        ("bonus", "23"),
    ]
    assert [(item.line_id, item.net, item.points) for item in found.lines] == [
        ("1", Decimal("8.17"), 12),
        ("2", Decimal("32.70"), 49),
        ("3", Decimal("4.05"), 6),
    ]
    assert (found.points, found.total, found.base, found.bonus) == (67, 67, 44, 23)
    assert (found.exact, found.multiplier, found.tier) == ("67.38", "1.5", "gold")
    assert found.not_fired == []


def test_it_names_the_program_and_its_version() -> None:
    rules = program()
    found = story(GOLDEN, BRONZE, rules)
    assert (found.program, found.program_version) == ("demo", rules.version)


def test_tiers_not_in_force_are_rules_that_did_not_fire() -> None:
    found = story(GOLDEN, TierInForce("silver", Fraction("1.25"))).not_fired
    assert [(item.rule, item.condition) for item in found] == [
        ("tier:gold", "in_force_before_purchase")
    ]
    assert found[0].text.de == "Stufe gold (× 1,5) galt vor dem Einkauf nicht"


def test_tiers_are_called_as_customers_read_them_where_their_names_are_given() -> None:
    found = unpack(packed(GOLDEN, GOLD, program()), {"gold": "Goldkunde"})
    assert "Stufe Goldkunde (× 1,5)" in found.sentence.de
    assert found.tier == "gold"


def test_a_whole_result_is_not_said_to_be_rounded() -> None:
    assert story(purchase()).sentence.en == "10 points: 1 point per 1.00 GBP on 10.00 GBP."
    assert story(purchase(line(unit_price="1.00"))).sentence.de.startswith("1 Punkt: ")


@pytest.mark.parametrize(
    ("more", "reason", "german", "english"),
    [
        ({"kind": "gift_card"}, "kind:gift_card", "Geschenkkarten", "gift cards"),
        ({"kind": "tip"}, "kind:tip", "Trinkgeld", "tips"),
        ({"sku": "POST"}, "sku", "Artikel POST", "article POST"),
        ({"category": "wine"}, "category:wine", "Warengruppe wine", "category wine"),
        ({"unit_price": "-1"}, "not_positive", "über null", "above zero"),
    ],
)
def test_a_line_that_earned_nothing_says_why(
    more: dict[str, Any], reason: str, german: str, english: str
) -> None:
    rules = program(earning={"exclude": {"skus": ["POST"], "categories": ["wine"]}})
    found = story(purchase(line(line_id="a"), line(line_id="b", **more)), BRONZE, rules).lines
    assert (found[0].line_id, found[0].reason, found[0].text) == ("a", None, None)
    assert (found[1].line_id, found[1].reason, found[1].points) == ("b", reason, 0)
    assert found[1].text is not None
    assert german in found[1].text.de
    assert english in found[1].text.en


def test_a_purchase_that_earned_nothing_says_why() -> None:
    found = story(purchase(line(kind="fee")))
    assert found.sentence.de == "Keine Punkte: keine Position des Einkaufs ist anrechenbar."
    assert found.not_fired[0].condition == "an_eligible_line"
    found = story(purchase(is_test=True))
    assert found.sentence.en == "No points: a test order."
    assert found.not_fired[0].condition == "not_a_test_order"


def test_less_than_a_point_is_rounding_not_refusal() -> None:
    found = story(purchase(line(unit_price="0.99")))
    assert found.sentence.en == "0 points: 1 point per 1.00 GBP on 0.99 GBP, rounded down."


def test_a_foreign_purchase_shows_its_rate() -> None:
    found = story(purchase(currency="EUR", exchange_rate="0.8437", order_discount="1.00"))
    assert found.inputs is not None
    assert (found.inputs.currency, found.inputs.exchange_rate) == ("EUR", Decimal("0.8437"))
    by_rule = {step.rule: step for step in found.steps}
    assert by_rule["order_discount"].text.de.startswith("1,00 EUR Rabatt")
    assert by_rule["exchange_rate"].text.de == "zum Kurs 0,8437: 7,593300 GBP"


def test_net_of_tax_is_said() -> None:
    rules = program(earning={"net_of_tax": True})
    net = story(purchase(line(tax="2")), BRONZE, rules).steps[0]
    assert net.text == Sentence(
        "1 von 1 Positionen anrechenbar: 8,00 GBP ohne Steuer",
        "1 of 1 lines eligible: 8.00 GBP without tax",
    )
    on_top = story(purchase(line(tax="2"), prices_include_tax=False), BRONZE, rules)
    assert on_top.inputs is not None
    assert not on_top.inputs.prices_include_tax
    assert on_top.steps[0].text.en == "1 of 1 lines eligible: 10.00 GBP"


def test_a_correction_tells_both_tiers_and_both_totals() -> None:
    stored = pack_correction(Fraction("44.92"), (BRONZE, 44), (GOLD, 67), program())
    found = unpack(stored)
    assert found.kind == "correction"
    assert (found.points, found.total, found.tier, found.multiplier) == (23, 67, "gold", "1.5")
    assert found.sentence == Sentence(
        "+23 Punkte: für diesen Einkauf gilt Stufe gold (× 1,5) statt Stufe bronze (× 1);"
        " 67 Punkte statt 44 Punkte.",
        "+23 points: this purchase earns with tier gold (× 1.5), not with tier bronze (× 1);"
        " 67 points instead of 44 points.",
    )
    assert [(step.rule, step.value) for step in found.steps] == [
        ("tier", "67.38"),
        ("rounding", "67"),
        ("difference", "23"),
    ]


def test_a_correction_down_to_no_tier() -> None:
    none = TierInForce(None, Fraction(1))
    found = unpack(pack_correction(Fraction("44.92"), (GOLD, 67), (none, 44), program()))
    assert found.points == -23
    assert found.sentence.de.startswith("−23 Punkte: für diesen Einkauf gilt ohne Stufe (× 1)")


def test_a_stored_line_takes_at_most_35_bytes() -> None:
    def size(count: int) -> int:
        lines = [
            line("12", "123.45", str(index), sku=f"85{index:03}A") for index in range(1, count + 1)
        ]
        return len(packed(purchase(*lines), GOLD, program()))

    assert size(121) - size(21) <= 100 * 35
    assert size(21) <= 21 * 35


def test_the_stored_form_is_plain_json_and_keeps_every_digit() -> None:
    odd = purchase(line("0.333333333", "1234567.123456789", "weird-id"))
    stored = packed(odd, GOLD, program())
    assert isinstance(msgspec.json.decode(stored), dict)
    found = unpack(stored).lines[0]
    assert found.net == Decimal("0.333333333") * Decimal("1234567.123456789")
    assert found.line_id == "weird-id"
    assert unpack(stored.decode()) == unpack(stored)


def test_gigantic_values_survive_packing() -> None:
    rules = program(earning={"base": {"points": 1000, "per": "3"}})
    huge = line("999999999999", "999999999999.999999999", "2", kind="fee")
    given = purchase(line("0.999999999", "999999999999.999999999"), huge)
    found = unpack(packed(given, GOLD, rules))
    assert found.exact == exact_text(assess(given, rules).exact * GOLD.multiplier)
    assert Fraction(found.lines[1].net) == 999999999999 * Fraction("999999999999.999999999")
    assert found.steps[0].value == "999999998999.999999999000000001"


@pytest.mark.parametrize(
    ("value", "text", "german", "english"),
    [
        (Fraction(0), "0", "0", "0"),
        (Fraction("67.38"), "67.38", "67,38", "67.38"),
        (Fraction(1, 8), "0.125", "0,125", "0.125"),
        (Fraction(202, 3), "67 1/3", "67 1/3", "67 1/3"),
        (Fraction(12345678, 7), "1763668 2/7", "1.763.668 2/7", "1,763,668 2/7"),
        (Decimal("1234567.50"), "1234567.50", "1.234.567,50", "1,234,567.50"),
        (Decimal("1E+3"), "1000", "1.000", "1,000"),
        (1000, "1000", "1.000", "1,000"),
        (Fraction(1, 10**40), f"0 1/{10**40}", f"0 1/{10**40}", f"0 1/{10**40}"),
        (
            Fraction(1, 2**30),
            exact_text(Fraction(1, 2**30)),
            "0,000000000931322574615478515625",
            None,
        ),
    ],
)
def test_numbers_are_written_exactly(
    value: Decimal | Fraction | int, text: str, german: str, english: str | None
) -> None:
    assert exact_text(value) == text
    assert number(value) == Sentence(german, english or text)
