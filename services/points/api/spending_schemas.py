"""What the spending API takes and answers, field by field."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from services.points.domain.spending import HOLD_MAX, POINTS_MAX
from shared.clock import Period
from shared.contracts.envelope import ID_CHARS_MAX

HOLD_ID = "b4d2f6de-6c1f-4a0e-9d7b-5a559a3b7d0a"
LOT_ID = "0b6ff2b0-3c0e-5a3c-9d6c-5a1f1a7d2a10"
HOLD: dict[str, Any] = {
    "id": HOLD_ID,
    "state": "captured",
    "customer_id": "17850",
    "points": 80,
    "captured": 60,
    "restored": 0,
    "allocations": [{"lot_id": LOT_ID, "points": 80}],
    "order_id": "536366",
    "redemption_id": None,
    "held_at": "2026-11-22T09:00:00Z",
    "expires_at": "2026-11-22T09:15:00Z",
    "ended_at": "2026-11-22T09:02:11Z",
}


def _without_nul(text: str) -> str:
    if "\0" in text:
        message = "must not contain a NUL character"
        raise ValueError(message)
    return text


def as_duration(value: object) -> timedelta:
    """Read how long a hold lasts: an ISO 8601 duration above zero, at most 7 days; a day has 24 hours."""
    message = "must be an ISO 8601 duration such as PT15M, PT24H or P7D"
    if not isinstance(value, str):
        raise ValueError(message)  # noqa: TRY004 - pydantic tells ValueErrors to the caller
    try:
        period = Period.parse(value)
    except ValueError:
        raise ValueError(message) from None
    lasts = timedelta(
        days=period.days, hours=period.hours, minutes=period.minutes, seconds=period.seconds
    )
    if period.years or period.months or not timedelta() < lasts <= HOLD_MAX:
        message = "must be more than no time and at most P7D"
        raise ValueError(message)
    return lasts


def _config(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [example]})


Points = Annotated[int, Field(strict=True, ge=1, le=POINTS_MAX)]
Name = Annotated[
    str, Field(strict=True, min_length=1, max_length=ID_CHARS_MAX), AfterValidator(_without_nul)
]
Lasts = Annotated[
    timedelta,
    BeforeValidator(as_duration),
    WithJsonSchema({"type": "string", "format": "duration", "default": "PT15M"}),
]


class CaptureOnce(BaseModel):
    """Points to be spent at once, without a hold before."""

    model_config = _config({"customer_id": "17850", "points": 80, "order_id": "536366"})

    customer_id: Name
    points: Points
    order_id: Name | None = Field(
        default=None, description="What they are spent on; cancelling that order gives them back."
    )


class NewHold(BaseModel):
    """Points to be reserved."""

    model_config = _config(
        {"customer_id": "17850", "points": 80, "expires_in": "PT15M", "order_id": "536366"}
    )

    customer_id: Name
    points: Points
    expires_in: Lasts = Field(
        default=timedelta(minutes=15),
        description="ISO 8601; at most P7D. Then the points are free again.",
    )
    order_id: Name | None = Field(
        default=None, description="What they are spent on; cancelling that order gives them back."
    )


class Some(BaseModel):
    """All points, or so many."""

    model_config = _config({"points": 60})

    points: Points | None = None


class NewTransfer(BaseModel):
    """Points from one customer to another."""

    model_config = _config(
        {"from_customer_id": "17850", "to_customer_id": "13047", "points": 50, "reason": "birthday"}
    )

    from_customer_id: Name
    to_customer_id: Name
    points: Points
    reason: Name | None = None


class Allocation(BaseModel):
    """So many points of one lot."""

    lot_id: UUID
    points: int


class Hold(BaseModel):
    """Points reserved for a while, and what became of them."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [HOLD]})

    id: UUID
    state: Literal["held", "captured", "released", "expired", "declined"] = Field(
        description="`held` until `expires_at` unless something ends it before."
    )
    customer_id: str
    points: int = Field(description="Reserved at first.")
    captured: int = Field(description="Spent; the rest is free again.")
    restored: int = Field(description="Of `captured`, given back.")
    allocations: list[Allocation] = Field(
        description="Reserved, by lot, in the order in which it is captured."
    )
    order_id: str | None
    redemption_id: str | None
    held_at: datetime
    expires_at: datetime
    ended_at: datetime | None = Field(description="null while it is live.")


class RestoredLot(BaseModel):
    """What came back to a lot."""

    lot_id: UUID = Field(description="Where the points had come from.")
    points: int
    into_lot_id: UUID = Field(
        description="Where they are: another lot only where that had expired and there is a grace."
    )
    expires_at: datetime | None = Field(description="As it was, or by the grace.")
    expired: bool = Field(description="The lot is over: they came back and are lost.")


class RestoredHold(Hold):
    """The hold, and where its points went."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    **HOLD,
                    "restored": 60,
                    "restored_lots": [
                        {
                            "lot_id": LOT_ID,
                            "points": 60,
                            "into_lot_id": LOT_ID,
                            "expires_at": "2027-01-01T00:00:00Z",
                            "expired": False,
                        }
                    ],
                }
            ]
        },
    )

    restored_lots: list[RestoredLot]


class Transfer(BaseModel):
    """Points that changed hands; they keep the dates they had."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "id": HOLD_ID,
                    "from_customer_id": "17850",
                    "to_customer_id": "13047",
                    "points": 50,
                    "lots": [
                        {"lot_id": LOT_ID, "points": 50, "expires_at": "2027-01-01T00:00:00Z"}
                    ],
                    "occurred_at": "2026-11-22T09:00:00Z",
                }
            ]
        },
    )

    class Lot(BaseModel):
        """A new lot of the receiver."""

        lot_id: UUID
        points: int
        expires_at: datetime | None

    id: UUID
    from_customer_id: str
    to_customer_id: str
    points: int
    lots: list[Lot]
    occurred_at: datetime
