"""The points API: balances, ledger lines, lots, and the reasons behind them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from fastapi import Path
from starlette.requests import Request
from starlette.responses import Response

from services.points import views
from services.points.api.schemas import (
    Balance,
    Entry,
    EntryPage,
    ExpiringNext,
    Explanation,
    Lot,
    LotPage,
)
from services.points.domain import explain, wording
from shared import clock
from shared.http import problems
from shared.http.app import router as new_router
from shared.http.database import connection
from shared.http.keys import require
from shared.http.paging import BigInt, Cursor, CursorText, Limit, Moment
from shared.http.params import CUSTOMER, At, CustomerId
from shared.http.responses import answer
from shared.program import Program

if TYPE_CHECKING:
    from asyncpg import Record

ENTRY_NOT_FOUND = problems.define(
    "entry-not-found", 404, "Entry not found", "No ledger line has this id."
)
READ = [require("points:read")]
UNKNOWN = problems.declare("customer-not-found")
UNKNOWN_IN_LIST = problems.declare("customer-not-found", "validation-failed", "invalid-cursor")

EntryId = Annotated[UUID, Path(description="`id` of a ledger line.")]

# What an entry shows as the ledger has it.
COPIED = (
    *("kind", "points", "base", "bonus", "balance_after", "lot_id", "shop", "order_id"),
    *("occurred_at", "recorded_at", "available_at", "expires_at", "tier", "reason", "actor"),
)

router = new_router("points")
_entries_cursor = Cursor("points.entries", tuple[BigInt])
_lots_cursor = Cursor("points.lots", tuple[Moment, UUID])


@router.get(
    CUSTOMER + "/balance",
    response_model=Balance,
    dependencies=READ,
    responses=UNKNOWN,
    summary="What a customer has",
)
async def balance(request: Request, customer_id: CustomerId, at: At = None) -> Response:
    """Unlocking and expiry are functions of time: what counts is decided at `as_of`, not by a job."""
    instant = at or clock.now()
    async with connection(request) as conn:
        row = await views.balance(conn, customer_id, instant, live=at is None)
    if row is None:
        raise problems.customer_not_found(customer_id)
    return answer(_balance(customer_id, instant, row))


@router.get(
    CUSTOMER + "/entries",
    response_model=EntryPage,
    dependencies=READ,
    responses=UNKNOWN_IN_LIST,
    summary="A customer's ledger lines, newest first",
)
async def entries(
    request: Request, customer_id: CustomerId, limit: Limit = 20, cursor: CursorText = None
) -> Response:
    """Lines are never edited or deleted; corrections are lines of their own."""
    key = _entries_cursor.decode(cursor)
    async with connection(request) as conn:
        rows = await views.entries(conn, customer_id, key[0] if key else None, limit + 1)
    if rows is None:
        raise problems.customer_not_found(customer_id)
    shown = rows[:limit]
    cursor_key = (shown[-1]["seq"],) if shown else None
    names = tier_names(request.app.state.program)
    data = [entry_of(row, names) for row in shown]
    return answer(_entries_cursor.page(EntryPage, data, cursor_key, more=len(rows) > limit))


@router.get(
    CUSTOMER + "/lots",
    response_model=LotPage,
    dependencies=READ,
    responses=UNKNOWN_IN_LIST,
    summary="A customer's lots, the newest first",
)
async def lots(
    request: Request, customer_id: CustomerId, limit: Limit = 20, cursor: CursorText = None
) -> Response:
    """A lot is the points of one award together with whatever went into and out of it."""
    key = _lots_cursor.decode(cursor)
    now = clock.now()
    async with connection(request) as conn:
        rows = await views.lots(conn, customer_id, now, key, limit + 1)
    if rows is None:
        raise problems.customer_not_found(customer_id)
    shown = rows[:limit]
    cursor_key = (shown[-1]["occurred_at"], shown[-1]["lot_id"]) if shown else None
    data = [_lot(row, now) for row in shown]
    return answer(_lots_cursor.page(LotPage, data, cursor_key, more=len(rows) > limit))


@router.get(
    "/v1/entries/{entry_id}/explanation",
    response_model=Explanation,
    dependencies=READ,
    responses=problems.declare("entry-not-found"),
    summary="Why these points, and why not more",
)
async def explanation(request: Request, entry_id: EntryId) -> Response:
    """Inputs, rules with their versions, exact value, rounding, and what did not fire and why not."""
    async with connection(request) as conn:
        row = await views.explained_entry(conn, entry_id)
    if row is None:
        raise problems.Problem(ENTRY_NOT_FOUND, f"There is no ledger line {entry_id}.")
    names = tier_names(request.app.state.program)
    return answer(
        Explanation(
            entry=entry_of(row, names),
            customer_id=row["customer_id"],
            explanation=explain.unpack(row["explanation"], names),
        )
    )


def _balance(customer_id: str, instant: datetime, row: Record) -> Balance:
    ends = row["expiring_at"]
    return Balance(
        customer_id=customer_id,
        available=row["available"],
        pending=row["pending"],
        held=row["held"],
        deficit=row["deficit"],
        lifetime_earned=row["lifetime_earned"],
        expiring_next=ExpiringNext(points=row["expiring_points"], expires_at=ends)
        if ends
        else None,
        as_of=instant,
    )


def entry_of(row: Any, names: Mapping[str, str]) -> Entry:
    """Show a ledger line (a mapping by column); ``names`` turns tier ids into what customers read."""
    why = explain.unpack(row["explanation"], names).sentence
    return Entry(
        id=row["entry_id"],
        source_event_id=row["event_id"],
        multiplier=wording.exact_text(Fraction(row["multiplier"])),
        explanation=why.en,
        explanation_de=why.de,
        **{name: row[name] for name in COPIED},
    )


def tier_names(program: Program) -> dict[str, str]:
    """What customers read for each tier id, by the version of the program in force now."""
    program.look()
    tiers = program.at(clock.now()).tiers
    return {level.id: level.name for level in tiers.levels} if tiers else {}


def _lot(row: Record, now: datetime) -> Lot:
    if now < row["available_at"]:
        state = "pending"
    elif row["expires_at"] is not None and row["expires_at"] <= now:
        state = "expired"
    else:
        state = "open"
    return Lot(state=state, **row)
