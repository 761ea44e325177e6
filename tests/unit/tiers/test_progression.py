"""Golden cases of the way through the levels, one table a window."""

from __future__ import annotations

import time
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from services.tiers.domain.progression import multiplier_text
from services.tiers.domain.qualification import Qualifying
from tests.unit.tiers.ways import BERLIN, THREE, at, entries, level, rules, told, walked

SILVER = ("2026-03-10T12:00", 500)
SILVER_MOVE = "upgraded silver#1 2026-03-10T12:00 until 2027-03-11T00:00 by 1"

ROLLING = {
    "nothing earned": (rules(), [], "2030-01-01", []),
    "below the threshold": (rules(), [("2026-03-10", 499)], "2030-01-01", []),
    "the threshold is included": (rules(), [SILVER], "2026-03-10T12:00", [SILVER_MOVE]),
    "several purchases add up, the crossing one is the cause": (
        rules(),
        [("2026-03-10", 200), ("2026-05-10", 299), ("2026-06-10", 1)],
        "2026-07-01",
        ["upgraded silver#1 2026-06-10T00:00 until 2027-06-11T00:00 by 3"],
    ),
    "what is older than the window does not count": (
        rules(),
        [("2026-03-10T12:00", 499), ("2027-03-10T12:00", 499)],
        "2027-03-11",
        [],
    ),
    "what is a moment younger does": (
        rules(),
        [("2026-03-10T12:01", 1), ("2027-03-10T12:00", 499)],
        "2027-03-11",
        ["upgraded silver#1 2027-03-10T12:00 until 2028-03-11T00:00 by 2"],
    ),
    "two thresholds at once reach every level between": (
        rules(),
        [("2026-03-10", 2000)],
        "2026-04-01",
        [
            "upgraded silver#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1",
            "upgraded gold#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1",
        ],
    ),
    "still met when validity ends: renewed": (
        rules(),
        [SILVER, ("2026-12-24", 500)],
        "2027-03-11",
        [SILVER_MOVE, "retained silver 2027-03-11T00:00 until 2028-03-11T00:00"],
    ),
    "the crossing purchase itself has left the window by then": (
        rules(),
        [SILVER, ("2026-12-24", 499)],
        "2027-03-11",
        [SILVER_MOVE, "downgraded bronze 2027-03-11T00:00"],
    ),
    "nothing is judged before validity ends": (
        rules(),
        [SILVER],
        "2027-03-10T23:59",
        [SILVER_MOVE],
    ),
    "reached again: the second time": (
        rules(),
        [SILVER, ("2027-06-01", 500)],
        "2027-06-01",
        [
            SILVER_MOVE,
            "downgraded bronze 2027-03-11T00:00",
            "upgraded silver#2 2027-06-01T00:00 until 2028-06-02T00:00 by 2",
        ],
    ),
    "full: from gold down to what is met": (
        rules(),
        [("2026-03-10", 2000)],
        "2027-03-11",
        [
            "upgraded silver#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1",
            "upgraded gold#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1",
            "downgraded bronze 2027-03-11T00:00",
        ],
    ),
    "one level: silver is held for one more window, then judged": (
        rules(downgrade="one_level"),
        [("2026-03-10", 2000)],
        "2028-03-11",
        [
            "upgraded silver#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1",
            "upgraded gold#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1",
            "downgraded silver 2027-03-11T00:00 until 2028-03-11T00:00",
            "downgraded bronze 2028-03-11T00:00",
        ],
    ),
    "one level, but never below what is met": (
        rules(downgrade="one_level", levels=(*THREE, level("platin", "5000"))),
        [("2026-03-10", 5000), ("2026-10-10", 2000)],
        "2027-03-11",
        [
            "upgraded silver#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1",
            "upgraded gold#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1",
            "upgraded platin#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1",
            "downgraded gold 2027-03-11T00:00 until 2028-03-11T00:00",
        ],
    ),
    "none: renewed although unmet, without a grace": (
        rules(downgrade="none", grace="P30D"),
        [SILVER],
        "2028-03-11",
        [
            SILVER_MOVE,
            "retained silver 2027-03-11T00:00 until 2028-03-11T00:00",
            "retained silver 2028-03-11T00:00 until 2029-03-11T00:00",
        ],
    ),
    "grace postpones the fall, and the level below is held from there": (
        rules(downgrade="one_level", grace="P30D"),
        [("2026-03-10", 2000)],
        "2027-04-10",
        [
            "upgraded silver#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1",
            "upgraded gold#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1",
            "downgraded silver 2027-04-10T00:00 until 2028-04-10T00:00",
        ],
    ),
    "what is earned in the grace counts in addition": (
        rules(grace="P30D"),
        [SILVER, ("2026-03-12", 300), ("2027-04-01T09:00", 200)],
        "2027-04-10",
        [SILVER_MOVE, "retained silver 2027-04-01T09:00 until 2028-03-11T00:00 by 3"],
    ),
    "what is earned in the grace is not enough": (
        rules(grace="P30D"),
        [SILVER, ("2026-03-12", 300), ("2027-04-01T09:00", 199)],
        "2027-04-10",
        [SILVER_MOVE, "downgraded bronze 2027-04-10T00:00"],
    ),
    "a higher level can be reached in the grace": (
        rules(grace="P30D"),
        [SILVER, ("2027-04-01T09:00", 2000)],
        "2027-04-10",
        [SILVER_MOVE, "upgraded gold#1 2027-04-01T09:00 until 2028-04-02T00:00 by 2"],
    ),
    "an entry at the very end of validity is in the window (t - length, t]": (
        rules(),
        [SILVER, ("2027-03-11T00:00", 500)],
        "2027-03-11",
        [SILVER_MOVE, "retained silver 2027-03-11T00:00 until 2028-03-11T00:00"],
    ),
    "without a base level one can fall below the first": (
        rules(levels=(level("silver", "500"),)),
        [SILVER],
        "2027-03-11",
        [SILVER_MOVE, "downgraded  2027-03-11T00:00"],
    ),
    "a leap day is clamped": (
        rules(),
        [("2028-02-29T10:00", 500)],
        "2029-03-01",
        [
            "upgraded silver#1 2028-02-29T10:00 until 2029-03-01T00:00 by 1",
            "downgraded bronze 2029-03-01T00:00",
        ],
    ),
    "a grace longer than the window renews from where it was earned": (
        rules("P7D", grace="P30D"),
        [SILVER, ("2026-04-01T09:00", 500)],
        "2026-04-02",
        [
            "upgraded silver#1 2026-03-10T12:00 until 2026-03-18T00:00 by 1",
            "retained silver 2026-04-01T09:00 until 2026-04-09T00:00 by 2",
        ],
    ),
    "a window longer than the calendar never ends": (
        rules("P900000M", grace="P999999M"),
        [("2026-03-10", 499), ("2026-03-11", 1)],
        "9000-01-01",
        ["upgraded silver#1 2026-03-11T00:00 until 9999-12-31T23:59 by 2"],
    ),
}

