"""The points API: what became of refunds, and which still wait for their purchase."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from services.points.domain.refunds import PARKED
from services.points.views import refunds as views
from shared import clock
from shared.contracts.envelope import ID_CHARS_MAX
from shared.http import problems
from shared.http.app import router as new_router
from shared.http.database import connection
from shared.http.keys import require
from shared.http.paging import Cursor, CursorText, Limit, Moment, Page
from shared.http.params import storable
from shared.http.responses import answer

READ = [require("points:read")]
# A purchase that has not come by then will hardly come any more: somebody should look.
OVERDUE = timedelta(days=7)
DAYS_MAX = 36_500

State = Literal["matched", "partly", "unmatched", "parked", "uncredited", "refused"]
EXAMPLE: dict[str, Any] = {
    "id": "5d1c4c1e-8f1e-4f0e-9a51-0f6f0d6f3b11",
    "kind": "refund",
    "shop": "online-retail",
    "refund_id": "C536379",
    "order_id": "536365",
    "customer_id": "17850",
    "reason": "damaged",
    "occurred_at": "2010-12-01T09:41:00Z",
    "recorded_at": "2026-11-22T09:00:00.123456Z",
    "state": "parked",
    "code": "awaiting-purchase",
    "points": 0,
    "overdue": False,
}

router = new_router("points")
_cursor = Cursor("points.refunds", tuple[Moment, UUID])


class Refund(BaseModel):
    """A refund or cancellation and how it stands."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [EXAMPLE]})

    id: UUID
    kind: Literal["refund", "cancellation"]
    shop: str
    refund_id: str | None = Field(description="Null for a cancellation.")
    order_id: str | None = Field(description="Null where it was matched by customer and SKU.")
    customer_id: str | None = Field(description="Null as long as nobody knows whose it is.")
    reason: str = Field(description="In the shop's words.")
    occurred_at: datetime = Field(description="In the world.")
    recorded_at: datetime = Field(description="When it was told.")
    state: State = Field(
        description="`parked`: waits for its purchase · `partly`: not all of it was found · `unmatched`:"
        " none of it · `uncredited`: of a purchase that earned nothing · `refused`: not this customer's,"
        " or in another currency"
    )
    code: str | None = Field(
        description="Why it stands so: `awaiting-purchase`, `unknown-line`, `more-than-bought`,"
        " `no-purchase-found`, `other-customer`, `other-currency`, `guest-purchase`, `test-purchase` …"
    )
    points: int = Field(description="What it took.")
    overdue: bool = Field(description="Has waited for its purchase for more than 7 days.")


class RefundPage(Page[Refund]):
    """Refunds, the last told first."""


@router.get(
    "/v1/refunds",
    response_model=RefundPage,
    dependencies=READ,
    responses=problems.declare("validation-failed", "invalid-cursor"),
    summary="Refunds and what became of them, the last told first",
)
async def refunds(
    request: Request,
    state: Annotated[State | None, Query(description="Only those that stand so.")] = None,
    customer_id: Annotated[
        str | None,
        Query(min_length=1, max_length=ID_CHARS_MAX, description="Only this customer's."),
        AfterValidator(lambda text: None if text is None else storable(text)),
    ] = None,
    older_than_days: Annotated[
        int | None,
        Query(ge=0, le=DAYS_MAX, description="Only those told so many days ago, or more."),
    ] = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Response:
    """`?state=parked&older_than_days=7` lists those whose purchase never came."""
    now, after = clock.now(), _cursor.decode(cursor)
    async with connection(request) as conn:
        rows = await views.refunds(
            conn,
            state=state,
            customer_id=customer_id,
            before=None if older_than_days is None else now - timedelta(days=older_than_days),
            after=after,
            rows=limit + 1,
        )
    shown = rows[:limit]
    last = (shown[-1]["recorded_at"], shown[-1]["refund_key"]) if shown else None
    data = [
        Refund(
            id=row["refund_key"],
            overdue=row["state"] == PARKED and now - row["recorded_at"] > OVERDUE,
            **{name: value for name, value in row.items() if name != "refund_key"},
        )
        for row in shown
    ]
    return answer(_cursor.page(RefundPage, data, last, more=len(rows) > limit))
