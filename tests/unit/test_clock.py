"""Time: the golden cases, the nights when clocks change, and the edges of the calendar."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shared.clock import (
    CalendarRangeError,
    Period,
    RoundUp,
    add,
    end_of_day,
    local_date,
    local_instant,
    local_midnight,
    now,
    subtract,
    year_start,
)

BERLIN = ZoneInfo("Europe/Berlin")
LONDON = ZoneInfo("Europe/London")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "period", "written"),
    [
        ("P12M", Period(months=12), "P12M"),
        ("P1Y6M", Period(years=1, months=6), "P1Y6M"),
        ("P2W", Period(days=14), "P14D"),
        ("P1W1D", Period(days=8), "P8D"),
        ("P30D", Period(days=30), "P30D"),
        ("PT15M", Period(minutes=15), "PT15M"),
        ("P1DT2H3M4S", Period(days=1, hours=2, minutes=3, seconds=4), "P1DT2H3M4S"),
        ("P0D", Period(), "P0D"),
        ("PT0S", Period(), "P0D"),
        ("P007D", Period(days=7), "P7D"),
    ],
)
def test_period_is_read_and_written(text: str, period: Period, written: str) -> None:
    assert Period.parse(text) == period
    assert str(period) == written


NO_PERIODS = (
    *("", "P", "PT", "P1", "1M", "P1.5D", "P-1D", "-P1D", "P1H", "PT1D", "p1d", "P1D ", "P1M\n"),
    *("P1DT", "P1D1M", "P1234567D", "P１D", "PT1H1H"),
)


@pytest.mark.parametrize("text", NO_PERIODS)
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        Period.parse(text)


def test_zero_and_clock_parts_are_told() -> None:
    assert Period.parse("PT0M").is_zero
    assert not Period(seconds=1).is_zero
    assert Period.parse("P1DT1S").has_clock_part
    assert not Period.parse("P1Y1M1D").has_clock_part


@pytest.mark.parametrize(
    ("earned", "period", "round_up", "zone", "expires"),
    [
        # The golden case of SEMANTICS.md: earned 31 January, P1M, last valid day 28 February.
        ("2027-01-31T11:00", "P1M", None, BERLIN, "2027-02-28T23:00"),
        # Half past midnight in Berlin is still the day before in UTC.
        ("2027-01-30T23:30", "P1M", None, BERLIN, "2027-02-28T23:00"),
        ("2027-01-31T23:30", "P1M", None, BERLIN, "2027-03-01T23:00"),
        ("2028-02-29T12:00", "P12M", None, BERLIN, "2029-02-28T23:00"),
        ("2027-03-03T12:00", "P12M", "month_end", LONDON, "2028-03-31T23:00"),
        ("2027-04-01T12:00", "P12M", "quarter_end", BERLIN, "2028-06-30T22:00"),
        ("2027-03-31T12:00", "P12M", "quarter_end", BERLIN, "2028-03-31T22:00"),
        ("2027-05-05T12:00", "P12M", "year_end", BERLIN, "2028-12-31T23:00"),
        ("2027-12-31T12:00", "P12M", "year_end", BERLIN, "2028-12-31T23:00"),
        ("2027-06-15T12:00", "P0D", None, BERLIN, "2027-06-15T22:00"),
        ("2027-06-15T12:00", "P2W", None, BERLIN, "2027-06-29T22:00"),
        # Validity over both changes of the year ends at local midnights all the same.
        ("2027-03-27T12:00", "P1D", None, BERLIN, "2027-03-28T22:00"),
        ("2027-10-30T12:00", "P1D", None, BERLIN, "2027-10-31T23:00"),
    ],
)
def test_end_of_day(
    earned: str, period: str, round_up: RoundUp | None, zone: ZoneInfo, expires: str
) -> None:
    assert end_of_day(utc(earned), Period.parse(period), zone, round_up) == utc(expires)


def test_end_of_day_needs_whole_days() -> None:
    with pytest.raises(ValueError, match="PT1H has hours"):
        end_of_day(utc("2027-01-01T00:00"), Period(hours=1), BERLIN)


@pytest.mark.parametrize(
    ("start", "period", "zone", "end"),
    [
        # The night to 28 March 2027 has no 02:30 in Berlin: it is 03:30 there.
        ("2027-03-27T01:30", "P1D", BERLIN, "2027-03-28T01:30"),
        ("2027-03-27T12:00", "P1D", BERLIN, "2027-03-28T11:00"),
        ("2027-03-27T12:00", "PT24H", BERLIN, "2027-03-28T12:00"),
        # The night to 31 October has 02:30 twice: the first is meant.
        ("2027-10-30T00:30", "P1D", BERLIN, "2027-10-31T00:30"),
        ("2027-10-30T12:00", "P1D", BERLIN, "2027-10-31T13:00"),
        ("2027-03-27T01:30", "P1D", LONDON, "2027-03-28T01:30"),
        ("2027-10-30T00:30", "P1D", LONDON, "2027-10-31T00:30"),
        ("2027-01-31T12:00", "P1M", BERLIN, "2027-02-28T12:00"),
        ("2028-02-29T12:00", "P1Y", BERLIN, "2029-02-28T12:00"),
        ("2027-01-31T12:00", "P1M1D", BERLIN, "2027-03-01T12:00"),
        ("2027-01-31T12:00", "P0D", BERLIN, "2027-01-31T12:00"),
        ("2027-11-30T12:00", "P1Y2M", BERLIN, "2029-01-30T12:00"),
    ],
)
def test_add(start: str, period: str, zone: ZoneInfo, end: str) -> None:
    assert add(utc(start), Period.parse(period), zone) == utc(end)


@pytest.mark.parametrize(
    ("end", "period", "start"),
    [
        ("2027-03-31T12:00", "P1M", "2027-02-28T13:00"),
        ("2029-02-28T12:00", "P1Y", "2028-02-28T12:00"),
        ("2027-03-28T11:00", "P1D", "2027-03-27T12:00"),
        ("2027-03-28T12:00", "PT24H", "2027-03-27T12:00"),
        ("2027-01-15T12:00", "P13M", "2025-12-15T12:00"),
    ],
)
def test_subtract(end: str, period: str, start: str) -> None:
    assert subtract(utc(end), Period.parse(period), BERLIN) == utc(start)


def test_a_second_half_past_two_keeps_its_hour_when_nothing_is_counted_on_the_calendar() -> None:
    second = utc("2027-10-31T01:30")
    assert add(second, Period(minutes=1), BERLIN) == utc("2027-10-31T01:31")
    assert add(second, Period(), BERLIN) == second


def test_a_day_may_begin_at_one() -> None:
    # Lebanon moves its clocks at midnight: 27 March 2022 began at 01:00.
    beirut = ZoneInfo("Asia/Beirut")
    midnight = local_midnight(date(2022, 3, 27), beirut)
    assert midnight.astimezone(beirut).hour == 1
    assert (midnight - timedelta(microseconds=1)).astimezone(beirut).date() == date(2022, 3, 26)


def test_a_day_that_was_left_out_ends_when_it_begins() -> None:
    # Samoa crossed the date line: it never had 30 December 2011.
    apia = ZoneInfo("Pacific/Apia")
    assert local_midnight(date(2011, 12, 30), apia) == local_midnight(date(2011, 12, 31), apia)


def test_year_start_and_local_date_are_the_zone_s() -> None:
    new_year = utc("2026-12-31T23:30")
    assert local_date(new_year, BERLIN) == date(2027, 1, 1)
    assert year_start(new_year, BERLIN) == utc("2026-12-31T23:00")
    assert year_start(new_year, LONDON) == utc("2026-01-01T00:00")


def test_results_are_utc_and_now_is_aware() -> None:
    local = datetime(2027, 6, 1, 12, tzinfo=BERLIN)
    results = [now(), add(local, Period(), BERLIN), add(local, Period(days=1), BERLIN)]
    results += [year_start(local, BERLIN), end_of_day(local, Period(), BERLIN)]
    assert all(result.tzinfo is UTC for result in results)


def test_the_calendar_has_edges_and_says_so() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    calls: tuple[Callable[[], object], ...] = (
        lambda: add(last, Period(days=1), BERLIN),
        lambda: add(last, Period(months=1), LONDON),
        lambda: add(last, Period(hours=1), LONDON),
        lambda: subtract(first, Period(years=1), BERLIN),
        lambda: subtract(first, Period(seconds=1), BERLIN),
        lambda: end_of_day(last, Period(), LONDON),
        lambda: end_of_day(last - timedelta(days=40), Period(months=1), LONDON, "year_end"),
        lambda: local_midnight(date.min, BERLIN),
        lambda: local_date(last, BERLIN),
        lambda: year_start(first, ZoneInfo("America/New_York")),
        lambda: add(utc("2027-01-01T00:00"), Period(years=999_999), BERLIN),
        lambda: add(utc("9000-01-01T00:00"), Period(days=999_999), BERLIN),
    )
    for call in calls:
        with pytest.raises(CalendarRangeError):
            call()
    middle = utc("5000-01-01T00:00")
    assert add(middle, Period(seconds=999_999, minutes=999_999, hours=999_999), LONDON) > middle


def test_a_naive_instant_is_a_mistake_of_ours() -> None:
    naive = utc("2027-01-01T00:00").replace(tzinfo=None)
    with pytest.raises(ValueError, match="naive"):
        add(naive, Period(days=1), BERLIN)
    with pytest.raises(ValueError, match="naive"):
        end_of_day(naive, Period(days=1), BERLIN)
    assert local_instant(naive, BERLIN) == utc("2026-12-31T23:00")
