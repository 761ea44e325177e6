"""The components whose absence turns /readyz red."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
from collections.abc import Callable
from pathlib import Path

import asyncpg

from shared.db import migrate
from shared.db.types import Pool
from shared.http.health import Check, NotReady

API_VERSIONS = 18
CLIENT_ID = b"treue-readyz"


def database(pool: Callable[[], Pool]) -> Check:
    """PostgreSQL answers a statement."""

    async def check() -> None:
        try:
            await pool().fetchval("SELECT 1")
        except OSError as error:
            raise NotReady("PostgreSQL does not accept connections") from error

    return check


def schema(pool: Callable[[], Pool], folder: Path) -> Check:
    """The database has the newest migration of this version of the code."""

    async def check() -> None:
        try:
            current = await migrate.is_current(pool(), folder)
        except OSError as error:
            raise NotReady("unknown while PostgreSQL is away") from error
        except asyncpg.UndefinedTableError as error:
            raise NotReady("the database has not been migrated") from error
        if not current:
            newest = migrate.newest(migrate.COMMON, folder)
            raise NotReady(f"the migration {newest} has not been applied")

    return check


def kafka(bootstrap: str) -> Check:
    """A broker of ``host:port,…`` answers; a mere open port is not enough (it may be stopped)."""
    addresses = [_address(item) for item in bootstrap.split(",") if item.strip()]

    async def check() -> None:
        for host, port in addresses:
            with contextlib.suppress(OSError, EOFError):
                await _greet(host, port)
                return
        raise NotReady("no Kafka broker answers")

    return check


def _address(item: str) -> tuple[str, int]:
    host, _, port = item.strip().rpartition(":")
    return host.strip("[]"), int(port)


async def _greet(host: str, port: int) -> None:
    """Ask a broker for its API versions: the one request that needs no session."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        correlation = secrets.randbits(31)
        header = struct.pack(">hhih", API_VERSIONS, 0, correlation, len(CLIENT_ID)) + CLIENT_ID
        writer.write(struct.pack(">i", len(header)) + header)
        _, answered = struct.unpack(">ii", await reader.readexactly(8))
        if answered != correlation:
            raise NotReady("what listens there is not a Kafka broker")
    finally:
        writer.close()
