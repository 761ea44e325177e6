"""Fresh topics, filled quickly, and how far a consumer group has come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from benchmarks.load import Sent
from shared.contracts.catalogue import PARTITIONS, TOPICS, TopicSpec

BATCH_BYTES = 512 * 1024
TOPIC_SECONDS_MAX = 30.0


class Topics:
    """Topics of one broker, deleted and created anew between rounds."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)

    async def __aenter__(self) -> Self:
        await self._admin.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()

    async def renew(self, *extra: str) -> None:
        """All topics of the product and the ``extra`` ones, empty."""
        await self._delete([spec.name for spec in TOPICS] + list(extra))
        for spec in (*TOPICS, *(TopicSpec(name) for name in extra)):
            await self._create(spec)

    async def forget(self, names: Iterable[str]) -> None:
        """Delete topics that a contestant made by itself."""
        await self._delete([name for name in names if name in await self._admin.list_topics()])

    async def names(self, prefix: str) -> list[str]:
        """Existing topics that begin with ``prefix``."""
        return [name for name in await self._admin.list_topics() if name.startswith(prefix)]

    async def consumed(self, group: str, topic: str) -> int:
        """Records before the group's committed offsets; 0 while the group does not exist."""
        try:
            found = await self._admin.list_consumer_group_offsets(group)
        except KafkaError:
            return 0
        return sum(max(0, at.offset) for part, at in found.items() if part.topic == topic)

    async def _delete(self, names: Sequence[str]) -> None:
        present = [name for name in await self._admin.list_topics() if name in names]
        if present:
            await self._admin.delete_topics(present)
        async with asyncio.timeout(TOPIC_SECONDS_MAX):
            while set(names) & set(await self._admin.list_topics()):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.1)

    async def _create(self, spec: TopicSpec) -> None:
        configs = {
            "max.message.bytes": str(spec.max_message_bytes),
            "retention.ms": str(spec.retention_ms),
        }
        topic = NewTopic(spec.name, spec.partitions, 1, topic_configs=configs)
        async with asyncio.timeout(TOPIC_SECONDS_MAX):
            while True:
                answer = await self._admin.create_topics([topic])
                error = for_code(answer.topic_errors[0][1])
                if error.errno == 0:
                    return
                if error is not TopicAlreadyExistsError:
                    raise error(f"creating {spec.name}")
                await asyncio.sleep(0.2)  # the broker is still deleting its predecessor


async def fill(bootstrap: str, topic: str, records: Sequence[Sent]) -> None:
    """Write the records, in order per partition, as batches of half a megabyte."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, max_batch_size=BATCH_BYTES, max_request_size=4 * BATCH_BYTES
    )
    await producer.start()
    try:
        waits = []
        for partition in range(PARTITIONS):
            own = [record for record in records if record.partition == partition]
            waits.append(_fill_partition(producer, topic, partition, own))
        await asyncio.gather(*waits)
    finally:
        await producer.stop()


async def _fill_partition(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[Sent]
) -> None:
    at = 0
    while at < len(records):
        batch = producer.create_batch()
        while at < len(records):
            record = records[at]
            if batch.append(key=record.key, value=record.value, timestamp=None) is None:
                break
            at += 1
        batch.close()
        await (await producer.send_batch(batch, topic, partition=partition))


async def read_committed(bootstrap: str, topic: str) -> dict[str, int]:
    """Last committed value of each key of a topic of decimal numbers."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    last: dict[str, int] = {}
    try:
        parts = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(parts)
        end = await consumer.end_offsets(parts)
        while any([await consumer.position(part) < end[part] for part in parts]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                last.update((record.key.decode(), int(record.value)) for record in records)
    finally:
        await consumer.stop()
    return last
