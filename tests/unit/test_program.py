"""The program file: what is written is what is read, and the version names it."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from shared.clock import Period
from shared.program import Program, ProgramError, load, parse
from shared.program.__main__ import main
from shared.program.tree import FILE_BYTES_MAX

DEMO = Path(__file__).parents[2] / "programs" / "demo.yaml"
LEAST = """\
program: small
name: Klein
currency: JPY
timezone: Asia/Tokyo
earning: {base: {points: 1, per: 100}}
"""

# The example of the public contract, word for word.
CONTRACT = """\
program: demo
name: Treueprogramm
currency: GBP
timezone: Europe/London
shops: [online-retail]
enrolment: automatic            # or opt_in
earning:
  base: {points: 1, per: "1.00"}
  rounding: floor
  net_of_tax: false
  exclude: {kinds: [gift_card, shipping, fee, tip], skus: [POST, DOT, M, D, BANK CHARGES, C2], categories: []}
  available_after: P0D
  expiry: {after: P12M, round_up: month_end}     # or {kind: none} · {kind: inactivity, after: P12M}
  refunds: allow_negative
  campaigns:
    - {id: advent, from: 2011-11-27, until: 2011-12-25, multiplier: "2", when: {categories: [home]}, cap: {per_customer: 1000}}
  activities:
    - {activity: review, points: 50, limit: {times: 1, per: P1D}}
tiers:
  basis: points                 # points | spend | purchases
  window: {kind: rolling, length: P12M}
  downgrade: one_level
  grace: P30D
  levels:
    - {id: bronze, name: Bronze, threshold: 0, multiplier: "1"}
    - {id: silver, name: Silber, threshold: 500, multiplier: "1.25", on_reach: [welcome-silver]}
    - {id: gold, name: Gold, threshold: 2000, multiplier: "1.5", on_reach: [welcome-gold]}
rewards:
  birthday: {voucher: birthday, tiers: [silver, gold]}
  catalog:
    - {id: five-off, name: "5 £ Gutschein", cost: 500, voucher: five-off, min_tier: bronze, stock: null, per_customer: null}
vouchers:
  welcome-silver: {kind: percent, percent: "10", valid_for: P90D}
  welcome-gold: {kind: amount, amount: "25.00", valid_for: P90D, min_order: "50.00"}
  five-off: {kind: amount, amount: "5.00", valid_for: P90D}
  birthday: {kind: free_shipping, valid_for: P30D}
