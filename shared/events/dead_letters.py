"""Records that can never be applied: how they are kept, and how they look on the dead-letter topic."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.events.model import Record

REASON_CHARS_MAX = 1000
PREFIX = "x-treue-"


@dataclass(frozen=True, slots=True)
class Letter:
    """A row of ``dead_letters``; ``headers`` is JSON [[name, base64], …]: the original ones, then ours."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: str
    field: str
    reason: str
    service: str


def letter(service: str, record: Record, field: str, reason: str, now: datetime) -> Letter:
    """The dead letter of a record, with where it was, why it is here, and when."""
    text = _storable(reason)[:REASON_CHARS_MAX]
    where = _storable(field)[:REASON_CHARS_MAX]
    ours = {
        "service": service,
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "time": now.isoformat(),
        "field": where,
        "reason": text,
    }
    originals = [(n, v or b"") for n, v in record.headers if not n.startswith(PREFIX)]
    headers = [*originals, *((PREFIX + name, value.encode()) for name, value in ours.items())]
    return Letter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=pack_headers(headers),
        field=where,
        reason=text,
        service=service,
    )


def _storable(text: str) -> str:
    """PostgreSQL text holds neither NUL nor lone surrogates."""
    return text.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()


def pack_headers(headers: Sequence[tuple[str, bytes]]) -> str:
    """Kafka headers as JSON text."""
    packed = [[_storable(name), base64.b64encode(value).decode()] for name, value in headers]
    return json.dumps(packed)


def unpack_headers(text: str | None) -> list[tuple[str, bytes]]:
    """The reverse of ``pack_headers``."""
    return [(name, base64.b64decode(value)) for name, value in json.loads(text or "[]")]


def columns(letters: Sequence[Letter]) -> tuple[list[object], ...]:
    """The letters as the arrays that ``add_dead_letters`` takes."""
    names = (
        "topic",
        "partition",
        "offset",
        "key",
        "value",
        "headers",
        "field",
        "reason",
        "service",
    )
    return tuple([getattr(item, name) for item in letters] for name in names)
