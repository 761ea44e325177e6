"""Lists page by page: opaque cursors over a sort key, never offsets."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from fastapi import Query
from pydantic import BaseModel, Field

from shared.http.problems import Problem

VERSION = 1
LIMIT_MAX = 100
LIMIT_DEFAULT = 20
CURSOR_CHARS_MAX = 1000

T = TypeVar("T")
K = TypeVar("K")
P = TypeVar("P", bound="Page[Any]")

BigInt = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]

Limit = Annotated[
    int, Query(ge=1, le=LIMIT_MAX, description="How many at most.", examples=[LIMIT_DEFAULT])
]
CursorText = Annotated[
    str | None,
    Query(max_length=CURSOR_CHARS_MAX, description="`next_cursor` of the page before, unchanged."),
]


class Page(BaseModel, Generic[T]):
    """One page of a list; ask again with ``next_cursor`` until ``has_more`` is false."""

    data: list[T]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page.")
    has_more: bool


class Cursor(Generic[K]):
    """Encodes and decodes the place in one list. ``key`` is the type of its sort key, a tuple."""

    def __init__(self, name: str, key: type[K]) -> None:
        self._name = name
        frame: Any = tuple.__class_getitem__((int, str, key))
        self._decoder: msgspec.json.Decoder[tuple[int, str, K]] = msgspec.json.Decoder(frame)

    def encode(self, key: K) -> str:
        """The text a client passes back."""
        text = msgspec.json.encode((VERSION, self._name, key))
        return urlsafe_b64encode(text).rstrip(b"=").decode()

    def decode(self, text: str | None) -> K | None:
        """The sort key after which to go on, or None at the start; raises ``invalid-cursor``."""
        if text is None:
            return None
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            version, name, key = self._decoder.decode(raw)
        except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
            raise _invalid() from error
        # PostgreSQL's text has no NUL, and no cursor of ours ever holds one.
        if version != VERSION or name != self._name or b"\\u0000" in raw:
            raise _invalid()
        return key

    def page(self, kind: type[P], data: Sequence[Any], last: K | None, *, more: bool) -> P:
        """One page: ``last`` is the sort key of its last row, ``more`` whether rows follow it."""
        following = self.encode(last) if more and last is not None else None
        return kind(data=list(data), next_cursor=following, has_more=more)


def _invalid() -> Problem:
    return Problem("invalid-cursor", "This cursor does not belong to this list.")
