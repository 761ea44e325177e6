"""Hold and capture by 16 clients against the least that PostgreSQL itself asks for; and refunds a second.

Ours is the whole command below HTTP, by the route's own functions: claim of the idempotency key, lock and lots,
allocation, hold, lines and their link of the chain, event, answer; those that wait share a transaction, as they do
in the API's process. The bare contestant is what a balance column needs: ``SELECT … FOR UPDATE``, ``UPDATE``,
``INSERT``, ``COMMIT``, each client on a connection of its own. Both on the same server and customers, in turns.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec

from benchmarks.latency import Percentiles
from benchmarks.load import SOURCE, Sent, partition, small_event
from benchmarks.site import PROGRAM, Site
from services.points.api.spending import by_itself, deciding
from services.points.handlers import Handlers
from services.points.handlers.spending_decisions import Asked, Capture, Wish
from services.points.intake import IGNORED, routes
from shared import clock
from shared import program as programs
from shared.contracts import purchases
from shared.db import pool as database
from shared.db.idempotency import Claim
from shared.db.types import Connection, Pool
from shared.events.decode import Decoder
from shared.events.model import Record, Work
from shared.http.bell import Bell
from shared.http.commands import Desk
from shared.http.groups import Groups
from shared.ids import digest_uuid

CLIENTS = 16
WARM_UP_SECONDS = 0.5
CUSTOMERS = 2_000
PURCHASES_EACH = 5
POINTS = 3
BATCH = 500
DATABASE = "spending"
WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
BARE = """
CREATE TABLE bare_accounts (account_id bigint PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE bare_entries (entry_id uuid PRIMARY KEY, account_id bigint NOT NULL, points bigint NOT NULL,
    balance_after bigint NOT NULL, recorded_at timestamptz NOT NULL);
INSERT INTO bare_accounts SELECT account_id, balance FROM accounts;
"""

# A client's turn: hold and capture for a customer, or two transactions on an account.
Turn = Callable[[str, int], Awaitable[None]]
Client = Callable[[], AbstractAsyncContextManager[Turn]]


@dataclass(frozen=True)
class Plan:
    """``seconds`` of each turn; ``rounds`` of A B B A."""

    seconds: float = 4.0
    rounds: int = 3


@dataclass(frozen=True)
class Cost:
    """What a command costs: µs of this process and of PostgreSQL, bytes of WAL."""

    python_us: float
    postgres_us: float
    wal_bytes: float


@dataclass(frozen=True)
class Outcome:
    """Commands a second by round, their latency, the ratio, what each costs, and refunds a second."""

    ours: list[float]
    bare: list[float]
    ratio: float
    ratios: list[float]
    ours_ms: Percentiles
    bare_ms: Percentiles
    ours_cost: Cost
    bare_cost: Cost
    purchases_per_second: float
    refunds_per_second: float
    refunds_taken: int


async def measure(site: Site, plan: Plan) -> Outcome:
    """On a fresh ledger with some thousand customers of a few purchases each."""
    dsn = await site.fresh_database(DATABASE)
    pool = await database.create(dsn, name="treue-bench-spending", size=CLIENTS)
    try:
        began = time.perf_counter()
        sent = list(_purchases())
        await _apply(pool, purchases.COMPLETED, sent)
        filled = len(sent) / (time.perf_counter() - began)
        await pool.execute(BARE)
        clients: dict[str, Client] = {"ours": Ours(pool).client, "bare": Bare(pool).client}
        for client in clients.values():
            await _drive(site, pool, client, WARM_UP_SECONDS)
        # As autovacuum does within a minute: plans made for empty tables are no good soon after.
        await pool.execute("ANALYZE")
        rates: dict[str, list[float]] = {"ours": [], "bare": []}
        times: dict[str, list[float]] = {"ours": [], "bare": []}
        costs: dict[str, list[Cost]] = {"ours": [], "bare": []}
        for _ in range(plan.rounds):
            for name in ("ours", "bare", "bare", "ours"):
                taken, cost = await _drive(site, pool, clients[name], plan.seconds)
                times[name] += taken
                costs[name].append(cost)
                rates[name].append(len(taken) * 2 / plan.seconds)
        pairs = [
            (sum(rates["ours"][n : n + 2]) / sum(rates["bare"][n : n + 2]))
            for n in range(0, 2 * plan.rounds, 2)
        ]
        refunds = list(_refunds(sent))
        began = time.perf_counter()
        await _apply(pool, purchases.REFUNDED, refunds)
        refunded = len(refunds) / (time.perf_counter() - began)
        taken_back = await pool.fetchval(
            "SELECT count(DISTINCT lot_id) FROM entries WHERE kind = 'clawed_back'"
        )
        return Outcome(
            rates["ours"],
            rates["bare"],
            statistics.median(pairs),
            pairs,
            Percentiles.of(times["ours"]),
            Percentiles.of(times["bare"]),
            _median(costs["ours"]),
            _median(costs["bare"]),
            filled,
            refunded,
            taken_back,
        )
    finally:
        await pool.close()
        await site.drop(DATABASE)


class Ours:
    """Hold, then capture, each along with others that wait and under a key, as the HTTP route does it."""

    def __init__(self, pool: Pool) -> None:
        self._program = programs.load(PROGRAM)
        desk = Desk(pool, Bell(), "/services/points")
        self._waiting = Groups(desk, deciding(self._program))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Turn]:
        """Another one who asks."""
        yield self._turn

    async def _turn(self, customer: str, _: int) -> None:
        held = await self._command("POST /v1/holds", Wish(customer, POINTS))
        await self._command(f"POST /v1/holds/{held.id}/capture", Capture(held.id, None))

    async def _command(self, operation: str, asked: Asked) -> Held:
        key = str(uuid4())
        claim = Claim(
            digest_uuid("idempotency", "bench", operation, key),
            "bench",
            operation,
            key,
            digest_uuid("body", key),
        )
        outcome = await self._waiting.do(claim, asked, by_itself(self._program, asked))
        if outcome.replayed:
            raise RuntimeError("a new key is known")
        return answered(outcome.kept.body)


class Held(msgspec.Struct):
    """What a client reads of an answer."""

    id: UUID
    state: str


answered = msgspec.json.Decoder(Held).decode


class Bare:
    """The same number of transactions on a balance column."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Turn]:
        """Another one, with a connection of its own."""
        async with self._pool.acquire() as conn:

            async def turn(_: str, account: int) -> None:
                await bare(conn, account)
                await bare(conn, account)

            yield turn


async def bare(conn: Connection, account: int) -> None:
    """One point less."""
    async with conn.transaction():
        balance = await conn.fetchval(
            "SELECT balance FROM bare_accounts WHERE account_id = $1 FOR UPDATE", account
        )
        await conn.execute(
            "UPDATE bare_accounts SET balance = $2 WHERE account_id = $1", account, balance - 1
        )
        await conn.execute(
            "INSERT INTO bare_entries VALUES ($1, $2, $3, $4, $5)",
            uuid4(), account, -1, balance - 1, datetime.now(UTC),
        )  # fmt: skip


async def _drive(
    site: Site, pool: Pool, open_client: Client, seconds: float
) -> tuple[list[float], Cost]:
    """How long each command took, of as many as 16 clients make in so many seconds, and what it cost."""
    rng = random.Random(7)
    rows = await pool.fetch("SELECT account_id, customer_id FROM accounts ORDER BY account_id")
    taken: list[float] = []
    wal = await pool.fetchval(WAL)
    cpu = site.cpu(os.getpid())
    end = time.perf_counter() + seconds

    async def client() -> None:
        async with open_client() as turn:
            while (began := time.perf_counter()) < end:
                row = rng.choice(rows)
                await turn(row["customer_id"], row["account_id"])
                taken.append((time.perf_counter() - began) / 2)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    used = (site.cpu(os.getpid()) - cpu).per(len(taken) * 2)
    written = await pool.fetchval(WAL) - wal
    return taken, Cost(used.bench, used.postgres, float(written) / len(taken) / 2)


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(values) for values in zip(*map(astuple, costs), strict=True)))


