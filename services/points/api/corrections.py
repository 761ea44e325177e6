"""Corrections over HTTP: goodwill, debits, reversals, extensions, and the second person above the limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Query
from starlette.requests import Request
from starlette.responses import Response

from services.points.api.correction_schemas import (
    AdjustmentBody,
    Corrected,
    Correction,
    CorrectionPage,
    DecisionBody,
    ExtensionBody,
    ReversalBody,
    State,
)
from services.points.api.routes import READ, entry_of, tier_names
from services.points.api.schemas import Entry
from services.points.domain.corrections import Adjustment, Refused
from services.points.handlers.corrections import Booked, Cause, Corrections, Waiting, first_entry
from services.points.ledger import corrections as stored
from shared.db.types import Connection
from shared.events.model import Work
from shared.http import commands, problems
from shared.http.app import router as new_router
from shared.http.commands import Answer, caller, command, command_id, rehearse, write
from shared.http.database import connection
from shared.http.paging import Cursor, CursorText, Limit, Moment
from shared.http.params import CUSTOMER, CustomerId
from shared.http.problems import Problem, define
from shared.http.responses import answer

INSUFFICIENT = define(
    "insufficient-points", 409, "Insufficient points", "`available` says what there is."
)
CODES = (
    INSUFFICIENT,
    define("unknown-reason-code", 422, "Unknown reason code", "The program lists those allowed."),
    define("debit-cannot-expire", 422, "Debit cannot expire", "Leave `expires_at` out of debits."),
    define("expires-in-the-past", 422, "Expires in the past", "Choose an instant ahead."),
)
SECOND = (
    define(
        "second-person-required", 403, "Second person required",
        "Decide with another API key than the one that asked.",
    ),
    define("already-decided", 409, "Already decided", "A correction is decided once."),
    define("adjustment-not-found", 404, "Adjustment not found",
           "Only adjustments above the limit wait here; all are among the entries."),
)  # fmt: skip
REVERSAL = (
    define("already-reversed", 409, "Already reversed", "One entry is reversed once."),
    define("not-reversible", 409, "Not reversible", "The detail says what undoes this entry."),
)
EXTENSION = (
    define("lot-not-found", 404, "Lot not found", "Take `lot_id` from the customer's lots."),
    define("nothing-to-extend", 409, "Nothing to extend",
           "What has expired or is spent stays so; give points by an adjustment."),
    define("lot-never-expires", 409, "Lot never expires", "There is nothing to extend."),
    define("not-an-extension", 409, "Not an extension", "Choose a later instant than the lot's."),
)  # fmt: skip
WRITE = write("points:write")

EntryId = Annotated[UUID, Path(description="`id` of a ledger line.")]
LotId = Annotated[UUID, Path(description="`lot_id` of a ledger line.")]
AdjustmentId = Annotated[UUID, Path(description="`id` of the 202 answer.")]
DryRun = Annotated[bool, Query(description="Only tell what it would be.")]
InState = Annotated[State | None, Query(description="Only these; all without it.")]

router = new_router("corrections")
_cursor = Cursor("points.adjustments", tuple[Moment, UUID])


@router.post(
    CUSTOMER + "/adjustments",
    status_code=201,
    response_model=Corrected,
    dependencies=WRITE,
    responses={
        200: {
            "model": Corrected,
            "description": "With `dry_run`: what it would be; nothing changed.",
        },
        202: {"model": Correction, "description": "Above the limit: a second person must approve."},
        **problems.declare("customer-not-found", "validation-failed", *commands.PROBLEMS, *CODES),
    },
    summary="Give or take points by hand",
)
async def adjust(
    request: Request,
    customer_id: CustomerId,
    body: AdjustmentBody,
    dry_run: DryRun = False,  # noqa: FBT002 - a query parameter
) -> Response:
    """A credit is a lot of its own; a debit takes lots as spending would, a line for each."""

    async def run(work: Work) -> Answer:
        wanted = Adjustment(**dict(body))
        handler = Corrections(request.app.state.program)
        done = await handler.adjust(work, customer_id, wanted, _cause(request))
        if isinstance(done, Waiting):
            shown = await _correction(request, work, done)
            place = {"Location": f"/v1/adjustments/{shown.id}"}
            return Answer(202, shown, {**place, **_replayed(done)})
        return _corrected(request, done)

    return await (rehearse if dry_run else command)(request, _refusing(run))


@router.get(
    "/v1/adjustments",
    response_model=CorrectionPage,
    dependencies=READ,
    responses=problems.declare("validation-failed", "invalid-cursor"),
    summary="Corrections above the limit, the longest waiting first",
)
async def listed(
    request: Request, state: InState = None, limit: Limit = 20, cursor: CursorText = None
) -> Response:
    """What waits for a second person, and what became of it."""
    after = _cursor.decode(cursor)
    async with connection(request) as conn:
        rows = await stored.in_state(conn, state, after, limit + 1)
        shown = rows[:limit]
        data = await _shown(request, conn, shown)
    last = (shown[-1]["requested_at"], shown[-1]["correction_id"]) if shown else None
    return answer(_cursor.page(CorrectionPage, data, last, more=len(rows) > limit))


@router.get(
    "/v1/adjustments/{adjustment_id}",
    response_model=Correction,
    dependencies=READ,
    responses=problems.declare("adjustment-not-found"),
    summary="One correction above the limit",
)
async def one(request: Request, adjustment_id: AdjustmentId) -> Response:
    """Who asked for it, who decided, and what was booked."""
    async with connection(request) as conn:
        row = await stored.correction(conn, adjustment_id)
        if row is None:
            raise Problem("adjustment-not-found", f"No adjustment {adjustment_id} ever waited.")
        return answer((await _shown(request, conn, [row]))[0])


@router.post(
    "/v1/adjustments/{adjustment_id}/approve",
    response_model=Correction,
    dependencies=WRITE,
    responses=problems.declare("validation-failed", *commands.PROBLEMS, *SECOND, *CODES),
    summary="Approve a correction, as a second person",
)
async def approve(request: Request, adjustment_id: AdjustmentId, body: DecisionBody) -> Response:
    """It is booked as of now, by the points that are there now."""
    return await _decide(request, adjustment_id, body, approve=True)


@router.post(
    "/v1/adjustments/{adjustment_id}/decline",
    response_model=Correction,
    dependencies=WRITE,
    responses=problems.declare("validation-failed", *commands.PROBLEMS, *SECOND),
    summary="Decline a correction, as a second person",
)
async def decline(request: Request, adjustment_id: AdjustmentId, body: DecisionBody) -> Response:
    """Nothing is booked; who asked and who declined stays on record."""
    return await _decide(request, adjustment_id, body, approve=False)


@router.post(
    "/v1/entries/{entry_id}/reversal",
    status_code=201,
    response_model=Corrected,
    dependencies=WRITE,
    responses=problems.declare(
        "entry-not-found", "validation-failed", *commands.PROBLEMS, *REVERSAL
    ),
    summary="Undo an adjustment, once",
)
async def reverse(request: Request, entry_id: EntryId, body: ReversalBody) -> Response:
    """By a new entry on the same lot: what of it is spent becomes a deficit, what expired stays expired."""

    async def run(work: Work) -> Answer:
        handler = Corrections(request.app.state.program)
        done = await handler.reverse(work, entry_id, body.reason, _cause(request))
        return _corrected(request, done)

    return await command(request, _refusing(run))


@router.post(
    "/v1/lots/{lot_id}/extension",
    status_code=201,
    response_model=Corrected,
    dependencies=WRITE,
    responses=problems.declare("validation-failed", *commands.PROBLEMS, *EXTENSION),
    summary="Let a lot's points count longer",
)
async def extend(request: Request, lot_id: LotId, body: ExtensionBody) -> Response:
    """What is left in it and not reserved moves to a new lot: two lines that add up to nothing."""

    async def run(work: Work) -> Answer:
        handler = Corrections(request.app.state.program)
        done = await handler.extend(work, lot_id, body.expires_at, body.reason, _cause(request))
        return _corrected(request, done)

    return await command(request, _refusing(run))


async def _decide(
    request: Request, adjustment_id: UUID, body: DecisionBody, *, approve: bool
) -> Response:
    async def run(work: Work) -> Answer:
        handler = Corrections(request.app.state.program)
        done = await handler.decide(
            work, adjustment_id, caller(request), body.note, approve=approve
        )
        return Answer(200, await _correction(request, work, done))

    return await command(request, _refusing(run))


def _refusing(run: Callable[[Work], Awaitable[Answer]]) -> Callable[[Work], Awaitable[Answer]]:
    """The same, where what the rules refuse is told as a problem."""

    async def told(work: Work) -> Answer:
        try:
            return await run(work)
        except Refused as refused:
            raise Problem(refused.code, refused.detail, extra=refused.facts) from None

    return told


def _cause(request: Request) -> Cause:
    return Cause(command_id(request), caller(request))


def _corrected(request: Request, done: Booked) -> Answer:
    names = tier_names(request.app.state.program)
    entries = [entry_of(line, names) for line in done.lines]
    total = sum(entry.points for entry in entries)
    shown = Corrected(**dict(entries[0]), total=total, entries=entries)
    return Answer(201, shown, _replayed(done))


def _replayed(done: Booked | Waiting) -> dict[str, str]:
    return {commands.REPLAYED: "true"} if done.before else {}


async def _correction(request: Request, work: Work, done: Waiting) -> Correction:
    return (await _shown(request, work.conn, [done.correction]))[0]


async def _shown(request: Request, conn: Connection, rows: Sequence[Any]) -> list[Correction]:
    names = tier_names(request.app.state.program)
    booked = [row["correction_id"] for row in rows if row["state"] == "approved"]
    entries: dict[UUID, list[Entry]] = defaultdict(list)
    if booked:
        for line in await stored.lines_of_causes(conn, [first_entry(key) for key in booked]):
            entries[line["event_key"]].append(entry_of(line, names))
    copied = [name for name in Correction.model_fields if name not in {"id", "entries"}]
    return [
        Correction(
            id=row["correction_id"],
            entries=entries[row["correction_id"]],
            **{name: row[name] for name in copied},
        )
        for row in rows
    ]
