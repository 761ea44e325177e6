"""The rows that a finished run of ours has written, keyed by event, for the floor to insert again."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.contracts import points
from shared.contracts.catalogue import PARTITIONS
from shared.contracts.envelope import Incoming

ACCOUNT_COLUMNS = ("account_id", "customer_id", "seq", "balance")
OFFSET_COLUMNS = ("topic", "partition", "next_offset")


class _Cause(msgspec.Struct):
    entry_id: str


_envelope = msgspec.json.Decoder(Incoming).decode
_cause = msgspec.json.Decoder(_Cause).decode


async def dump(dsn: str, bootstrap: str, file: Path) -> None:
    """Write everything the floor needs to ``file``."""
    connection = await asyncpg.connect(dsn)
    try:
        columns = {
            "entries": await _columns(connection, "entries"),
            "uncredited": await _columns(connection, "uncredited"),
            "accounts": await _columns(connection, "accounts", ACCOUNT_COLUMNS),
            "offsets": await _columns(connection, "offsets", OFFSET_COLUMNS),
        }
        messages = await _messages(bootstrap)
        customers = {
            row["account_id"]: row["customer_id"]
            for row in await connection.fetch("SELECT account_id, customer_id FROM accounts")
        }
        rows: dict[str, Any] = {}
        for row in await connection.fetch(_select("entries", columns)):
            account_id = row["account_id"]
            account = (account_id, customers[account_id], row["seq"], row["balance_after"])
            rows[row["event_id"]] = (
                "entries",
                _plain(row),
                account,
                messages[str(row["entry_id"])],
            )
        for row in await connection.fetch(_select("uncredited", columns)):
            rows[row["event_id"]] = ("uncredited", _plain(row), None, None)
    finally:
        await connection.close()
    file.write_bytes(  # noqa: ASYNC240 - nothing else runs
        pickle.dumps({"columns": columns, "rows": rows})
    )


def _select(table: str, columns: dict[str, list[tuple[str, str]]]) -> str:
    return f"SELECT {', '.join(name for name, _ in columns[table])} FROM {table}"


def _plain(row: asyncpg.Record) -> tuple[Any, ...]:
    """asyncpg's own UUID class cannot be pickled; its parent can."""
    return tuple(UUID(bytes=v.bytes) if isinstance(v, UUID) else v for v in row.values())


async def _columns(
    connection: asyncpg.Connection[asyncpg.Record], table: str, only: tuple[str, ...] = ()
) -> list[tuple[str, str]]:
    rows = await connection.fetch(
        "SELECT attname, format_type(atttypid, atttypmod) AS kind FROM pg_attribute"
        " WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        table,
    )
    kinds = {row["attname"]: row["kind"] for row in rows}
    return [(name, kinds[name]) for name in only or kinds]


async def _messages(bootstrap: str) -> dict[str, tuple[bytes, bytes]]:
    """Key and bytes of each published event, by the entry it tells of."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    found: dict[str, tuple[bytes, bytes]] = {}
    try:
        parts = [TopicPartition(points.TOPIC, number) for number in range(PARTITIONS)]
        consumer.assign(parts)
        end = await consumer.end_offsets(parts)
        while any([await consumer.position(part) < end[part] for part in parts]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    entry = _cause(_envelope(record.value).data).entry_id
                    found[entry] = (record.key, record.value)
    finally:
        await consumer.stop()
    return found
