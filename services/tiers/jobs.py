"""What time does: levels are judged whose validity or grace has passed; and now and then the ledger is audited.

A level counts as lost or renewed from its deadline on, whether or not anything here has run: this tells it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from services.tiers import invariants, ledger
from services.tiers.domain.rules import Rules
from services.tiers.handlers import walk, walk_persons
from shared import clock
from shared.contracts import tiers
from shared.db.types import Connection, Pool
from shared.events.model import Work
from shared.events.runner import sql as stream
from shared.invariants import audit
from shared.program import Program

SOURCE = "/services/tiers"
# Accounts walked in one transaction; the next one goes on where it ended, also after a crash.
BATCH_ROWS = 500
# Old purchases that are being loaded decide themselves what became of a level then: leave them this much time.
SETTLE = timedelta(seconds=30)
AUDIT_SECONDS = 600.0


def job(program: Program) -> Callable[[Pool, Callable[[], None]], Awaitable[None]]:
    """The service's job: any number of workers may run it, at any time, and stop in the middle."""
    rules = Rules(program)
    audited = time.monotonic()

    async def run(pool: Pool, wake: Callable[[], None]) -> None:
        nonlocal audited
        rules.look()
        await judge_due(pool, wake, rules, clock.now())
        if time.monotonic() - audited >= AUDIT_SECONDS:
            await audit(pool, invariants.of(program))
            audited = time.monotonic()

    return run


async def judge_due(
    pool: Pool,
    wake: Callable[[], None],
    rules: Rules,
    now: datetime,
    *,
    settle: timedelta = SETTLE,
    batch: int = BATCH_ROWS,
) -> None:
    """Walk on every account whose deadline has passed, or that was walked by other rules than these.

    An account that was walked is due no more, so every round finds others.
    """
    found = batch
    while found == batch:
        async with pool.acquire() as conn, conn.transaction():
            found = await _judge_some(conn, rules, now, settle, batch)
        wake()


async def _judge_some(
    conn: Connection, rules: Rules, now: datetime, settle: timedelta, count: int
) -> int:
    accounts = await ledger.lock_due_accounts(conn, now, now - settle, rules.version, count)
    work = Work(conn, now, SOURCE)
    alone = [account for account in accounts if account.person_id is None]
    await walk(work, rules, alone, lambda a: max(now, a.standing.computed_until or now))
    persons = {account.person_id for account in accounts if account.person_id is not None}
    await walk_persons(work, rules, persons, now)
    if work.messages:
        keys = [message.key for message in work.messages]
        payloads = [message.payload for message in work.messages]
        await conn.execute(stream.add_outbox, tiers.TOPIC, keys, payloads, None)
        # The relay may be another process's: it wakes with the commit.
        await conn.execute(stream.notify_outbox)
    return len(accounts)
