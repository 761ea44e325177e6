"""What a change of the program means for members, in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared.cli.program import app
from shared.program import parse
from shared.program.difference import difference
from shared.program.telling import for_members

DEMO = (Path(__file__).parents[2] / "programs" / "demo.yaml").read_text(encoding="utf-8")
SPRING = "campaigns: [{id: spring, from: 2027-03-01, until: 2027-05-31, bonus: 5}]\n  "
WITH = DEMO.replace("  available_after", f"  {SPRING}available_after")
RUBY = '    - {id: ruby, name: Rubin, threshold: 900, multiplier: "1.3"}\n    - {id: gold,'

CHANGES = [
    (DEMO, WITH, "purchases from then on count for spring"),
    (WITH, DEMO, "spring ends when this begins; what it has given stays"),
    (WITH, WITH.replace("bonus: 5", "bonus: 9"), "have spring with these terms"),
    (WITH, WITH.replace("bonus: 5", "bonus: 5, cap: {total: 100}"), "what spring has given under a cap"),
    (DEMO, DEMO.replace("threshold: 2000", "threshold: 3000"), "gold is harder to reach; who is on it keeps"),
    (DEMO, DEMO.replace("threshold: 2000", "threshold: 999.0"), "gold is easier to reach; whoever has enough is"),
    (DEMO, DEMO.replace('"1.5"', '"2"'), "who is on gold earns more with purchases from then on"),
    (DEMO, DEMO.replace('"1.5"', '"1.3"'), "who is on gold earns less with purchases from then on"),
    (DEMO, DEMO.replace("[welcome-gold]", "[]"), "who reaches gold from then on gets these"),
    (DEMO, DEMO.replace("    - {id: gold,", RUBY), "ruby: whoever has enough is lifted by the next purchase"),
    (DEMO, DEMO.replace("grace: P30D", "grace: P0D"), "levels that end unmet from then on"),
    (DEMO, DEMO.replace('percent: "10"', 'percent: "20"'), "vouchers welcome-silver given from then on are this"),
    (DEMO, DEMO.replace('per: "1.00"', 'per: "2.00"'), "points that are there stay as they are"),
    (DEMO, DEMO.replace("after: P12M", "after: P6M"), "those that are there keep theirs"),
    (DEMO, DEMO.replace("currency: GBP", "currency: EUR"), "reaches every point there is"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "words"), CHANGES, ids=[c[2] for c in CHANGES])
def test_members_are_told_what_changes(old: str, new: str, words: str) -> None:
    told = [for_members(item) for item in difference(parse(old), parse(new))]
    assert len(told) == 1
    assert words in told[0]


def test_the_command_says_it_and_what_apply_would_refuse(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in ("old.yaml", "new.yaml", "other.yaml"))
    old.write_text(DEMO, encoding="utf-8")
    new.write_text(DEMO.replace("threshold: 2000", "threshold: 3000"), encoding="utf-8")
    other.write_text(DEMO.replace("basis: points", "basis: spend"), encoding="utf-8")
    told = CliRunner().invoke(app, ["diff", str(old), str(new)]).output
    assert "→ gold is harder to reach" in told
    assert "refuse" not in told
    told = CliRunner().invoke(app, ["diff", str(old), str(other)]).output
    assert "`treue program apply` would refuse it: program-revalues-points: tiers.basis" in told
