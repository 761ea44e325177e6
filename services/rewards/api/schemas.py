"""What the rewards API answers, field by field."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.rewards import VoucherKind
from shared.http.paging import Page

VoucherState = Literal["issued", "held", "redeemed", "partially_redeemed", "expired", "revoked"]


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(frozen=True, json_schema_extra={"examples": [example]})


class Cause(BaseModel):
    """Why there is a voucher."""

    model_config = _shown({"type": "promotion", "id": "gold#1"})

    type: str = Field(description="`promotion`: a level was reached.")
    id: str = Field(description="The level, and how often the customer has reached it by then.")


class Articles(BaseModel):
    """Lines of a cart, by article number or category."""

    skus: tuple[str, ...]
    categories: tuple[str, ...]


class Voucher(BaseModel):
    """A voucher as it is at the instant of the answer."""

    model_config = _shown(
        {
            "id": "3b1f2a9c-5a7e-5f0d-8b51-0c6f5a7d9e10",
            "code": "SAVD4KNVFTRA26HB3",
            "voucher": "welcome-gold",
            "name": "25 £ für Gold",
            "kind": "amount",
            "value": "25.00",
            "currency": "GBP",
            "min_order": "50.00",
            "max_discount": None,
            "sku": None,
            "include": {"skus": [], "categories": []},
            "exclude": {"skus": [], "categories": []},
            "combinable": False,
            "max_redemptions": 1,
            "state": "issued",
            "issued_at": "2026-11-21T09:12:00Z",
            "expires_at": "2027-02-20T00:00:00Z",
            "cause": {"type": "promotion", "id": "gold#1"},
        }
    )

    id: UUID
    code: str = Field(
        description="17 characters: Crockford base32, the last one a check character."
        " At the till, case, spaces and dashes do not count, O is 0, I and L are 1."
    )
    voucher: str = Field(description="Its definition in the program.")
    name: str | None = Field(description="What customers read.")
    kind: VoucherKind
    value: str | None = Field(
        description="Per cent (`percent`) or money (`amount`, `gift_card`), as a decimal; else null."
    )
    currency: str | None = Field(description="Of every amount of money here.")
    min_order: str | None = Field(description="Least value of the cart.")
    max_discount: str | None = Field(description="Most it takes off.")
    sku: str | None = Field(description="The article of a `free_product`.")
    include: Articles = Field(description="Only for these articles; nothing named: for all.")
    exclude: Articles = Field(description="Not for these articles.")
    combinable: bool = Field(description="Together with other vouchers in one cart.")
    max_redemptions: int = Field(description="How often it can be used.")
    state: VoucherState = Field(
        description="`expired` from the instant `expires_at` on, whether or not a job has run."
    )
    issued_at: datetime = Field(description="The instant of its cause.")
    expires_at: datetime | None = Field(
        description="Exclusive: the midnight after its last day. Null: valid for ever."
    )
    cause: Cause


class VoucherPage(Page[Voucher]):
    """A page of vouchers."""


class Reward(BaseModel):
    """Something customers get for points."""

    model_config = _shown(
        {
            "id": "five-off",
            "name": "5 £ Gutschein",
            "cost": 500,
            "voucher": "five-off",
            "min_tier": "bronze",
            "stock": None,
            "per_customer": None,
        }
    )

    id: str
    name: str = Field(description="What customers read.")
    cost: int = Field(description="Points.")
    voucher: str = Field(description="What they get: its definition in the program.")
    min_tier: str | None = Field(description="From this level on.")
    stock: int | None = Field(description="How many there are; null: no bound.")
    per_customer: int | None = Field(description="How many each; null: no bound.")


class RewardPage(Page[Reward]):
    """A page of the catalogue."""
