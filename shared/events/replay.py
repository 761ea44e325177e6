"""A service without a broker: records in by a pipe, events out by another, the same handlers in between.

``python -m services.NAME replay`` works for whoever started it (`treue simulate`), on a database of its own.
Frames are msgpack with their length (4 bytes, little endian) in front; each is answered by one.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import uvloop
from prometheus_client import CollectorRegistry

from shared.db import pool as database
from shared.db import statements
from shared.db.types import Pool
from shared.errors import TreueError
from shared.events.health import Health
from shared.events.metrics import StreamMetrics
from shared.events.model import Record
from shared.events.runner import Runner
from shared.events.worker import GC_THRESHOLDS, WorkerSpec

sql = statements.load(Path(__file__).parent / "sql" / "replay.sql")

LENGTH_BYTES = 4
FRAME_BYTES_MAX = 512 * 1024 * 1024
# What is replayed was long before: time tells what it does to it at once, and need not wait for quiet.
BEFORE = timedelta(minutes=5)
# Rows of the outbox, each what a transaction published, in one reply: time may have a lot to tell.
REPLY_ROWS_MAX = 16


class Ask(msgspec.Struct, array_like=True):
    """Apply these records, or let time do what it does; ``now`` is the instant of the replay.

    ``rebuilding``: the database was given all facts before, so the records decide none.
    """

    now: datetime
    records: list[tuple[str, int, int, bytes | None, bytes | None, list[tuple[str, bytes]], int]]
    job: bool = False
    rebuilding: bool = False


class Reply(msgspec.Struct, array_like=True):
    """What was published in doing so: topic, key and payload of each event; ``more`` waits to be asked for."""

    messages: list[tuple[str, bytes, bytes]]
    more: bool = False


_asked = msgspec.msgpack.Decoder(Ask)
_encode = msgspec.msgpack.Encoder().encode


def frame(content: msgspec.Struct) -> bytes:
    """One frame as bytes."""
    data = _encode(content)
    return len(data).to_bytes(LENGTH_BYTES, "little") + data


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame, or None when there is none to come."""
    head = stream.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    size = int.from_bytes(head, "little")
    if size > FRAME_BYTES_MAX:
        raise TreueError(f"a frame of {size} bytes: this is no replay")
    return stream.read(size)


def replay(spec: WorkerSpec) -> int:
    """Answer frames until there are no more; as quick as a worker."""
    gc.set_threshold(*GC_THRESHOLDS)
    return uvloop.run(_answer(spec))


async def _answer(spec: WorkerSpec) -> int:
    # Whatever prints goes where errors go: the answers have the pipe for themselves.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    pool = await database.create(spec.dsn, name=f"treue-{spec.service}-replay", size=2)
    moment: list[datetime] = []
    runner = Runner(
        service=spec.service,
        routes=spec.routes,
        ignored=spec.ignored,
        pool=pool,
        health=Health("postgres"),
        metrics=StreamMetrics(CollectorRegistry()),
        committed=lambda _: None,
        now=lambda: moment[0] - BEFORE,
    )
    try:
        while (data := read_frame(sys.stdin.buffer)) is not None:
            asked = _asked.decode(data)
            moment[:] = [asked.now]
            runner.rebuilding = asked.rebuilding
            if asked.records:
                await runner.process([Record(*item) for item in asked.records])
            if asked.job and spec.job is not None:
                await spec.job(pool, lambda: None)
            answers.write(frame(await _published(pool)))
            answers.flush()
    finally:
        pool.terminate()
    return 0


async def _published(pool: Pool) -> Reply:
    rows: Sequence[Any] = await pool.fetch(sql.take_outbox, REPLY_ROWS_MAX)
    messages = [
        (row["topic"], key, payload)
        for row in rows
        for key, payload in zip(row["keys"], row["payloads"], strict=True)
    ]
    return Reply(messages, len(rows) == REPLY_ROWS_MAX)
