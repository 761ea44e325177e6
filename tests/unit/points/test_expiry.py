"""What is lost of a lot, and when: by cases, and by properties over whatever moves in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.points.domain.expiry import Hold, Movement, Span, losses, renewed

END = datetime(2027, 2, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)


def day(number: float) -> datetime:
    """So many days after the end; before it where negative."""
    return END + timedelta(days=number)


def moved(*steps: tuple[float, int]) -> list[Movement]:
    return [Movement(day(number), points) for number, points in steps]


@pytest.mark.parametrize(
    ("movements", "holds", "lost"),
    [
        (moved((-9, 100)), [], [(0, 100)]),
        (moved((-9, 100), (-1, -40)), [], [(0, 60)]),
        (moved((-9, 100), (-1, -100)), [], []),
        # What a hold reserves stays usable for it; what it lets go is lost then.
        (moved((-9, 100)), [Hold(day(-1), day(1), 30)], [(0, 70), (1, 30)]),
        (moved((-9, 100), (1, -30)), [Hold(day(-1), day(1), 30)], [(0, 70)]),
        (moved((-9, 100), (1, -20)), [Hold(day(-1), day(1), 30)], [(0, 70), (1, 10)]),
        (moved((-9, 100)), [Hold(day(-2), day(-1), 30)], [(0, 100)]),
        (moved((-9, 100)), [Hold(day(-2), day(0), 30)], [(0, 100)]),
        # Given back to a lot that has expired: gone at once. Golden case Restore, lot B.
        (moved((-9, 50), (-2, -50), (4, 50)), [], [(4, 50)]),
        # Owed points are no points to lose.
        (moved((-9, 50), (-2, -50), (-1, -20)), [], []),
        (moved((-9, 50), (3, -70)), [], [(0, 50), (3, -50)]),
    ],
)
def test_what_is_lost_when(
    movements: list[Movement], holds: list[Hold], lost: list[tuple[float, int]]
) -> None:
    found = losses(movements, holds, END, day(10))
    assert sorted(found.items()) == [(day(number), points) for number, points in lost]


def test_nothing_is_lost_before_the_end() -> None:
    assert losses(moved((-9, 100)), [], END, END - TICK) == {}
    assert losses(moved((-9, 100)), [], END, END) == {END: 100}


instants = st.integers(-6, 9).map(day)
movements_ = st.lists(st.builds(Movement, instants, st.integers(-50, 50)), max_size=6)


@st.composite
def holds_(draw: st.DrawFn) -> list[Hold]:
    found = []
    for _ in range(draw(st.integers(0, 3))):
        since = draw(instants)
        found.append(Hold(since, since + draw(st.integers(1, 4)) * DAY, draw(st.integers(1, 40))))
    return found


@given(movements_, holds_(), instants)
def test_the_sum_of_losses_is_what_is_left_and_not_held(
    movements: list[Movement], holds: list[Hold], at: datetime
) -> None:
    left = sum(m.points for m in movements if m.occurred_at <= at)
    held = sum(h.points for h in holds if h.since <= at < h.until)
    found = losses(movements, holds, END, at)
    # Holds made after the end reserve nothing of a lot that does not count any more.
    if at >= END and not any(h.since > END for h in holds):
        assert sum(found.values()) == max(0, left - held)
    if at < END:
        assert found == {}


@given(movements_, holds_(), instants, instants)
def test_what_comes_later_does_not_change_what_was_lost_before(
    movements: list[Movement], holds: list[Hold], at: datetime, later: datetime
) -> None:
    at, later = sorted((at, later))
    whole = losses(movements, holds, END, later)
    assert {i: p for i, p in whole.items() if i <= at} == losses(movements, holds, END, at)


@given(
    st.lists(st.builds(Movement, instants, st.integers(-50, 50)), max_size=6).flatmap(
        lambda found: st.tuples(st.just(found), st.permutations(found))
    )
)
def test_the_order_in_which_things_became_known_decides_nothing(
    orders: tuple[list[Movement], list[Movement]],
) -> None:
    one, other = orders
    assert losses(one, [], END, day(10)) == losses(other, [], END, day(10))


def span(since: int, until: int) -> Span:
    return Span(day(since), day(until))


@pytest.mark.parametrize(
    ("spans", "end"),
    [
        ([], 0),
        ([span(-9, 0)], 0),
        ([span(-9, 0), span(-1, 8)], 8),
        # One keeps what the next one keeps longer.
        ([span(12, 20), span(-9, 0), span(7, 15), span(-1, 8)], 20),
        # At the very end it is too late, and whatever follows is another story.
        ([span(-9, 0), span(0, 9), span(5, 14)], 0),
        ([span(-1, 8), span(8, 17)], 8),
        # An end that was given by itself is kept beyond, and never taken back.
        ([span(-9, -2)], 0),
        # Goodwill keeps nothing.
        ([span(5, 5), span(-1, 8)], 8),
    ],
)
def test_golden_inactivity_the_end_moves_with_unbroken_activity(
    spans: list[Span], end: int
) -> None:
    assert renewed(END, spans) == day(end)


spans_ = st.lists(
    st.builds(lambda since, more: span(since, since + more), *[st.integers(-9, 30)] * 2)
)


@given(spans_.flatmap(lambda found: st.tuples(st.just(found), st.permutations(found))))
def test_no_order_of_activities_decides_about_the_end(
    orders: tuple[list[Span], list[Span]],
) -> None:
    known, later = orders
    assert renewed(END, known) == renewed(END, later)


@given(spans_, spans_)
def test_what_becomes_known_later_only_keeps_points_longer(
    known: list[Span], later: list[Span]
) -> None:
    end = renewed(END, known)
    assert END <= end <= renewed(END, [*known, *later])
    assert renewed(end, known) == end


@given(spans_, instants)
def test_what_follows_an_instant_says_nothing_of_it(spans: list[Span], at: datetime) -> None:
    """So a balance of the past needs no knowledge of what came after it."""
    known = [one for one in spans if one.since <= at]
    assert (at < renewed(END, spans)) == (at < renewed(END, known))