def _purchases() -> list[Sent]:
    rng = random.Random(11)
    return [
        small_event(f"s{number}-{turn}", f"s{number}", datetime.now(UTC), rng)
        for turn in range(PURCHASES_EACH)
        for number in range(CUSTOMERS)
    ]


def _refunds(sent: list[Sent]) -> list[Sent]:
    """One unit of the first line of every purchase comes back."""
    found = []
    for number, record in enumerate(sent):
        event = json.loads(record.value)
        data = event["data"]
        event |= {"id": f"refund-{number}", "type": purchases.REFUNDED, "subject": data["order_id"]}
        event["data"] = {
            "refund_id": f"r{number}",
            "order_id": data["order_id"],
            "customer_id": data["customer_id"],
            "currency": data["currency"],
            "occurred_at": data["occurred_at"],
            "lines": [{"line_id": "1", "quantity": "1"}],
        }
        key = record.key or b""
        found.append(Sent(partition(key), key, json.dumps(event).encode()))
    return found


async def _apply(pool: Pool, event_type: str, sent: list[Sent]) -> None:
    """What the worker does with them, a batch a transaction, without Kafka."""
    program = programs.load(PROGRAM)
    decode = Decoder(purchases.TOPIC, routes(program), frozenset(IGNORED))
    handlers = Handlers(program)
    handle = handlers.purchases if event_type == purchases.COMPLETED else handlers.refunds
    for batch in _batched(sent):
        events = [decode(_record(number, record)) for number, record in enumerate(batch)]
        async with pool.acquire() as conn, conn.transaction():
            await handle(Work(conn, clock.now(), SOURCE), [e for e in events if e is not None])


def _batched(sent: list[Sent]) -> list[list[Sent]]:
    return [sent[start : start + BATCH] for start in range(0, len(sent), BATCH)]


def _record(offset: int, sent: Sent) -> Record:
    now = int(time.time() * 1000)
    headers = [("content-type", b"application/cloudevents+json")]
    return Record(purchases.TOPIC, sent.partition, offset, sent.key, sent.value, headers, now)
