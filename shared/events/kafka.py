"""The Kafka client's odd jobs: is a broker there, and a producer with our promises."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError

PROBE_SECONDS_MAX = 2.0
REQUEST_BYTES_MAX = 8 * 1024 * 1024
BATCH_BYTES_MAX = 1024 * 1024
REQUEST_MS_MAX = 15_000


async def probe(bootstrap: str) -> None:
    """Raises KafkaConnectionError or TimeoutError unless a broker answers a metadata request."""
    client = AIOKafkaClient(
        bootstrap_servers=bootstrap, request_timeout_ms=int(PROBE_SECONDS_MAX * 1000)
    )
    try:
        async with asyncio.timeout(PROBE_SECONDS_MAX):
            await client.bootstrap()
        if not client.cluster.brokers():
            raise KafkaConnectionError(f"no broker answers at {bootstrap}")
    finally:
        await client.close()


def producer(bootstrap: str, client_id: str) -> AIOKafkaProducer:
    """Idempotent, acknowledged by all in-sync replicas, no waiting for fuller batches."""
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_request_size=REQUEST_BYTES_MAX,
        max_batch_size=BATCH_BYTES_MAX,
        request_timeout_ms=REQUEST_MS_MAX,
    )
