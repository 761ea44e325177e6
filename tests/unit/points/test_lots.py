from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from services.points.domain.lots import (
    Balance,
    Entry,
    ExpiringNext,
    Lot,
    balance,
    dates,
    lots,
    spend_order,
)
from tests.unit.points.samples import NOON, program

TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)
BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def expiry(occurred_at: str, **rules: Any) -> datetime | None:
    earning = {"expiry": rules if "kind" in rules else {"after": "P12M"} | rules}
    return dates(at(occurred_at), program(earning=earning, timezone=BERLIN))[1]


def test_golden_month_end() -> None:
    found = expiry("2027-01-31T12:00:00+01:00", after="P1M")
    assert found == at("2027-02-28T23:00:00Z")


@pytest.mark.parametrize(
    ("occurred_at", "rules", "expires_at"),
    [
        ("2027-01-31T22:59:59Z", {"after": "P1D"}, "2027-02-01T23:00:00Z"),
        ("2027-01-31T23:00:00Z", {"after": "P1D"}, "2027-02-02T23:00:00Z"),
        ("2027-03-27T12:00:00Z", {"after": "P1D"}, "2027-03-28T22:00:00Z"),
        ("2027-03-28T00:30:00Z", {"after": "P1D"}, "2027-03-29T22:00:00Z"),
        ("2027-10-31T00:30:00Z", {"after": "P1D"}, "2027-11-01T23:00:00Z"),
        ("2027-10-31T01:30:00Z", {"after": "P1D"}, "2027-11-01T23:00:00Z"),
        ("2027-05-15T12:00:00Z", {}, "2028-05-15T22:00:00Z"),
        ("2028-02-29T12:00:00Z", {}, "2029-02-28T23:00:00Z"),
        ("2027-05-15T12:00:00Z", {"round_up": "month_end"}, "2028-05-31T22:00:00Z"),
        ("2027-05-15T12:00:00Z", {"round_up": "quarter_end"}, "2028-06-30T22:00:00Z"),
        ("2027-05-15T12:00:00Z", {"round_up": "year_end"}, "2028-12-31T23:00:00Z"),
    ],
)
def test_expiry_is_a_local_midnight(
    occurred_at: str, rules: dict[str, str], expires_at: str
) -> None:
    assert expiry(occurred_at, **rules) == at(expires_at)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "UTC"])
def test_the_day_memo_changes_no_answer(zone: str) -> None:
    earning = {"expiry": {"after": "P1M", "round_up": "month_end"}}
    known = program(earning=earning, timezone=zone)
    start = datetime(2011, 10, 1, tzinfo=UTC)
    for hour in range(0, 24 * 100, 5):
        instant = start + timedelta(hours=hour)
        fresh = known.model_copy()
        assert dates(instant, known) == dates(instant, fresh)


def test_points_without_expiry_last() -> None:
    assert expiry("2027-01-31T12:00:00Z", kind="none") is None
    assert dates(NOON, program()) == (NOON, None)


def test_pending_points_expire_counted_from_when_they_become_available() -> None:
    earning = {"available_after": "P14D", "expiry": {"after": "P1M"}}
    available_at, expires_at = dates(NOON, program(earning=earning, timezone=BERLIN))
    assert available_at == at("2027-02-14T12:00:00Z")
    assert expires_at == at("2027-03-14T23:00:00Z")


def test_pending_days_are_days_on_the_wall_clock() -> None:
    earning = {"available_after": "P1D"}
    start = at("2027-03-27T12:00:00+01:00")
    assert dates(start, program(earning=earning, timezone=BERLIN))[0] == at(
        "2027-03-28T12:00:00+02:00"
    )


def test_instants_come_out_in_utc() -> None:
    east = NOON.astimezone(timezone(timedelta(hours=9)))
    available_at, expires_at = dates(east, program(earning={"expiry": {"after": "P1D"}}))
    assert available_at.tzinfo is UTC
    assert expires_at is not None
    assert expires_at.tzinfo is UTC


def entry(
    number: int,
    points: int,
    occurred_at: datetime = NOON,
    *,
    lot: int | None = None,
    kind: str = "earned",
    pending: timedelta = timedelta(0),
    lasts: timedelta | None = None,
) -> Entry:
    available_at = occurred_at + pending
    expires_at = None if lasts is None else available_at + lasts
    lot_id = UUID(int=number if lot is None else lot)
    return Entry(UUID(int=number), lot_id, kind, points, occurred_at, available_at, expires_at)


def test_a_lot_counts_from_available_at_to_before_expires_at() -> None:
    known = [entry(1, 100, pending=DAY, lasts=DAY)]
    soon = ExpiringNext(100, NOON + 2 * DAY)
    assert balance(known, NOON - TICK) == Balance(0, 0, 0, 0, 0, None)
    assert balance(known, NOON) == Balance(0, 100, 0, 0, 100, None)
    assert balance(known, NOON + DAY - TICK) == Balance(0, 100, 0, 0, 100, None)
    assert balance(known, NOON + DAY) == Balance(100, 0, 0, 0, 100, soon)
    assert balance(known, NOON + 2 * DAY - TICK) == Balance(100, 0, 0, 0, 100, soon)
    assert balance(known, NOON + 2 * DAY) == Balance(0, 0, 0, 0, 100, None)


def test_a_correction_belongs_to_its_lot() -> None:
    known = [entry(2, 23, lot=1, kind="tier_bonus", lasts=DAY), entry(1, 44, lasts=DAY)]
    assert lots(known) == [Lot(UUID(int=1), UUID(int=1), 67, NOON, NOON, NOON + DAY)]
    assert balance(known, NOON) == Balance(67, 0, 0, 0, 67, ExpiringNext(67, NOON + DAY))


def test_expiring_next_adds_up_what_ends_together_and_skips_the_empty() -> None:
    known = [
        entry(1, 0, lasts=DAY),
        entry(2, 10, lasts=2 * DAY),
        entry(3, 5, lasts=2 * DAY),
        entry(4, 7, lasts=3 * DAY),
        entry(5, 9),
    ]
    assert balance(known, NOON).expiring_next == ExpiringNext(15, NOON + 2 * DAY)


def test_only_what_was_earned_is_lifetime_earned() -> None:
    known = [entry(1, 100), entry(2, 50, kind="adjusted"), entry(3, -20, lot=1, kind="tier_bonus")]
    found = balance(known, NOON)
    assert (found.available, found.lifetime_earned) == (130, 80)


def test_spend_order_is_by_expiry_then_age_then_entry() -> None:
    found = lots(
        [
            entry(1, 1),
            entry(5, 1, NOON - DAY),
            entry(4, 1, lasts=2 * DAY),
            entry(3, 1, lasts=2 * DAY),
            entry(2, 1, NOON + DAY, lasts=DAY),
            entry(6, 1, lasts=DAY),
        ]
    )
    assert [lot.id.int for lot in spend_order(found)] == [6, 3, 4, 2, 5, 1]


def test_no_entries_no_points() -> None:
    assert lots([]) == []
    assert balance([], NOON) == Balance(0, 0, 0, 0, 0, None)
