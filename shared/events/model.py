"""What a handler sees of a batch: decoded events, the transaction, and the verdicts it may pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from shared.contracts.envelope import Outgoing
from shared.db.closing import Closing, Writer
from shared.db.types import Connection

T = TypeVar("T")
_encode = msgspec.json.Encoder(decimal_format="string").encode


class Verdict(StrEnum):
    """What became of an event; the counters of ``offsets`` carry the same names."""

    APPLIED = "applied"
    DUPLICATE = "duplicates"
    REFUSED = "refused"
    PARKED = "parked"
    POISON = "poison"


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record as it was read; ``value`` and ``key`` are the original bytes, ``timestamp`` in ms.

    aiokafka's ConsumerRecord has the same attributes and is passed on as it is: copying costs more than decoding.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int


@dataclass(slots=True)
class Event(Generic[T]):
    """A decoded event. ``key`` is its identity (hash of source and id); ``data`` its typed content."""

    key: UUID
    source: str
    id: str
    type: str
    data: T
    record: Record
    verdict: Verdict = Verdict.APPLIED
    field: str = ""
    reason: str = ""


class Message(NamedTuple):
    """An event on its way out: bytes for one topic, ordered per key."""

    topic: str
    key: bytes
    payload: bytes


class Outbound(NamedTuple):
    """A row of the outbox: what one transaction sends to one topic. ``headers`` of dead letters only, as JSON."""

    id: int
    topic: str
    keys: Sequence[bytes]
    payloads: Sequence[bytes]
    headers: Sequence[str] | None = None


@dataclass(slots=True)
class Work:
    """One batch inside its transaction. Everything a handler does goes through ``conn`` or is collected here.

    A handler may be called again with the same events after a rollback, so it keeps nothing outside. What it
    writes last, and nobody reads any more in this transaction, it may write through ``last``.
    ``rebuilding``: what is decided once, when it happens, has been and is known; no event decides it again.
    """

    conn: Connection
    now: datetime
    source: str
    messages: list[Message] = field(default_factory=list)
    rebuilding: bool = False
    closing: Closing | None = None

    @property
    def last(self) -> Writer:
        """Where the last write goes: it may be done together with the end of the transaction."""
        return self.closing or self.conn

    async def flush(self) -> None:
        """Have done what was written through ``last``: something is going to be read."""
        if self.closing is not None:
            await self.closing.flush()

    def publish(
        self,
        topic: str,
        key: str,
        event_type: str,
        event_id: UUID | str,
        time: datetime,
        data: msgspec.Struct,
    ) -> None:
        """Hand an event to the outbox of this transaction; ``key`` decides its partition and order."""
        envelope = Outgoing(
            id=str(event_id),
            source=self.source,
            type=event_type,
            subject=key,
            time=time,
            data=data,
        )
        self.messages.append(Message(topic, key.encode(), _encode(envelope)))

    def duplicate(self, event: Event[Any], reason: str = "") -> None:
        """The event, or what it names, is known: nothing changes."""
        event.verdict, event.reason = Verdict.DUPLICATE, reason

    def refuse(self, event: Event[Any], reason: str) -> None:
        """The rules say no: a normal answer."""
        event.verdict, event.reason = Verdict.REFUSED, reason

    def park(self, event: Event[Any], reason: str) -> None:
        """The event is recorded, and waits for another that it needs."""
        event.verdict, event.reason = Verdict.PARKED, reason

    def poison(self, event: Event[Any], field_path: str, reason: str) -> None:
        """The event can never be applied: its original bytes go to the dead letters."""
        event.verdict, event.field, event.reason = Verdict.POISON, field_path, reason


Handler = Callable[[Work, Sequence[Event[Any]]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """Topic and event type → the struct that reads it → the handler.

    Routes of one topic that name the same handler are handed over together, in order.
    """

    topic: str
    event_type: str
    struct: type[msgspec.Struct]
    handler: Handler
