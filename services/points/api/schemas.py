"""What the points API answers, field by field."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from services.points.domain import explain
from shared.http.paging import Page

Kind = Literal[
    "earned", "tier_bonus", "campaign", "activity", "clawed_back", "covered", "written_off",
    "unlocked", "expired", "captured", "restored", "adjusted", "reversed", "transferred", "withdrawn",
]  # fmt: skip

LOT = "0b6ff2b0-3c0e-5a3c-9d6c-5a1f1a7d2a10"

WHY = "150 points: 1 point per 1.00 GBP on 120.00 GBP, tier Silber (× 1.25)."
WHY_DE = "150 Punkte: 1 Punkt je 1,00 GBP auf 120,00 GBP, Stufe Silber (× 1,25)."
ENTRY: dict[str, Any] = {
    "id": LOT,
    "kind": "earned",
    "points": 150,
    "base": 120,
    "bonus": 30,
    "balance_after": 5391,
    "occurred_at": "2010-12-01T08:26:00Z",
    "recorded_at": "2026-11-22T09:00:00.123456Z",
    "available_at": "2010-12-01T08:26:00Z",
    "expires_at": "2012-01-01T00:00:00Z",
    "lot_id": LOT,
    "shop": "online-retail",
    "order_id": "536365",
    "source_event_id": "5f0c6f4e",
    "tier": "silver",
    "multiplier": "1.25",
    "reason": None,
    "actor": None,
    "explanation": WHY,
    "explanation_de": WHY_DE,
}
STORY: dict[str, Any] = {
    "kind": "award",
    "program": "demo",
    "program_version": "46b290243e15",
    "sentence": {"de": WHY_DE, "en": WHY},
    "steps": [
        {
            "rule": "base",
            "value": "120",
            "text": {"de": "1 Punkt je 1,00 GBP: 120", "en": "1 point per 1.00 GBP: 120"},
        },
        {
            "rule": "tier",
            "value": "150",
            "text": {"de": "Stufe Silber (× 1,25): 150", "en": "tier Silber (× 1.25): 150"},
        },
    ],
    "points": 150,
    "total": 150,
    "base": 120,
    "bonus": 30,
    "exact": "150",
    "rounding": "floor",
    "tier": "silver",
    "multiplier": "1.25",
    "inputs": {
        "currency": "GBP",
        "exchange_rate": None,
        "order_discount": "0",
        "prices_include_tax": True,
        "net_spend": "120.00",
    },
    "lines": [
        {
            "line_id": "1",
            "sku": "85123A",
            "quantity": "6",
            "net": "120.00",
            "points": 150,
            "reason": None,
            "text": None,
        }
    ],
    "not_fired": [
        {
            "rule": "tier:gold",
            "condition": "in_force_before_purchase",
            "text": {
                "de": "Stufe Gold (× 1,5) galt vor dem Einkauf nicht",
                "en": "tier Gold (× 1.5) was not in force before the purchase",
            },
            "needed": None,
            "found": None,
            "missed_by": None,
        }
    ],
    "campaigns": [],
}


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(frozen=True, json_schema_extra={"examples": [example]})


class ExpiringNext(BaseModel):
    """What is lost next unless it is spent before."""

    points: int
    expires_at: datetime = Field(description="Exclusive: at this instant they are gone.")


class Balance(BaseModel):
    """A customer's points at an instant."""

    model_config = _shown(
        {
            "customer_id": "17850",
            "available": 412,
            "pending": 0,
            "held": 0,
            "deficit": 0,
            "lifetime_earned": 5391,
            "expiring_next": {"points": 139, "expires_at": "2011-12-31T00:00:00Z"},
            "as_of": "2011-12-09T12:50:00Z",
        }
    )

    customer_id: str
    available: int = Field(description="Spendable at `as_of`.")
    pending: int = Field(description="Earned, not yet spendable.")
    held: int = Field(description="Reserved by holds.")
    deficit: int = Field(description="What the next credits absorb.")
    lifetime_earned: int = Field(description="Ever earned; what was taken back or spent included.")
    expiring_next: ExpiringNext | None
    as_of: datetime


class Entry(BaseModel):
    """One immutable, signed line of the ledger."""

    model_config = _shown(ENTRY)

    id: UUID
    kind: Kind
    points: int = Field(description="Signed.")
    base: int = Field(description="Of `points`, what the purchase earned before the tier's part.")
    bonus: int = Field(description="Of `points`, the tier's part.")
    balance_after: int = Field(description="Sum of all lines up to this one.")
    occurred_at: datetime = Field(description="In the world.")
    recorded_at: datetime = Field(description="In our ledger.")
    available_at: datetime
    expires_at: datetime | None = Field(description="Exclusive; null: never.")
    lot_id: UUID = Field(description="The award this line belongs to.")
    shop: str | None = Field(description="null: no purchase stands behind it.")
    order_id: str | None
    source_event_id: str = Field(description="CloudEvents id of what caused it.")
    tier: str | None = Field(description="The tier whose multiplier counts; null below the first.")
    multiplier: str
    reason: str | None = Field(description="A code for programs; null: the purchase itself.")
    actor: str | None = Field(description="Who caused it, where a person did: an API key's id.")
    explanation: str = Field(description="One sentence.")
    explanation_de: str = Field(description="The same in German.")


class Lot(BaseModel):
    """The points of one award with whatever went into and out of it, and whether they count now."""

    model_config = _shown(
        {
            "lot_id": LOT,
            "shop": "online-retail",
            "order_id": "536365",
            "points": 173,
            "reserved": 0,
            "occurred_at": "2010-12-01T08:26:00Z",
            "available_at": "2010-12-01T08:26:00Z",
            "expires_at": "2012-01-01T00:00:00Z",
            "state": "expired",
        }
    )

    lot_id: UUID
    shop: str | None
    order_id: str | None
    points: int = Field(description="What is in it; below 0: owed.")
    reserved: int = Field(description="Of it, what live holds keep.")
    occurred_at: datetime
    available_at: datetime
    expires_at: datetime | None
    state: Literal["pending", "open", "expired"]


class EntryPage(Page[Entry]):
    """Ledger lines, newest first."""


class LotPage(Page[Lot]):
    """Lots, newest purchase first."""


class Explanation(BaseModel):
    """Why these points, step by step, and why not more."""

    model_config = _shown({"entry": ENTRY, "customer_id": "17850", "explanation": STORY})

    entry: Entry
    customer_id: str
    explanation: explain.Explanation = Field(description="Computed when it was earned, told now.")
