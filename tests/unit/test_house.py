"""The house keeps its shape: equal rooms, bounded files, every statement described, nothing of the machine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from shared.contracts.catalogue import STRUCTS, TOPICS

ROOT = Path(__file__).parents[2]
SERVICES = ("points", "tiers", "rewards")
ROOMS = {
    "README.md", "__init__.py", "__main__.py", "settings.py", "wiring.py", "intake.py", "handlers.py",
    "domain", "ledger.py", "views.py", "sql", "migrations", "invariants.py", "jobs.py", "api",
}  # fmt: skip
FILE_LINES_MAX = {"tests": 700, "benchmarks": 500}
SOURCE_LINES_MAX = 400


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_rooms(service: str) -> None:
    # A room with much in it is a folder.
    found = {p.name for p in (ROOT / "services" / service).iterdir() if p.name != "__pycache__"}
    folders = {f"{name}.py" for name in ("handlers", "ledger", "views", "jobs") if name in found}
    assert {name for name in found if f"{name}.py" not in folders} | folders == ROOMS


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_page_has_the_same_headings(service: str) -> None:
    text = (ROOT / "services" / service / "README.md").read_text(encoding="utf-8")
    for word in ("Owns", "Events in", "Events out", "Invariants"):
        assert f"**{word}" in text, f"services/{service}/README.md lacks **{word}**"


@pytest.mark.parametrize(
    "file",
    sorted(ROOT.glob("services/*/sql/*.sql")) + sorted(ROOT.glob("shared/**/sql/*.sql")),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_statement_is_named_and_described(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    names = [index for index, text in enumerate(lines) if text.startswith("-- name:")]
    assert names, "no named statement"
    for index in names:
        assert lines[index + 1].startswith("-- "), f"{lines[index]} has no description"


def test_no_file_grows_beyond_reading() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked()
        if path.suffix == ".py"
        and (count := len(path.read_text(encoding="utf-8").splitlines()))
        > FILE_LINES_MAX.get(path.relative_to(ROOT).parts[0], SOURCE_LINES_MAX)
    }
    assert long == {}


def test_nothing_names_an_index_or_a_path_of_the_machine() -> None:
    pattern = re.compile(
        r"(index-url|extra-index|registry)[^a-z]{1,6}https?://|/(root|home)/\w+/"
        # Spelt in pieces: this file must not name what it looks for.
        rf"|{'py' + 'pi'}\.org|{re.escape(str(ROOT))}|/{'wo' + 'rk'}/main"
    )
    named = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.suffix in {".py", ".toml", ".txt", ".yml", ".yaml", ".md", ".xml", ".sh", ""}
        and path.name != "test_house.py"
        and pattern.search(path.read_text(encoding="utf-8", errors="ignore"))
    ]
    assert named == []


def test_every_published_type_lives_on_a_topic_of_ours() -> None:
    topics = {spec.name for spec in TOPICS}
    assert {"treue.purchases", "treue.points", "treue.tiers", "treue.rewards"} <= topics
    for name in STRUCTS:
        assert re.fullmatch(r"treue\.[a-z]+\.[a-z_]+\.v\d+", name)
