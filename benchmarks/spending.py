"""Hold and capture by 16 clients against the least that PostgreSQL itself asks for; and refunds a second.

Ours is the whole command below HTTP: claim of the idempotency key, lock and lots, allocation, hold, lines,
event, answer, in one transaction each. The bare contestant is what a balance column needs:
``SELECT … FOR UPDATE``, ``UPDATE``, ``INSERT``, ``COMMIT``. Both on the same server and customers, in turns.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from benchmarks.latency import Percentiles
from benchmarks.load import SOURCE, Sent, partition, small_event
from benchmarks.site import PROGRAM, Site
from services.points.handlers import Handlers
from services.points.handlers.spending import Spending, Wish
from services.points.intake import IGNORED, routes
from shared import clock
from shared import program as programs
from shared.contracts import purchases
from shared.db import idempotency
from shared.db import pool as database
from shared.db.idempotency import Claim, Kept
from shared.db.types import Connection, Pool
from shared.events.decode import Decoder
from shared.events.model import Record, Work
from shared.ids import digest_uuid

CLIENTS = 16
CUSTOMERS = 2_000
PURCHASES_EACH = 5
POINTS = 3
BATCH = 500
DATABASE = "spending"
BARE = """
CREATE TABLE bare_accounts (account_id bigint PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE bare_entries (entry_id uuid PRIMARY KEY, account_id bigint NOT NULL, points bigint NOT NULL,
    balance_after bigint NOT NULL, recorded_at timestamptz NOT NULL);
INSERT INTO bare_accounts SELECT account_id, balance FROM accounts;
"""

Turn = Callable[[Connection, str, int], Awaitable[None]]


@dataclass(frozen=True)
class Plan:
    """``seconds`` of each turn; ``rounds`` of A B B A."""

    seconds: float = 4.0
    rounds: int = 3


@dataclass(frozen=True)
class Outcome:
    """Transactions a second by round, their latency, the ratio, and events a second of refunds."""

    ours: list[float]
    bare: list[float]
    ratio: float
    ratios: list[float]
    ours_ms: Percentiles
    bare_ms: Percentiles
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
        await pool.execute("ANALYZE")
        ours = Ours()
        rates: dict[str, list[float]] = {"ours": [], "bare": []}
        times: dict[str, list[float]] = {"ours": [], "bare": []}
        turns: dict[str, Turn] = {"ours": ours.turn, "bare": bare_turn}
        for _ in range(plan.rounds):
            for name in ("ours", "bare", "bare", "ours"):
                taken = await _drive(pool, turns[name], plan.seconds)
                times[name] += taken
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
            filled,
            refunded,
            taken_back,
        )
    finally:
        await pool.close()
        await site.drop(DATABASE)


class Ours:
    """Hold, then capture, each as the HTTP route does it: a transaction under an idempotency key."""

    def __init__(self) -> None:
        self._spending = Spending(programs.load(PROGRAM))

    async def turn(self, conn: Connection, customer: str, _: int) -> None:
        """One customer spends."""
        async with conn.transaction():
            work, claim = await _begin(conn)
            hold = await self._spending.hold(work, Wish(customer, POINTS))
            await _end(work, claim, 201)
        async with conn.transaction():
            work, claim = await _begin(conn)
            await self._spending.capture(work, hold.id, None)
            await _end(work, claim, 200)


async def _begin(conn: Connection) -> tuple[Work, Claim]:
    key = str(uuid4())
    claim = Claim(digest_uuid("idempotency", key), "bench", "POST /v1/holds", key, uuid4())
    if await idempotency.claim(conn, claim) is not None:
        raise RuntimeError("a new key is known")
    return Work(conn, clock.now(), "/services/points"), claim


async def _end(work: Work, claim: Claim, status: int) -> None:
    answer = Kept(status, {}, b'{"id":"0e25a7f1-0000-4000-8000-000000000000","state":"held"}')
    await idempotency.finish(work.conn, claim, answer, work.messages, work.now)


async def bare_turn(conn: Connection, customer: str, account: int) -> None:
    """The same number of transactions on a balance column."""
    del customer
    for _ in range(2):
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


async def _drive(pool: Pool, turn: Turn, seconds: float) -> list[float]:
    """How long each transaction took, of as many turns as 16 clients make in so many seconds."""
    rng = random.Random(7)
    rows = await pool.fetch("SELECT account_id, customer_id FROM accounts ORDER BY account_id")
    taken: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        async with pool.acquire() as conn:
            while (began := time.perf_counter()) < end:
                row = rng.choice(rows)
                await turn(conn, row["customer_id"], row["account_id"])
                taken.append((time.perf_counter() - began) / 2)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return taken


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
