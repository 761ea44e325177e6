"""Connections to a service's own database, and which of its errors mean "wait and try again"."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from shared.db.types import Pool

CONNECT_SECONDS_MAX = 5.0
STATEMENT_SECONDS_MAX = 60.0
HAND_BACK_SECONDS_MAX = 0.2

# The database is away, starting, stopping or asks for a repetition: the same work may succeed later.
# A TimeoutError belongs here too: a stopped or unreachable server answers nothing at all.
TRANSIENT: tuple[type[BaseException], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.QueryCanceledError,
    asyncpg.DiskFullError,
    asyncpg.OutOfMemoryError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    OSError,
    asyncio.TimeoutError,
)


async def create(dsn: str, *, name: str, size: int, **options: Any) -> Pool:
    """A pool that opens connections when they are needed: PostgreSQL may still be away when we start.

    ``name`` shows up in ``pg_stat_activity``; ``size`` is the most connections it opens.
    """
    settings = {
        "application_name": name,
        # asyncpg's nested-type introspection is far slower with JIT, and our statements are short.
        "jit": "off",
        "idle_in_transaction_session_timeout": "60s",
    }
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        timeout=CONNECT_SECONDS_MAX,
        command_timeout=STATEMENT_SECONDS_MAX,
        server_settings=settings,
        reset=_keep,
        **options,
    )


async def _keep(_: object) -> None:
    """Spare a pooled connection its reset, a round trip a transaction: we set nothing on a session."""


async def ask(pool: Pool, query: str, *arguments: object, within: float) -> list[asyncpg.Record]:
    """The rows of a probe, or TimeoutError soon after ``within`` seconds, also from a server that hangs.

    ``Pool.fetch`` cannot promise that: when its time is up, asyncpg asks the server to cancel and hands the
    connection back only when that is confirmed, and a server that hangs confirms nothing.
    """
    async with asyncio.timeout(within):
        connection = await pool.acquire()
    try:
        async with asyncio.timeout(within):
            return await connection.fetch(query, *arguments)
    finally:
        await pool.release(connection, timeout=HAND_BACK_SECONDS_MAX)
