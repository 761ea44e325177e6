"""Versions of a program: which may follow, when, and which rules hold at an instant."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from shared.cli.program import app
from shared.errors import UsageError
from shared.program import Program, parse, versions
from shared.program.versions import ProgramChangeRefused

DEMO = (Path(__file__).parents[2] / "programs" / "demo.yaml").read_text(encoding="utf-8")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
HALF = DEMO.replace('per: "1.00"', 'per: "2.00"')


class Given:
    """A program file with a folder for its versions."""

    def __init__(self, folder: Path) -> None:
        self.file, self.folder = folder / "program.yaml", folder / "program.d"
        self.file.write_text(DEMO, encoding="utf-8")
        self._draft = folder / "new.yaml"

    def program(self) -> Program:
        return versions.load(self.file, self.folder)

    def apply(self, text: str, at: datetime = NEW_YEAR) -> Path:
        self._draft.write_text(text, encoding="utf-8")
        return versions.apply(self.folder, versions.load(self.file), self._draft, at, NOW)[0]


@pytest.fixture
def given_program(tmp_path: Path) -> Given:
    return Given(tmp_path)


def test_each_instant_has_the_rules_in_force_then(given_program: Given) -> None:
    given_program.apply(HALF)
    given_program.apply(HALF.replace("after: P12M", "after: P6M"), NEW_YEAR + timedelta(days=90))
    program = given_program.program()
    tick = timedelta(microseconds=1)
    assert program.at(NEW_YEAR - tick) is program
    assert program.at(NEW_YEAR).version == parse(HALF).version
    assert str(program.at(NEW_YEAR + timedelta(days=90)).earning.expiry.after) == "P6M"
    assert program.version == parse(DEMO).version


def test_a_program_without_versions_is_its_own_at_any_instant() -> None:
    program = parse(DEMO)
    program.look()
    assert program.at(NOW) is program


def test_a_running_service_sees_a_version_that_comes(given_program: Given) -> None:
    program = given_program.program()
    program.look()
    assert program.at(NEW_YEAR) is program
    given_program.apply(HALF)
    assert program.at(NEW_YEAR) is program
    program.look()
    assert program.at(NEW_YEAR).version == parse(HALF).version


def test_what_cannot_be_read_leaves_the_former_in_force(given_program: Given) -> None:
    given_program.apply(HALF)
    program = given_program.program()
    bad = given_program.folder / "20280101T000000Z-000000000000.yaml"
    bad.write_text("program: [", encoding="utf-8")
    os.utime(given_program.folder, ns=(1, 1))
    program.look()
    assert program.at(datetime(2029, 1, 1, tzinfo=UTC)).version == parse(HALF).version
    with pytest.raises(UsageError):
        given_program.program()


REVALUING = [
    ("currency: GBP", "currency: EUR"),
    ("timezone: Europe/London", "timezone: Europe/Berlin"),
    ("rounding: floor", "rounding: ceil"),
    ("program: demo", "program: other"),
    ("kind: rolling, length: P12M", "kind: lifetime"),
    ("basis: points", "basis: spend"),
    ("{id: gold, name: Gold", "{id: platinum, name: Gold"),
    ("{id: bronze, name: Bronze, threshold: 0", "{id: bronze, name: Bronze, threshold: 1"),
    ("refunds: allow_negative", "refunds: clamp_to_zero"),
]


@pytest.mark.parametrize(("text", "other"), REVALUING, ids=[other for _, other in REVALUING])
def test_what_would_value_old_points_anew_is_refused(
    given_program: Given, text: str, other: str
) -> None:
    assert DEMO.count(text) == 1
    with pytest.raises(ProgramChangeRefused, match="valued anew") as refused:
        given_program.apply(HALF.replace(text, other))
    assert refused.value.code == "program-revalues-points"
    assert not given_program.folder.exists()


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ('per: "1.00"', 'per: "2.00"'),
        ("net_of_tax: false", "net_of_tax: true"),
        ("categories: []", "categories: [wine]"),
        ("available_after: P0D", "available_after: P14D"),
        ("expiry: {after: P12M, round_up: month_end}", "expiry: {kind: none}"),
        ("name: Treueprogramm", "name: Punkte"),
        ('threshold: 500, multiplier: "1.25"', 'threshold: 400, multiplier: "3"'),
        ("on_reach: [welcome-gold]", "on_reach: [welcome-gold, welcome-silver]"),
        ("name: Silber", "name: Silver"),
        ("grace: P30D", "grace: P0D"),
        ("downgrade: one_level", "downgrade: full"),
        (
            "    - {id: gold,",
            "    - {id: ruby, name: Rubin, threshold: 900}\n    - {id: gold,",
        ),
        ('percent: "10"', 'percent: "20"'),
        (
            "net_of_tax: false",
            "campaigns: [{id: spring, from: 2027-03-01, until: 2027-05-31, bonus: 5}]",
        ),
    ],
)
def test_what_a_purchase_earns_and_how_long_it_lasts_may_change(
    given_program: Given, text: str, other: str
) -> None:
    new = DEMO.replace(text, other)
    assert new != DEMO
    target = given_program.apply(new)
    assert target.name == f"20270101T000000Z-{parse(new).version}.yaml"


def test_the_past_keeps_its_rules_and_versions_come_one_after_another(
    given_program: Given,
) -> None:
    with pytest.raises(ProgramChangeRefused) as refused:
        given_program.apply(HALF, NOW)
    assert refused.value.code == "program-begins-in-the-past"
    given_program.apply(HALF)
    for at in (NEW_YEAR, NEW_YEAR - timedelta(days=1)):
        with pytest.raises(ProgramChangeRefused) as refused:
            given_program.apply(DEMO, at)
        assert refused.value.code == "program-not-the-last"
    with pytest.raises(ProgramChangeRefused) as refused:
        given_program.apply(HALF, NEW_YEAR + timedelta(days=1))
    assert refused.value.code == "program-changes-nothing"
    given_program.apply(DEMO, NEW_YEAR + timedelta(days=1))


def test_levels_change_at_least_a_day_ahead(given_program: Given) -> None:
    new = DEMO.replace("threshold: 500", "threshold: 400")
    with pytest.raises(ProgramChangeRefused, match="less than a day ahead") as refused:
        given_program.apply(new, NOW + timedelta(days=1))
    assert refused.value.code == "program-begins-too-soon"
    given_program.apply(HALF, NOW + timedelta(hours=1))
    given_program.apply(
        new.replace('per: "1.00"', 'per: "2.00"'), NOW + timedelta(days=1, seconds=1)
    )


def test_a_file_that_nobody_applied_is_named(given_program: Given) -> None:
    given_program.folder.mkdir()
    (given_program.folder / "mine.yaml").write_text(HALF, encoding="utf-8")
    with pytest.raises(UsageError, match=r"mine\.yaml is no version"):
        given_program.program()


RATES = {start: parse(DEMO.replace('per: "1.00"', f'per: "{start + 1}"')) for start in range(1, 13)}


@given(st.sets(st.sampled_from(sorted(RATES)), min_size=1), st.integers(0, 15))
def test_the_newest_version_that_has_begun_decides(starts: set[int], day: int) -> None:
    program = parse(DEMO)
    rates = [(NOW + timedelta(days=start), RATES[start]) for start in sorted(starts)]
    program.follow(lambda: 0, lambda: rates)
    begun = [start for start in starts if start <= day]
    found = program.at(NOW + timedelta(days=day)).earning.base.per
    assert found == (max(begun) + 1 if begun else 1)


def test_the_command_applies_lists_and_refuses(given_program: Given, tmp_path: Path) -> None:
    stack = {"program": str(given_program.file)}
    (tmp_path / "stack.json").write_text(json.dumps(stack), encoding="utf-8")
    new = tmp_path / "half.yaml"
    new.write_text(HALF, encoding="utf-8")

    def treue(*words: str) -> Result:
        return CliRunner().invoke(app, [*words, "--dir", str(tmp_path)])

    told = treue("apply", str(new), "--valid-from", "2999-01-01T01:00:00+01:00")
    assert told.exit_code == 0, told.output
    assert "Valid from 2999-01-01T00:00:00Z" in told.output
    assert "earning.base.per was 1.00 and is 2.00" in told.output
    listed = treue("versions").output.splitlines()
    assert listed[0].startswith(f"{parse(DEMO).version}  from the beginning")
    assert listed[1:] == [f"{parse(HALF).version}  from 2999-01-01T00:00:00Z"]
    again = treue("apply", str(new), "--valid-from", "2999-06-01T00:00:00Z")
    assert isinstance(again.exception, ProgramChangeRefused)
    assert again.exception.code == "program-changes-nothing"
    for wrong in ("2999-06-01", "tomorrow", "2999-06-01T00:00:00"):
        refused = treue("apply", str(new), "--valid-from", wrong)
        assert isinstance(refused.exception, UsageError)
        assert "no instant with a zone" in str(refused.exception)


def test_points_that_activity_keeps_are_not_left_to_end(given_program: Given) -> None:
    kept = DEMO.replace("{after: P12M,", "{kind: inactivity, after: P12M,")
    assert kept != DEMO
    given_program.file.write_text(kept, encoding="utf-8")
    with pytest.raises(ProgramChangeRefused, match=r"earning\.expiry\.kind") as refused:
        given_program.apply(DEMO)
    assert refused.value.code == "program-revalues-points"
    given_program.apply(kept.replace("after: P12M", "after: P18M"))


def test_points_may_be_kept_by_activity_from_an_instant_on(given_program: Given) -> None:
    given_program.apply(DEMO.replace("{after: P12M,", "{kind: inactivity, after: P12M,"))
    assert given_program.program().at(NEW_YEAR).earning.expiry.kind == "inactivity"
