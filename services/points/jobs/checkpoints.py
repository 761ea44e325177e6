"""Once a day the chains of the ledger are tied together, and the log keeps the hash of it."""

from __future__ import annotations

from datetime import datetime

import structlog

from services.points.ledger import chain
from shared.db.types import Pool

log = structlog.get_logger()


async def tie(pool: Pool, now: datetime) -> None:
    """Write the checkpoint of the day, if it is time: whoever keeps the log can prove later what there was."""
    async with pool.acquire() as conn:
        last = await chain.newest(conn)
        if last is not None and now - last["recorded_at"] < chain.CHECKPOINT_EVERY:
            return
        done = await chain.tie(conn, now)
    if done is not None:
        log.info("ledger checkpoint", **dict(done))
