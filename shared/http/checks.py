"""The components whose absence turns /readyz red."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import asyncpg

from shared import probe
from shared.db import migrate
from shared.db.pool import ask
from shared.db.types import Pool
from shared.http.health import CHECK_SECONDS, Check, NotReady


def database(pool: Callable[[], Pool]) -> Check:
    """PostgreSQL answers a statement."""

    async def check() -> None:
        try:
            await ask(pool(), "SELECT 1", within=CHECK_SECONDS)
        except OSError as error:
            raise NotReady("PostgreSQL does not accept connections") from error

    return check


def schema(pool: Callable[[], Pool], folder: Path) -> Check:
    """The database has every migration of this version of the code."""

    async def check() -> None:
        try:
            missing = await migrate.missing(pool(), folder)
        except OSError as error:
            raise NotReady("unknown while PostgreSQL is away") from error
        except asyncpg.UndefinedTableError as error:
            raise NotReady("the database has not been migrated") from error
        if missing:
            raise NotReady(f"not applied yet: {', '.join(missing)}")

    return check


def kafka(bootstrap: str) -> Check:
    """A broker of ``host:port,…`` answers; a mere open port is not enough (it may be stopped)."""

    async def check() -> None:
        try:
            await probe.broker(bootstrap)
        except OSError as error:
            # The error names the address, which is nobody's business who has no key.
            raise NotReady("no Kafka broker answers") from error

    return check
