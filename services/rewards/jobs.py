"""What time does: it ends vouchers, and this tells it; and now and then the ledger is audited.

A voucher counts as expired from the instant its last day ends, whether or not anything here has run.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import datetime

from services.rewards import invariants, ledger
from services.rewards.domain.announcements import announce
from services.rewards.domain.vouchers import Step
from shared import clock
from shared.contracts import rewards
from shared.db.types import Connection, Pool
from shared.events.model import Work
from shared.events.runner import sql as stream
from shared.invariants import audit

SOURCE = "/services/rewards"
# Vouchers told in one transaction; the next one goes on where it ended, also after a crash.
BATCH_ROWS = 500
AUDIT_SECONDS = 600.0


def job() -> Callable[[Pool, Callable[[], None]], Awaitable[None]]:
    """The service's job: any number of workers may run it, at any time, and stop in the middle.

    Its audit asks the queries only: to compute every account and code afresh is for `verify`, and would
    take a worker's time from its customers.
    """
    audited = time.monotonic()

    async def run(pool: Pool, wake: Callable[[], None]) -> None:
        nonlocal audited
        await tell_expired(pool, wake, clock.now())
        if time.monotonic() - audited >= AUDIT_SECONDS:
            await audit(pool, invariants.QUERIES)
            audited = time.monotonic()

    return run


async def tell_expired(pool: Pool, wake: Callable[[], None], now: datetime) -> None:
    """Write and publish the expiry of every voucher whose last day is over."""
    told = BATCH_ROWS
    while told == BATCH_ROWS:
        async with pool.acquire() as conn, conn.transaction():
            told = await _tell_some(conn, now, BATCH_ROWS)
        wake()


async def _tell_some(conn: Connection, now: datetime, count: int) -> int:
    expired = await ledger.take_expired(conn, now, count)
    if not expired:
        return 0
    work = Work(conn, now, SOURCE)
    for item in expired:
        told = announce(item.customer_id, item.revision, Step.EXPIRED, item.voucher, now)
        work.publish(rewards.TOPIC, item.customer_id, told.type, told.id, told.time, told.data)
    await ledger.add_expiries(conn, expired, now)
    keys = [message.key for message in work.messages]
    payloads = [message.payload for message in work.messages]
    await conn.execute(stream.add_outbox, rewards.TOPIC, keys, payloads, None)
    # The relay may be another process's: it wakes with the commit.
    await conn.execute(stream.notify_outbox)
    return len(expired)
