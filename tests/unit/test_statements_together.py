"""Two SQL statements as one: names, parameters, comments."""

from __future__ import annotations

import re

import pytest

from services.points.ledger import entries as points
from services.rewards import ledger as rewards
from services.tiers import ledger as tiers
from shared.db.statements import together
from shared.events import runner


def test_the_parameters_of_the_second_come_after_those_of_the_first() -> None:
    first = "INSERT INTO a (x, y) VALUES ($1, $2);"
    second = (
        "WITH moved AS (UPDATE b SET z = $2 WHERE k = $1 RETURNING 1) SELECT count(*) FROM moved;"
    )
    assert together(first, 2, second).split() == [
        "WITH",
        "written_first",
        "AS",
        "(INSERT",
        "INTO",
        "a",
        "(x,",
        "y)",
        "VALUES",
        "($1,",
        "$2)",
        ")",
        ",",
        "moved",
        "AS",
        "(UPDATE",
        "b",
        "SET",
        "z",
        "=",
        "$4",
        "WHERE",
        "k",
        "=",
        "$3",
        "RETURNING",
        "1)",
        "SELECT",
        "count(*)",
        "FROM",
        "moved",
    ]


def test_a_list_of_names_stays_in_front_of_what_uses_it() -> None:
    first = (
        "WITH a AS (SELECT ')' AS x), b AS (DELETE FROM t) -- select\nINSERT INTO u SELECT x FROM a"
    )
    assert together(first, 0, "SELECT 1") == (
        "WITH a AS (SELECT ')' AS x), b AS (DELETE FROM t) -- select\n"
        ", written_first AS (INSERT INTO u SELECT x FROM a\n)\nSELECT 1"
    )


@pytest.mark.parametrize(
    "statement", [points.sql.append_entries, tiers.sql.walked, rewards.sql.follow]
)
def test_what_services_write_last_goes_with_the_positions(statement: str) -> None:
    before, after = highest(statement), highest(runner.sql.move_on)
    found = together(statement, before, runner.sql.move_on)
    assert found.count("WITH ") == 1
    assert highest(found) == before + after


def highest(statement: str) -> int:
    """The number of its last parameter."""
    return max(int(number) for number in re.findall(r"\$(\d+)", statement))


def test_what_is_no_statement_is_refused() -> None:
    with pytest.raises(ValueError, match="no statement"):
        together("-- nothing", 0, "SELECT 1")
