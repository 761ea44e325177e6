"""Parameters that every service's routes take, checked the same way."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from shared.contracts.envelope import ID_CHARS_MAX

CUSTOMER = "/v1/customers/{customer_id:path}"

_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def parse_instant(text: object) -> datetime:
    """An RFC 3339 date-time with a zone, as UTC; anything else is a ``ValueError``."""
    if not isinstance(text, str) or not _RFC3339.fullmatch(text):
        hint = "; write + as %2B in a URL" if isinstance(text, str) and " " in text else ""
        message = f"must be an RFC 3339 instant with a zone, such as 2027-01-31T23:00:00Z{hint}"
        raise ValueError(message)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        message = "is not a date and time of the calendar"
        raise ValueError(message) from None


def storable(text: str) -> str:
    """Refuse what PostgreSQL cannot keep as text."""
    if "\0" in text:
        message = "must not contain a NUL character"
        raise ValueError(message)
    return text


CustomerId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=ID_CHARS_MAX,
        description="The customer, as the shop names them.",
        examples=["17850"],
    ),
    AfterValidator(storable),
]
Instant = Annotated[
    datetime,
    BeforeValidator(parse_instant),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
At = Annotated[
    Instant | None,
    Query(
        description="The state at this instant; now without it.", examples=["2011-12-09T12:50:00Z"]
    ),
]
