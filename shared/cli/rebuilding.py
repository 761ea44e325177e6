"""Builds the three databases anew from what the services were told: their own code, nobody else's data.

Each service runs as a process that is fed through a pipe; what one publishes is handed to the others until nothing
moves any more (``feeding``). Nothing is written to Kafka, no group is joined, and no other database is touched.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import asyncpg

from shared.cli.feeding import PIPE, Rebuilt, fed
from shared.cli.verify import environment
from shared.cli.whatif import Process
from shared.contracts.catalogue import CONSUMES
from shared.db import roles
from shared.db.pool import CONNECT_SECONDS_MAX
from shared.db.types import Connection
from shared.errors import UsageError
from shared.stack.credentials import SUPERUSER
from shared.stack.files import read_json
from shared.stack.layout import Layout

FACTS_SECONDS_MAX = 600


@dataclass(slots=True)
class Databases:
    """Where the databases are built: the address of who may make them, and the name of each."""

    admin: str
    names: Mapping[str, str]
    dsns: dict[str, str] = field(default_factory=dict)


def admin_of(stack: Mapping[str, Any], layout: Layout) -> str:
    """Who may make databases on the stack's server: TREUE_POSTGRES, else the local stack's superuser."""
    given = os.environ.get(roles.ADMIN)
    if given:
        return given
    known = (read_json(layout.credentials_json) or {}).get("passwords", {})
    if SUPERUSER not in known:
        raise UsageError(
            f"who may create databases here? Set {roles.ADMIN} to the address of such a role"
        )
    place = roles.with_database(stack["postgres"]["points"], SUPERUSER)
    return roles.with_role(place, SUPERUSER, known[SUPERUSER])


@asynccontextmanager
async def databases(
    admin: str, names: Mapping[str, str], *, keep: bool
) -> AsyncIterator[Databases]:
    """Empty databases by these names, in place of what may have had them; dropped at the end unless kept."""
    made = Databases(admin, names)
    try:
        conn = await asyncpg.connect(admin, timeout=CONNECT_SECONDS_MAX)
    except (OSError, asyncpg.PostgresError) as error:
        raise UsageError(f"PostgreSQL does not answer as needed: {error}") from None
    done = False
    try:
        known = {row["name"] for row in await conn.fetch(roles.sql.standing)}
        for service, name in names.items():
            await conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            await conn.execute(f"CREATE DATABASE {name}")
            # Until it is whole nobody would miss it in a crash.
            await conn.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
            made.dsns[service] = await _give_to(conn, made, service, known)
        yield made
        done = True
        if keep:
            for name in names.values():
                await conn.execute(f"ALTER DATABASE {name} RESET synchronous_commit")
            await conn.execute("CHECKPOINT")
    finally:
        if not (keep and done):
            for name in names.values():
                await conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await conn.close()


async def _give_to(conn: Connection, made: Databases, service: str, known: set[str]) -> str:
    """Let the database belong to whom the live one does; the address that its service takes."""
    owner, name = roles.owner_of(service), made.names[service]
    dsn = roles.with_database(made.admin, name)
    if owner not in known:
        return dsn
    await conn.execute(f"ALTER DATABASE {name} OWNER TO {owner}")
    await roles.close_to_others(conn, name, service)
    return roles.acting_as(dsn, service)


@asynccontextmanager
async def services(
    made: Databases, stack: Mapping[str, Any], layout: Layout, now: datetime
) -> AsyncIterator[Rebuilt]:
    """The services on their empty, migrated databases, ended with the block."""
    async with AsyncExitStack() as ended:
        processes: dict[str, Process] = {}
        for name in CONSUMES:
            await migrate(made, name, stack, layout)
            settings = settings_of(made, name, stack, layout)
            # A file and no pipe: nobody reads what is logged, unless the process gives up.
            errors = ended.enter_context(TemporaryFile())  # noqa: SIM115 - the stack closes it
            started = await _start(name, "replay", settings, errors)
            processes[name] = Process(name, started, errors)
            ended.push_async_callback(processes[name].close)
        async with fed(processes, now) as rebuilt:
            yield rebuilt
    await _forget_pipes(made)


async def migrate(made: Databases, name: str, stack: Mapping[str, Any], layout: Layout) -> None:
    """Make a service's tables, as its owner, and give the service its rights."""
    settings = settings_of(made, name, stack, layout)
    dsn = made.dsns[name]
    given = roles.acting_role(dsn)
    if given is not None:
        owner = roles.acting_as(dsn, roles.owner_of(name))
        settings[f"TREUE_{name.upper()}_OWNER_DATABASE"] = owner
    await run(name, "migrate", settings)
    if given is not None:
        conn = await asyncpg.connect(roles.with_database(made.admin, made.names[name]))
        try:
            await roles.grant(conn, given)
        finally:
            await conn.close()


def settings_of(
    made: Databases, name: str, stack: Mapping[str, Any], layout: Layout
) -> dict[str, str]:
    """What the service of the live stack is told, but for its database."""
    return environment(name, stack, layout) | {f"TREUE_{name.upper()}_DATABASE": made.dsns[name]}


async def run(
    name: str, role: str, settings: Mapping[str, str], given: bytes | None = None
) -> bytes:
    """A service's process to its end; what it wrote. Raises UsageError with its last words."""
    process = await _start(name, role, settings, asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(FACTS_SECONDS_MAX):
            out, err = await process.communicate(given)
    except TimeoutError:
        process.kill()
        raise UsageError(f"{name} {role} took longer than {FACTS_SECONDS_MAX} s") from None
    if process.returncode:
        words = err.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise UsageError(f"{name} {role}: {words[-1]}")
    return out


async def _start(
    name: str, role: str, settings: Mapping[str, str], errors: IO[bytes] | int
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{name}", role),
        env={**os.environ, **settings},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
    )


async def _forget_pipes(made: Databases) -> None:
    """The services shall not take our pipes for partitions: from those topics they read everything again."""
    for name in made.names.values():
        conn = await asyncpg.connect(roles.with_database(made.admin, name))
        try:
            await conn.execute("DELETE FROM offsets WHERE partition = $1", PIPE)
        finally:
            await conn.close()


def nowhere(program: Path, versions: Path) -> dict[str, Any]:
    """The addresses of a stack that is no more, as far as a service asks for them before it starts."""
    urls = {f"{name}_url": "http://127.0.0.1:1" for name in CONSUMES}
    return {
        "kafka": "127.0.0.1:1",
        "postgres": dict.fromkeys(CONSUMES, ""),
        "program": str(program),
        "program_versions": str(versions),
        **urls,
    }
