"""The program file: each mistake is told with its line, its field and what is allowed."""

from __future__ import annotations

import pytest

from shared.program import Mistake, ProgramError, parse

BASE = """\
program: demo
name: Treueprogramm
currency: EUR
timezone: Europe/Berlin
shops: [online, berlin]
enrolment: automatic
earning:
  base: {points: 1, per: "1.00"}
  rounding: floor
  net_of_tax: false
  exclude: {kinds: [gift_card], skus: [POST], categories: []}
  available_after: P0D
  expiry: {after: P12M, round_up: month_end}
  refunds: allow_negative
tiers:
  basis: points
  window: {kind: rolling, length: P12M}
  downgrade: one_level
  grace: P30D
  levels:
    - {id: bronze, name: Bronze, threshold: 0}
    - {id: silver, name: Silber, threshold: 500, multiplier: "1.25", on_reach: [percent]}
    - {id: gold, name: Gold, threshold: 2000, multiplier: 1.5, on_reach: [amount]}
vouchers:
  percent: {kind: percent, percent: "10", valid_for: P90D}
  amount: {kind: amount, amount: "25.00", min_order: "50.00"}
  card: {kind: gift_card, amount: "10.00"}
  free: {kind: free_product, sku: A1}
  ship: {kind: free_shipping, max_discount: "5.00"}
"""

