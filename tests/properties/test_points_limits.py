"""Limits of activities: never more than allowed, never fewer than possible, whatever the order of the acts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from services.points.domain.activities import Done, FirstPurchase, Referral, counted, granted
from shared import clock
from shared.clock import Period
from shared.program.earning import Limit

FIRST = datetime(2026, 3, 20, tzinfo=UTC)
ZONES = st.sampled_from(("Europe/Berlin", "Pacific/Apia", "America/New_York", "UTC")).map(ZoneInfo)
limits = st.builds(
    lambda times, per: Limit.model_construct(times=times, per=per),
    st.integers(1, 3),
    st.none() | st.sampled_from((Period(days=1), Period(days=3), Period(months=1))),
)
acts = st.lists(
    st.integers(0, 60 * 24).map(lambda hours: FIRST + timedelta(hours=hours)), max_size=30
).map(lambda times: [Done(UUID(int=number), at) for number, at in enumerate(times)])


def within(done: Sequence[Done], last: Done, limit: Limit, zone: ZoneInfo) -> int:
    """How many of these lie in the period that ends with the day of ``last``, worked out day by day."""
    if limit.per is None:
        return len(done)
    today = clock.local_date(last.occurred_at, zone)
    days = [clock.local_date(one.occurred_at, zone) for one in done]
    start = clock.local_date(
        clock.subtract(clock.local_midnight(today, zone), limit.per, zone), zone
    )
    return sum(start < day <= today for day in days)


@given(done=acts, limit=limits, zone=ZONES, order=st.randoms())
def test_an_act_counts_if_and_only_if_there_is_room_before_it(
    done: list[Done], limit: Limit, zone: ZoneInfo, order: object
) -> None:
    found = counted(done, limit, zone)
    before: list[Done] = []
    for one in sorted(done, key=lambda act: (act.occurred_at, act.id)):
        room = within(before, one, limit, zone) < limit.times
        assert (one.id in found) == room
        if room:
            before.append(one)
    shuffled = list(done)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert counted(shuffled, limit, zone) == found
    assert counted(done, None, zone) == {one.id for one in done}


people = st.integers(1, 4)
days = st.integers(0, 10)


@given(
    told=st.lists(st.tuples(people, people, days), max_size=12),
    bought=st.dictionaries(people, days),
    order=st.randoms(),
)
def test_a_friend_is_paid_for_once_and_by_the_first_to_say_so(
    told: list[tuple[int, int, int]], bought: dict[int, int], order: object
) -> None:
    referrals = [
        Referral(
            UUID(int=number),
            "referral",
            FIRST + timedelta(day),
            friend,
            by,
            FirstPurchase(UUID(int=friend), FIRST + timedelta(bought[friend]))
            if friend in bought
            else None,
        )
        for number, (friend, by, day) in enumerate(told)
    ]
    found = granted(referrals)
    assert len({one.referral.friend for one in found}) == len(found)
    for one in found:
        rivals = [r for r in referrals if r.friend == one.referral.friend]
        assert one.referral == min(rivals, key=lambda r: (r.occurred_at, r.id))
        assert one.at >= one.referral.occurred_at
    shuffled = list(referrals)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert set(granted(shuffled)) == set(found)
