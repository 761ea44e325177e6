"""What shops and apps publish to ``treue.activities``: what customers do besides buying, and who they are."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

import msgspec

TOPIC = "treue.activities"
COMPLETED = "treue.activity.completed.v1"
ENROLLED = "treue.customer.enrolled.v1"
UPDATED = "treue.customer.updated.v1"
CARD_CHANGED = "treue.customer.card_changed.v1"
MERGED = "treue.customer.merged.v1"

CardChange = Literal["issued", "blocked", "replaced"]


class ActivityCompleted(msgspec.Struct, frozen=True, gc=False):
    """A customer did something that may earn points, once per ``activity`` and ``reference``.

    ``data`` is free, but for referrals: there ``referred_by`` names the customer who brought this one.
    """

    activity: str
    customer_id: str
    occurred_at: datetime
    reference: str
    data: dict[str, Any] = msgspec.field(default_factory=dict)


class OrderRef(msgspec.Struct, frozen=True, gc=False):
    """A guest's purchase that a customer calls theirs at sign-up."""

    shop: str
    order_id: str


class CustomerEnrolled(msgspec.Struct, frozen=True, gc=False):
    """A customer takes part from ``occurred_at`` on. ``orders`` are bought as a guest shortly before."""

    customer_id: str
    occurred_at: datetime
    birthday: date | None = None
    name: str | None = None
    consents: dict[str, bool] = msgspec.field(default_factory=dict)
    orders: list[OrderRef] = msgspec.field(default_factory=list)


class CustomerUpdated(msgspec.Struct, frozen=True, gc=False):
    """What is known of a customer changed; only what is named. It enrols nobody."""

    customer_id: str
    occurred_at: datetime
    birthday: date | None = None
    name: str | None = None
    consents: dict[str, bool] = msgspec.field(default_factory=dict)


class CardChanged(msgspec.Struct, frozen=True, gc=False):
    """A customer's card counts from ``issued`` on, and up to ``blocked`` or ``replaced`` (by ``replaced_by``)."""

    customer_id: str
    card_number: str
    change: CardChange
    occurred_at: datetime
    replaced_by: str | None = None
    reason: str | None = None


class CustomerMerged(msgspec.Struct, frozen=True, gc=False):
    """Two ids turned out to be one person: ``customer_id`` lives on as ``into``."""

    customer_id: str
    into: str
    occurred_at: datetime
    reason: str | None = None
