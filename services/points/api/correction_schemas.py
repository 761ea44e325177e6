"""What corrections take and answer, field by field."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from services.points.api.schemas import ENTRY, Entry
from services.points.domain.corrections import POINTS_MAX
from shared.http.paging import Page
from shared.http.params import Instant, storable

State = Literal["pending", "approved", "declined"]

Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=500),
    AfterValidator(storable),
    Field(description="Why, in words; it stays with the entry."),
]
Code = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]

WHY, WHY_DE = (
    "+100 points: parcel late (corrected by desk).",
    "+100 Punkte: parcel late (Korrektur durch desk).",
)
CREDIT: dict[str, Any] = {
    **ENTRY,
    "kind": "adjusted",
    "points": 100,
    "base": 0,
    "bonus": 0,
    "occurred_at": "2026-11-22T09:00:00.123456Z",
    "available_at": "2026-11-22T09:00:00.123456Z",
    "expires_at": "2027-12-01T00:00:00Z",
    "shop": None,
    "order_id": None,
    "tier": None,
    "multiplier": "1",
    "reason": "goodwill",
    "actor": "desk",
    "explanation": WHY,
    "explanation_de": WHY_DE,
}
WAITING: dict[str, Any] = {
    "id": "0d4a1c52-6f3b-5a55-9a3b-7d0a5f1d2c11",
    "state": "pending",
    "customer_id": "17850",
    "points": 5000,
    "reason_code": "goodwill",
    "reason": "wedding order ruined",
    "expires_at": None,
    "requested_by": "desk",
    "requested_at": "2026-11-22T09:00:00Z",
    "decided_by": None,
    "decided_at": None,
    "note": None,
    "entries": [],
}


def _nonzero(points: int) -> int:
    if not points:
        message = "must not be 0"
        raise ValueError(message)
    return points


def _takes(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [example]})


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(frozen=True, json_schema_extra={"examples": [example]})


class AdjustmentBody(BaseModel):
    """Points to give, or to take (below 0)."""

    model_config = _takes(
        {"points": 100, "reason_code": "goodwill", "reason": "parcel late", "expires_at": None}
    )

    points: Annotated[
        int, Field(strict=True, ge=-POINTS_MAX, le=POINTS_MAX), AfterValidator(_nonzero)
    ]
    reason_code: Code = Field(description="For programs and reports; the program may list them.")
    reason: Reason
    expires_at: Instant | None = Field(
        default=None,
        description="Exclusive; null: as for a purchase of today. They can be spent at once.",
    )


class ReversalBody(BaseModel):
    """Why an entry is undone."""

    model_config = _takes({"reason": "given to the wrong customer"})

    reason: Reason


class ExtensionBody(BaseModel):
    """Until when a lot shall count, and why."""

    model_config = _takes({"expires_at": "2028-01-01T00:00:00Z", "reason": "was in hospital"})

    expires_at: Instant | None = Field(description="Exclusive, later than now; null: for ever.")
    reason: Reason


class DecisionBody(BaseModel):
    """What the second person wants to add."""

    model_config = _takes({"note": "called the customer"})

    note: Reason | None = None


class Corrected(Entry):
    """The first line of a correction, and all of them: a debit has one for each lot that it takes from."""

    model_config = _shown({**CREDIT, "total": 100, "entries": [CREDIT]})

    total: int = Field(description="Signed points of all lines together.")
    entries: list[Entry]


class Correction(BaseModel):
    """A correction above the program's limit: a second person decides."""

    model_config = _shown(WAITING)

    id: UUID
    state: State
    customer_id: str
    points: int
    reason_code: str
    reason: str
    expires_at: datetime | None
    requested_by: str = Field(description="The API key that asked.")
    requested_at: datetime
    decided_by: str | None = Field(description="The API key that decided: another one.")
    decided_at: datetime | None
    note: str | None
    entries: list[Entry] = Field(description="What was booked, once it is approved.")


class CorrectionPage(Page[Correction]):
    """Corrections, the longest waiting first."""
