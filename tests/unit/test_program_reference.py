"""The reference page of the program file says what the models say."""

from __future__ import annotations

from shared.program.model import Program
from shared.program.reference import PAGE, page


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m shared.program.reference"


def test_every_key_is_explained() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert all(len(row.split(" | ")) == 4 and "None |" not in row for row in rows)
    assert {f"| `{field.alias or name}` " for name, field in Program.model_fields.items()} <= {
        row.split("|")[0] + "|" + row.split("|")[1] for row in rows
    }
