"""A Kafka producer with our promises."""

from __future__ import annotations

from aiokafka import AIOKafkaProducer

REQUEST_BYTES_MAX = 8 * 1024 * 1024
BATCH_BYTES_MAX = 1024 * 1024
REQUEST_MS_MAX = 15_000


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