# What is written → what is written instead, the line that is blamed, its field, a part of the message.
FIELD_MISTAKES = [
    ("program: demo", "program: Treue Demo", 1, "program", "'Treue Demo' is not an id"),
    ("program: demo", "program: 2027", 1, "program", "must be a text, not the number 2027"),
    ("program: demo", "program:", 1, "program", "is empty"),
    ("program: demo\n", "", 1, "program", "is missing"),
    ("name: Treue", 'name: ""\n#', 2, "name", "is empty"),
    ("name: Treueprogramm", 'name: "a\\0b"', 2, "name", "has unprintable characters"),
    ("name: Treueprogramm", "name: " + "x" * 201, 2, "name", "has 201 characters"),
    ("name: Treueprogramm", "name: [a]", 2, "name", "must be a text, not a list"),
    ("name: Treueprogramm", "name: true", 2, "name", "must be a text, not true"),
    ("currency: EUR", "currency: eur", 3, "currency", "not a currency; did you mean EUR?"),
    ("currency: EUR", "currency: Taler", 3, "currency", "'Taler' is not a currency ("),
    ("Europe/Berlin", "Europe/Berln", 4, "timezone", "did you mean Europe/Berlin?"),
    ("Europe/Berlin", "Europe", 4, "timezone", "'Europe' is not a time zone"),
    ("Europe/Berlin", "../../etc/passwd", 4, "timezone", "is not a time zone"),
    ("Europe/Berlin", "right/Europe/Berlin", 4, "timezone", "is not a time zone"),
    ("[online, berlin]", "[]", 5, "shops", "is empty (allowed: at least one; without this line"),
    ("[online, berlin]", "", 5, "shops", "is empty"),
    ("[online, berlin]", "online", 5, "shops", "must be a list, not 'online'"),
    ("[online, berlin]", "[online, a b]", 5, "shops[1]", "'a b' is not an id"),
    ("automatic", "auto", 6, "enrolment", "did you mean automatic? (allowed: automatic, opt_in)"),
    ("{points: 1,", "{points: 0,", 8, "earning.base.points", "0 is out of bounds"),
    ("{points: 1,", "{points: 1.5,", 8, "earning.base.points", "a whole number, not 1.5"),
    ("{points: 1,", "{points: 1e3,", 8, "earning.base.points", "a whole number, not 1e3"),
    ("{points: 1,", "{points: true,", 8, "earning.base.points", "a whole number, not true"),
    ("{points: 1,", "{points: " + "9" * 5000 + ",", 8, "earning.base.points", "out of bounds"),
    ('per: "1.00"', "per: 0", 8, "earning.base.per", "0 is not above 0"),
    ('per: "1.00"', "per: -1", 8, "earning.base.per", "-1 is not above 0"),
    ('per: "1.00"', "per: 1.005", 8, "earning.base.per", "1.005 has more digits than EUR has"),
    ('per: "1.00"', 'per: "1,00"', 8, "earning.base.per", "must be a decimal number, not '1,00'"),
    ('per: "1.00"', "per: .inf", 8, "earning.base.per", "must be a decimal number, not .inf"),
    (', per: "1.00"', "", 8, "earning.base.per", "is missing"),
    ("rounding: floor", "rounding: round", 9, "earning.rounding", "floor, half_even, ceil"),
    ("net_of_tax: false", "net_of_tax: no", 10, "earning.net_of_tax", "true or false, not 'no'"),
    ("net_of_tax: false", "net_of_taxes: false", 10, "earning.net_of_taxes", "mean net_of_tax?"),
    ("[gift_card]", "[gift_card, giftcard]", 11, "earning.exclude.kinds[1]", "mean gift_card?"),
    ("skus: [POST]", "skus: POST", 11, "earning.exclude.skus", "must be a list, not 'POST'"),
    ("skus: [POST]", "skus: [POST, null]", 11, "earning.exclude.skus[1]", "is empty"),
    ("after: P0D", "after: 14", 12, "earning.available_after", "an ISO 8601 period, not 14"),
    ("after: P0D", "after: P200Y", 12, "earning.available_after", "'P200Y' is too long"),
    ("after: P0D", "after: PT999999H", 12, "earning.available_after", "is too long"),
    ("after: P12M", "after: 12M", 13, "earning.expiry.after", "ISO 8601 period, not '12M'"),
    ("after: P12M", "after: PT12H", 13, "earning.expiry.after", "has hours, minutes or seconds"),
    ("after: P12M", "after: P0D", 13, "earning.expiry.after", "lasts no time at all"),
    ("after: P12M, ", "", 13, "earning.expiry.after", "is missing"),
    ("month_end", "month", 13, "earning.expiry.round_up", "did you mean month_end?"),
    ("after: P12M", "kind: none", 13, "earning.expiry.round_up", "no meaning with kind: none"),
    ("allow_negative", "deny", 14, "earning.refunds", "allow_negative, clamp_to_zero"),
    ("basis: points", "basis: money", 16, "tiers.basis", "points, spend, purchases"),
    (", length: P12M", "", 17, "tiers.window.length", "is missing: rolling needs it"),
    ("rolling", "lifetime", 17, "tiers.window.length", "has no meaning with kind: lifetime"),
    ("{kind: rolling, length: P12M}", "P12M", 17, "tiers.window", "a mapping, not 'P12M'"),
    ("  window: {kind: rolling, length: P12M}\n", "", 15, "tiers.window", "is missing"),
    ("one_level", "two_levels", 18, "tiers.downgrade", "full, one_level, none"),
    ("grace: P30D", "grace: -P1D", 19, "tiers.grace", "must be an ISO 8601 period"),
    ("threshold: 0}", "threshold: -1}", 21, "tiers.levels[0].threshold", "-1 is below 0"),
    ("threshold: 500", "threshold: 0", 22, "tiers.levels[1].threshold", "0 is not above the 0"),
    ("threshold: 2000", "threshold: 500.0", 23, "tiers.levels[2].threshold", "is not above the"),
    ("threshold: 500", "threshold: 0.5", 22, "tiers.levels[1].threshold", "0.5 is not whole"),
    ("id: silver", "id: bronze", 22, "tiers.levels[1].id", "'bronze' is there already"),
    ("name: Silber", "name: Bronze", 22, "tiers.levels[1].name", "there already, as item 0"),
    ('"1.25"', "0", 22, "tiers.levels[1].multiplier", "0 is not above 0"),
    ('"1.25"', "125000", 22, "tiers.levels[1].multiplier", "at most 1000"),
    ('"1.25"', "", 22, "tiers.levels[1].multiplier", "must be a decimal number, not nothing"),
    ("[percent]", "[prozent]", 22, "tiers.levels[1].on_reach[0]", "did you mean percent? (all"),
    ("[percent]", "[amount, amount]", 22, "tiers.levels[1].on_reach[1]", "is given twice"),
    ("[percent]", "percent", 22, "tiers.levels[1].on_reach", "must be a list, not 'percent'"),
    ("kind: percent,", "kind: prozent,", 25, "vouchers.percent.kind", "did you mean percent?"),
    ('percent: "10"', "percent: 100.01", 25, "vouchers.percent.percent", "above 0, at most 100"),
    ('percent: "10"', "percent: 0", 25, "vouchers.percent.percent", "0 is out of bounds"),
    (', percent: "10"', "", 25, "vouchers.percent.percent", "kind percent needs it"),
    ('percent: "10"', "percent: 9, sku: A", 25, "vouchers.percent.sku", "no meaning with kind"),
    ("P90D", "PT1H", 25, "vouchers.percent.valid_for", "has hours"),
    (', amount: "25.00"', "", 26, "vouchers.amount.amount", "kind amount needs it"),
    ('amount: "25.00"', "amount: 25.001", 26, "vouchers.amount.amount", "2 after the point"),
    ('amount: "25.00"', "amount: 1" + "0" * 15, 26, "vouchers.amount.amount", "15 digits before"),
    ('"50.00"', "50.001", 26, "vouchers.amount.min_order", "more digits than EUR has"),
    ('"50.00"', '"50.00", percent: 5', 26, "vouchers.amount.percent", "kind: amount"),
    ('"50.00"', '"50.00", max_discount: 5', 26, "vouchers.amount.max_discount", "kind: amount"),
    ("gift_card, amo", "gift_card, min_order: 1, amo", 27, "vouchers.card.min_order", "gift_card"),
    ("gift_card, amo", "gift_card, value: 1, amo", 27, "vouchers.card.value", "not a key of"),
    (', amount: "10.00"', "", 27, "vouchers.card.amount", "kind gift_card needs it"),
    (", sku: A1", "", 28, "vouchers.free.sku", "kind free_product needs it"),
    ("  ship:", "  s h:", 29, "vouchers.s h", "'s h' is not an id"),
    ('max_discount: "5.00"', "max_redemptions: 0", 29, "vouchers.ship.max_redemptions", "bounds"),
    ("{kind: free_shipping, max_", "#", 29, "vouchers.ship", "is empty"),
]


