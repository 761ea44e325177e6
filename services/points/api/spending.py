"""Spending over HTTP: hold, capture, release, restore; at a till in one step; and from customer to customer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path
from starlette.requests import Request
from starlette.responses import Response

from services.points.api.spending_schemas import (
    CaptureOnce,
    Hold,
    NewHold,
    NewTransfer,
    RestoredHold,
    RestoredLot,
    Some,
    Transfer,
)
from services.points.domain import spending as domain
from services.points.handlers.spending import Spending
from services.points.handlers.spending_decisions import Asked, Capture, Release, Wish
from services.points.handlers.spending_together import Together
from services.points.handlers.transfers import Transfers
from services.points.ledger import spending as ledger
from shared import clock
from shared.events.model import Work
from shared.http import commands, groups, problems
from shared.http.app import router as new_router
from shared.http.commands import Answer, Run, command, write
from shared.http.database import connection
from shared.http.groups import Decide, Decision
from shared.http.keys import require
from shared.http.problems import Problem
from shared.http.responses import answer
from shared.program import Program

problems.define(
    "insufficient-points",
    409,
    "Insufficient points",
    "`available` says how many can be spent; `deficit` how many must be earned first.",
)
problems.define("hold-not-found", 404, "Hold not found", "No hold has this id.")
problems.define("hold-expired", 409, "Hold expired", "Its points are free again: hold them anew.")
problems.define("hold-closed", 409, "Hold closed", "`state` says how the hold has ended.")
problems.define(
    "capture-exceeds-hold", 409, "Capture exceeds hold", "`held` says how many points there are."
)
problems.define(
    "restore-exceeds-capture",
    409,
    "Restore exceeds capture",
    "`restorable` says how many points are not given back yet.",
)
problems.define(
    "transfers-not-allowed",
    403,
    "Transfers not allowed",
    "The program file allows them by `transfers: true`.",
)
problems.define(
    "same-customer", 409, "Same customer", "Points go from one customer to another one."
)

WRITE = write("points:write")
UNKNOWN = ("customer-not-found",)
HOLDING = problems.declare(*commands.PROBLEMS, *UNKNOWN, "insufficient-points")
OPEN = ("hold-not-found", "hold-expired", "hold-closed")
HoldId = Annotated[UUID, Path(description="`id` of a hold.")]

router = new_router("spending")


@router.post(
    "/v1/holds",
    response_model=Hold,
    status_code=201,
    dependencies=WRITE,
    responses=HOLDING,
    summary="Reserve points",
)
async def hold(request: Request, body: NewHold) -> Response:
    """Lowers `available` at once, for as long as the hold lives; what expires first is reserved first."""
    return await _along(
        request, Wish(body.customer_id, body.points, body.expires_in, body.order_id)
    )


@router.post(
    "/v1/captures",
    response_model=Hold,
    status_code=201,
    dependencies=WRITE,
    responses=HOLDING,
    summary="Spend points at once",
)
async def capture_once(request: Request, body: CaptureOnce) -> Response:
    """Hold and capture in one step, for tills. The answer is a captured hold, so it can be restored."""
    wish = Wish(body.customer_id, body.points, order_id=body.order_id, spent=True)
    return await _along(request, wish)


@router.get(
    "/v1/holds/{hold_id}",
    response_model=Hold,
    dependencies=[require("points:read")],
    responses=problems.declare("hold-not-found"),
    summary="A hold as it stands",
)
async def one_hold(request: Request, hold_id: HoldId) -> Response:
    """A time-out is a function of time: `state` is `expired` from `expires_at` on."""
    async with connection(request) as conn:
        found = await ledger.find_hold(conn, hold_id)
    if found is None:
        raise Problem("hold-not-found", f"There is no hold {hold_id}.")
    return answer(shown(found, clock.now()))


@router.post(
    "/v1/holds/{hold_id}/capture",
    response_model=Hold,
    dependencies=WRITE,
    responses=problems.declare(*commands.PROBLEMS, *OPEN, "capture-exceeds-hold"),
    summary="Spend reserved points",
)
async def capture(request: Request, hold_id: HoldId, body: Some | None = None) -> Response:
    """All of them, or fewer: the rest is free again."""
    return await _along(request, Capture(hold_id, body.points if body else None))


@router.post(
    "/v1/holds/{hold_id}/release",
    response_model=Hold,
    dependencies=WRITE,
    responses=problems.declare(*commands.PROBLEMS, *OPEN),
    summary="Let go of reserved points",
)
async def release(request: Request, hold_id: HoldId) -> Response:
    """They are free again at once; those of a lot that has expired meanwhile are lost."""
    return await _along(request, Release(hold_id))


@router.post(
    "/v1/holds/{hold_id}/restore",
    response_model=RestoredHold,
    dependencies=WRITE,
    responses=problems.declare(
        *commands.PROBLEMS, "hold-not-found", "hold-closed", "restore-exceeds-capture"
    ),
    summary="Give spent points back",
)
async def restore(request: Request, hold_id: HoldId, body: Some | None = None) -> Response:
    """To the lots they came from, with their dates; what was taken last comes back first."""

    async def run(work: Work) -> Answer:
        done = await _of(request).restore(work, hold_id, body.points if body else None)
        lots = [
            RestoredLot(
                lot_id=UUID(part.lot_id),
                points=part.points,
                into_lot_id=UUID(part.into_lot_id),
                expires_at=part.expires_at,
                expired=part.expired,
            )
            for part in done.parts
        ]
        plain = shown(done.hold, work.now)
        return Answer(200, RestoredHold(**dict(plain), restored_lots=lots))

    return await _command(request, run)


@router.post(
    "/v1/transfers",
    response_model=Transfer,
    status_code=201,
    dependencies=WRITE,
    responses=problems.declare(
        *commands.PROBLEMS,
        *UNKNOWN,
        "insufficient-points",
        "transfers-not-allowed",
        "same-customer",
    ),
    summary="Give points to another customer",
)
async def transfer(request: Request, body: NewTransfer) -> Response:
    """They keep their dates; tiers are not touched, for points given were not earned."""

    async def run(work: Work) -> Answer:
        done = await Transfers(request.app.state.program).transfer(
            work,
            body.from_customer_id,
            body.to_customer_id,
            body.points,
            reason=body.reason,
            actor=commands.caller(request),
        )
        lots = [
            Transfer.Lot(lot_id=row.lot_id, points=row.points, expires_at=row.expires_at)
            for row in done.given
        ]
        return Answer(
            201,
            Transfer(
                id=done.id,
                from_customer_id=body.from_customer_id,
                to_customer_id=body.to_customer_id,
                points=body.points,
                lots=lots,
                occurred_at=work.now,
            ),
        )

    return await _command(request, run)


def shown(hold: domain.Hold, now: datetime) -> Hold:
    """A hold as the API shows it at an instant."""
    return Hold(**_fields(hold, now))


def _fields(hold: domain.Hold, now: datetime) -> dict[str, Any]:
    """The fields of a ``Hold``, to be written without its checks."""
    state = hold.state_at(now)
    return {
        "id": hold.id,
        "state": state,
        "customer_id": hold.customer_id,
        "points": hold.points,
        "captured": hold.captured,
        "restored": hold.restored,
        "allocations": [{"lot_id": lot_id, "points": points} for lot_id, points in hold.parts],
        "order_id": hold.order_id,
        "redemption_id": hold.redemption_id,
        "held_at": hold.held_at,
        "expires_at": hold.expires_at,
        "ended_at": None if state == "held" else hold.ended_at,
    }


def deciding(program: Program) -> Decide[Asked]:
    """The commands of spending, for many that wait."""
    together = Together(program)

    async def decide(work: Work, asked: Sequence[Asked]) -> Sequence[Decision]:
        found = await together.do(work, asked)
        return [
            _answer(one, done, work.now) if isinstance(done, domain.Hold) else done
            for one, done in zip(asked, found, strict=True)
        ]

    return decide


def by_itself(program: Program, asked: Asked) -> Run:
    """A command of spending that waits for whoever has its account."""

    async def run(work: Work) -> Answer:
        return _answer(asked, await Spending(program).do(work, asked), work.now)

    return run


def _answer(asked: Asked, done: domain.Hold, now: datetime) -> Answer:
    return Answer(201 if isinstance(asked, Wish) else 200, _fields(done, now))


def _of(request: Request) -> Spending:
    return Spending(request.app.state.program)


async def _along(request: Request, asked: Asked) -> Response:
    """Do it along with others that wait, or by itself where that cannot be."""
    program = request.app.state.program
    waiting = groups.of(request, "spending", lambda: deciding(program))
    with _refusals():
        return await groups.together(request, waiting, asked, by_itself(program, asked))


async def _command(request: Request, run: Run) -> Response:
    with _refusals():
        return await command(request, run)


@contextmanager
def _refusals() -> Iterator[None]:
    """What the domain refuses is a problem over HTTP."""
    try:
        yield
    except domain.Refused as refused:
        raise Problem(refused.code, refused.detail, extra=refused.facts) from refused
