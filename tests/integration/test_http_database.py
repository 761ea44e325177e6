"""A route's connection to a real PostgreSQL that is slow, busy, restarted or asked nonsense."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import httpx2
import pytest

from shared.db import migrate, pool
from shared.http import checks, database
from shared.http.app import create_app
from shared.http.health import NotReady
from shared.http.keys import KeyRing
from tests.fixtures.http_probe import ALL, client_of, keys_file, things
from tests.fixtures.servers import ROOT, owner_of

pytestmark = pytest.mark.servers


@pytest.fixture
async def connections(points_db: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    async with await pool.create(owner_of(points_db), name="test", size=1) as found:
        yield found


@pytest.fixture
async def client(
    connections: asyncpg.Pool[asyncpg.Record], tmp_path: Path
) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(
        service="points",
        version="0",
        routers=[things],
        keys=KeyRing(keys_file(tmp_path)),
        readiness={},
        state={"pool": connections},
    )
    async with client_of(app) as found:
        yield found


async def ask(client: httpx2.AsyncClient, sql: str) -> httpx2.Response:
    return await client.get(f"/v1/database?sql={quote(sql)}", headers=ALL)


async def test_a_slow_statement_is_given_up_and_the_connection_lives_on(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "READ_SECONDS_MAX", 0.2)
    began = time.monotonic()
    answer = await ask(client, "SELECT pg_sleep(20)")
    assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
    assert time.monotonic() - began < 3
    monkeypatch.undo()
    assert (await ask(client, "SELECT 42")).json()["customer_id"] == "42"


async def test_who_finds_no_free_connection_is_told_to_come_back(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "READ_SECONDS_MAX", 0.5)
    slow = asyncio.create_task(ask(client, "SELECT pg_sleep(0.4)"))
    await asyncio.sleep(0.05)
    monkeypatch.setattr(database, "READ_SECONDS_MAX", 0.1)
    assert (await ask(client, "SELECT 1")).status_code == 503
    assert (await slow).status_code == 200
    assert (await ask(client, "SELECT 1")).status_code == 200


async def test_a_lost_connection_is_replaced(client: httpx2.AsyncClient) -> None:
    answer = await ask(client, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert answer.status_code == 503
    assert (await ask(client, "SELECT 1")).status_code == 200


async def test_a_mistake_of_ours_is_no_absence_of_the_database(client: httpx2.AsyncClient) -> None:
    for sql in ("SELEC", "SELECT 1/0"):
        answer = await ask(client, sql)
        assert (answer.status_code, answer.json()["code"]) == (500, "internal-error"), sql


async def test_a_database_without_our_tables_is_unavailable(client: httpx2.AsyncClient) -> None:
    assert (await ask(client, "SELECT * FROM not_migrated_yet")).status_code == 503


async def test_checks_tell_a_migrated_database_from_another(
    connections: asyncpg.Pool[asyncpg.Record], tmp_path: Path
) -> None:
    folder = ROOT / "services" / "points" / "migrations"
    await checks.database(lambda: connections)()
    await checks.schema(lambda: connections, folder)()
    (tmp_path / "9999_later.sql").write_text("SELECT 1;")
    with pytest.raises(NotReady, match="9999_later"):
        await checks.schema(lambda: connections, tmp_path)()
    await connections.execute("DROP TABLE schema_migrations")
    with pytest.raises(NotReady, match="not been migrated"):
        await checks.schema(lambda: connections, folder)()


async def test_a_common_migration_is_not_hidden_by_a_later_one_of_the_service(
    connections: asyncpg.Pool[asyncpg.Record],
) -> None:
    folder = ROOT / "services" / "points" / "migrations"
    await connections.execute("DELETE FROM schema_migrations WHERE name = '0001_idempotency.sql'")
    assert await migrate.missing(connections, folder) == ["0001_idempotency.sql"]


async def test_a_real_broker_is_ready(kafka: str) -> None:
    await checks.kafka(kafka)()