CALENDAR_YEAR = {
    "valid to the end of the next year": (
        rules("calendar_year"),
        [("2026-03-10", 500)],
        "2027-12-31",
        ["upgraded silver#1 2026-03-10T00:00 until 2028-01-01T00:00 by 1"],
    ),
    "a new year begins at nothing": (
        rules("calendar_year"),
        [("2026-12-31T23:59", 499), ("2027-01-01T00:00", 499)],
        "2028-06-01",
        [],
    ),
    "met again in the next year: to the end of the year after": (
        rules("calendar_year"),
        [("2026-03-10", 500), ("2027-12-31T23:59", 500)],
        "2028-01-01",
        [
            "upgraded silver#1 2026-03-10T00:00 until 2028-01-01T00:00 by 1",
            "retained silver 2028-01-01T00:00 until 2029-01-01T00:00",
        ],
    ),
    "the first instant of the new year is too late": (
        rules("calendar_year"),
        [("2026-03-10", 500), ("2028-01-01T00:00", 500)],
        "2028-01-01",
        [
            "upgraded silver#1 2026-03-10T00:00 until 2028-01-01T00:00 by 1",
            "downgraded bronze 2028-01-01T00:00",
            "upgraded silver#2 2028-01-01T00:00 until 2030-01-01T00:00 by 2",
        ],
    ),
    "a level fallen to is held to the end of that year": (
        rules("calendar_year", downgrade="one_level"),
        [("2026-03-10", 2000)],
        "2029-01-01",
        [
            "upgraded silver#1 2026-03-10T00:00 until 2028-01-01T00:00 by 1",
            "upgraded gold#1 2026-03-10T00:00 until 2028-01-01T00:00 by 1",
            "downgraded silver 2028-01-01T00:00 until 2029-01-01T00:00",
            "downgraded bronze 2029-01-01T00:00",
        ],
    ),
    "grace adds January to the year before": (
        rules("calendar_year", grace="P31D"),
        [("2026-03-10", 500), ("2027-07-01", 400), ("2028-01-31T23:00", 100)],
        "2028-02-01",
        [
            "upgraded silver#1 2026-03-10T00:00 until 2028-01-01T00:00 by 1",
            "retained silver 2028-01-31T23:00 until 2029-01-01T00:00 by 3",
        ],
    ),
    "a grace longer than a year renews to the end of the year it is met in": (
        rules("calendar_year", grace="P13M"),
        [("2026-03-10", 500), ("2029-01-05T09:00", 500)],
        "2029-01-05T09:00",
        [
            "upgraded silver#1 2026-03-10T00:00 until 2028-01-01T00:00 by 1",
            "retained silver 2029-01-05T09:00 until 2030-01-01T00:00 by 2",
        ],
    ),
}