@pytest.mark.parametrize(("old", "new", "line", "field", "message"), FIELD_MISTAKES)
def test_one_mistake(old: str, new: str, line: int, field: str, message: str) -> None:
    assert old in BASE
    mistakes = mistakes_of(BASE.replace(old, new, 1))
    assert [(mistake.line, mistake.field) for mistake in mistakes] == [(line, field)]
    assert message in str(mistakes[0])


YAML_MISTAKES = [
    ("a: [1\nb: 2", 2, "is not YAML"),
    ("a: 'x", 1, "is not YAML: while scanning a quoted scalar"),
    ("a: 1\n\tb: 2", 2, "is not YAML"),
    ("---\na: 1\n---\nb: 2\n", 3, "expected a single document"),
    ("a: *x", 1, "undefined alias"),
    ("a: 1\nb: \x00", 2, "a character that YAML does not allow"),
    ("a: \n" + "[" * 30, 2, "is nested too deeply (allowed: at most 20 levels)"),
    ("[" * 100_000, 1, "is nested too deeply"),
    ("- a", 1, "must be a mapping, not a list (allowed: program, name, currency"),
    ("Treue", 1, "must be a mapping, not 'Treue'"),
    ("", 0, "is empty (allowed: the rules of a program)"),
    ("# nothing but a remark\n", 0, "is empty"),
]


@pytest.mark.parametrize(("text", "line", "message"), YAML_MISTAKES)
def test_what_is_no_mapping_at_all(text: str, line: int, message: str) -> None:
    (mistake,) = mistakes_of(text)
    assert mistake.line == line
    assert message in str(mistake)


ADDED_LINES = [
    ("name: Zweiter Name", "name", "is written twice, first in line 2"),
    ("<<: {name: x}", "<<", "is not a key of this section"),
    ("rewards: &x", "rewards", "anchors and aliases (& and *) are not used here"),
    ("rewards: !!python/object:os.system {}", "rewards", "the tag 'tag:yaml.org,2002:python/"),
    ("? [a, b]\n: c", "", "a key must be a text"),
    ("rewards: 5", "rewards", "must be a mapping, not 5"),
    ("reward: {}", "reward", "did you mean rewards?"),
    ("version: abc", "version", "is not a key of this section"),
    ("id: demo", "id", "is not a key of this section"),
]


@pytest.mark.parametrize(("added", "field", "message"), ADDED_LINES)
def test_a_line_too_much(added: str, field: str, message: str) -> None:
    (mistake,) = mistakes_of(BASE + added)
    assert (mistake.line, mistake.field) == (30, field)
    assert message in str(mistake)


def test_aliases_are_refused_wherever_they_stand() -> None:
    text = BASE.replace("[percent]", "&gifts [percent]").replace("[amount]", "*gifts")
    assert [(mistake.line, mistake.field) for mistake in mistakes_of(text)] == [
        (22, "tiers.levels[1].on_reach"),
        (23, "tiers.levels[2].on_reach"),
    ]


def test_a_recursive_alias_ends() -> None:
    assert all(mistake.line for mistake in mistakes_of("name: &x [*x, *x]\n"))


def test_columns_point_at_the_value_or_the_key() -> None:
    (value,) = mistakes_of(BASE.replace("points: 1,", "points: 0,"))
    (key,) = mistakes_of(BASE.replace("rounding: floor", "roundin: floor"))
    assert (value.line, value.column) == (8, 18)
    assert (key.line, key.column) == (9, 3)


def test_all_mistakes_are_told_at_once_in_order_of_the_lines() -> None:
    edits = {
        "EUR": "Taler",
        "rounding: floor": "roundin: floor",
        "length: P12M": "length: 12",
        "threshold: 500": "threshold: 0",
        "[amount]": "[amonut]",
        'percent: "10"': "amount: 5",
    }
    text = BASE
    for old, new in edits.items():
        text = text.replace(old, new, 1)
    with pytest.raises(ProgramError) as caught:
        parse(text, "programs/x.yaml")
    assert [(mistake.line, mistake.field) for mistake in caught.value.mistakes] == [
        (3, "currency"),
        (9, "earning.roundin"),
        (17, "tiers.window.length"),
        (22, "tiers.levels[1].threshold"),
        (23, "tiers.levels[2].on_reach[0]"),
        (25, "vouchers.percent.percent"),
        (25, "vouchers.percent.amount"),
    ]
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("programs/x.yaml:9: earning.roundin: is not a key of this section")
    assert lines[4] == (
        "programs/x.yaml:23: tiers.levels[2].on_reach[0]: there is no voucher 'amonut'; did you"
        " mean amount? (allowed: percent, amount, card, free, ship)"
    )


def mistakes_of(text: str) -> list[Mistake]:
    with pytest.raises(ProgramError) as caught:
        parse(text)
    return caught.value.mistakes
