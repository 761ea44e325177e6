"""Lists page by page: opaque cursors over a sort key, never offsets."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
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

BigInt = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

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
        if version != VERSION or name != self._name:
            raise _invalid()
        return key

    def page(self, rows: Sequence[Any], limit: int, key: K | None) -> dict[str, Any]:
        """The frame around at most ``limit`` of ``rows``, of which one more was asked for.

        ``key`` is the sort key of the last row shown, None when there is none.
        """
        more = len(rows) > limit
        cursor = self.encode(key) if more and key is not None else None
        return {"data": list(rows[:limit]), "next_cursor": cursor, "has_more": more}


def _invalid() -> Problem:
    return Problem("invalid-cursor", "This cursor does not belong to this list.")
