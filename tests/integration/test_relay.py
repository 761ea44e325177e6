"""The outbox relay on real Kafka and PostgreSQL: in order, one owner, through every mishap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer
from prometheus_client import CollectorRegistry

from shared.contracts.catalogue import TopicSpec
from shared.db.types import Connection
from shared.events.health import Health
from shared.events.metrics import StreamMetrics
from shared.events.model import Outbound
from shared.events.parcel import pack
from shared.events.relay import COMPONENT, ROWS_MAX, Relay
from shared.stack import topics

pytestmark = pytest.mark.servers

ADD = "INSERT INTO outbox (topic, keys, payloads, headers) VALUES ($1, $2, $3, $4)"

ADD_PACKED = "INSERT INTO outbox (topic, keys, payloads, packed) VALUES ($1, $2, '{}', $3)"


async def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.02)


@asynccontextmanager
async def relaying(dsn: str, kafka: str) -> AsyncIterator[tuple[Relay, Health]]:
    health = Health()
    metrics = StreamMetrics(CollectorRegistry())
    relay = Relay(dsn=dsn, bootstrap=kafka, service="test", health=health, metrics=metrics)
    task = asyncio.create_task(relay.run())
    try:
        yield relay, health
    finally:
        relay.stop()
        await asyncio.wait_for(task, 10)


@pytest.fixture
async def topic(kafka: str) -> str:
    name = f"relay-{uuid4().hex[:8]}"
    await topics.create(kafka, [TopicSpec(name, partitions=3)])
    return name


@pytest.fixture
async def db(points_db: str) -> AsyncIterator[Connection]:
    conn = await asyncpg.connect(points_db)
    yield conn
    await conn.close()


async def add(db: Connection, topic: str, number: int, header: str | None = None) -> None:
    keys = [f"k{key}".encode() for key in range(5)]
    payloads = [f"{number}".encode() for _ in keys]
    await db.execute(ADD, topic, keys, payloads, [header] * len(keys) if header else None)


async def put(db: Connection, topic: str, number: int, told: int) -> Outbound:
    """A row in the outbox, and what its process says it is."""
    add = f"{ADD} RETURNING id"
    row = await db.fetchval(add, topic, [b"k0"], [f"{number}".encode()], None)
    return Outbound(row, topic, [b"k0"], [f"{told}".encode()])


async def settled(relay: Relay, db: Connection, topic: str) -> None:
    """Let it publish a first row, and come to rest just after it has looked."""
    await until(lambda: relay.owner)
    await put(db, topic, 0, told=0)
    relay.wake()
    await gone(db)


async def arrived(kafka: str, topic: str, count: int) -> dict[bytes, list[int]]:
    """What has come, by key, in the order of its coming."""
    found: dict[bytes, list[int]] = {}
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False
    ) as consumer:
        async with asyncio.timeout(20):
            for _ in range(count):
                record = await consumer.getone()
                found.setdefault(record.key, []).append(int(record.value))
    return found


async def gone(db: Connection) -> None:
    async with asyncio.timeout(20):
        while await db.fetchval("SELECT count(*) FROM outbox"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_everything_goes_out_in_order_and_leaves_the_outbox(
    kafka: str, points_db: str, db: Connection, topic: str
) -> None:
    for number in range(40):
        await add(db, topic, number)
    async with relaying(points_db, kafka) as (relay, _):
        await gone(db)
        await add(db, topic, 40)
        relay.wake()
        await gone(db)
    found = await arrived(kafka, topic, 41 * 5)
    assert found == {f"k{key}".encode(): list(range(41)) for key in range(5)}


async def test_rows_that_follow_one_another_are_published_as_they_were_handed_in(
    kafka: str, points_db: str, db: Connection, topic: str
) -> None:
    async with relaying(points_db, kafka) as (relay, _):
        await settled(relay, db, topic)
        # Not what the outbox holds: so it is seen that nobody looked there.
        handed = [await put(db, topic, number, told=number + 100) for number in range(3)]
        relay.take(handed[:1])
        relay.take(handed[1:])
        await gone(db)
    assert (await arrived(kafka, topic, 4))[b"k0"] == [0, 100, 101, 102]


async def test_where_rows_are_missing_between_it_looks_and_the_order_holds(
    kafka: str, points_db: str, db: Connection, topic: str
) -> None:
    async with relaying(points_db, kafka) as (relay, _):
        await settled(relay, db, topic)
        # Another process has committed the first of them, and its call has not come yet.
        rows = [await put(db, topic, number, told=number + 100) for number in range(3)]
        relay.take(rows[1:])
        await gone(db)
        # Known already, and once more: it is published once.
        relay.take(rows)
        # Whether it looks for this one or takes it as it is handed in depends on how quick it is.
        rows = [await put(db, topic, 3, told=3)]
        relay.take(rows)
        await gone(db)
        await asyncio.sleep(0.2)
    assert (await arrived(kafka, topic, 5))[b"k0"] == [0, 0, 1, 2, 3]


async def test_more_than_it_keeps_in_mind_is_found_in_the_outbox(
    kafka: str, points_db: str, db: Connection, topic: str
) -> None:
    async with relaying(points_db, kafka) as (relay, _):
        await settled(relay, db, topic)
        rows = [await put(db, topic, number, told=number) for number in range(3 * ROWS_MAX)]
        for row in rows:
            relay.take([row])
        await gone(db)
    numbers = [0, *range(3 * ROWS_MAX)]
    assert (await arrived(kafka, topic, len(numbers)))[b"k0"] == numbers


async def test_what_waits_packed_goes_out_as_it_was(
    kafka: str, points_db: str, db: Connection, topic: str
) -> None:
    keys = [f"k{number % 5}".encode() for number in range(1000)]
    payloads = [f"{number}".encode() for number in range(1000)]
    await db.execute(ADD_PACKED, topic, keys, await pack(payloads))
    async with relaying(points_db, kafka):
        await gone(db)
    found = await arrived(kafka, topic, 1000)
    assert found == {f"k{key}".encode(): list(range(key, 1000, 5)) for key in range(5)}


async def test_there_is_one_owner_and_the_next_takes_over(
    kafka: str, points_db: str, db: Connection, topic: str
) -> None:
    async with relaying(points_db, kafka) as (first, health):
        await until(lambda: first.owner)
        async with relaying(points_db, kafka) as (second, _):
            await asyncio.sleep(1.5)
            assert not second.owner
            first.stop()
            await until(lambda: second.owner)
            assert not first.owner
            await add(db, topic, 1)
            await gone(db)
    assert health.ready


async def test_a_session_that_is_cut_begins_again(
    kafka: str, points_db: str, db: Connection, topic: str
) -> None:
    async with relaying(points_db, kafka) as (relay, health):
        await until(lambda: relay.owner)
        await db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'treue-test-relay' AND datname = current_database()"
        )
        await until(lambda: not relay.owner)
        assert not health.is_up(COMPONENT)
        await until(lambda: relay.owner)
        assert health.is_up(COMPONENT)
        await add(db, topic, 1)
        relay.wake()
        await gone(db)


async def test_an_error_of_ours_is_told_and_does_not_end_it(
    kafka: str, points_db: str, db: Connection, topic: str
) -> None:
    """A relay that died of it would leave a worker that looks well and publishes nothing."""
    await add(db, topic, 0, header="no JSON at all")
    async with relaying(points_db, kafka) as (_, health):
        await until(lambda: COMPONENT in health.components() and not health.is_up(COMPONENT))
        assert "JSON" in health.components()[COMPONENT].detail
        assert not health.ready
        await db.execute("UPDATE outbox SET headers = NULL")
        await gone(db)
        await until(lambda: health.ready)
    assert (await arrived(kafka, topic, 5))[b"k0"] == [0]


async def test_a_broker_that_is_not_there_is_waited_for_and_stopping_does_not_wait(
    points_db: str, db: Connection, topic: str
) -> None:
    await add(db, topic, 0)
    async with relaying(points_db, "127.0.0.1:9") as (relay, health):
        await until(lambda: COMPONENT in health.components())
        assert not relay.owner
        assert not health.ready
    assert await db.fetchval("SELECT count(*) FROM outbox") == 1
