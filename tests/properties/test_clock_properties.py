"""Time: what holds for every instant, period and zone."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import assume, example, given
from hypothesis import strategies as st

from shared.clock import (
    Period,
    RoundUp,
    add,
    end_of_day,
    local_date,
    local_midnight,
    subtract,
    year_start,
)

ZONE_NAMES = (
    *("Europe/Berlin", "Europe/London", "UTC", "America/New_York", "Asia/Kolkata", "Asia/Beirut"),
    *("Australia/Lord_Howe", "Pacific/Apia", "America/Havana", "Africa/Casablanca"),
)
ZONES = st.sampled_from(ZONE_NAMES).map(ZoneInfo)
INSTANTS = st.datetimes(datetime(1975, 1, 1), datetime(2080, 1, 1)).map(  # noqa: DTZ001 - made aware
    lambda naive: naive.replace(tzinfo=UTC)
)
# Within some hours of the changes of 2027, where the mistakes live.
NIGHTS = st.builds(
    lambda start, minutes: start + timedelta(minutes=minutes),
    st.sampled_from([datetime(2027, 3, 28, tzinfo=UTC), datetime(2027, 10, 31, tzinfo=UTC)]),
    st.integers(-36 * 60, 36 * 60),
)
MOMENTS = INSTANTS | NIGHTS
DAY_PERIODS = st.builds(
    Period, years=st.integers(0, 5), months=st.integers(0, 40), days=st.integers(0, 400)
)
PERIODS = st.builds(
    Period,
    years=st.integers(0, 5),
    months=st.integers(0, 40),
    days=st.integers(0, 400),
    hours=st.integers(0, 100),
    minutes=st.integers(0, 100),
    seconds=st.integers(0, 100),
)
ROUND_UPS: st.SearchStrategy[RoundUp | None] = st.sampled_from(
    [None, "month_end", "quarter_end", "year_end"]
)


@given(PERIODS)
def test_a_period_written_is_read_as_itself(period: Period) -> None:
    assert Period.parse(str(period)) == period


@given(MOMENTS, DAY_PERIODS, ZONES, ROUND_UPS)
def test_the_end_is_the_midnight_after_the_last_valid_day(
    instant: datetime, period: Period, zone: ZoneInfo, round_up: RoundUp | None
) -> None:
    end = end_of_day(instant, period, zone, round_up)
    last_day = local_date(end - timedelta(microseconds=1), zone)
    assert end > instant
    assert end == local_midnight(last_day + timedelta(days=1), zone)
    if round_up:
        assert last_day.day == monthrange(last_day.year, last_day.month)[1]
        assert round_up != "quarter_end" or last_day.month % 3 == 0
        assert round_up != "year_end" or last_day.month == 12


@given(MOMENTS, MOMENTS, DAY_PERIODS, ZONES, ROUND_UPS)
def test_what_is_earned_later_never_ends_earlier(
    one: datetime, other: datetime, period: Period, zone: ZoneInfo, round_up: RoundUp | None
) -> None:
    first, second = sorted((one, other))
    assert end_of_day(first, period, zone, round_up) <= end_of_day(second, period, zone, round_up)


@given(MOMENTS, DAY_PERIODS, ZONES)
def test_rounding_up_never_shortens(instant: datetime, period: Period, zone: ZoneInfo) -> None:
    modes: tuple[RoundUp | None, ...] = (None, "month_end", "quarter_end", "year_end")
    ends = [end_of_day(instant, period, zone, mode) for mode in modes]
    assert ends == sorted(ends)
    assert ends[0] >= add(instant, period, zone) - timedelta(hours=1)


@given(MOMENTS, st.integers(0, 60), ZONES)
@example(datetime(2027, 1, 31, 12, tzinfo=UTC), 1, ZoneInfo("Europe/Berlin"))
def test_months_are_clamped_to_the_last_day(instant: datetime, months: int, zone: ZoneInfo) -> None:
    day = local_date(instant, zone)
    last = local_date(
        end_of_day(instant, Period(months=months), zone) - timedelta(microseconds=1), zone
    )
    assert (last.year * 12 + last.month) - (day.year * 12 + day.month) == months
    assert last.day == min(day.day, monthrange(last.year, last.month)[1])


@given(MOMENTS, PERIODS, ZONES)
def test_adding_keeps_the_wall_clock_or_moves_it_by_the_gap(
    instant: datetime, period: Period, zone: ZoneInfo
) -> None:
    calendar = Period(period.years, period.months, period.days)
    moved = add(instant, calendar, zone)
    assume(not calendar.is_zero)
    before, after = instant.astimezone(zone), moved.astimezone(zone)
    gap = (
        datetime.combine(date.min, after.time()) - datetime.combine(date.min, before.time())
    ) % timedelta(days=1)
    assert gap in {timedelta(0), timedelta(minutes=30), timedelta(hours=1)} or (
        zone.key == "Pacific/Apia"
    )
    exact = timedelta(hours=period.hours, minutes=period.minutes, seconds=period.seconds)
    assert add(instant, period, zone) == moved + exact


@given(MOMENTS, st.integers(0, 1000), st.sampled_from(["Europe/Berlin", "Europe/London"]))
def test_days_and_back_is_where_it_began(instant: datetime, days: int, name: str) -> None:
    zone = ZoneInfo(name)
    back = subtract(add(instant, Period(days=days), zone), Period(days=days), zone)
    # An hour is lost where the wall time was skipped on the way, or happens twice at its start.
    assert abs(back - instant) in {timedelta(0), timedelta(hours=1)}
    hour = instant.astimezone(zone).hour
    assert back == instant or hour in {1, 2, 3}


@given(MOMENTS, st.integers(0, 10**6), ZONES)
def test_hours_are_exact(instant: datetime, seconds: int, zone: ZoneInfo) -> None:
    period = Period(seconds=seconds % 10**6)
    assert add(instant, period, zone) - instant == timedelta(seconds=seconds % 10**6)
    assert subtract(add(instant, period, zone), period, zone) == instant


@given(MOMENTS, ZONES)
def test_a_day_begins_at_its_first_instant(instant: datetime, zone: ZoneInfo) -> None:
    day = local_date(instant, zone)
    midnight = local_midnight(day, zone)
    assert midnight <= instant
    assert local_date(midnight, zone) == day
    assert local_date(midnight - timedelta(microseconds=1), zone) < day


@given(MOMENTS, ZONES)
def test_a_year_begins_at_its_first_instant(instant: datetime, zone: ZoneInfo) -> None:
    start = year_start(instant, zone)
    assert start <= instant
    assert start.astimezone(zone).time() == time.min
    assert local_date(start, zone) == date(local_date(instant, zone).year, 1, 1)
