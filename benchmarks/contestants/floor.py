"""Contestant (b), the floor: bare aiokafka, msgspec, and one set-based statement a batch with ready-made rows.

Decides nothing: every row (ids, dates, sums, explanation, the outgoing event) was taken from a finished run of
ours on the same load, so the same bytes land in the same tables and indexes. What is left is reading, decoding,
binding and inserting, which no service with this schema can go without.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from shared.contracts import points, purchases
from shared.contracts.catalogue import PARTITIONS
from shared.contracts.envelope import Incoming
from shared.contracts.purchases import PurchaseCompleted

RECORDS_MAX = 4000
FETCH_BYTES = 4 * 1024 * 1024
# Row dumps carry the column names and types with them: the statement is made for whatever schema ours has.
Dump = dict[str, Any]

_envelope = msgspec.json.Decoder(Incoming).decode
_purchase = msgspec.json.Decoder(PurchaseCompleted).decode


def statement(columns: Mapping[str, list[tuple[str, str]]]) -> str:
    """One statement that inserts entries, uncredited purchases, accounts, the outbox row and the offsets."""
    number = iter(range(1, 1000))

    def unnest(table: str) -> str:
        arrays = ", ".join(f"${next(number)}::{kind}[]" for _, kind in columns[table])
        names = ", ".join(name for name, _ in columns[table])
        return f"INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT * FROM unnest({arrays})"

    return f"""
WITH a AS (INSERT {unnest("accounts")}
           ON CONFLICT (account_id) DO UPDATE SET seq = excluded.seq, balance = excluded.balance),
     e AS (INSERT {unnest("entries")}),
     u AS (INSERT {unnest("uncredited")}),
     o AS (INSERT INTO outbox (topic, keys, payloads)
           VALUES ('{points.TOPIC}', ${next(number)}::bytea[], ${next(number)}::bytea[]))
INSERT {unnest("offsets")} ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset
"""


class Batch:
    """Rows of one statement, column by column."""

    def __init__(self, dump: Dump) -> None:
        self._rows = dump["rows"]
        self._offsets: dict[int, int] = {}
        self._accounts: dict[int, tuple[Any, ...]] = {}
        self._tables: dict[str, list[tuple[Any, ...]]] = {"entries": [], "uncredited": []}
        self._messages: list[tuple[bytes, bytes]] = []
        self._widths = {name: len(names) for name, names in dump["columns"].items()}

    def add(self, record: ConsumerRecord[Any, Any]) -> None:
        """Decode the event in full, then look up what was made of it; nothing for a repetition."""
        envelope = _envelope(record.value)
        _purchase(envelope.data)
        self._offsets[record.partition] = record.offset + 1
        found = self._rows.pop(envelope.id, None)
        if found is None:
            return
        table, row, account, message = found
        self._tables[table].append(row)
        if account is not None:
            self._accounts[account[0]] = account
            self._messages.append(message)

    def arguments(self) -> list[Any]:
        """In the order of the statement's parameters."""
        offsets = [(purchases.TOPIC, part, offset) for part, offset in self._offsets.items()]
        return [
            *self._columns("accounts", [self._accounts[key] for key in sorted(self._accounts)]),
            *self._columns("entries", self._tables["entries"]),
            *self._columns("uncredited", self._tables["uncredited"]),
            *([m[at] for m in self._messages] for at in (0, 1)),
            *self._columns("offsets", offsets),
        ]

    def _columns(self, table: str, rows: list[tuple[Any, ...]]) -> list[Any]:
        return [list(column) for column in zip(*rows, strict=True)] or [[]] * self._widths[table]


async def run(bootstrap: str, dsn: str, dump: Dump) -> None:
    """Until terminated."""
    connection = await asyncpg.connect(dsn, server_settings={"jit": "off"})
    insert = await connection.prepare(statement(dump["columns"]))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    await consumer.start()
    consumer.assign([TopicPartition(purchases.TOPIC, number) for number in range(PARTITIONS)])
    while True:
        fetched = await consumer.getmany(timeout_ms=500, max_records=RECORDS_MAX)
        batch = Batch(dump)
        for records in fetched.values():
            for record in records:
                batch.add(record)
        if fetched:
            await insert.fetch(*batch.arguments())


if __name__ == "__main__":
    ready_made = pickle.loads(Path(sys.argv[3]).read_bytes())  # noqa: S301 - our own file of this run
    uvloop.run(run(sys.argv[1], sys.argv[2], ready_made))
