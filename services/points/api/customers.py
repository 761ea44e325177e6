"""Customers over HTTP: their cards, the history of their enrolment, and two who turn out to be one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import Path
from starlette.requests import Request
from starlette.responses import Response

from services.points.api.customer_schemas import (
    Block,
    Card,
    CardList,
    Enrolment,
    EnrolmentList,
    MergeBody,
    Merged,
    NewCard,
    Replace,
)
from services.points.handlers.customers import Change, Customers, check_card
from services.points.handlers.merges import (
    ALREADY,
    CYCLE,
    HOLDS,
    ITSELF,
    KNOWN,
    Merge,
    Merges,
    check_merge,
)
from services.points.handlers.purchases import Purchases
from services.points.ledger import customers as store
from services.points.views import customers as views
from shared.contracts import activities
from shared.contracts.activities import CardChanged, CustomerMerged
from shared.errors import Poison
from shared.events.model import Work
from shared.http import commands, problems
from shared.http.app import router as new_router
from shared.http.commands import Answer, caller, command, command_id, write
from shared.http.database import connection
from shared.http.keys import require
from shared.http.params import CUSTOMER, CustomerId
from shared.http.problems import Problem, define
from shared.http.responses import answer
from shared.ids import event_key

if TYPE_CHECKING:
    from asyncpg import Record

CARD_NOT_FOUND = define("card-not-found", 404, "Card not found", "The customer has no such card.")
CARD_TAKEN = define(
    "card-taken", 409, "Card taken", "A card is one customer's for ever: issue another number."
)
CARD_ENDED = define("card-ended", 409, "Card ended", "It is blocked or replaced already.")
MERGES = (
    define(ITSELF, 409, "Merge into itself", "Name another customer."),
    define(ALREADY, 409, "Already merged", "This customer lives on as another one already."),
    define(CYCLE, 409, "Merge cycle", "The other customer lives on as this one."),
    define(HOLDS, 409, "Holds live", "Points are reserved: capture or release them first."),
)
READ = [require("points:read")]
WRITE = write("points:write")
INVALID = "validation-failed"
UNKNOWN = "customer-not-found"

CardNumber = Annotated[str, Path(description="As printed on the card.")]

router = new_router("customers")


@router.get(
    CUSTOMER + "/cards",
    response_model=CardList,
    dependencies=READ,
    responses=problems.declare(UNKNOWN),
    summary="A customer's cards",
)
async def cards(request: Request, customer_id: CustomerId) -> Response:
    """Blocked and replaced ones too, the newest first."""
    async with connection(request) as conn:
        rows = await views.cards(conn, customer_id)
    if rows is None:
        raise problems.customer_not_found(customer_id)
    return answer(CardList(data=[_card(row) for row in rows]))


@router.post(
    CUSTOMER + "/cards",
    status_code=201,
    response_model=Card,
    dependencies=WRITE,
    responses=problems.declare(INVALID, UNKNOWN, CARD_TAKEN, *commands.PROBLEMS),
    summary="Issue a card",
)
async def issue(request: Request, customer_id: CustomerId, body: NewCard) -> Response:
    """What was bought with it since `issued_at` is credited, also what came before this was told."""

    async def run(work: Work) -> Answer:
        await _require_customer(work, customer_id)
        instant = body.issued_at or work.now
        told = CardChanged(customer_id, body.card_number, "issued", instant)
        return Answer(201, await _change(request, work, told))

    return await command(request, run)


@router.post(
    CUSTOMER + "/cards/{card_number}/block",
    response_model=Card,
    dependencies=WRITE,
    responses=problems.declare(INVALID, UNKNOWN, CARD_NOT_FOUND, CARD_ENDED, *commands.PROBLEMS),
    summary="Block a card",
)
async def block(
    request: Request, customer_id: CustomerId, card_number: CardNumber, body: Block
) -> Response:
    """From then on it earns nothing, for ever; what was credited since is taken back."""

    async def run(work: Work) -> Answer:
        await _require_card(work, customer_id, card_number)
        instant = body.blocked_at or work.now
        told = CardChanged(customer_id, card_number, "blocked", instant, reason=body.reason)
        return Answer(200, await _change(request, work, told))

    return await command(request, run)


@router.post(
    CUSTOMER + "/cards/{card_number}/replace",
    status_code=201,
    response_model=Card,
    dependencies=WRITE,
    responses=problems.declare(
        INVALID, UNKNOWN, CARD_NOT_FOUND, CARD_ENDED, CARD_TAKEN, *commands.PROBLEMS
    ),
    summary="Replace a card by another",
)
async def replace(
    request: Request, customer_id: CustomerId, card_number: CardNumber, body: Replace
) -> Response:
    """The old one ends as the new one begins; answers the new one."""

    async def run(work: Work) -> Answer:
        await _require_card(work, customer_id, card_number)
        told = CardChanged(
            customer_id,
            card_number,
            "replaced",
            body.replaced_at or work.now,
            body.card_number,
            body.reason,
        )
        return Answer(201, await _change(request, work, told))

    return await command(request, run)


@router.get(
    CUSTOMER + "/enrolments",
    response_model=EnrolmentList,
    dependencies=READ,
    responses=problems.declare(UNKNOWN),
    summary="The history of a customer's enrolment",
)
async def enrolments(request: Request, customer_id: CustomerId) -> Response:
    """All that was told, never edited: the newest that names a thing is how it stands."""
    async with connection(request) as conn:
        rows = await views.enrolments(conn, customer_id)
    if rows is None:
        raise problems.customer_not_found(customer_id)
    return answer(EnrolmentList(data=[_enrolment(row) for row in rows]))


@router.post(
    CUSTOMER + "/merge",
    response_model=Merged,
    dependencies=WRITE,
    responses=problems.declare(INVALID, UNKNOWN, *MERGES, *commands.PROBLEMS),
    summary="Let a customer live on as another",
)
async def merge(request: Request, customer_id: CustomerId, body: MergeBody) -> Response:
    """All points move along, with their dates and debts; both ids answer. There is no way back."""

    async def run(work: Work) -> Answer:
        for name in (customer_id, body.into):
            await _require_customer(work, name)
        told = CustomerMerged(customer_id, body.into, work.now, body.reason)
        _checked(check_merge, told, work)
        event_id = str(command_id(request))
        key = event_key(work.source, event_id)
        handler = Merges(request.app.state.program)
        done = await store.known_merges(work.conn, [key])
        refused = (
            None if done else await handler.merge(work, Merge(key, event_id, told, caller(request)))
        )
        if refused:
            code = ALREADY if refused == KNOWN else refused
            said = f"{customer_id!r} cannot live on as {body.into!r}."
            raise Problem(code, said)
        if not done:
            _publish(work, customer_id, activities.MERGED, event_id, told)
        return Answer(200, Merged(customer_id=customer_id, into=body.into, merged_at=work.now))

    return await command(request, run)


async def _require_customer(work: Work, customer_id: str) -> None:
    if not await views.is_known(work.conn, customer_id):
        raise problems.customer_not_found(customer_id)


async def _require_card(work: Work, customer_id: str, card_number: str) -> None:
    """Refuse what is no card of this customer, or one that has ended."""
    rows = await views.cards(work.conn, customer_id)
    if rows is None:
        raise problems.customer_not_found(customer_id)
    found = next((row for row in rows if row["card_number"] == card_number), None)
    if found is None:
        raise Problem(CARD_NOT_FOUND, f"{customer_id!r} has no card {card_number!r}.")
    if found["ended_at"] is not None:
        raise Problem(CARD_ENDED, f"Card {card_number!r} is {found['ending']} already.")


async def _change(request: Request, work: Work, told: CardChanged) -> Card:
    """Do it as if it had come as an event, and tell it as one; answers the card that counts now."""
    _checked(check_card, told, work)
    event_id = str(command_id(request))
    key = event_key(work.source, event_id)
    program = request.app.state.program
    handler = Customers(program, Purchases(program))
    # Tried again after its answer was forgotten, it is done once all the same.
    done = await store.known_events(work.conn, [key])
    if not done and await handler.change_cards(
        work, [Change(key, event_id, told, caller(request))]
    ):
        number = told.replaced_by or told.card_number
        raise Problem(CARD_TAKEN, f"Card {number!r} is another customer's.")
    if not done:
        _publish(work, told.customer_id, activities.CARD_CHANGED, event_id, told)
    shown = told.replaced_by or told.card_number
    rows = await views.cards(work.conn, told.customer_id) or []
    return next(_card(row) for row in rows if row["card_number"] == shown)


def _publish(
    work: Work, customer_id: str, event_type: str, event_id: str, told: msgspec.Struct
) -> None:
    """What was commanded is told like what comes as an event: the others hear of it, and so does a rebuild."""
    work.publish(activities.TOPIC, customer_id, event_type, event_id, work.now, told)


def _checked(check: object, told: msgspec.Struct, work: Work) -> None:
    try:
        check(told, work)  # type: ignore[operator]
    except Poison as poison:
        field = poison.field.removeprefix("data.")
        errors = [{"field": field, "message": poison.reason}]
        said = f"The request does not fit: {field}: {poison.reason}"
        raise Problem(INVALID, said, errors) from None


def _card(row: Record) -> Card:
    if row["ended_at"] is not None and row["issued_at"] is not None:
        state = row["ending"]
    else:
        state = "active" if row["issued_at"] is not None else "announced"
    return Card(
        card_number=row["card_number"],
        customer_id=row["customer_id"],
        state=state,
        issued_at=row["issued_at"],
        ended_at=row["ended_at"],
        replaced_by=row["replaced_by"],
        reason=row["reason"],
    )


def _enrolment(row: Record) -> Enrolment:
    return Enrolment(
        kind=row["kind"],
        occurred_at=row["occurred_at"],
        recorded_at=row["recorded_at"],
        birthday=row["birthday"],
        name=row["name"],
        consents=msgspec.json.decode(row["consents"]),
        source_event_id=row["event_id"],
    )
