"""What the tiers API answers, field by field."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.http.paging import Page

ENTRY = "0b6ff2b0-3c0e-5a3c-9d6c-5a1f1a7d2a10"

Kind = Literal["upgraded", "retained", "downgraded", "withdrawn"]
CauseType = Literal["purchase", "activity", "refund", "time"]
Amount = int | str


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(frozen=True, json_schema_extra={"examples": [example]})


class TierInForce(BaseModel):
    """The tier a customer has."""

    id: str
    name: str
    multiplier: str = Field(description="Times the points of a purchase, as a decimal.")


class Qualified(BaseModel):
    """What counts towards the levels at the instant asked for."""

    amount: Amount = Field(
        description="A whole number of points or purchases, or money as a string."
    )
    basis: Literal["points", "spend", "purchases"]
    window_from: datetime | None = Field(
        description="Rolling: exclusive. Calendar year: 1 January, inclusive. Lifetime: null."
    )
    window_until: datetime | None = Field(
        description="Rolling: the instant itself. Calendar year: its exclusive end. Lifetime: null."
    )


class NextTier(BaseModel):
    """The next level, and what it takes beyond what counts now."""

    id: str
    name: str
    missing: Amount


class TierStatus(BaseModel):
    """A customer's tier at an instant."""

    model_config = _shown(
        {
            "customer_id": "17850",
            "tier": {"id": "silver", "name": "Silber", "multiplier": "1.25"},
            "since": "2010-12-01T09:02:00Z",
            "valid_until": "2011-12-02T00:00:00Z",
            "qualifying": {
                "amount": 1391,
                "basis": "points",
                "window_from": "2009-12-09T12:50:00Z",
                "window_until": "2010-12-09T12:50:00Z",
            },
            "next_tier": {"id": "gold", "name": "Gold", "missing": 609},
            "grace_until": None,
            "as_of": "2010-12-09T12:50:00Z",
        }
    )

    customer_id: str
    tier: TierInForce | None = Field(description="Null below the first level.")
    since: datetime | None = Field(
        description="When it was reached; for the base level, the customer's first purchase."
    )
    valid_until: datetime | None = Field(description="Exclusive; null: never lost.")
    qualifying: Qualified
    next_tier: NextTier | None = Field(description="Null at the top.")
    grace_until: datetime | None = Field(
        description="Validity has ended unmet: what is earned before this still keeps the tier."
    )
    as_of: datetime


class Cause(BaseModel):
    """Why the tier changed: an award crossed the threshold, a refund took it away, or time alone decided."""

    type: CauseType
    id: UUID | None = Field(
        description="The points entry of the purchase, also where it was refunded."
    )
    shop: str | None
    order_id: str | None
    refund_id: str | None = Field(description="The refund; null for a cancellation.")


class TierRef(BaseModel):
    """A level by id and name."""

    id: str
    name: str


class Move(BaseModel):
    """One step of a customer's way through the levels."""

    model_config = _shown(
        {
            "kind": "upgraded",
            "tier": {"id": "silver", "name": "Silber"},
            "previous": {"id": "bronze", "name": "Bronze"},
            "multiplier": "1.25",
            "since": "2010-12-01T09:02:00Z",
            "valid_until": "2011-12-02T00:00:00Z",
            "reach": 1,
            "cause": {
                "type": "purchase",
                "id": ENTRY,
                "shop": "online-retail",
                "order_id": "536365",
                "refund_id": None,
            },
            "revision": 1,
            "recorded_at": "2026-11-22T09:00:00.123456Z",
        }
    )

    kind: Kind
    tier: TierRef | None = Field(description="Null below the first level.")
    previous: TierRef | None
    multiplier: str
    since: datetime = Field(description="Counts for purchases after this instant.")
    valid_until: datetime | None = Field(description="Exclusive; null: never lost.")
    reach: int | None = Field(description="How often the level was reached by then; upgrades only.")
    cause: Cause
    revision: int | None = Field(description="The change it came with; null: not written yet.")
    recorded_at: datetime | None


class Replaced(BaseModel):
    """What was told before, until a late event moved it."""

    since: datetime
    valid_until: datetime | None
    cause: UUID | None


class Change(Move):
    """A line of the record: a move that came, and the one whose place it took."""

    replaced: Replaced | None


class LevelDefinition(BaseModel):
    """A level of the program."""

    id: str
    name: str
    threshold: Amount = Field(description="Reached with this much, included.")
    multiplier: str
    on_reach: list[str] = Field(description="Vouchers given each time it is reached.")


class WindowDefinition(BaseModel):
    """The time in which amounts count."""

    kind: str
    length: str | None


class HistoryPage(Page[Move]):
    """A customer's way, newest first."""


class ChangesPage(Page[Change]):
    """The record of a customer's way, newest first."""


class LevelsPage(Page[LevelDefinition]):
    """All levels, lowest first, with what they have in common."""

    model_config = _shown(
        {
            "data": [
                {
                    "id": "silver",
                    "name": "Silber",
                    "threshold": 500,
                    "multiplier": "1.25",
                    "on_reach": ["welcome-silver"],
                }
            ],
            "next_cursor": None,
            "has_more": False,
            "basis": "points",
            "window": {"kind": "rolling", "length": "P12M"},
            "downgrade": "one_level",
            "grace": "P30D",
        }
    )

    basis: Literal["points", "spend", "purchases"]
    window: WindowDefinition
    downgrade: Literal["full", "one_level", "none"]
    grace: str
