"""What refunds do to levels: golden cases of docs/decisions/0031-tiers-and-refunds.md."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from services.tiers.domain.qualification import Amount, Qualifying, Reduction
from services.tiers.domain.standing import standing_of, unmoved
from shared.program.model import Tiers
from tests.unit.tiers.ways import at, entries, level, rules, told, walked

Bought = tuple[str, Amount]
Back = tuple[int, str, Amount]


def given(bought: list[Bought], back: list[Back]) -> list[Qualifying]:
    """Purchases as (instant, amount), refunds as (number of the purchase from 1, instant, amount)."""
    found = entries(*bought)
    for number, when, amount in back:
        entry = found[number - 1]
        taken = (*entry.reductions, Reduction(at(when), amount))
        found[number - 1] = replace(entry, reductions=taken)
    return found


SILVER = "upgraded silver#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1"
GOLD = "upgraded gold#1 2026-06-10T00:00 until 2027-06-11T00:00 by 2"

CASES: dict[str, tuple[Tiers, list[Bought], list[Back], str, list[str]]] = {
    "the level falls at once, without grace, and history stays": (
        rules(grace="P30D"),
        [("2026-03-10", 500)],
        [(1, "2026-03-20", 1)],
        "2026-04-01",
        [SILVER, "downgraded bronze 2026-03-20T00:00 by 1"],
    ),
    "what still meets the level stays, with its validity": (
        rules(),
        [("2026-03-10", 600)],
        [(1, "2026-03-20", 100)],
        "2027-03-01",
        ["upgraded silver#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1"],
    ),
    "and is judged with what is left when that ends": (
        rules(),
        [("2026-03-10", 500), ("2026-09-10", 500)],
        [(2, "2026-09-20", 1)],
        "2027-04-01",
        [SILVER, "downgraded bronze 2027-03-11T00:00"],
    ),
    "several parts add up": (
        rules(),
        [("2026-03-10", 600)],
        [(1, "2026-03-20", 60), (1, "2026-03-25", 60)],
        "2026-04-01",
        [SILVER, "downgraded bronze 2026-03-25T00:00 by 1"],
    ),
    "it falls to the level that is met, whatever the program says of downgrades": (
        rules(downgrade="one_level"),
        [("2026-03-10", 500), ("2026-06-10", 1500)],
        [(2, "2026-06-20", 1500), (1, "2026-07-20", 500)],
        "2026-08-01",
        [
            SILVER,
            GOLD,
            "downgraded silver 2026-06-20T00:00 until 2027-06-20T00:00 by 2",
            "downgraded bronze 2026-07-20T00:00 by 1",
        ],
    ),
    "two levels at once": (
        rules(downgrade="none"),
        [("2026-03-10", 2000)],
        [(1, "2026-03-20", 2000)],
        "2026-08-01",
        [
            SILVER,
            "upgraded gold#1 2026-03-10T00:00 until 2027-03-11T00:00 by 1",
            "downgraded bronze 2026-03-20T00:00 by 1",
        ],
    ),
    "a level that was earned before is not lost with the one above, though its points have left the window": (
        rules(),
        [("2025-04-10", 400), ("2026-03-10", 100), ("2026-06-10", 2000)],
        [(3, "2026-06-20", 2000)],
        "2026-08-01",
        [
            "upgraded silver#1 2026-03-10T00:00 until 2027-03-11T00:00 by 2",
            "upgraded gold#1 2026-06-10T00:00 until 2027-06-11T00:00 by 3",
            "downgraded silver 2026-06-20T00:00 until 2027-06-20T00:00 by 3",
        ],
    ),
    "a later purchase would have reached it all the same": (
        rules(),
        [("2026-03-10", 500), ("2026-03-15", 500)],
        [(1, "2026-03-20", 500)],
        "2026-08-01",
        [SILVER],
    ),
    "it can be reached again": (
        rules(),
        [("2026-03-10", 500), ("2026-04-10", 1)],
        [(1, "2026-03-20", 1)],
        "2026-08-01",
        [
            SILVER,
            "downgraded bronze 2026-03-20T00:00 by 1",
            "upgraded silver#2 2026-04-10T00:00 until 2027-04-11T00:00 by 2",
        ],
    ),
    "an exchange at one instant costs no level": (
        rules(),
        [("2026-03-10", 500), ("2026-03-20", 500)],
        [(1, "2026-03-20", 500)],
        "2026-08-01",
        [SILVER],
    ),
    "nor does it lift anybody by what is given back": (
        rules(),
        [("2026-03-10", 400), ("2026-03-20", 400)],
        [(1, "2026-03-20", 400)],
        "2026-08-01",
        [],
    ),
    "given back at once or before, it never counted": (
        rules(),
        [("2026-03-10", 500), ("2026-04-10", 500)],
        [(1, "2026-03-10", 500), (2, "2026-04-01", 1)],
        "2026-08-01",
        [],
    ),
    "in grace, what is given back ends no grace": (
        rules(grace="P30D"),
        [("2026-03-10", 500), ("2026-12-10", 400), ("2027-03-20", 99)],
        [(2, "2027-03-15", 100)],
        "2027-05-01",
        [SILVER, "downgraded bronze 2027-04-10T00:00"],
    ),
    "a renewal that rests on it falls with it, without grace": (
        rules(grace="P30D"),
        [("2026-03-10", 500), ("2026-12-10", 500)],
        [(2, "2027-03-20", 100)],
        "2027-05-01",
        [
            SILVER,
            "retained silver 2027-03-11T00:00 until 2028-03-11T00:00",
            "downgraded bronze 2027-03-20T00:00 by 2",
        ],
    ),
    "a small refund does not end what is held for one more window after another": (
        rules(),
        [("2025-09-10", 500), ("2026-06-10", 1500), ("2026-07-10", 20)],
        [(2, "2026-06-20", 1500), (3, "2026-12-20", 1)],
        "2026-12-31",
        [
            "upgraded silver#1 2025-09-10T00:00 until 2026-09-11T00:00 by 1",
            "upgraded gold#1 2026-06-10T00:00 until 2027-06-11T00:00 by 2",
            "downgraded silver 2026-06-20T00:00 until 2027-06-20T00:00 by 2",
        ],
    ),
    "presents that come back in January leave what last year is worth without them": (
        rules("calendar_year"),
        [("2026-06-10", 600), ("2026-12-20", 1500), ("2027-01-05", 10)],
        [(2, "2027-01-10", 1000)],
        "2027-02-01",
        [
            "upgraded silver#1 2026-06-10T00:00 until 2028-01-01T00:00 by 1",
            "upgraded gold#1 2026-12-20T00:00 until 2028-01-01T00:00 by 2",
            "downgraded silver 2027-01-10T00:00 until 2028-01-01T00:00 by 2",
        ],
    ),
    "what is never lost is lost by a refund": (
        rules("lifetime"),
        [("2026-03-10", 500)],
        [(1, "2030-03-10", 1)],
        "2031-01-01",
        ["upgraded silver#1 2026-03-10T00:00 by 1", "downgraded bronze 2030-03-10T00:00 by 1"],
    ),
    "below the first level there is none": (
        rules(levels=(level("silver", "500"),)),
        [("2026-03-10", 500)],
        [(1, "2026-03-20", 1)],
        "2026-04-01",
        [SILVER, "downgraded  2026-03-20T00:00 by 1"],
    ),
    "a refund at the very end of a validity comes before it": (
        rules(),
        [("2026-03-10", 500), ("2026-09-10", 500)],
        [(2, "2027-03-11", 1)],
        "2027-04-01",
        [SILVER, "downgraded bronze 2027-03-11T00:00"],
    ),
    "money": (
        rules(basis="spend", levels=(level("bronze", "0"), level("silver", "500"))),
        [("2026-03-10", Decimal("500.01"))],
        [(1, "2026-03-20", Decimal("0.01")), (1, "2026-03-21", Decimal("0.01"))],
        "2026-04-01",
        [SILVER, "downgraded bronze 2026-03-21T00:00 by 1"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refund(case: str) -> None:
    by, bought, back, until, expected = CASES[case]
    assert told(walked(given(bought, back), by, until)) == expected


def test_what_comes_after_the_instant_asked_for_is_not_known() -> None:
    found = given([("2026-03-10", 500)], [(1, "2026-03-20", 500)])
    early = walked(found, rules(), "2026-03-19")
    assert (told(early), early.amount) == ([SILVER], 500)
    late = walked(found, rules(), "2026-03-20")
    assert (late.amount, int(late.missing or 0)) == (0, 500)


def test_late_entries_find_what_was_given_back_still_there() -> None:
    """A purchase of the time between may have reached a level that nobody knew of."""
    held = standing_of(
        walked(given([("2026-03-10", 400)], [(1, "2026-03-20", 400)]), rules(), "2026-03-20"),
        rules(),
    )
    assert (held.room, held.late_room) == (500, 100)
    late = entries(("2026-03-15", 100))
    assert unmoved(held, late) is None
    assert unmoved(held, entries(("2026-03-25", 499))) is not None
