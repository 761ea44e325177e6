"""The tiers API: a customer's tier at any instant, the way there, and the levels."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from services.tiers import views
from services.tiers.api.presentation import Causes, Presenter
from services.tiers.api.schemas import ChangesPage, HistoryPage, LevelsPage, TierStatus
from services.tiers.domain.progression import Timeline
from shared import clock
from shared.db.types import Connection
from shared.http import problems
from shared.http.app import router as new_router
from shared.http.database import connection
from shared.http.keys import require
from shared.http.paging import BigInt, Cursor, CursorText, Limit
from shared.http.params import CUSTOMER, At, CustomerId
from shared.http.problems import Problem
from shared.http.responses import answer

READ = [require("tiers:read")]
UNKNOWN = problems.declare("customer-not-found")
UNKNOWN_IN_LIST = problems.declare("customer-not-found", "validation-failed", "invalid-cursor")
# What would be, if nothing more is bought, can be asked some years ahead; each year costs a walk through it.
AHEAD_MAX = timedelta(days=3653)
YEAR_MIN = 1900
MAYBE_REFUNDS = frozenset({"downgraded", "withdrawn"})

router = new_router("tiers")
Place = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_history_cursor = Cursor("tiers.history", tuple[Place])
_changes_cursor = Cursor("tiers.changes", tuple[BigInt, Place])


@router.get(
    CUSTOMER + "/tier",
    response_model=TierStatus,
    dependencies=READ,
    responses=UNKNOWN,
    summary="A customer's tier, and what the next one takes",
)
async def tier(request: Request, customer_id: CustomerId, at: At = None) -> Response:
    """Walked from the entries to `as_of`: what time has decided counts, whether or not it was written yet."""
    _check_at(at)
    presenter = _presenter(request)
    async with connection(request) as conn:
        found = await _walk(conn, presenter, customer_id, at)
    return answer(presenter.status(customer_id, found))


@router.get(
    CUSTOMER + "/tier/history",
    response_model=HistoryPage,
    dependencies=READ,
    responses=UNKNOWN_IN_LIST,
    summary="A customer's way through the levels, newest first",
)
async def history(
    request: Request, customer_id: CustomerId, limit: Limit = 20, cursor: CursorText = None
) -> Response:
    """Every change with its cause, as it is known now. How late events moved it: `/tier/changes`."""
    key = _history_cursor.decode(cursor)
    presenter = _presenter(request)
    async with connection(request) as conn:
        moves = (await _walk(conn, presenter, customer_id, None)).moves
        end = min(key[0], len(moves)) if key else len(moves)
        shown = moves[max(0, end - limit) : end][::-1]
        recorded = await views.recorded(conn, customer_id)
        found = [(m.kind, UUID(m.cause), m.since) for m in shown if m.cause]
        causes = await _causes(conn, found)
    data = [
        presenter.move(move, causes, recorded.get((move.kind, move.tier, move.since)))
        for move in shown
    ]
    last = (end - len(shown),)
    return answer(_history_cursor.page(HistoryPage, data, last, more=last[0] > 0))


@router.get(
    CUSTOMER + "/tier/changes",
    response_model=ChangesPage,
    dependencies=READ,
    responses=UNKNOWN_IN_LIST,
    summary="What was told of a customer's tier, newest first",
)
async def changes(
    request: Request, customer_id: CustomerId, limit: Limit = 20, cursor: CursorText = None
) -> Response:
    """The record: it is never edited. Where a late event moved a change, the former one is named."""
    key = _changes_cursor.decode(cursor)
    presenter = _presenter(request)
    async with connection(request) as conn:
        rows = await views.changes(conn, customer_id, key, limit + 1)
        if rows is None:
            raise problems.customer_not_found(customer_id)
        shown = rows[:limit]
        found = [(row["kind"], row["cause"], row["since"]) for row in shown if row["cause"]]
        causes = await _causes(conn, found)
    data = [presenter.change(row, causes) for row in shown]
    last = (shown[-1]["revision"], shown[-1]["number"]) if shown else None
    return answer(_changes_cursor.page(ChangesPage, data, last, more=len(rows) > limit))


@router.get(
    "/v1/tiers",
    response_model=LevelsPage,
    dependencies=READ,
    summary="The levels of the program, lowest first",
)
async def levels(request: Request) -> Response:
    """What counts, in which time, and what each level takes and gives."""
    presenter = _presenter(request)
    return answer(presenter.levels())


def _presenter(request: Request) -> Presenter:
    presenter: Presenter = request.app.state.presenter
    return presenter.at(clock.now())


async def _walk(
    conn: Connection, presenter: Presenter, customer_id: str, at: datetime | None
) -> Timeline:
    """The customer's way up to an instant, or to now – and beyond, where a shop's clock runs ahead of ours."""
    rules = presenter.rules
    entries = await views.qualifying(conn, customer_id, at, rules.basis)
    if entries is None:
        raise problems.customer_not_found(customer_id)
    until = at or max([clock.now(), *(entry.known_until for entry in entries)])
    return rules.walk(entries, until)


def _check_at(at: datetime | None) -> None:
    if at is not None and (at.year < YEAR_MIN or at > clock.now() + AHEAD_MAX):
        message = f"must lie between the year {YEAR_MIN} and ten years ahead"
        raise Problem("validation-failed", f"at {message}.", [{"field": "at", "message": message}])


async def _causes(conn: Connection, moves: Sequence[tuple[str, UUID, datetime]]) -> Causes:
    """What is behind moves, each given by kind, cause and since."""
    orders = await views.orders(conn, [cause for _, cause, _ in moves])
    falls = [(cause, since) for kind, cause, since in moves if kind in MAYBE_REFUNDS]
    return Causes(orders, await views.refunds(conn, falls))
