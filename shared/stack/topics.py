"""The topics of the catalogue, created where they are missing: ``python -m shared.stack.topics``."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaError,
    TopicAlreadyExistsError,
)

from shared.contracts.catalogue import TOPICS, TopicSpec
from shared.errors import UsageError

ENVIRONMENT = "TREUE_KAFKA"
REPLICATION = "TREUE_KAFKA_REPLICATION"
WAIT_SECONDS_MAX = 60.0
PAUSE_SECONDS = 0.2
GROUP = "treue-points"


async def create(
    bootstrap: str, topics: Sequence[TopicSpec] = TOPICS, replication: int = 1
) -> list[str]:
    """Create the missing ones and return their names; waits for a broker that is still starting."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while True:
        try:
            return await _create(bootstrap, topics, replication)
        except (KafkaError, OSError) as error:
            if time.monotonic() > deadline:
                raise UsageError(f"topics cannot be created at {bootstrap}: {error!r}") from error
            await asyncio.sleep(PAUSE_SECONDS)


async def _create(bootstrap: str, topics: Sequence[TopicSpec], replication: int) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        known = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in known]
        if missing:
            answer = await admin.create_topics([_new(topic, replication) for topic in missing])
            for name, code, *message in answer.topic_errors:
                # Someone else was quicker: that is what we wanted.
                if code not in (0, TopicAlreadyExistsError.errno):
                    raise UsageError(f"topic {name} cannot be created: {message or code}")
        await _wake_coordinator(admin)
        return [topic.name for topic in missing]
    finally:
        await admin.close()


async def _wake_coordinator(admin: AIOKafkaAdminClient) -> None:
    """Have the broker make its offsets topic now: the first consumer would else be turned away."""
    with suppress(GroupCoordinatorNotAvailableError):
        await admin.find_coordinator(GROUP)


def _new(topic: TopicSpec, replication: int) -> NewTopic:
    return NewTopic(
        name=topic.name,
        num_partitions=topic.partitions,
        replication_factor=replication,
        topic_configs={
            "max.message.bytes": str(topic.max_message_bytes),
            "retention.ms": str(topic.retention_ms),
        },
    )


def main() -> None:
    """Create what is missing at TREUE_KAFKA; the compose file and ``treue up`` both run this."""
    bootstrap = os.environ.get(ENVIRONMENT, "")
    if not bootstrap:
        sys.exit(f"{ENVIRONMENT} is not set: give the broker's address, e.g. kafka:9092")
    try:
        made = asyncio.run(create(bootstrap, replication=int(os.environ.get(REPLICATION, "1"))))
    except UsageError as error:
        sys.exit(str(error))
    print(f"topics: {', '.join(made) or 'none'} created, {len(TOPICS) - len(made)} known")  # noqa: T201


if __name__ == "__main__":
    main()
