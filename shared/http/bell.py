"""Wakes the relay after a command: soon, but not once for each.

A NOTIFY takes a lock over the whole server until its transaction is on disk. Inside the commands' own transactions
it made them commit one after another, a third as many a second.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from shared.db import statements
from shared.db.pool import TRANSIENT
from shared.db.types import Pool

sql = statements.load(Path(__file__).parents[1] / "db" / "sql" / "idempotency.sql")

# The first is told at once, those of the next moment together. Who is not told looks every second anyway.
REST_SECONDS = 0.002


class Bell:
    """One to a process; ``ring`` after a commit that left events in the outbox."""

    def __init__(self) -> None:
        self._ringing: asyncio.Task[None] | None = None
        self._again = False

    def ring(self, pool: Pool) -> None:
        """Wake whoever publishes; returns at once."""
        self._again = True
        if self._ringing is None:
            self._ringing = asyncio.create_task(self._ring(pool))

    async def _ring(self, pool: Pool) -> None:
        try:
            while self._again:
                self._again = False
                with suppress(*TRANSIENT):
                    await pool.execute(sql.wake)
                await asyncio.sleep(REST_SECONDS)
        finally:
            self._ringing = None
