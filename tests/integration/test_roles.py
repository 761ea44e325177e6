"""Who may do what in the databases, on a cluster of its own: roles belong to a whole server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from shared.db import migrate, roles
from shared.invariants import COMMON, check
from shared.stack import credentials, processes, servers
from shared.stack.credentials import Credentials
from shared.stack.layout import SERVICES, Layout
from tests.fixtures.servers import ROOT

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

LEDGERS = {
    "points": ("entries", "uncredited"),
    "tiers": ("qualifying", "changes"),
    "rewards": ("claims", "voucher_events"),
}


@dataclass(frozen=True)
class Cluster:
    """A running cluster and its roles."""

    secrets: Credentials
    port: int
    admin: str

    def dsn(self, role: str, database: str) -> str:
        return self.secrets.dsn(role, self.port, database)

    async def ensure(self) -> None:
        await roles.ensure(self.admin, self.secrets.passwords)

    async def migrate(self, service: str, by: str) -> None:
        folder = ROOT / "services" / service / "migrations"
        await migrate.apply(self.dsn(by, service), folder, service)

    async def run(self, role: str, database: str, statement: str) -> None:
        conn = await asyncpg.connect(self.dsn(role, database))
        try:
            await conn.execute(statement)
        finally:
            await conn.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    layout = Layout(tmp_path)
    layout.create()
    secrets = credentials.ensure(layout)
    (port,) = processes.free_ports(1)
    postgres = servers.cluster_of(layout, secrets, port, durable=False)
    postgres.prepare()
    server = servers.Server(postgres.spec(), layout.dir)
    server.start()
    yield Cluster(secrets, port, postgres.superuser_dsn())
    server.stop()


async def refused(cluster: Cluster, service: str) -> None:
    """Neither may the service's role edit its ledger, nor may anybody else unhindered."""
    for table in LEDGERS[service]:
        for statement in (
            f"UPDATE {table} SET recorded_at = now()",
            f"DELETE FROM {table}",
            f"TRUNCATE {table} CASCADE",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await cluster.run(service, service, statement)
            for role in (roles.owner_of(service), "postgres"):
                with pytest.raises(asyncpg.PostgresError, match="append-only"):
                    await cluster.run(role, service, statement)
    for statement in (
        f"ALTER TABLE {LEDGERS[service][0]} DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "UPDATE schema_migrations SET sha256 = ''",
        "CREATE TABLE mine (n int)",
        f"SET ROLE {roles.owner_of(service)}",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await cluster.run(service, service, statement)


async def test_a_service_may_add_to_its_ledger_and_not_edit_it(cluster: Cluster) -> None:
    for _ in range(2):
        await cluster.ensure()
        for service in SERVICES:
            await cluster.migrate(service, roles.owner_of(service))
    for service in SERVICES:
        await refused(cluster, service)
        await cluster.run(service, service, "DELETE FROM outbox; UPDATE accounts SET revision = 0")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await cluster.run("points", "tiers", "SELECT 1")


async def test_what_an_older_version_made_is_handed_over_with_its_rows(cluster: Cluster) -> None:
    conn = await asyncpg.connect(cluster.admin)
    for service in SERVICES:
        password = cluster.secrets.passwords[service]
        await conn.execute(f"CREATE ROLE {service} LOGIN PASSWORD '{password}'")
        await conn.execute(f"CREATE DATABASE {service} OWNER {service}")
    await conn.close()
    for service in SERVICES:
        await cluster.migrate(service, service)
    await cluster.run("points", "points", "INSERT INTO accounts (customer_id) VALUES ('kept')")
    # A service that still runs must find its rights at any moment.
    working = await asyncpg.connect(cluster.dsn("points", "points"))
    await cluster.ensure()
    assert (
        await working.fetchval("UPDATE accounts SET revision = 1 RETURNING customer_id") == "kept"
    )
    await working.close()
    for service in SERVICES:
        await refused(cluster, service)
        await cluster.migrate(service, roles.owner_of(service))
        await refused(cluster, service)


async def test_verify_tells_when_the_ledger_is_not_protected(cluster: Cluster) -> None:
    async def told(role: str) -> set[tuple[str, str, bool]]:
        conn = await asyncpg.connect(cluster.dsn(role, "points"))
        (result,) = [r for r in await check(conn, COMMON) if r.name == "ledger-cannot-be-edited"]
        await conn.close()
        return {(row["ledger"], row["may"], row["trigger_on"]) for row in result.rows}

    await cluster.ensure()
    await cluster.migrate("points", "points_owner")
    assert await told("points") == set()
    await cluster.run("points_owner", "points", "GRANT UPDATE ON uncredited TO points")
    assert await told("points") == {("uncredited", "UPDATE", True)}
    await cluster.migrate("points", "points_owner")
    assert await told("points") == set()
    await cluster.run("points_owner", "points", "ALTER TABLE entries DISABLE TRIGGER USER")
    assert await told("points") == {
        ("entries", what, False) for what in ("UPDATE", "DELETE", "TRUNCATE")
    }
