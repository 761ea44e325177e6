"""What differs between two programs, in the words of the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from shared.cli.program import app
from shared.program import Program, parse
from shared.program.difference import difference

DEMO = (Path(__file__).parents[2] / "programs" / "demo.yaml").read_text(encoding="utf-8")
OLD = parse(DEMO)

CHANGES = [
    ('{points: 1, per: "1.00"}', '{points: 1, per: "1.50"}',
     "earning.base.per was 1.00 and is 1.50", "purchases"),
    ("rounding: floor", "rounding: ceil", "earning.rounding was floor and is ceil", "purchases"),
    ("name: Treueprogramm", "name: Punkte", "name was Treueprogramm and is Punkte", "reading"),
    ("name: Silber", "name: Silver", "tiers.levels.silver.name was Silber and is Silver", "reading"),
    ('threshold: 500, multiplier: "1.25"', 'threshold: 600, multiplier: "1.25"',
     "tiers.levels.silver.threshold was 500 and is 600", "tiers"),
    ('threshold: 500, multiplier: "1.25"', 'threshold: 500, multiplier: "1.3"',
     "tiers.levels.silver.multiplier was 1.25 and is 1.3", "tiers"),
    ("currency: GBP", "currency: EUR", "currency was GBP and is EUR", "everything"),
    ("timezone: Europe/London", "timezone: Europe/Berlin", "timezone was Europe/London and is Europe/Berlin",
     "everything"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "other", "words", "reach"), CHANGES, ids=[c[2] for c in CHANGES])
def test_a_changed_field_is_told_with_its_place(
    text: str, other: str, words: str, reach: str
) -> None:
    assert DEMO.count(text) == 1
    found = difference(OLD, parse(DEMO.replace(text, other)))
    assert [(item.words(), item.reach) for item in found] == [(words, reach)]
    assert found[0].meaning


def test_a_new_and_a_gone_item_are_told_by_their_id() -> None:
    line = next(text for text in DEMO.splitlines() if "id: gold" in text)
    without = parse(DEMO.replace(line, ""))
    gone = difference(OLD, without)
    assert [item.field for item in gone] == ["tiers.levels.gold"]
    assert gone[0].new is None
    assert "threshold: 2000" in (gone[0].old or "")
    new = difference(without, OLD)
    assert [item.words() for item in new] == [f"tiers.levels.gold is new: {gone[0].old}"]


def test_layout_comments_and_written_defaults_differ_in_nothing() -> None:
    other = parse("# more words\n" + DEMO.replace('per: "1.00"', "per: 1.0"))
    assert difference(OLD, other) == []
    assert other.version == OLD.version


@given(st.sets(st.sampled_from(range(len(CHANGES)))))
def test_there_is_a_difference_exactly_where_the_version_differs(chosen: set[int]) -> None:
    text = DEMO
    for number in chosen:
        text = text.replace(CHANGES[number][0], CHANGES[number][1])
    new: Program = parse(text)
    assert bool(difference(OLD, new)) == (new.version != OLD.version)
    swapped = [(item.path, item.new, item.old) for item in difference(new, OLD)]
    assert swapped == [(item.path, item.old, item.new) for item in difference(OLD, new)]


def test_the_command_tells_it(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(DEMO, encoding="utf-8")
    new.write_text(DEMO.replace("rounding: floor", "rounding: ceil"), encoding="utf-8")
    told = CliRunner().invoke(app, ["diff", str(old), str(new)])
    assert told.exit_code == 0
    assert "earning.rounding was floor and is ceil" in told.output
    assert "lots keep their points and dates" in told.output
    same = CliRunner().invoke(app, ["diff", str(old), str(old)])
    assert same.output == f"The same rules: version {OLD.version}.\n"
    plain = CliRunner().invoke(app, ["diff", str(old), str(new), "--json"])
    found = json.loads(plain.output)["differences"]
    assert [item["field"] for item in found] == ["earning.rounding"]
