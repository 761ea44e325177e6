"""What the API asks and answers about customers themselves: cards, enrolments, merges."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.contracts.envelope import ID_CHARS_MAX
from shared.http.params import Instant

TEXT_CHARS_MAX = 200
Reason = Annotated[
    str | None, Field(default=None, max_length=TEXT_CHARS_MAX, description="For people; kept.")
]


def _printable(text: str) -> str:
    if not text.isprintable():
        message = "must hold no control characters"
        raise ValueError(message)
    return text


Name = Annotated[str, Field(min_length=1, max_length=ID_CHARS_MAX), AfterValidator(_printable)]


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [example]})


class NewCard(BaseModel):
    """A card for a customer."""

    model_config = _shown({"card_number": "7001234", "issued_at": "2026-11-22T09:00:00Z"})

    card_number: Name
    issued_at: Instant | None = Field(
        default=None, description="Purchases from then on are the customer's; now without it."
    )


class Block(BaseModel):
    """From when on a card earns nothing."""

    model_config = _shown({"reason": "lost", "blocked_at": None})

    reason: Reason = None
    blocked_at: Instant | None = Field(
        default=None, description="What was bought with it since is taken back; now without it."
    )


class Replace(BaseModel):
    """Another card in place of one."""

    model_config = _shown({"card_number": "7009876", "reason": "damaged"})

    card_number: Name = Field(description="The new one.")
    reason: Reason = None
    replaced_at: Instant | None = Field(default=None, description="Now without it.")


class Card(BaseModel):
    """A card and when it counts: from `issued_at` to before `ended_at`."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "card_number": "7001234",
                    "customer_id": "17850",
                    "state": "replaced",
                    "issued_at": "2026-11-22T09:00:00Z",
                    "ended_at": "2026-12-01T12:00:00Z",
                    "replaced_by": "7009876",
                    "reason": "damaged",
                }
            ]
        },
    )

    card_number: str
    customer_id: str
    state: Literal["active", "blocked", "replaced", "announced"] = Field(
        description="`announced`: not issued yet, but known already to be blocked or replaced later."
    )
    issued_at: datetime | None
    ended_at: datetime | None
    replaced_by: str | None
    reason: str | None


class CardList(BaseModel):
    """A customer's cards, the newest first."""

    data: list[Card]


class Enrolment(BaseModel):
    """What a customer was enrolled or updated with; null: not named then."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "kind": "enrolled",
                    "occurred_at": "2026-11-22T09:00:00Z",
                    "recorded_at": "2026-11-22T09:00:00.123456Z",
                    "birthday": "1984-02-29",
                    "name": "Ada",
                    "consents": {"newsletter": True},
                    "source_event_id": "5f0c6f4e",
                }
            ]
        },
    )

    kind: Literal["enrolled", "updated", "merged"] = Field(
        description="`merged`: taken over with an id that became theirs."
    )
    occurred_at: datetime
    recorded_at: datetime
    birthday: date | None
    name: str | None
    consents: dict[str, bool]
    source_event_id: str


class EnrolmentList(BaseModel):
    """The history of a customer's enrolment, the newest first."""

    data: list[Enrolment]


class MergeBody(BaseModel):
    """As whom a customer lives on."""

    model_config = _shown({"into": "17851", "reason": "same person, two sign-ups"})

    into: Name
    reason: Reason = None


class Merged(BaseModel):
    """A merged customer: both ids answer the same from now on."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {"customer_id": "17850", "into": "17851", "merged_at": "2026-11-22T09:00:00Z"}
            ]
        },
    )

    customer_id: str
    into: str
    merged_at: datetime
