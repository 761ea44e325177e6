"""Contestant (a): a stock Faust agent as the tutorials show it, one transaction of four statements an event.

It calls the same code as the product's handlers for what a purchase is worth and for its ledger row, so it
writes the same rows; only the way there is the usual one. It even gets what a tutorial would not bother with:
msgspec instead of faust.Record, prepared statements, and a connection of its own without a pool.
Delivery is Faust's own, at most once when something raises; for a benchmark without failures that will do.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import asyncpg
import faust

from services.points.handlers.purchases import Purchase, Purchases
from services.points.intake import IGNORED
from services.points.ledger import Account, EntryRow, UncreditedRow
from shared import clock
from shared.contracts import purchases
from shared.contracts.purchases import PurchaseCompleted
from shared.events.decode import Decoder
from shared.events.model import Record, Route, Work
from shared.program import load as load_program

SEEN_TABLE = "CREATE TABLE seen (event_id text PRIMARY KEY)"
SEEN = "INSERT INTO seen VALUES ($1) ON CONFLICT DO NOTHING RETURNING true"
ACCOUNT = """
INSERT INTO accounts AS a (customer_id, seq, balance) VALUES ($1, 1, $2)
ON CONFLICT (customer_id) DO UPDATE SET seq = a.seq + 1, balance = a.balance + excluded.balance
RETURNING account_id, seq, balance"""
OUTBOX = (
    "INSERT INTO outbox (topic, keys, payloads) VALUES ($1, ARRAY[$2::bytea], ARRAY[$3::bytea])"
)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


def insert(table: str, fields: tuple[str, ...]) -> str:
    """A plain one-row insert."""
    places = ", ".join(f"${number}" for number in range(1, len(fields) + 1))
    return f"INSERT INTO {table} ({', '.join(fields)}) VALUES ({places})"


ENTRY = insert("entries", EntryRow._fields)
UNCREDITED = insert("uncredited", UncreditedRow._fields)


class Agent:
    """What the agent does with one event."""

    def __init__(self, connection: Connection, program: Path) -> None:
        self._connection = connection
        self._handlers = Purchases(load_program(program))
        route = Route(
            purchases.TOPIC, purchases.COMPLETED, PurchaseCompleted, self._handlers.handle
        )
        self._decode = Decoder(purchases.TOPIC, [route], frozenset(IGNORED))

    async def credit(self, message: Any) -> None:
        """Decode, value, and write in one transaction."""
        record = Record(
            message.topic, message.partition, message.offset, message.key, message.value, (), 0
        )
        event = self._decode(record)
        work = Work(self._connection, clock.now(), "/services/points")
        if event is None:
            return
        async with self._connection.transaction():
            if not await self._connection.fetchval(SEEN, event.id):
                return
            for purchase in self._handlers._valued(work, [event]):  # noqa: SLF001 - the same computation
                await self._write(work, purchase)

    async def _write(self, work: Work, purchase: Purchase) -> None:
        customer = purchase.customer
        if customer is None:
            lost = self._handlers._uncredited(work, purchase)  # noqa: SLF001
            await self._connection.execute(UNCREDITED, *lost)
            return
        points = purchase.assessment.base
        found = await self._connection.fetchrow(ACCOUNT, customer, points)
        assert found is not None  # noqa: S101 - an upsert always returns its row
        number, seq, balance = found
        account = Account(number, customer, seq - 1, balance - points, 0, ())
        row = self._handlers._credit(work, purchase, account)  # noqa: SLF001
        await self._connection.execute(ENTRY, *row)
        for message in work.messages:
            await self._connection.execute(OUTBOX, message.topic, message.key, message.payload)


def main(bootstrap: str, dsn: str, program: Path) -> None:
    """Until terminated."""
    app = faust.App(
        f"bench-naive-{uuid4()}",  # a group without a past
        broker=f"kafka://{bootstrap}",
        store="memory://",
        value_serializer="raw",
        key_serializer="raw",
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        datadir="/tmp",  # noqa: S108 - it has no tables
    )

    @app.agent(app.topic(purchases.TOPIC))  # type: ignore[untyped-decorator]
    async def credit(stream: Any) -> None:
        connection = await asyncpg.connect(dsn, server_settings={"jit": "off"})
        await connection.execute(SEEN_TABLE)
        agent = Agent(connection, program)
        async for event in stream.events():
            await agent.credit(event.message)

    faust.Worker(
        app, loglevel="WARN", quiet=True, redirect_stdouts=False
    ).execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
