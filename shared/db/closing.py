"""The last write of a transaction, kept back so that what every transaction ends with can go with it."""

from __future__ import annotations

from typing import Any, Protocol

import asyncpg

from shared.db.statements import together
from shared.db.types import Connection


class Writer(Protocol):
    """What executes a statement whose rows nobody wants: a connection, or ``Closing``."""

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement."""


class Closing:
    """Keeps the last statement back until the transaction ends, or until ``flush``: a round trip less.

    For writes that nothing else in the transaction reads, or writes to once more.
    """

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._kept: tuple[str, tuple[Any, ...]] | None = None

    async def execute(self, query: str, *args: Any) -> str:
        """Keep a statement; the one that was kept before is executed."""
        await self.flush()
        self._kept = (query, args)
        return ""

    async def flush(self) -> None:
        """Execute what was kept, for somebody is going to look."""
        if self._kept is not None:
            (query, args), self._kept = self._kept, None
            await self._conn.execute(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """Run a statement together with what was kept; its first row."""
        if self._kept is None:
            return await self._conn.fetchrow(query, *args)
        (first, before), self._kept = self._kept, None
        return await self._conn.fetchrow(together(first, len(before), query), *before, *args)
