"""What counts of activities: limits by local days in the order of the world, referrals by first purchases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from services.points.domain import explain, facts
from services.points.domain.activities import Done, FirstPurchase, Referral, counted, granted
from shared.clock import Period
from shared.program import Program
from shared.program.earning import Limit

BERLIN = ZoneInfo("Europe/Berlin")


def limited(times: int, per: Period | None = None) -> Limit:
    return Limit.model_construct(times=times, per=per)


DAY = limited(1, Period(days=1))


def done(*times: str) -> list[Done]:
    return [
        Done(UUID(int=number), datetime.fromisoformat(f"{text}+00:00"))
        for number, text in enumerate(times)
    ]


def which(acts: list[Done], limit: Limit | None) -> list[int]:
    return sorted(one.int for one in counted(acts, limit, BERLIN))


@pytest.mark.parametrize(
    ("limit", "times", "expected"),
    [
        (None, ["2026-05-01T10:00"] * 3, [0, 1, 2]),
        (limited(2), ["2026-05-03T10:00", "2026-05-01T10:00", "2027-05-02T10:00"], [0, 1]),
        # 23:30 in Berlin and 00:30 the next day are two days; 24 hours need not have passed.
        (DAY, ["2026-05-01T21:30", "2026-05-01T22:30", "2026-05-02T08:00"], [0, 1]),
        (DAY, ["2026-05-01T08:00", "2026-05-01T07:00"], [1]),
        # Equal instants: the lower id.
        (DAY, ["2026-05-01T08:00", "2026-05-01T08:00"], [0]),
        # The last seven days, this one included.
        (
            limited(1, Period(days=7)),
            ["2026-05-01T10:00", "2026-05-07T10:00", "2026-05-08T10:00"],
            [0, 2],
        ),
        # What does not count uses nothing up: the third is measured from the first, not from the second.
        (
            limited(1, Period(months=1)),
            ["2026-01-31T10:00", "2026-02-28T10:00", "2026-03-01T10:00"],
            [0, 2],
        ),
        # Across the change to summer time a day is a day.
        (DAY, ["2026-03-28T12:00", "2026-03-29T12:00", "2026-03-29T21:59"], [0, 1]),
    ],
)
def test_limits(limit: Limit | None, times: list[str], expected: list[int]) -> None:
    acts = done(*times)
    assert which(acts, limit) == expected
    assert which(acts[::-1], limit) == expected


START = datetime(2026, 5, 1, tzinfo=UTC)


def referral(number: int, day: int, bought: int | None, friend: int = 1, by: int = 2) -> Referral:
    first = None if bought is None else FirstPurchase(UUID(int=900), START + timedelta(bought))
    return Referral(UUID(int=number), "referral", START + timedelta(day), friend, by, first)


@pytest.mark.parametrize(
    ("told", "paid"),
    [
        ([referral(1, 3, None)], []),
        ([referral(1, 3, 5)], [1]),
        ([referral(1, 3, 3)], [1]),
        # Who buys already was brought by nobody.
        ([referral(1, 3, 2)], []),
        # The first to say so; the second gets nothing, even if the first could not be paid.
        ([referral(2, 4, 5, by=3), referral(1, 3, 5)], [1]),
        ([referral(1, 3, 5), referral(2, 3, 5, friend=7)], [1, 2]),
    ],
)
def test_referrals_are_paid_after_the_first_purchase(told: list[Referral], paid: list[int]) -> None:
    assert sorted(one.referral.id.int for one in granted(told)) == paid
    assert sorted(one.referral.id.int for one in granted(told[::-1])) == paid


TOLD = [
    (facts.ACTIVITY, 50, ["review"], "+50 Punkte: für review.", "+50 points: for review."),
    (
        facts.LIMITED, 0, ["review", "1", "P1D"],
        "0 Punkte: review zählt nicht, mehr als 1 Mal in P1D.",
        "0 points: review does not count, it is more than 1 times in P1D.",
    ),
    (
        facts.LIMITED, 0, ["review", "2", ""],
        "0 Punkte: review zählt nicht, mehr als 2 Mal.",
        "0 points: review does not count, it is more than 2 times.",
    ),
    (
        facts.NO_LONGER, -50, ["review"],
        "−50 Punkte: review zählt nicht mehr, ein früheres wurde später bekannt.",
        "−50 points: review no longer counts, an earlier one became known later.",
    ),
    (
        facts.BRINGS, 200, ["referral", "ben"],
        "+200 Punkte: referral: erster Einkauf von ben.",
        "+200 points: referral: first purchase of ben.",
    ),
    (
        facts.CARD_BLOCKED, -40, ["7001"],
        "−40 Punkte: die Karte 7001 war vor dem Einkauf gesperrt.",
        "−40 points: card 7001 was blocked before the purchase.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("code", "points", "said", "german", "english"), TOLD)
def test_entries_without_a_purchase_are_told_in_both_languages(
    program: Program, code: str, points: int, said: list[str], german: str, english: str
) -> None:
    told = explain.unpack(facts.pack_fact(code, points, max(0, points), said, program))
    assert (told.sentence.de, told.sentence.en) == (german, english)
    assert (told.kind, told.points, told.program) == (code, points, program.id)
