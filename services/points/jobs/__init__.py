"""What time does: it unlocks points and ends them, and this tells it; and now and then the ledger is audited.

Unlocking and expiry need no job to take effect: balances are functions of time (domain/expiry.py).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from services.points import invariants
from services.points.jobs.checkpoints import tie
from services.points.jobs.due import tell_due
from services.points.jobs.holds import time_out
from services.points.jobs.refunds import look_again
from shared import clock
from shared.db.types import Pool
from shared.invariants import audit
from shared.program import Program

EVERY_SECONDS = 10.0
AUDIT_SECONDS = 600.0


def job(program: Program) -> Callable[[Pool, Callable[[], None]], Awaitable[None]]:
    """The service's job: any number of workers may run it, at any time, and stop in the middle."""
    audited = time.monotonic()

    async def run(pool: Pool, wake: Callable[[], None]) -> None:
        nonlocal audited
        program.look()
        await time_out(pool, wake, program, clock.now())
        await tell_due(pool, wake, program, clock.now())
        await look_again(pool, wake, program, clock.now())
        await tie(pool, clock.now())
        if time.monotonic() - audited >= AUDIT_SECONDS:
            await audit(pool, invariants.of(program))
            audited = time.monotonic()

    return run
