"""Migrations: plain SQL files, applied once, in order, each in its own transaction.

Own code and not alembic: our migrations are a straight line of ``NNNN_*.sql`` files that an operator can read
and run with psql; alembic would ask for a Python module beside each and for SQLAlchemy to run them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import asyncpg

from shared.db import roles
from shared.db.pool import CONNECT_SECONDS_MAX, ask
from shared.db.types import Connection, Pool
from shared.errors import UsageError

COMMON = Path(__file__).parent / "migrations"
# Two starters at once must not both migrate; the number is only ours to know.
ADVISORY_LOCK = 0x7472657565
LOOK_SECONDS_MAX = 2.0


def files(*folders: Path) -> list[Path]:
    """The migrations of the folders, by number; the common ones are first by their 0000 prefix."""
    return sorted((f for folder in folders for f in folder.glob("*.sql")), key=lambda f: f.name)


async def apply(dsn: str, folder: Path, role: str | None = None) -> list[str]:
    """Bring the database at ``dsn`` up to date; returns the names of what was applied now.

    ``role`` is whom the service logs in as, where that is not the owner of the tables: it is given its rights.

    Raises:
        UsageError: a migration that was applied before has been changed since.

    """
    connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS_MAX)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (name text PRIMARY KEY, sha256 text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await connection.fetch("SELECT name, sha256 FROM schema_migrations")
        known = {row["name"]: row["sha256"] for row in rows}
        applied = [
            file.name
            for file in files(COMMON, folder)
            if await _apply_one(connection, file, known.get(file.name))
        ]
        if role is not None and role != await connection.fetchval("SELECT current_user"):
            await roles.grant(connection, role)
        return applied
    finally:
        await connection.close()


async def _apply_one(connection: Connection, file: Path, applied: str | None) -> bool:
    text = file.read_text(encoding="utf-8")  # noqa: ASYNC240 - a small file, before anything runs
    digest = hashlib.sha256(text.encode()).hexdigest()
    if applied == digest:
        return False
    if applied is not None:
        raise UsageError(
            f"{file.name} was changed after it had been applied to this database: "
            "restore the file and put the change into a new migration"
        )
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '5s'")
        await connection.execute(text)
        await connection.execute(
            "INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)", file.name, digest
        )
    return True


async def missing(pool: Pool, folder: Path) -> list[str]:
    """The migrations that this code needs and the database has not had, by number."""
    rows = await ask(pool, "SELECT name FROM schema_migrations", within=LOOK_SECONDS_MAX)
    applied = {row["name"] for row in rows}
    return [file.name for file in files(COMMON, folder) if file.name not in applied]
