"""Who may do what: one role owns a service's tables and migrates them, another works with them.

The role that workers and APIs log in with may read the ledger and add to it; to edit it or to remove from it is
not its right, whatever a bug or a stolen password tries. The triggers say the same to everybody else
(docs/decisions/0037-who-may-write-and-how-it-is-rebuilt.md).

``python -m shared.db.roles`` makes roles and databases where they are missing, and hands over what an older
version made; composed systems run it before they migrate, ``treue up`` calls it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg

from shared.db import statements
from shared.db.pool import CONNECT_SECONDS_MAX, TRANSIENT
from shared.db.types import Connection

sql = statements.load(Path(__file__).parent / "sql" / "roles.sql")
SERVICES = ("points", "tiers", "rewards")
ADMIN = "TREUE_POSTGRES"
LOCK_TIMEOUT = "10s"


def owner_of(service: str) -> str:
    """The role that owns a service's database and everything in it."""
    return f"{service}_owner"


def role_of(dsn: str) -> str | None:
    """Whom an address logs in as."""
    return urlsplit(dsn).username


def with_database(dsn: str, name: str) -> str:
    """The same server and role, another database."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


def with_role(dsn: str, role: str, password: str) -> str:
    """The same database, another role."""
    place = urlsplit(dsn)
    host = place.netloc.rpartition("@")[2]
    return place._replace(netloc=f"{quote(role)}:{quote(password)}@{host}").geturl()


def acting_as(dsn: str, role: str) -> str:
    """The same for who may take that role: its sessions begin in it, with its rights and no others."""
    return urlsplit(dsn)._replace(query=f"role={role}").geturl()


def acting_role(dsn: str) -> str | None:
    """Whom such a session acts as."""
    return urlsplit(dsn).query.removeprefix("role=") or None


async def ensure(admin: str, passwords: Mapping[str, str]) -> None:
    """Both roles and the database of each service; ``passwords`` by role, ``admin`` a superuser's address.

    What is there stays: a role its password, a database its content. Doing it again changes nothing.
    """
    conn = await asyncpg.connect(admin, timeout=CONNECT_SECONDS_MAX)
    try:
        rows = await conn.fetch(sql.standing)
        roles = {row["name"] for row in rows if not row["is_database"]}
        databases = {row["name"]: row["owner"] for row in rows if row["is_database"]}
        for service in SERVICES:
            owner = owner_of(service)
            for role in {owner, service} - roles:
                await conn.execute(await conn.fetchval(sql.create_role, role, passwords[role]))
            if service not in databases:
                await conn.execute(f"CREATE DATABASE {service} OWNER {owner}")
            elif databases[service] != owner:
                await conn.execute(f"ALTER DATABASE {service} OWNER TO {owner}")
            await close_to_others(conn, service, service)
    finally:
        await conn.close()
    for service in SERVICES:
        await _hand_over(with_database(admin, service), service)


async def close_to_others(conn: Connection, database: str, service: str) -> None:
    """Only its owner and this role may enter the database."""
    await conn.execute(
        f"REVOKE ALL ON DATABASE {database} FROM PUBLIC; GRANT CONNECT ON DATABASE {database} TO {service}"
    )


async def _hand_over(dsn: str, service: str) -> None:
    """What the service's role made when it was the only one becomes the owner's, and not for a moment unusable."""
    conn = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS_MAX)
    try:
        if not await conn.fetchval(sql.owns_something, service):
            return
        async with conn.transaction():
            await conn.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            await conn.execute(f"REASSIGN OWNED BY {service} TO {owner_of(service)}")
            await grant(conn, service)
    finally:
        await conn.close()


async def grant(conn: Connection, service: str) -> None:
    """Give the service's role what its tables, as they are now, allow; ``conn`` is the owner's or a superuser."""
    rows = await conn.fetch(sql.grants, service)
    if rows:
        await conn.execute("; ".join(row["statement"] for row in rows))


def main() -> None:
    """As told by TREUE_POSTGRES (a superuser's address) and TREUE_NAME_PASSWORD, TREUE_NAME_OWNER_PASSWORD."""
    names = [role for service in SERVICES for role in (service, owner_of(service))]
    variables = {role: f"TREUE_{role.upper()}_PASSWORD" for role in names}
    missing = [name for name in (ADMIN, *variables.values()) if not os.environ.get(name)]
    if missing:
        sys.exit(f"roles: {', '.join(missing)} must be set (deploy/new-env adds passwords)")
    passwords = {role: os.environ[variable] for role, variable in variables.items()}
    try:
        asyncio.run(ensure(os.environ[ADMIN], passwords))
    except TRANSIENT as error:
        sys.exit(f"roles: PostgreSQL does not answer: {error}")


if __name__ == "__main__":
    main()
