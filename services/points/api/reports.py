"""The points API: what will expire, a customer's year, and what the program owes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from services.points.api import statement_formats
from services.points.api.report_schemas import (
    Expiry,
    ExpiryPage,
    Liability,
    Month,
    Statement,
    StatementEntry,
    Sums,
    sums_of,
)
from services.points.api.routes import tier_names
from services.points.domain import explain, facts, flows
from services.points.domain import statement as drawn
from services.points.domain.flows import TICK, Flow
from services.points.domain.wording import Sentence
from services.points.views import expiries as expiry_views
from services.points.views import reports
from shared import clock
from shared.http import problems
from shared.http.app import router as new_router
from shared.http.database import connection
from shared.http.keys import require
from shared.http.paging import Cursor, CursorText, Limit, Moment
from shared.http.params import CUSTOMER, At, CustomerId
from shared.http.responses import answer
from shared.program import Program

if TYPE_CHECKING:
    from asyncpg import Record

NOT_BEGUN = problems.define(
    "period-not-begun", 422, "Period not begun", "Ask for a period that has begun."
)
BACKWARDS = problems.define(
    "period-backwards", 422, "Period backwards", "`until` must not lie before `from`."
)
TOO_LONG = problems.define("period-too-long", 422, "Period too long", "Ask for fewer months.")
READ = [require("points:read")]
UNKNOWN = problems.declare("customer-not-found", NOT_BEGUN)
UNKNOWN_IN_LIST = problems.declare("customer-not-found", "validation-failed", "invalid-cursor")

# All queries of a report look at the same moment of the ledger.
SNAPSHOT: dict[str, Any] = {"isolation": "repeatable_read", "readonly": True}
SHOWN = ("occurred_at", "kind", "points", "balance", "lot_id", "shop", "order_id", "expires_at")
MONTHS_MAX = 240
MONTHS_DEFAULT = 12
YEAR_MIN, YEAR_MAX = 1970, 9998
MONTH_PATTERN = r"^(19[7-9]\d|[2-9]\d{3})-(0[1-9]|1[0-2])$"


router = new_router("points")
_cursor = Cursor("points.expiries", tuple[Moment])


@router.get(
    CUSTOMER + "/expiries",
    response_model=ExpiryPage,
    dependencies=READ,
    responses=UNKNOWN_IN_LIST,
    summary="When a customer's points expire, the next date first",
)
async def expiries(
    request: Request,
    customer_id: CustomerId,
    at: At = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Response:
    """What is lost when, unless it is spent before; pending points included, held ones left out."""
    key = _cursor.decode(cursor)
    instant = at or clock.now()
    async with connection(request) as conn:
        rows = await expiry_views.expiries(
            conn, customer_id, instant, key[0] if key else None, limit + 1, live=at is None
        )
    if rows is None:
        raise problems.customer_not_found(customer_id)
    shown, zone = rows[:limit], request.app.state.program.zone
    data = [Expiry(last_day=clock.local_date(r["expires_at"] - TICK, zone), **r) for r in shown]
    last = (shown[-1]["expires_at"],) if shown else None
    return answer(_cursor.page(ExpiryPage, data, last, more=len(rows) > limit))


@router.get(
    CUSTOMER + "/statement",
    response_model=Statement,
    dependencies=READ,
    responses=UNKNOWN,
    summary="A customer's year: opening, every line, closing",
)
async def statement(
    request: Request,
    customer_id: CustomerId,
    year: Annotated[int | None, Query(ge=YEAR_MIN, le=YEAR_MAX, examples=[2011])] = None,
    format: Annotated[  # noqa: A002 - the parameter's name in the URL
        Literal["json", "csv", "html"], Query(description="`html` is a page to print, in German.")
    ] = "json",
) -> Response:
    """The year of the program's zone; without one, the year it is. What was lost is worked out, not read."""
    program: Program = request.app.state.program
    now = clock.now()
    this_year = clock.local_date(now, program.zone).year
    found = await _statement(request, customer_id, year or this_year, now)
    if format == "csv":
        return statement_formats.csv_answer(found)
    if format == "html":
        return statement_formats.html_answer(found, program)
    return answer(found)


