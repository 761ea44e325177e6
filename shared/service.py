"""What a service's process does first: read its settings, set up its log, and take its role."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from shared import settings as environment
from shared.errors import TreueError, UsageError
from shared.invariants import COMMON, Invariant, check
from shared.program import ProgramError
from shared.settings import ServiceSettings
from shared.telemetry import logs

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI

    from shared.db.types import Connection
    from shared.events.worker import WorkerSpec

ROLES = ("worker", "api", "migrate", "check", "replay", "facts", "take-facts")


class Facts(NamedTuple):
    """What a service knows that no event tells: given as lines of JSON, and taken into an empty database."""

    give: Callable[[Connection], AsyncIterator[bytes]]
    take: Callable[[Connection, Iterable[bytes]], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Service:
    """A service as its wiring describes it; the callables import what their role needs, and no more."""

    name: str
    settings: type[ServiceSettings]
    migrations: Path
    worker: Callable[[Any], WorkerSpec]
    api: Callable[[Any], FastAPI]
    invariants: Callable[[Any], Sequence[Invariant]]
    facts: Callable[[], Facts] | None = None


def main(wiring: str, arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m services.NAME ROLE``; ``wiring`` is the module that holds SERVICE."""
    arguments = sys.argv[1:] if arguments is None else arguments
    role = arguments[0] if arguments else ""
    service: Service = importlib.import_module(wiring).SERVICE
    if role not in ROLES:
        sys.stderr.write(f"usage: python -m services.{service.name} {'|'.join(ROLES)}\n")
        return 2
    try:
        settings = environment.load(service.settings)
        logs.configure(
            service=service.name, role=role, fmt=settings.log_format, level=settings.log_level
        )
        return _take(role, service, settings)
    except (UsageError, ProgramError) as error:
        sys.stderr.write(f"{service.name} {role}: {error}\n")
        return 2
    except TreueError as error:
        sys.stderr.write(f"{service.name} {role}: {error}\n")
        return 1


def _take(role: str, service: Service, settings: ServiceSettings) -> int:
    if role == "worker":
        from shared.events.worker import run as run_worker  # noqa: PLC0415 - Faust is for workers

        run_worker(service.worker(settings))
    elif role == "api":
        from shared.http import server  # noqa: PLC0415 - uvicorn is for APIs

        server.run(service.api(settings), settings.host, settings.port)
    elif role == "replay":
        from shared.events.replay import replay  # noqa: PLC0415

        return replay(service.worker(settings))
    elif role == "migrate":
        return asyncio.run(_migrate(service, settings))
    elif role in {"facts", "take-facts"}:
        return asyncio.run(_facts(service, settings, giving=role == "facts"))
    else:
        return asyncio.run(_check(service, settings))
    return 0


async def _migrate(service: Service, settings: ServiceSettings) -> int:
    from shared.db import migrate, roles  # noqa: PLC0415

    owner = settings.owner_database or settings.database
    applied = await migrate.apply(owner, service.migrations, roles.role_of(settings.database))
    for name in applied:
        sys.stderr.write(f"{service.name}: applied {name}\n")
    return 0


async def _facts(service: Service, settings: ServiceSettings, *, giving: bool) -> int:
    import asyncpg  # noqa: PLC0415

    if service.facts is None:
        return 0
    facts = service.facts()
    conn = await asyncpg.connect(settings.database, timeout=10)
    try:
        if giving:
            async for line in facts.give(conn):
                sys.stdout.buffer.write(line + b"\n")
        else:
            await facts.take(conn, sys.stdin.buffer)
    finally:
        await conn.close()
    return 0


async def _check(service: Service, settings: ServiceSettings) -> int:
    import asyncpg  # noqa: PLC0415

    conn = await asyncpg.connect(settings.database, timeout=10)
    try:
        results = await check(conn, (*COMMON, *service.invariants(settings)))
    finally:
        await conn.close()
    report = {"service": service.name, "checks": [asdict(result) for result in results]}
    sys.stdout.write(json.dumps(report, default=str) + "\n")
    return 1 if any(result.violations for result in results) else 0


def api_app(
    name: str,
    settings: ServiceSettings,
    *,
    migrations: Path,
    routers: Sequence[APIRouter],
    state: Mapping[str, Any],
) -> FastAPI:
    """The API of a service: its routers over a pool of its own database."""
    from shared.db import pool as database  # noqa: PLC0415
    from shared.http import checks  # noqa: PLC0415
    from shared.http.app import create_app  # noqa: PLC0415
    from shared.http.keys import KeyRing  # noqa: PLC0415

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.pool = await database.create(
            settings.database, name=f"treue-{name}-api", size=settings.pool_size
        )
        try:
            yield
        finally:
            for groups in app.state.groups.values():
                await groups.finish()
            app.state.pool.terminate()

    app = create_app(
        service=name,
        version=version("treue"),
        routers=routers,
        keys=KeyRing(settings.key_source()),
        readiness={
            "postgres": checks.database(lambda: app.state.pool),
            "schema": checks.schema(lambda: app.state.pool, migrations),
            "kafka": checks.kafka(settings.kafka),
        },
        lifespan=lifespan,
        state=state,
    )
    return app
