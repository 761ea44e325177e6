"""How far each service is behind: consumed positions and outboxes against the ends of the topics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import asyncpg
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    NotLeaderForPartitionError,
    for_code,
)
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy
from aiokafka.structs import TopicPartition

from shared.cli.quiet import silence
from shared.cli.words import counted
from shared.contracts.catalogue import CONSUMES
from shared.db import statements
from shared.db.pool import TRANSIENT
from shared.db.types import Connection

ANSWER_SECONDS_MAX = 5.0
AWAY = (*TRANSIENT, KafkaError)

Place = tuple[str, int]


sql = statements.load(Path(__file__).parent / "sql" / "lag.sql")


class Away(Exception):
    """A server does not answer; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Left:
    """Events that a service has not consumed yet."""

    service: str
    topic: str
    partition: int
    events: int


@dataclass(frozen=True, slots=True)
class Look:
    """One look at everything: the ends first, then each service in a snapshot of its own."""

    ends: Mapping[Place, int]
    left: tuple[Left, ...] = ()
    outbox: Mapping[str, int] = field(default_factory=dict)
    consumed: Mapping[str, int] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether every service had consumed everything and published everything."""
        return not self.left and not any(self.outbox.values())

    def behind(self, service: str) -> int:
        """Events that wait for one service."""
        return sum(item.events for item in self.left if item.service == service)

    def total(self, service: str) -> int:
        """Events that one service had to consume since the topics were made."""
        return sum(end for (topic, _), end in self.ends.items() if topic in CONSUMES[service])

    def told(self) -> list[str]:
        """What is left, one line a place."""
        waiting = [
            f"{item.service}: {counted(item.events, 'event')} of {item.topic}/{item.partition} not consumed"
            for item in self.left
        ]
        unsent = [
            f"{service}: {counted(count, 'event')} in the outbox not published"
            for service, count in self.outbox.items()
            if count
        ]
        return waiting + unsent


LEADERLESS = (NotLeaderForPartitionError, LeaderNotAvailableError)
LEADER_POLL_SECONDS = 0.1


class Watcher:
    """Looks at Kafka and the three databases again and again; what goes away is connected to anew."""

    def __init__(self, bootstrap: str, dsns: Mapping[str, str]) -> None:
        self._bootstrap = bootstrap
        self._dsns = dsns
        self._connections: dict[str, Connection] = {}
        self._client: AIOKafkaClient | None = None

    async def __aenter__(self) -> Self:
        silence()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._drop_client()
        for service in list(self._connections):
            self._drop(service)

    async def ends(self) -> dict[Place, int]:
        """The end offset of every partition that some service reads. Raises Away."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await self._led_ends()
        except AWAY as error:
            await self._drop_client()
            raise Away(f"Kafka at {self._bootstrap}: {_why(error)}") from None

    async def _led_ends(self) -> dict[Place, int]:
        """Topics just made, or a broker just back, have partitions without a leader for a moment."""
        while True:
            try:
                return await self._ends()
            except LEADERLESS:
                await self._drop_client()
                await asyncio.sleep(LEADER_POLL_SECONDS)

    async def _ends(self) -> dict[Place, int]:
        client = self._client
        if client is None:
            client = self._client = AIOKafkaClient(
                bootstrap_servers=self._bootstrap, client_id="treue-lag"
            )
            await client.bootstrap()
            await client.set_topics(sorted({topic for read in CONSUMES.values() for topic in read}))
        found: dict[Place, int] = {}
        for node, places in _by_leader(client.cluster).items():
            topics: dict[str, list[tuple[int, int]]] = {}
            for topic, partition in places:
                topics.setdefault(topic, []).append((partition, OffsetResetStrategy.LATEST))
            answer = await client.send(node, OffsetRequest(-1, 0, list(topics.items())))
            for topic, partitions in answer.topics:
                for partition, code, _time, end in partitions:
                    if code:
                        raise for_code(code)
                    found[topic, partition] = end
        return found

    async def look(self) -> Look:
        """Where everything stands. Raises Away while a server does not answer."""
        ends = await self.ends()
        left: list[Left] = []
        outbox: dict[str, int] = {}
        consumed: dict[str, int] = {}
        for service, topics in CONSUMES.items():
            positions, outbox[service] = await self.service(service)
            consumed[service] = sum(positions.get(place, 0) for place in ends if place[0] in topics)
            left += behind(service, ends, positions)
        return Look(ends, tuple(left), outbox, consumed)

    async def service(self, service: str) -> tuple[dict[Place, int], int]:
        """Consumed positions and number of unpublished events, as they were at one instant. Raises Away."""
        try:
            connection = await self.connection(service)
            row = await connection.fetchrow(sql.standing, timeout=ANSWER_SECONDS_MAX)
        except asyncpg.UndefinedTableError:
            raise Away(f"database {service}: has no tables yet") from None
        except AWAY as error:
            self._drop(service)
            raise Away(f"database {service}: {_why(error)}") from None
        if row is None:
            raise Away(f"database {service}: gave no answer")
        positions = {(t, p): int(n) for t, p, n in json.loads(row["positions"])}
        return positions, row["outbox"]

    async def connection(self, service: str) -> Connection:
        """The open connection to a service's database, made if there is none."""
        connection = self._connections.get(service)
        if connection is None or connection.is_closed():
            connection = await asyncpg.connect(
                self._dsns[service],
                timeout=ANSWER_SECONDS_MAX,
                server_settings={"application_name": "treue-lag"},
            )
            self._connections[service] = connection
        return connection

    def _drop(self, service: str) -> None:
        connection = self._connections.pop(service, None)
        if connection is not None:
            connection.terminate()

    async def _drop_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(*AWAY):
                async with asyncio.timeout(1):
                    await client.close()


def _by_leader(cluster: Any) -> dict[int, list[Place]]:
    """The partitions that services read, by the broker to ask about them."""
    nodes: dict[int, list[Place]] = {}
    for topic in {topic for read in CONSUMES.values() for topic in read}:
        partitions = cluster.partitions_for_topic(topic)
        if not partitions:
            raise KafkaError(f"there is no topic {topic}")
        for partition in partitions:
            leader = cluster.leader_for_partition(TopicPartition(topic, partition))
            if leader is None or leader < 0:
                raise KafkaError(f"{topic}/{partition} has no leader")
            nodes.setdefault(leader, []).append((topic, partition))
    return nodes


def behind(service: str, ends: Mapping[Place, int], positions: Mapping[Place, int]) -> list[Left]:
    """What a service has not consumed of its input topics, one item a partition."""
    return [
        Left(service, topic, partition, end - positions.get((topic, partition), 0))
        for (topic, partition), end in sorted(ends.items())
        if topic in CONSUMES[service] and end > positions.get((topic, partition), 0)
    ]


def _why(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
