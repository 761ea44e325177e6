"""asyncpg's classes with the type parameters that only its stubs know, and arrays for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

if TYPE_CHECKING:
    Connection: TypeAlias = (
        asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    )
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

__all__ = ["Connection", "Pool", "as_text"]


def as_text(items: Iterable[int | UUID]) -> str:
    """An array of numbers or ids as PostgreSQL reads it, for ``:items::text::bigint[]``.

    asyncpg asks of each element of a list, twice, whether it is a list itself: that costs more than all the rest.
    """
    return "{" + ",".join([str(item) for item in items]) + "}"
