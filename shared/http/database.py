"""A route's way to PostgreSQL: a pooled connection, and 503 where there is none to be had."""

from __future__ import annotations

import asyncio
from types import TracebackType

import asyncpg
import structlog
from starlette.requests import Request

from shared.db.pool import TRANSIENT
from shared.db.types import Connection, Pool
from shared.http.problems import DatabaseUnavailable

# From asking for a connection to the last row. Reads take milliseconds; who waits longer is told to come back.
READ_SECONDS_MAX = 5.0
RELEASE_SECONDS_MAX = 1.0

# A database that is there but not migrated yet is as good as away: /readyz says which of the two.
_AWAY: tuple[type[BaseException], ...] = (
    *TRANSIENT,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
)

log = structlog.get_logger(__name__)


class lent:  # noqa: N801 - used as a verb: async with lent(pool) as conn
    """``async with lent(pool) as conn:`` for a short while.

    Whatever means "PostgreSQL is away or too slow" leaves as the problem ``database-unavailable``.
    """

    __slots__ = ("_conn", "_limit", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        # One limit for all of it: asyncpg's own would cost a task for each request.
        self._limit = asyncio.timeout(READ_SECONDS_MAX)

    async def __aenter__(self) -> Connection:
        await self._limit.__aenter__()
        try:
            self._conn = await self._pool.acquire()
        except BaseException as error:
            await self._leave(error)
            raise
        return self._conn

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._leave(error)
        finally:
            await self._release()

    async def _leave(self, error: BaseException | None) -> None:
        """End the time limit, and tell an absence of the database from a mistake of ours."""
        try:
            await self._limit.__aexit__(type(error) if error else None, error, None)
        except TimeoutError as late:
            raise _unavailable(late) from error
        # A ValueError is asyncpg's way to refuse an argument: our mistake, although an InterfaceError too.
        if isinstance(error, _AWAY) and not isinstance(error, ValueError):
            raise _unavailable(error) from error

    async def _release(self) -> None:
        try:
            await self._pool.release(self._conn, timeout=RELEASE_SECONDS_MAX)
        except _AWAY as lost:
            # The answer is known by now; asyncpg has dropped the connection.
            log.warning("connection lost on release", error=repr(lost))


class connection(lent):  # noqa: N801 - used as a verb: async with connection(request) as conn
    """``async with connection(request) as conn:`` with the pool at ``app.state.pool``."""

    __slots__ = ()

    def __init__(self, request: Request) -> None:
        super().__init__(request.app.state.pool)


def _unavailable(error: BaseException) -> DatabaseUnavailable:
    log.warning("database unavailable", error=repr(error))
    return DatabaseUnavailable()