LIFETIME = {
    "everything counts, nothing is lost": (
        rules("lifetime", grace="P30D"),
        [("2010-01-01", 499), ("2026-03-10", 1), ("2050-01-01", 1500)],
        "2090-01-01",
        ["upgraded silver#1 2026-03-10T00:00 by 2", "upgraded gold#1 2050-01-01T00:00 by 3"],
    ),
}

CASES = ROLLING | CALENDAR_YEAR | LIFETIME


@pytest.mark.parametrize("name", CASES)
def test_way(name: str) -> None:
    by, given, until, expected = CASES[name]
    assert told(walked(entries(*given), by, until)) == expected


def test_days_end_in_the_programs_zone() -> None:
    found = walked(entries(("2027-01-30T23:30", 500)), rules("P1M"), "2027-02-01", BERLIN)
    # In Berlin that is 31 January already; the month's end is clamped: the last valid day is 28 February.
    assert told(found) == ["upgraded silver#1 2027-01-30T23:30 until 2027-02-28T23:00 by 1"]


def test_year_begins_in_the_programs_zone() -> None:
    given = entries(("2026-12-31T22:59", 300), ("2026-12-31T23:00", 300))
    assert told(walked(given, rules("calendar_year"), "2027-06-01", BERLIN)) == []


def test_same_instant_is_ordered_by_id() -> None:
    first, second = UUID(int=1), UUID(int=2)
    given = [Qualifying(second, at("2026-03-10"), 300), Qualifying(first, at("2026-03-10"), 300)]
    assert told(walked(given, rules(), "2026-03-11"))[0].endswith("by 2")


def test_base_level_needs_no_move() -> None:
    found = walked(entries(("2026-03-10", 1), ("2026-04-10", 1)), rules(), "2026-05-01")
    assert (found.moves, found.level, found.since) == ((), THREE[0], at("2026-03-10"))


def test_base_level_that_gives_something_is_reached_at_the_first_entry() -> None:
    by = rules(levels=(level("bronze", "0", on_reach=["hello"]), *THREE[1:]))
    found = walked(entries(("2026-04-10", 0), ("2026-03-10", 500)), by, "2026-05-01")
    assert told(found) == [
        "upgraded bronze#1 2026-03-10T00:00 by 2",
        "upgraded silver#1 2026-03-10T00:00 until 2027-03-11T00:00 by 2",
    ]
    assert found.moves[0].previous is None


def test_status_between() -> None:
    found = walked(entries(SILVER, ("2026-06-01", 900)), rules(), "2026-07-01")
    assert found.level == THREE[1]
    assert (found.since, found.valid_until) == (at("2026-03-10T12:00"), at("2027-03-11"))
    assert (found.amount, found.next_level) == (1400, THREE[2])
    assert found.missing == Decimal(600)
    assert (found.window_from, found.window_until) == (at("2025-07-01"), at("2026-07-01"))
    assert found.grace_until is None


def test_status_in_grace() -> None:
    found = walked(entries(SILVER), rules(grace="P30D"), "2027-03-11")
    assert found.level == THREE[1]
    assert (found.valid_until, found.grace_until) == (at("2027-03-11"), at("2027-04-10"))
    assert found.amount == 0
    assert found.missing == Decimal(2000)


def test_status_at_the_top_and_in_a_year() -> None:
    found = walked(entries(("2026-03-10", 2500)), rules("calendar_year"), "2026-07-01", BERLIN)
    assert (found.level, found.next_level, found.missing) == (THREE[2], None, None)
    assert found.window_from == at("2025-12-31T23:00")
    assert found.window_until == at("2026-12-31T23:00")


def test_spend_is_exact() -> None:
    tenths = [(f"2026-03-{day:02}", Decimal("0.1")) for day in range(1, 11)]
    by = rules("lifetime", basis="spend", levels=(level("bronze", "0"), level("silver", "1.00")))
    assert told(walked(entries(*tenths), by, "2026-04-01")) == [
        "upgraded silver#1 2026-03-10T00:00 by 10"
    ]


def test_a_program_without_levels_moves_nobody() -> None:
    found = walked(entries(SILVER), rules("lifetime", levels=()), "2027-01-01")
    assert (found.moves, found.level, found.next_level) == ((), None, None)


@pytest.mark.parametrize(
    ("factor", "text"), [("1", "1"), ("5/4", "1.25"), ("10", "10"), ("1/1000", "0.001")]
)
def test_multiplier_text(factor: str, text: str) -> None:
    assert multiplier_text(level("x", "0", factor).multiplier) == text


def test_ten_thousand_entries_are_quick() -> None:
    start = at("2010-01-01")
    given = [Qualifying(UUID(int=n), start + timedelta(hours=8 * n), n % 7) for n in range(10_000)]
    began = time.process_time()
    found = walked(given, rules("P1M", levels=(level("a", "0"), level("b", "270"))), "2030-01-01")
    assert time.process_time() - began < 0.3
    assert found.moves
