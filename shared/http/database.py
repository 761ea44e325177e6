"""A route's way to PostgreSQL: a pooled connection, and 503 where there is none to be had."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import asyncpg
import structlog
from starlette.requests import Request

from shared.db.pool import TRANSIENT
from shared.http.problems import DatabaseUnavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

ACQUIRE_SECONDS_MAX = 2.0

log = structlog.get_logger(__name__)


class connection:  # noqa: N801 - used as a verb: async with connection(request) as conn
    """``async with connection(request) as conn:`` with the pool at ``app.state.pool``.

    Whatever means "PostgreSQL is away or too slow" leaves as the problem ``database-unavailable``.
    """

    __slots__ = ("_conn", "_pool")

    def __init__(self, request: Request) -> None:
        self._pool: asyncpg.Pool[asyncpg.Record] = request.app.state.pool

    async def __aenter__(self) -> PoolConnectionProxy[asyncpg.Record]:
        try:
            self._conn = await self._pool.acquire(timeout=ACQUIRE_SECONDS_MAX)
        except _AWAY as error:
            raise _unavailable(error) from error
        return self._conn

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._pool.release(self._conn)
        except _AWAY as lost:
            raise _unavailable(lost) from lost
        if isinstance(error, _AWAY):
            raise _unavailable(error) from error


# A database that is there but not migrated yet is as good as away: /readyz says which of the two.
_AWAY: tuple[type[BaseException], ...] = (
    *TRANSIENT,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
)


def _unavailable(error: BaseException) -> DatabaseUnavailable:
    log.warning("database unavailable", error=repr(error))
    return DatabaseUnavailable()