async def _statement(request: Request, customer_id: str, year: int, now: datetime) -> Statement:
    program: Program = request.app.state.program
    start, end = drawn.bounds(year, program.zone)
    if start > now:
        raise problems.Problem(NOT_BEGUN, f"The year {year} has not begun.")
    async with connection(request) as conn, conn.transaction(**SNAPSHOT):
        known = await reports.moves(conn, customer_id)
        if known is None:
            raise problems.customer_not_found(customer_id)
        account, moves = known
        holds = await reports.holds_of_account(conn, account)
        told = await reports.lines(conn, account, start, end)
    found = drawn.draw_up(moves, holds, year, program.zone, now)
    names = tier_names(program)
    return Statement(
        customer_id=customer_id,
        year=year,
        timezone=program.timezone,
        starts_at=found.start,
        ends_at=found.end,
        as_of=found.as_of,
        sums=_sums(found.flow, program),
        entries=[_line(line, told, program, names) for line in found.lines],
    )


def _line(
    line: drawn.Line, told: Mapping[int, Record], program: Program, names: Mapping[str, str]
) -> StatementEntry:
    row = None if line.seq is None else told[line.seq]
    why = explain.unpack(row["explanation"], names).sentence if row else _lost(line, program)
    return StatementEntry(
        entry_id=row["entry_id"] if row else None,
        recorded_at=row["recorded_at"] if row else None,
        explanation=why.en,
        explanation_de=why.de,
        **{name: getattr(line, name) for name in SHOWN},
    )


def _lost(line: drawn.Line, program: Program) -> Sentence:
    last = clock.local_date((line.expires_at or line.occurred_at) - TICK, program.zone)
    return facts.sentence(facts.expiry(line.points, last, program))


@router.get(
    "/v1/reports/liability",
    response_model=Liability,
    dependencies=READ,
    responses=problems.declare(NOT_BEGUN, BACKWARDS, TOO_LONG),
    summary="What the program owes, month by month",
)
async def liability(
    request: Request,
    first: Annotated[str | None, Query(alias="from", pattern=MONTH_PATTERN)] = None,
    until: Annotated[str | None, Query(pattern=MONTH_PATTERN)] = None,
) -> Response:
    """Months of the program's zone, both included; without them the last twelve. It adds up for each of them."""
    program: Program = request.app.state.program
    now = clock.now()
    this_month = flows.month_of(now, "", program.zone)
    last = until or this_month
    start = first or max(flows.months_back(last, MONTHS_DEFAULT - 1), "1970-01")
    _check(start, last, this_month)
    end = flows.month_start(flows.month_after(last), program.zone)
    as_of = min(end, now)
    async with connection(request) as conn, conn.transaction(**SNAPSHOT):
        sums = await reports.sums(conn, end, as_of, program.zone)
    found = flows.monthly(sums, start, last)
    total = Flow(found[0][1].opening)
    for _, flow in found:
        for kind, points in flow.kinds.items():
            total.add(kind, points)
    currency, value = program.currency, program.earning.point_value
    return answer(
        Liability(
            timezone=program.timezone,
            as_of=as_of,
            months=[Month(month=m, **sums_of(flow, currency, value)) for m, flow in found],
            total=_sums(total, program),
        )
    )


def _check(first: str, last: str, this_month: str) -> None:
    if last > this_month:
        raise problems.Problem(NOT_BEGUN, f"The month {last} has not begun.")
    if last < first:
        raise problems.Problem(BACKWARDS, f"{last} lies before {first}.")
    if first < flows.months_back(last, MONTHS_MAX - 1):
        raise problems.Problem(TOO_LONG, f"A report has at most {MONTHS_MAX} months.")


def _sums(flow: Flow, program: Program) -> Sums:
    return Sums(**sums_of(flow, program.currency, program.earning.point_value))
