"""What the services were told from outside: read from Kafka, written into an export and read from it again."""

from __future__ import annotations

import base64
import gzip
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from shared.cli.files import open_bytes
from shared.contracts import points, tiers
from shared.contracts.catalogue import DEAD_LETTERS, TOPICS
from shared.errors import UsageError
from shared.events.model import Record

# Points and tiers write the others themselves: what they say follows from these.
INPUTS = tuple(t.name for t in TOPICS if t.name not in {points.TOPIC, tiers.TOPIC, DEAD_LETTERS})
BATCH_ROWS = 2000
FETCH_BYTES_MAX = 8 * 1024 * 1024
POLL_MS = 500
# Longer than a broker takes to elect a leader; a partition that gives nothing for so long gives nothing at all.
SILENCE_POLLS_MAX = 60

Place = tuple[str, int]
Text = str | dict[str, str]


NOTHING = msgspec.Raw(b"")


class Line(msgspec.Struct, omit_defaults=True):
    """One line of an export: a record as it was, one that was buried, a fact of a service, or a program file.

    ``program`` is the name among the versions (none: the first) and what the file says.
    """

    record: tuple[str, int, int, int, Text | None, Text | None, list[tuple[str, Text]]] | None = (
        None
    )
    buried: tuple[str, int, int] | None = None
    service: str | None = None
    fact: msgspec.Raw = NOTHING
    program: tuple[str | None, str] | None = None
    export: dict[str, Any] | None = None


_line = msgspec.json.Decoder(Line).decode
_encode = msgspec.json.Encoder().encode


@asynccontextmanager
async def reading(bootstrap: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of no group: nobody's position is moved, and no worker notices."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES_MAX,
        client_id="treue-rebuild",
    )
    try:
        await consumer.start()
    except (KafkaError, OSError) as error:
        raise UsageError(f"Kafka does not answer ({error}); see `treue status`") from None
    try:
        yield consumer
    finally:
        await consumer.stop()


async def all_of(
    bootstrap: str | None, export: str | None, until: Mapping[Place, int] | None
) -> AsyncIterator[list[Record]]:
    """The records of an export, then what Kafka has beyond them, in batches; either may be missing."""
    known: dict[Place, int] = {}
    batch: list[Record] = []
    for line in lines_of(export) if export is not None else ():
        record = record_of(line)
        if record is not None:
            known[record.topic, record.partition] = record.offset + 1
            batch.append(record)
            if len(batch) == BATCH_ROWS:
                yield batch
                batch = []
    if batch:
        yield batch
    if bootstrap is not None:
        async with reading(bootstrap) as consumer:
            async for records in read(consumer, known, until):
                yield records


async def read(
    consumer: AIOKafkaConsumer,
    known: Mapping[Place, int],
    until: Mapping[Place, int] | None = None,
    topics: Sequence[str] = INPUTS,
) -> AsyncIterator[list[Record]]:
    """Everything of the topics from ``known`` (else from the first record) to ``until`` (else to the end).

    Raises:
        UsageError: Kafka has dropped what comes after ``known``.

    """
    ends = await _begin(consumer, known, until, topics)
    silent = 0
    while ends:
        found = await consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH_ROWS)
        records = [
            Record(r.topic, r.partition, r.offset, r.key, r.value, tuple(r.headers), r.timestamp)
            for tp, some in found.items()
            for r in some
            if tp in ends and r.offset < ends[tp]
        ]
        for tp in list(ends):
            # Also past markers and holes, which give no record.
            if await consumer.position(tp) >= ends[tp]:
                del ends[tp]
                consumer.pause(tp)
        silent = 0 if found else silent + 1
        if silent > SILENCE_POLLS_MAX:
            raise UsageError(f"Kafka gives nothing of {next(iter(ends)).topic} any more")
        if records:
            yield records


async def _begin(
    consumer: AIOKafkaConsumer,
    known: Mapping[Place, int],
    until: Mapping[Place, int] | None,
    topics: Sequence[str],
) -> dict[TopicPartition, int]:
    """Assign all partitions, seek to where each begins; where each ends, of those that have something."""
    await consumer._client.force_metadata_update()  # noqa: SLF001 - partitions_for_topic asks nobody
    existing = await consumer.topics()
    places = [
        TopicPartition(topic, partition)
        for topic in topics
        if topic in existing
        for partition in sorted(consumer.partitions_for_topic(topic) or ())
    ]
    if not places:
        return {}
    consumer.assign(places)
    first, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    if until is not None:
        ends = {tp: min(end, until.get((tp.topic, tp.partition), 0)) for tp, end in ends.items()}
    left = {}
    for tp in places:
        begin = known.get((tp.topic, tp.partition), 0)
        if first[tp] > begin and ends[tp] > begin:
            raise UsageError(
                f"{tp.topic}/{tp.partition} begins with record {first[tp]} in Kafka: those from {begin} on"
                " are gone; give an export that has them with --from-export"
            )
        consumer.seek(tp, max(begin, first[tp]))
        if ends[tp] > begin:
            left[tp] = ends[tp]
        else:
            consumer.pause(tp)
    return left


def open_for_writing(path: Path) -> IO[bytes] | gzip.GzipFile:
    """The export's file, gzipped if it is called so. Raises UsageError if it cannot be made."""
    try:
        return gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb")
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror})") from None


def record_line(record: Record) -> bytes:
    """A record as a line: text where it is text, so that people and other programs can read it."""
    headers = [(name, _text(value)) for name, value in record.headers]
    where = (record.topic, record.partition, record.offset, record.timestamp)
    return _encode(Line(record=(*where, _maybe(record.key), _maybe(record.value), headers)))


def lines_of(name: str) -> Iterator[Line]:
    """The lines of an export. Raises UsageError for a file that is none."""
    with open_bytes(name) as file:
        for number, line in enumerate(file, 1):
            try:
                yield _line(line)
            except msgspec.MsgspecError as error:
                raise UsageError(f"{name}, line {number}: {error}; is that an export?") from None


def record_of(line: Line) -> Record | None:
    """The record of a line that has one."""
    if line.record is None:
        return None
    topic, partition, offset, timestamp, key, value, headers = line.record
    originals = tuple((name, _bytes(text)) for name, text in headers)
    return Record(
        *(topic, partition, offset),
        None if key is None else _bytes(key),
        None if value is None else _bytes(value),
        originals,
        timestamp,
    )


def _maybe(data: bytes | None) -> Text | None:
    return None if data is None else _text(data)


def _text(data: bytes) -> Text:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _bytes(text: Text) -> bytes:
    return text.encode() if isinstance(text, str) else base64.b64decode(text["base64"])
