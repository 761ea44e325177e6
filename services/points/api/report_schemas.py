"""What the points API answers about times to come and years past."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from services.points.domain.flows import Flow
from shared.http.paging import Page

LOT = "0b6ff2b0-3c0e-5a3c-9d6c-5a1f1a7d2a10"


class Expiry(BaseModel):
    """What is lost at an instant unless it is spent before."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "expires_at": "2027-12-31T23:00:00Z",
                    "last_day": "2027-12-31",
                    "points": 139,
                    "lots": 2,
                }
            ]
        },
    )

    expires_at: datetime = Field(description="Exclusive: at this instant they are gone.")
    last_day: date = Field(description="The last day on which they count, in the program's zone.")
    points: int = Field(description="Of all lots that end then, without what holds reserve.")
    lots: int


class ExpiryPage(Page[Expiry]):
    """Dates at which points end, the next one first."""


class Money(BaseModel):
    """The same sums at the program's value of a point, as decimal strings."""

    currency: str
    point_value: str
    opening: str
    earned: str
    spent: str
    expired: str
    corrected: str
    closing: str


SUMS: dict[str, Any] = {
    "opening": 0,
    "earned": 173,
    "spent": 0,
    "expired": 34,
    "corrected": -20,
    "closing": 119,
    "kinds": {"earned": 150, "tier_bonus": 23, "clawed_back": -20, "expired": -34},
    "money": None,
}


class Sums(BaseModel):
    """Points of a period: opening + earned - spent - expired + corrected = closing."""

    opening: int
    earned: int = Field(
        description="For purchases and activities, tier bonus and campaigns included."
    )
    spent: int = Field(description="Captured, less what was given back.")
    expired: int
    corrected: int = Field(
        description="Signed: refunds, write-offs, goodwill, reversals, transfers."
    )
    closing: int
    kinds: dict[str, int] = Field(description="By kind of ledger line, signed.")
    money: Money | None = Field(description="With `earning.point_value`; else null.")


class StatementEntry(BaseModel):
    """A line of the year; an expiry has no `entry_id`: it is worked out, not read from the ledger."""

    entry_id: UUID | None
    occurred_at: datetime
    recorded_at: datetime | None
    kind: str
    points: int = Field(description="Signed.")
    balance: int = Field(description="After this line.")
    lot_id: UUID
    shop: str | None
    order_id: str | None
    expires_at: datetime | None
    explanation: str
    explanation_de: str


class Statement(BaseModel):
    """A customer's year, every line included."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "customer_id": "17850",
                    "year": 2011,
                    "timezone": "Europe/London",
                    "starts_at": "2011-01-01T00:00:00Z",
                    "ends_at": "2012-01-01T00:00:00Z",
                    "as_of": "2012-01-01T00:00:00Z",
                    "sums": SUMS,
                    "entries": [
                        {
                            "entry_id": None,
                            "occurred_at": "2012-01-01T00:00:00Z",
                            "recorded_at": None,
                            "kind": "expired",
                            "points": -34,
                            "balance": 119,
                            "lot_id": LOT,
                            "shop": "online-retail",
                            "order_id": "536365",
                            "expires_at": "2012-01-01T00:00:00Z",
                            "explanation": "−34 points: expired, the last valid day was 31 December 2011.",
                            "explanation_de": "−34 Punkte: verfallen, der letzte gültige Tag war der 31.12.2011.",
                        }
                    ],
                }
            ]
        },
    )

    customer_id: str
    year: int
    timezone: str
    starts_at: datetime
    ends_at: datetime = Field(description="Exclusive; but what expires at this midnight is in.")
    as_of: datetime = Field(description="Up to when expiry is known: the year's end, or now.")
    sums: Sums
    entries: list[StatementEntry]


class Month(Sums):
    """A month of the program's zone."""

    month: str


class Liability(BaseModel):
    """What the program owed its customers, month by month; negative points are what customers owe."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "timezone": "Europe/London",
                    "as_of": "2012-01-01T00:00:00Z",
                    "months": [{"month": "2011-12", **SUMS}],
                    "total": SUMS,
                }
            ]
        },
    )

    timezone: str
    as_of: datetime
    months: list[Month]
    total: Sums


def sums_of(flow: Flow, currency: str, value: Decimal | None) -> dict[str, Any]:
    """Show the sums of a period, and what they are worth if the program says what a point is worth."""
    parts = {
        name: getattr(flow, name)
        for name in ("opening", "earned", "spent", "expired", "corrected", "closing")
    }
    money = None
    if value is not None:
        worth = {name: f"{points * value:f}" for name, points in parts.items()}
        money = Money(currency=currency, point_value=f"{value:f}", **worth)
    return {**parts, "kinds": dict(sorted(flow.kinds.items())), "money": money}
