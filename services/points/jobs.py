"""What time does: the ledger is audited now and then, so that a violation is told before a customer finds it.

Unlocking and expiry need no job to take effect: balances are functions of time (domain/lots.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.points import invariants
from shared.db.types import Pool
from shared.invariants import audit
from shared.program import Program

EVERY_SECONDS = 600.0


def job(program: Program) -> Callable[[Pool, Callable[[], None]], Awaitable[None]]:
    """The service's job; it only reads, so running it twice or never changes nothing."""

    async def run(pool: Pool, _: Callable[[], None]) -> None:
        await audit(pool, invariants.of(program))

    return run