"""  # noqa: E501 - the contract's own lines


def test_the_demo_program_is_read_in_full() -> None:
    program = load(DEMO)
    assert (program.id, program.name, program.currency) == ("demo", "Treueprogramm", "GBP")
    assert program.zone is ZoneInfo("Europe/London")
    assert program.shops is None
    earning = program.earning
    assert (earning.base.points, earning.base.per) == (1, Decimal("1.00"))
    assert earning.exclude.kinds == {"gift_card", "shipping", "fee", "tip"}
    assert earning.exclude.skus == {"POST", "DOT", "M", "D", "BANK CHARGES", "C2"}
    assert earning.available_after.is_zero
    assert (earning.expiry.kind, earning.expiry.after) == ("after", Period(months=12))
    assert earning.expiry.round_up == "month_end"
    assert program.tiers is not None
    assert (program.tiers.window.kind, program.tiers.window.length) == (
        "rolling",
        Period(months=12),
    )
    levels = [(level.id, level.threshold, level.multiplier) for level in program.tiers.levels]
    assert levels == [
        ("bronze", Decimal(0), Fraction(1)),
        ("silver", Decimal(500), Fraction(5, 4)),
        ("gold", Decimal(2000), Fraction(3, 2)),
    ]
    assert program.tiers.levels[2].on_reach == ("welcome-gold",)
    assert program.vouchers["welcome-gold"].amount == Decimal(25)
    assert program.vouchers["welcome-silver"].valid_for == Period(days=90)


def test_the_least_program_has_cautious_defaults() -> None:
    program = parse(LEAST)
    assert program.earning.rounding == "floor"
    assert program.earning.expiry.kind == "none"
    assert program.earning.refunds == "allow_negative"
    assert program.earning.exclude.kinds == {"gift_card", "shipping", "fee", "tip"}
    assert (program.tiers, program.vouchers, program.enrolment) == (None, {}, "automatic")


def test_the_contract_s_example_says_exactly_what_is_not_alive_yet() -> None:
    with pytest.raises(ProgramError) as caught:
        parse(CONTRACT, "program.yaml")
    assert str(caught.value).splitlines() == [
        f"program.yaml:{line}: {field}: is not supported yet (allowed: leave it out)"
        for line, field in [
            (29, "rewards.birthday"),
            (30, "rewards.catalog"),
        ]
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "{kind: rolling, length: P12M}",
            "{kind: anniversary}",
            (
                "tiers.window.kind: anniversary is not supported yet"
                " (allowed: rolling, calendar_year, lifetime)"
            ),
        ),
    ],
)
def test_words_of_later_versions_are_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(ProgramError) as caught:
        parse(CONTRACT.replace(old, new, 1))
    assert len(caught.value.mistakes) == 3
    assert said in [str(mistake) for mistake in caught.value.mistakes]


LATER_MISTAKES = [
    ("2011-12-25", "2011-11-26", 16, "campaigns[0].until", "ends (2011-11-26) before it begins"),
    ("2011-12-25", "2011-11-27T00:00", 16, "campaigns[0].until", "before it begins"),
    ("2011-12-25", "2011-02-30", 16, "campaigns[0].until", "must be a date, not '2011-02-30'"),
    ('multiplier: "2"', "multiplier: 0", 16, "campaigns[0].multiplier", "0 is not above 0"),
    (
        'multiplier: "2", ',
        "",
        16,
        "campaigns[0]",
        "gives nothing (allowed: a multiplier or a bonus)",
    ),
    ("[home]}", "[home], tiers: [golld]}", 16, "when.tiers[0]", "no level 'golld'; did you mean"),
    ("[home]}", "[home], weekdays: [so]}", 16, "when.weekdays[0]", "mon, tue, wed, thu, fri, sat"),
    (
        "[home]}",
        '[home], hours: {from: "18", until: "24:00"}}',
        16,
        "hours.from",
        "time of the day",
    ),
    ('multiplier: "2"', 'multiplier: "1"', 16, "campaigns[0].multiplier", "1 gives nothing"),
    (
        "[home]}",
        '[home], hours: {from: "18:00", until: "18:00"}}',
        16,
        "when.hours.until",
        "end (18:00) when they begin",
    ),
    ("[home]}", '[home], minimum: "9.999"}', 16, "when.minimum", "more digits than GBP has"),
    ("per_customer: 1000", "per_customer: 0", 16, "cap.per_customer", "out of bounds"),
    ("points: 50", "points: -5", 18, "activities[0].points", "-5 is out of bounds"),
    ("per: P1D", "per: P0D", 18, "activities[0].limit.per", "lasts no time at all"),
    ("times: 1", "times: 0", 18, "activities[0].limit.times", "0 is out of bounds"),
    ("{voucher: birthday", "{voucher: birtday", 29, "birthday.voucher", "did you mean birthday?"),
    ("tiers: [silver, gold]", "tiers: [platin]", 29, "birthday.tiers[0]", "no level 'platin'"),
    ("cost: 500", "cost: 0", 31, "catalog[0].cost", "0 is out of bounds"),
    ("voucher: five-off", "voucher: fiveoff", 31, "catalog[0].voucher", "did you mean five-off?"),
    ("min_tier: bronze", "min_tier: iron", 31, "catalog[0].min_tier", "bronze, silver, gold"),
    ("stock: null", "stock: -1", 31, "catalog[0].stock", "a whole number from 0"),
]


@pytest.mark.parametrize(("old", "new", "line", "field", "message"), LATER_MISTAKES)
def test_parts_that_are_not_alive_yet_are_checked_in_full_all_the_same(
    old: str, new: str, line: int, field: str, message: str
) -> None:
    assert old in CONTRACT
    with pytest.raises(ProgramError) as caught:
        parse(CONTRACT.replace(old, new, 1))
    (mistake,) = (m for m in caught.value.mistakes if "not supported yet" not in m.message)
    assert mistake.line == line
    assert mistake.field.endswith(field)
    assert message in str(mistake)


def test_empty_parts_of_later_versions_are_no_mistake() -> None:
    empty = LEAST.replace("per: 100}", "per: 100}, campaigns: [], activities: ")
    assert parse(empty + "rewards: {catalog: [], birthday: null}\nvouchers:\n").version == (
        parse(LEAST).version
    )


def test_numbers_are_read_exactly_as_they_are_written() -> None:
    text = LEAST.replace("JPY", "EUR").replace("per: 100", "per: 0.10")
    level = "{id: a, name: A, threshold: 999999999999999.01, multiplier: 1.0000000001}"
    tiers = f"tiers: {{basis: spend, window: {{kind: lifetime}}, levels: [{level}]}}\n"
    program = parse(text + tiers)
    assert str(program.earning.base.per) == "0.10"
    assert program.tiers is not None
    assert str(program.tiers.levels[0].threshold) == "999999999999999.01"
    assert program.tiers.levels[0].multiplier == Fraction(10000000001, 10000000000)


def test_article_numbers_keep_their_zeros_and_words_stay_words() -> None:
    base = "base: {points: 1, per: 100}"
    text = LEAST.replace(base, f"{base}, exclude: {{skus: [007, 0x1F, 1e5, 85123A, NO, on, 1_0]}}")
    assert parse(text).earning.exclude.skus == {"007", "0x1F", "1e5", "85123A", "NO", "on", "1_0"}


def test_yaml_1_1_is_read_as_1_2() -> None:
    text = LEAST.replace("base:", "exclude: {skus: [NO, 010, 1:30]}, base:")
    assert parse(f"%YAML 1.1\n---\n{text}").earning.exclude.skus == {"NO", "010", "1:30"}


def test_the_version_names_the_content_not_its_looks() -> None:
    program = load(DEMO)
    assert len(program.version) == 12
    rewritten = (
        DEMO.read_text(encoding="utf-8")
        .replace("#", "# more remarks #")
        .replace('per: "1.00"', "per: 1")
        .replace("skus: [POST, DOT, M, D,", "skus: [D, DOT, M, 'POST',")
        .replace("    categories: []\n", "")
        .replace('"1.25"', "1.250")
        .replace("automatic  ", "'automatic'")
    )
    assert parse(rewritten).version == program.version
    assert parse(rewritten) == program


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('per: "1.00"', 'per: "1.01"'),
        ("Silber", "Silver"),
        ("threshold: 500", "threshold: 501"),
        ('"1.25"', '"1.26"'),
        ("P90D, name", "P91D, name"),
        ("P12M, round_up", "P13M, round_up"),
        (", C2]", "]"),
        ("[welcome-gold]", "[welcome-silver]"),
        ("# shops", "shops"),
        ("floor  ", "ceil"),
    ],
)
def test_every_change_of_content_is_another_version(old: str, new: str) -> None:
    text = DEMO.read_text(encoding="utf-8")
    assert old in text
    assert parse(text.replace(old, new, 1)).version != load(DEMO).version


def test_the_version_is_stable() -> None:
    # Entries in the ledger carry it: a change of our code alone must not change it.
    assert parse(LEAST).version == "298cec5a41ca"


def test_a_program_is_read_only() -> None:
    program = load(DEMO)
    with pytest.raises(ValidationError):
        program.name = "anders"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        program.earning.base.points = 2  # type: ignore[misc]


def test_names_may_hold_what_people_write() -> None:
    text = LEAST.replace("Klein", '"Größe\N{NO-BREAK SPACE}„5 €“ – 👨‍👩‍👧"')
    assert parse(text).name == "Größe\N{NO-BREAK SPACE}„5 €“ – 👨‍👩‍👧"


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    large, latin = tmp_path / "large.yaml", tmp_path / "latin.yaml"
    large.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    latin.write_bytes("program: a\nname: Größe".encode("latin-1"))
    expected = {
        tmp_path / "nowhere.yaml": "nowhere.yaml: cannot be read: No such file or directory",
        tmp_path: ": cannot be read: Is a directory",
        large: "large.yaml: is too large (allowed: 256 KiB)",
        latin: "latin.yaml:2: is not UTF-8 (allowed: save the file as UTF-8)",
    }
    for path, message in expected.items():
        with pytest.raises(ProgramError) as caught:
            load(path)
        assert str(caught.value).endswith(message)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode())
    assert load(path) == parse(LEAST)


def test_check_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(LEAST.replace("JPY", "YEN"), encoding="utf-8")
    assert main([str(DEMO)]) == 0
    assert capsys.readouterr().out == f"{DEMO}: ok, version {load(DEMO).version}\n"
    assert main([str(wrong), str(DEMO)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"{wrong}:3: currency: 'YEN' is not a currency")
    assert said.out.startswith(f"{DEMO}: ok")
    assert main([]) == 2
    assert main(["--help"]) == 2


def test_equal_files_are_equal_programs() -> None:
    assert isinstance(parse(LEAST), Program)
    assert parse(LEAST) == parse(LEAST)
    assert parse(LEAST) != parse(LEAST.replace("Klein", "Groß"))
