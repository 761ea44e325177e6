from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from services.points.domain.bonus import tier_in_force
from services.points.domain.lots import Entry, balance, dates, lots, spend_order
from shared.contracts.tiers import TierMove
from tests.unit.points.samples import program

START = datetime(2027, 1, 1, tzinfo=UTC)
days = st.integers(0, 60).map(timedelta)
instants = st.integers(-1, 130).map(lambda number: START + timedelta(days=number))
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]
ROUND_UPS = [None, "month_end", "quarter_end", "year_end"]


@st.composite
def ledgers(draw: st.DrawFn) -> list[Entry]:
    """Awards with corrections that take no more than is there, in any order."""
    entries: list[Entry] = []
    for number in range(draw(st.integers(0, 8))):
        occurred_at = START + draw(days)
        available_at = occurred_at + draw(days)
        lasts = draw(st.none() | st.integers(1, 60).map(timedelta))
        expires_at = None if lasts is None else available_at + lasts
        total = 0
        for step in range(draw(st.integers(1, 4))):
            points = draw(st.integers(-total, 100))
            kind = "tier_bonus" if step else "earned"
            points = points if step else abs(points)
            total += points
            entry_id = UUID(int=number * 10 + step)
            lot_id = UUID(int=number * 10)
            entries.append(
                Entry(entry_id, lot_id, kind, points, occurred_at, available_at, expires_at)
            )
    return draw(st.permutations(entries))


@given(ledgers(), instants)
def test_a_balance_is_what_counting_entry_by_entry_gives(
    entries: list[Entry], at: datetime
) -> None:
    found = balance(entries, at)
    known = [entry for entry in entries if entry.occurred_at <= at]
    open_ended = datetime.max.replace(tzinfo=UTC)
    live = [e for e in known if e.available_at <= at < (e.expires_at or open_ended)]
    assert found.available == sum(entry.points for entry in live)
    assert found.pending == sum(entry.points for entry in known if at < entry.available_at)
    assert found.lifetime_earned == sum(entry.points for entry in known)
    assert min(found.available, found.pending, found.lifetime_earned) >= 0
    if found.expiring_next is None:
        assert not sum(entry.points for entry in live if entry.expires_at)
    else:
        end = found.expiring_next.expires_at
        assert found.expiring_next.points == sum(e.points for e in live if e.expires_at == end)
        assert found.expiring_next.points > 0
        assert at < end


@given(ledgers(), instants, st.randoms(use_true_random=False))
def test_the_order_of_entries_decides_nothing(
    entries: list[Entry], at: datetime, random: Any
) -> None:
    shuffled = random.sample(entries, len(entries))
    assert balance(shuffled, at) == balance(entries, at)
    assert lots(shuffled) == lots(entries)


@given(ledgers(), instants)
def test_what_happens_later_does_not_change_the_past(entries: list[Entry], at: datetime) -> None:
    earlier = [entry for entry in entries if entry.occurred_at <= at]
    assert balance(entries, at) == balance(earlier, at)


@given(ledgers(), instants)
def test_nothing_available_is_lost_between_two_changes(entries: list[Entry], at: datetime) -> None:
    found = balance(entries, at)
    if found.expiring_next is not None:
        last = found.expiring_next.expires_at - timedelta(microseconds=1)
        kept = [entry for entry in entries if entry.occurred_at <= at and entry.available_at <= at]
        assert balance(kept, last).available == found.available
        after = balance(kept, found.expiring_next.expires_at)
        assert after.available == found.available - found.expiring_next.points


@given(ledgers())
def test_lots_hold_all_points_and_are_spent_first_expiring_first(entries: list[Entry]) -> None:
    found = lots(entries)
    assert sum(lot.points for lot in found) == sum(entry.points for entry in entries)
    assert len({lot.id for lot in found}) == len(found)
    ordered = spend_order(reversed(found))
    assert ordered == spend_order(found)
    ends = [lot.expires_at for lot in ordered]
    dated = [end for end in ends if end is not None]
    assert ends == sorted(dated) + [None] * (len(ends) - len(dated))


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds the zone
    st.sampled_from(ZONES),
    st.sampled_from(["P1D", "P1M", "P12M", "P90D"]),
    st.sampled_from(ROUND_UPS),
    st.sampled_from(["P0D", "P14D", "PT36H"]),
)
def test_points_live_up_to_a_local_midnight_after_they_become_available(
    occurred_at: datetime, zone: str, after: str, round_up: str | None, pending: str
) -> None:
    expiry = {"after": after} | ({"round_up": round_up} if round_up else {})
    rules = program(earning={"available_after": pending, "expiry": expiry}, timezone=zone)
    available_at, expires_at = dates(occurred_at, rules)
    assert occurred_at <= available_at
    assert expires_at is not None
    local = expires_at.astimezone(ZoneInfo(zone))
    last_day = (expires_at - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date()
    first_day = available_at.astimezone(ZoneInfo(zone)).date()
    assert local.date() == last_day + timedelta(days=1)
    assert last_day > first_day
    is_end: dict[str | None, Callable[[date], bool]] = {
        None: lambda _: True,
        "month_end": lambda day: day.month != (day + timedelta(days=1)).month,
        "quarter_end": lambda day: (
            (day + timedelta(days=1)).strftime("%d-%m") in ("01-01", "01-04", "01-07", "01-10")
        ),
        "year_end": lambda day: (day.month, day.day) == (12, 31),
    }
    assert is_end[round_up](last_day)


@given(st.lists(instants, max_size=8), instants)
def test_the_tier_in_force_is_the_last_one_reached_before(
    sinces: list[datetime], at: datetime
) -> None:
    way = [
        TierMove("upgraded", f"level-{index}", None, f"1.{index}", since, None, 1, None)
        for index, since in enumerate(sorted(sinces))
    ]
    found = tier_in_force(way, (), at)
    before = [move for move in way if move.since < at]
    assert found.id == (before[-1].tier if before else None)
