"""The local servers of tests and benchmarks: real processes, killed and brought back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped]
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from shared.contracts.catalogue import DEAD_LETTERS, TOPICS
from shared.db.roles import owner_of
from shared.stack import credentials, processes, servers, topics
from shared.stack.layout import SERVICES, Layout

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Servers]:
    # A folder that PostgreSQL's account may not enter on its own, as root's temporary ones are.
    private = tmp_path_factory.mktemp("private")
    private.chmod(0o700)
    with servers.start(private / "stack") as started:
        yield started
    assert processes.find(started.dir) == []


async def test_topics_are_as_declared_and_made_once(running: servers.Servers) -> None:
    assert await topics.create(running.bootstrap) == [topic.name for topic in TOPICS]
    assert await topics.create(running.bootstrap) == []
    admin = AIOKafkaAdminClient(bootstrap_servers=running.bootstrap)
    await admin.start()
    try:
        told = await admin.describe_topics([topic.name for topic in TOPICS])
        resource = ConfigResource(ConfigResourceType.TOPIC, DEAD_LETTERS)
        settings = (await admin.describe_configs([resource]))[0].resources[0][4]
    finally:
        await admin.close()
    assert {topic["topic"]: len(topic["partitions"]) for topic in told} == {
        topic.name: topic.partitions for topic in TOPICS
    }
    values = {setting[0]: setting[1] for setting in settings}
    assert values["max.message.bytes"] == str(6 * 1024 * 1024)


async def test_no_topic_comes_into_being_by_being_named(running: servers.Servers) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=running.bootstrap, request_timeout_ms=1000)
    await producer.start()
    try:
        with pytest.raises(KafkaError):
            await producer.send_and_wait("treue.mistyped", b"lost?")
        names = (await producer.client.fetch_all_metadata()).topics()
    finally:
        await producer.stop()
    assert "treue.mistyped" not in names


async def test_a_killed_broker_keeps_what_it_acknowledged(running: servers.Servers) -> None:
    await topics.create(running.bootstrap)
    producer = AIOKafkaProducer(bootstrap_servers=running.bootstrap, max_request_size=8_000_000)
    await producer.start()
    big = b"x" * 3_000_000
    where = await producer.send_and_wait("treue.purchases", big, partition=0)
    await producer.stop()
    running.kafka.kill()
    running.kafka.start()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=running.bootstrap, max_partition_fetch_bytes=8_000_000
    )
    await consumer.start()
    try:
        place = TopicPartition("treue.purchases", 0)
        consumer.assign([place])
        consumer.seek(place, where.offset)
        assert (await consumer.getone()).value == big
    finally:
        await consumer.stop()


async def test_a_killed_database_keeps_what_it_committed(running: servers.Servers) -> None:
    connection = await asyncpg.connect(running.dsn)
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    settings = {
        name: await connection.fetchval(f"SHOW {name}")
        for name in ("fsync", "synchronous_commit", "listen_addresses", "max_connections")
    }
    connection.terminate()
    running.postgres.kill()
    running.postgres.start()
    connection = await asyncpg.connect(running.dsn)
    try:
        assert await connection.fetchval("SELECT answer FROM kept") == 42
    finally:
        await connection.close()
    assert settings == {
        "fsync": "on",
        "synchronous_commit": "on",
        "listen_addresses": "127.0.0.1",
        "max_connections": "100",
    }


async def test_each_service_gets_a_database_the_others_cannot_enter(
    running: servers.Servers,
) -> None:
    layout = Layout(running.dir)
    secrets = credentials.ensure(layout)
    port = int(running.dsn.rsplit(":", 1)[1].split("/")[0])
    cluster = servers.cluster_of(layout, secrets, port)
    await cluster.ensure_databases()
    await cluster.ensure_databases()
    for service in SERVICES:
        connection = await asyncpg.connect(secrets.dsn(service, port))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE mine (n int)")
        await connection.close()
        connection = await asyncpg.connect(secrets.dsn(owner_of(service), port, service))
        await connection.execute("CREATE TABLE mine (n int)")
        await connection.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(secrets.dsn("points", port, database="tiers"))
    wrong = secrets.dsn("points", port).replace(secrets.passwords["points"], "guess")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)


def test_postgresql_never_runs_as_root(running: servers.Servers) -> None:
    assert running.postgres.process is not None
    uids = psutil.Process(running.postgres.process.pid).uids()
    assert 0 not in uids
    assert (Layout(running.dir).postgres.stat().st_uid == uids.real) or os.geteuid() != 0


def test_everything_listens_on_loopback_only(running: servers.Servers) -> None:
    listening = [
        connection.laddr.ip
        for one in processes.find(running.dir)
        for connection in psutil.Process(one.pid).net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 3
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_secrets_stand_on_no_command_line(running: servers.Servers) -> None:
    secrets = credentials.ensure(Layout(running.dir))
    lines = [" ".join(psutil.Process(one.pid).cmdline()) for one in processes.find(running.dir)]
    assert lines
    assert not [line for line in lines for secret in secrets.passwords.values() if secret in line]


def test_a_folder_is_used_again(tmp_path: Path) -> None:
    for _ in range(2):
        with servers.start(tmp_path, durable=False) as started:
            assert started.postgres.process is not None
        assert processes.find(tmp_path) == []
