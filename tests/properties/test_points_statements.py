"""A statement adds up, whatever moved, whenever; and years follow one another without a gap."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from services.points.domain import flows
from services.points.domain.expiry import Hold
from services.points.domain.statement import Move, bounds, draw_up

ZONE = ZoneInfo("Europe/Berlin")
YEARS = (2026, 2027, 2028)
MIDNIGHTS = [bounds(year, ZONE)[0] for year in (*YEARS, 2029)]
NOW = datetime(2028, 9, 1, tzinfo=UTC)
KINDS = ["earned", "tier_bonus", "captured", "restored", "clawed_back", "adjusted", "transferred"]

# Ends of years often, since that is where a line may fall on either side.
instants = st.sampled_from(MIDNIGHTS) | st.integers(0, 1000).map(
    lambda days: MIDNIGHTS[0] + timedelta(days=days, hours=7)
)


@st.composite
def ledgers(draw: st.DrawFn) -> tuple[list[Move], dict[UUID, list[Hold]]]:
    """Lots with movements before and after their end, and holds that last beyond it."""
    moves: list[Move] = []
    holds: dict[UUID, list[Hold]] = {}
    for number in range(draw(st.integers(0, 4))):
        lot = UUID(int=number)
        begun = draw(instants)
        lasts = draw(st.none() | st.integers(1, 500).map(timedelta))
        ends: list[datetime | None] = [None if lasts is None else begun + lasts]
        expires_at = draw(st.sampled_from([*ends, *(m for m in MIDNIGHTS if m > begun)]))
        moves.append(Move(0, "earned", draw(st.integers(0, 90)), lot, begun, expires_at))
        for _ in range(draw(st.integers(0, 4))):
            at = max(begun, draw(instants))
            kind, points = draw(st.sampled_from(KINDS)), draw(st.integers(-60, 60))
            moves.append(Move(0, kind, points, lot, at, expires_at))
        if expires_at is not None and draw(st.booleans()):
            since = max(begun, expires_at - timedelta(days=2))
            until = expires_at + draw(st.integers(-1, 5)) * timedelta(days=1)
            if since < until:
                holds[lot] = [Hold(since, until, draw(st.integers(1, 40)))]
    moves.sort(key=lambda move: move.occurred_at)
    return [move._replace(seq=number) for number, move in enumerate(moves, start=1)], holds


def value(moves: list[Move], holds: dict[UUID, list[Hold]], at: datetime, before: datetime) -> int:
    """What all lots are worth at an instant, counting what happened before another."""
    total = 0
    for lot in {move.lot_id for move in moves}:
        mine = [m for m in moves if m.lot_id == lot]
        left = sum(m.points for m in mine if m.occurred_at < before)
        at_end = sum(m.points for m in mine if m.occurred_at <= at)
        held = sum(h.points for h in holds.get(lot, ()) if h.since <= at < h.until)
        end = mine[0].expires_at
        total += left if end is None or at < end else left - max(0, at_end - held)
    return total


@given(ledgers())
def test_each_year_adds_up_and_ends_with_what_is_there(
    ledger: tuple[list[Move], dict[UUID, list[Hold]]],
) -> None:
    moves, holds = ledger
    closing = None
    for year in YEARS:
        found = draw_up(moves, holds, year, ZONE, NOW)
        flow = found.flow
        assert closing is None or flow.opening == closing
        balance = flow.opening
        for line in found.lines:
            balance += line.points
            assert line.balance == balance
            assert found.start <= line.occurred_at <= found.end
        assert balance == flow.closing
        assert flow.closing == flow.opening + sum(flow.kinds.values())
        if found.end <= NOW:
            assert flow.closing == value(moves, holds, found.end, found.end)
        closing = flow.closing


@given(ledgers(), st.integers(0, 31))
def test_what_the_job_has_written_changes_no_statement(
    ledger: tuple[list[Move], dict[UUID, list[Hold]]], written: int
) -> None:
    moves, holds = ledger
    told = [
        move._replace(kind="expired", points=-move.points, occurred_at=move.expires_at, seq=900)
        for number, move in enumerate(moves)
        if move.expires_at is not None and written >> number % 5 & 1
    ]
    for year in YEARS:
        bare = draw_up(moves, holds, year, ZONE, NOW)
        assert draw_up([*moves, *told], holds, year, ZONE, NOW) == bare


months = st.tuples(st.integers(2009, 2012), st.integers(1, 12)).map(lambda m: f"{m[0]}-{m[1]:02d}")


@given(
    st.dictionaries(st.tuples(months, st.sampled_from([*KINDS, "expired"])), st.integers(-99, 99))
)
def test_months_chain_to_the_sum_of_everything(sums: dict[tuple[str, str], int]) -> None:
    found = flows.monthly(sums, "2010-03", "2012-12")
    assert [month for month, _ in found] == flows.months("2010-03", "2012-12")
    for (_, one), (_, other) in itertools.pairwise(found):
        assert one.closing == other.opening
    assert found[0][1].opening == sum(p for (m, _), p in sums.items() if m < "2010-03")
    assert found[-1][1].closing == sum(sums.values())


@given(instants)
def test_a_loss_at_midnight_counts_in_the_month_that_ends(at: datetime) -> None:
    month, lost = flows.month_of(at, "earned", ZONE), flows.month_of(at, "expired", ZONE)
    first = flows.month_start(month, ZONE) == at
    assert lost == (flows.months_back(month, 1) if first else month)
    assert flows.month_start(month, ZONE) <= at < flows.month_start(flows.month_after(month), ZONE)
