"""Quotes over HTTP: the points a cart would earn now, with the same explanation as the award."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from services.points.api.schemas import STORY
from services.points.domain import story
from services.points.domain.customers import SAID
from services.points.domain.wording import Sentence
from services.points.handlers import quoting
from services.points.handlers.quoting import Quotes
from shared import clock
from shared.contracts.envelope import EVENT_BYTES_MAX, ID_CHARS_MAX
from shared.contracts.purchases import PurchaseCompleted
from shared.errors import Poison
from shared.http import bodies, problems
from shared.http.app import router as new_router
from shared.http.database import connection
from shared.http.keys import require
from shared.http.responses import answer
from shared.program import Program

CART: dict[str, Any] = {
    "customer_id": "17850",
    "currency": "GBP",
    "lines": [{"line_id": "1", "sku": "85123A", "quantity": "20", "unit_price": "6.00"}],
}


class Cart(PurchaseCompleted, frozen=True, kw_only=True, gc=False):
    """A purchase's `data`, as it would be sent; what has not happened yet needs neither order id nor instant."""

    order_id: str = "quote"
    occurred_at: datetime = msgspec.field(default_factory=clock.now)


class QuotedLine(BaseModel):
    """What one line would give."""

    line_id: str
    points: int


Why = Literal["guest", "test", "not_enrolled", "card_unknown", "card_not_yet", "card_blocked"]


class Uncredited(BaseModel):
    """Why nobody would get points for it."""

    why: Why
    text: Sentence
    points: int = Field(
        description="What a customer who takes part would earn with it as their first purchase."
    )


class Quote(BaseModel):
    """What a purchase would earn."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "points": 150,
                    "base": 120,
                    "bonus": 30,
                    "lines": [{"line_id": "1", "points": 150}],
                    "available_at": "2026-11-22T12:00:00Z",
                    "expires_at": "2027-11-30T23:00:00Z",
                    "explanation": STORY,
                }
            ]
        },
    )

    points: int = Field(description="`base` + `bonus`; 0 where nobody would be credited.")
    base: int = Field(description="Campaigns included, before the tier's part.")
    bonus: int = Field(description="The tier's part.")
    lines: list[QuotedLine]
    uncredited: Uncredited | None = Field(
        None,
        description="For guests, tests, unknown or blocked cards; with opt-in also before the enrolment.",
    )
    available_at: datetime = Field(description="From when they could be spent.")
    expires_at: datetime | None = Field(
        description="Up to when, unless something keeps them longer; null: for ever."
    )
    explanation: story.Explanation = Field(
        description="Of the award; where nobody would be credited, of what a customer would earn."
    )


Shop = Annotated[
    str | None,
    Query(
        max_length=ID_CHARS_MAX,
        description="The shop it would come from; without it, the program's only one.",
        examples=["online-retail"],
    ),
]

router = new_router("quotes")
_decoder = msgspec.json.Decoder(Cart)


@router.post(
    "/v1/quote",
    response_model=Quote,
    dependencies=[require("points:read")],
    responses=problems.declare("validation-failed"),
    openapi_extra=bodies.described(Cart, CART),
    summary="What a purchase would earn",
)
async def quote(request: Request, shop: Shop = None) -> Response:
    """Worked out by the code that would credit it, with the customer's tier and what caps leave; changes nothing.

    A customer nobody knows yet is quoted what anybody would earn with their first purchase. A guest earns nothing:
    the quote says so, and what it would be for a customer.
    """
    body = await request.body()
    if len(body) > EVENT_BYTES_MAX:
        raise bodies.refused("body", f"has {len(body)} bytes, more than {EVENT_BYTES_MAX}")
    program: Program = request.app.state.program
    program.look()
    quotes = _quotes(program)
    try:
        purchase = quotes.value(bodies.read(_decoder, body), shop, clock.now())
    except Poison as poison:
        raise bodies.refused(_field(poison.field), poison.reason) from None
    async with connection(request) as conn:
        found = await quotes.answer(conn, purchase)
    return answer(
        Quote(
            points=found.points,
            base=found.base,
            bonus=found.bonus,
            lines=[QuotedLine(line_id=line, points=points) for line, points in found.lines],
            available_at=found.available_at,
            expires_at=found.expires_at,
            uncredited=_uncredited(found),
            explanation=found.explanation,
        )
    )


def _uncredited(found: quoting.Quote) -> Uncredited | None:
    if found.why is None:
        return None
    text = SAID[found.why]
    return Uncredited.model_validate({"why": found.why, "text": text, "points": found.otherwise})


_known: dict[int, tuple[Program, Quotes]] = {}


def _quotes(program: Program) -> Quotes:
    """What answers by a program, made once for each."""
    found = _known.get(id(program))
    if found is None:
        found = _known[id(program)] = program, Quotes(program)
    return found[1]


def _field(path: str) -> str:
    """The field of the body that an event's path names."""
    return "shop" if path == "source" else path.removeprefix("data.")
