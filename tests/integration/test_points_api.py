"""The points API over a real ledger: what the handlers write is what customers read."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx2
import pytest

from services.points import views
from services.points.api.routes import router
from services.points.domain import lots
from services.points.handlers import Handlers
from shared import clock
from shared.clock import Period
from shared.contracts import purchases, tiers
from shared.contracts.purchases import Line, PurchaseCompleted
from shared.contracts.tiers import TierChanged, TierMove
from shared.db import pool
from shared.events.model import Event, Record, Verdict, Work
from shared.http.app import create_app
from shared.http.keys import KeyRing
from shared.ids import event_key
from shared.program import Program
from tests.fixtures.http_probe import ALL, client_of, keys_file

pytestmark = pytest.mark.servers

SHOP = "/shops/online-retail"
SILVER_SINCE = datetime(2011, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


class Shop:
    """Hands purchases and tier changes to the points handlers, as the worker does."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], program: Program) -> None:
        self.connection = connection
        self.now = NOW
        self._handle = Handlers(program)

    async def buys(self, customer: str, order: str, amount: str, at: datetime) -> None:
        line = Line(line_id="1", sku="85123A", quantity=Decimal(1), unit_price=Decimal(amount))
        data = PurchaseCompleted(
            order_id=order, currency="GBP", occurred_at=at, lines=[line], customer_id=customer
        )
        await self._hand(self._handle.purchases, purchases.COMPLETED, f"event-{order}", data)

    async def reaches_silver(self, customer: str, since: datetime = SILVER_SINCE) -> None:
        move = TierMove("upgraded", "silver", "bronze", "1.25", since, None, 1, None)
        data = TierChanged(customer, 1, move, [move])
        await self._hand(self._handle.tier_changes, tiers.UPGRADED, f"silver-{customer}", data)

    async def _hand(self, handler: Any, kind: str, event_id: str, data: Any) -> None:
        record = Record("topic", 0, 0, None, b"", (), 0)
        event = Event(event_key(SHOP, event_id), SHOP, event_id, kind, data, record)
        async with self.connection.transaction():
            await handler(Work(self.connection, self.now, "/treue/points"), [event])
        assert event.verdict is Verdict.APPLIED, event.reason

    async def entries_of(self, customer: str) -> Sequence[lots.Entry]:
        rows = await self.connection.fetch(
            "SELECT e.* FROM entries e JOIN accounts USING (account_id) WHERE customer_id = $1",
            customer,
        )
        return [
            lots.Entry(
                id=row["entry_id"],
                **{name: row[name] for name in lots.Entry.__slots__ if name != "id"},
            )
            for row in rows
        ]


@pytest.fixture
async def shop(points_db: str, program: Program) -> AsyncIterator[Shop]:
    connection = await asyncpg.connect(points_db)
    yield Shop(connection, program)
    await connection.close()


@pytest.fixture
async def client(
    points_db: str, program: Program, tmp_path: Path
) -> AsyncIterator[httpx2.AsyncClient]:
    async with await pool.create(points_db, name="test", size=4) as connections:
        app = create_app(
            service="points",
            version="0",
            routers=[router],
            keys=KeyRing(keys_file(tmp_path)),
            readiness={},
            state={"program": program, "pool": connections},
        )
        async with client_of(app) as found:
            yield found


async def get(client: httpx2.AsyncClient, path: str, status: int = 200) -> Any:
    answer = await client.get(path, headers=ALL)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_an_unknown_customer_is_unknown_everywhere(client: httpx2.AsyncClient) -> None:
    for view in ("balance", "balance?at=2011-01-01T00:00:00Z", "entries", "lots"):
        body = await get(client, f"/v1/customers/nobody/{view}", 404)
        assert body["code"] == "customer-not-found"


async def test_a_customer_without_points_has_zeros(client: httpx2.AsyncClient, shop: Shop) -> None:
    await shop.connection.execute("INSERT INTO accounts (customer_id) VALUES ('empty')")
    body = await get(client, "/v1/customers/empty/balance")
    as_of = body.pop("as_of")
    assert as_of.endswith("Z")
    assert body == {
        "customer_id": "empty",
        "available": 0,
        "pending": 0,
        "held": 0,
        "deficit": 0,
        "lifetime_earned": 0,
        "expiring_next": None,
    }
    empty: dict[str, Any] = {"data": [], "next_cursor": None, "has_more": False}
    assert await get(client, "/v1/customers/empty/entries") == empty
    assert await get(client, "/v1/customers/empty/lots") == empty


async def test_a_balance_is_a_function_of_the_instant(
    client: httpx2.AsyncClient, shop: Shop
) -> None:
    bought = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    await shop.buys("17850", "536365", "139.12", bought)
    for at, available, lifetime in (
        ("2010-12-01T08:25:59Z", 0, 0),
        ("2010-12-01T08:26:00Z", 139, 139),
        ("2010-12-01T09:26:00%2B01:00", 139, 139),
        ("2011-12-31T23:59:59Z", 139, 139),
        ("2012-01-01T00:00:00Z", 0, 139),
        ("9999-12-31T23:59:59Z", 0, 139),
        ("0001-01-01T00:00:00Z", 0, 0),
    ):
        body = await get(client, f"/v1/customers/17850/balance?at={at}")
        assert (body["available"], body["lifetime_earned"]) == (available, lifetime), at
        next_one = {"points": 139, "expires_at": "2012-01-01T00:00:00Z"} if available else None
        assert body["expiring_next"] == next_one
    assert (await get(client, "/v1/customers/17850/balance"))["available"] == 0


async def test_what_a_fast_clock_dated_ahead_is_pending(
    client: httpx2.AsyncClient, shop: Shop
) -> None:
    shop.now = clock.now()
    await shop.buys("ahead", "1", "7.00", shop.now + timedelta(hours=3))
    body = await get(client, "/v1/customers/ahead/balance")
    assert (body["available"], body["pending"], body["lifetime_earned"]) == (0, 7, 7)


async def test_an_entry_tells_everything_and_why(client: httpx2.AsyncClient, shop: Shop) -> None:
    bought = datetime(2011, 5, 2, 10, 0, 0, 250000, tzinfo=UTC)
    await shop.buys("17850", "536365", "139.12", bought)
    await shop.reaches_silver("17850")
    page = await get(client, "/v1/customers/17850/entries")
    correction, award = page["data"]
    assert {name: award[name] for name in AWARD} == AWARD
    assert {name: correction[name] for name in CORRECTION} == CORRECTION
    assert correction["lot_id"] == award["lot_id"] == award["id"]
    assert award["explanation"] == "139 points: 1 point per 1.00 GBP on 139.12 GBP, rounded down."
    assert award["explanation_de"].startswith("139 Punkte: 1 Punkt je 1,00 GBP")
    assert "Silber" in correction["explanation"]
    (lot,) = (await get(client, "/v1/customers/17850/lots"))["data"]
    assert (lot["lot_id"], lot["points"], lot["state"]) == (award["id"], 173, "expired")


async def test_an_explanation_goes_step_by_step(client: httpx2.AsyncClient, shop: Shop) -> None:
    await shop.buys("17850", "536365", "139.12", datetime(2011, 5, 2, 10, tzinfo=UTC))
    (entry,) = (await get(client, "/v1/customers/17850/entries"))["data"]
    body = await get(client, f"/v1/entries/{entry['id']}/explanation")
    assert body["entry"] == entry
    assert body["customer_id"] == "17850"
    story = body["explanation"]
    assert [step["rule"] for step in story["steps"]] == ["net", "base", "tier", "rounding", "bonus"]
    assert story["lines"][0]["points"] == 139
    assert story["sentence"]["en"] == entry["explanation"]
    assert {rule["rule"] for rule in story["not_fired"]} == {"tier:silver", "tier:gold"}


async def test_an_unknown_entry_is_not_found(client: httpx2.AsyncClient) -> None:
    unknown = "/v1/entries/6c1f6a0e-6d7b-5a55-9a3b-7d0a5f1d2c11/explanation"
    assert (await get(client, unknown, 404))["code"] == "entry-not-found"
    assert (await get(client, "/v1/entries/x/explanation", 422))["code"] == "validation-failed"


@pytest.mark.parametrize("view", ["entries", "lots"])
async def test_pages_show_each_row_once_newest_first(
    client: httpx2.AsyncClient, shop: Shop, view: str
) -> None:
    day = datetime(2011, 1, 1, tzinfo=UTC)
    for number in range(13):
        # Several at one instant, so that the order among equals is tested too.
        await shop.buys("buyer", f"o{number}", "10.00", day + timedelta(days=number // 3))
    seen: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = await get(client, f"/v1/customers/buyer/{view}?limit=4{cursor}")
        seen += page["data"]
        if not page["has_more"]:
            assert page["next_cursor"] is None
            break
        assert len(page["data"]) == 4
        cursor = f"&cursor={page['next_cursor']}"
    assert len({row["order_id"] for row in seen}) == len(seen) == 13
    if view == "entries":
        assert [row["order_id"] for row in seen] == [f"o{n}" for n in range(12, -1, -1)]
        assert [row["balance_after"] for row in seen] == list(range(130, 0, -10))
    else:
        assert [row["occurred_at"] for row in seen] == sorted(
            (row["occurred_at"] for row in seen), reverse=True
        )


async def test_a_full_last_page_has_no_next(client: httpx2.AsyncClient, shop: Shop) -> None:
    for number in range(4):
        await shop.buys("buyer", f"o{number}", "10.00", datetime(2011, 1, 1, tzinfo=UTC))
    page = await get(client, "/v1/customers/buyer/entries?limit=4")
    assert (len(page["data"]), page["has_more"], page["next_cursor"]) == (4, False, None)


@pytest.mark.parametrize("wait", ["P0D", "P14D"])
@pytest.mark.parametrize("seed", range(3))
async def test_the_statement_and_the_domain_agree(
    points_db: str, program: Program, seed: int, wait: str
) -> None:
    earning = program.earning.model_copy(update={"available_after": Period.parse(wait)})
    chance = random.Random(seed)
    connection = await asyncpg.connect(points_db)
    shop = Shop(connection, program.model_copy(update={"earning": earning}))
    for number in range(30):
        at = datetime(2010, 12, 1, tzinfo=UTC) + timedelta(hours=chance.randrange(24 * 500))
        await shop.buys("any", f"o{number}", f"{chance.randrange(1, 30000) / 100:.2f}", at)
    await shop.reaches_silver("any")
    entries = await shop.entries_of("any")
    instants = [datetime(2010, 11, 1, tzinfo=UTC) + timedelta(days=d) for d in range(0, 1000, 9)]
    instants += [e.available_at for e in entries] + [e.expires_at for e in entries if e.expires_at]
    for at in instants:
        row = await views.balance(shop.connection, "any", at, live=False)
        assert row is not None
        expected = lots.balance(entries, at)
        assert (row["available"], row["pending"], row["lifetime_earned"]) == (
            expected.available,
            expected.pending,
            expected.lifetime_earned,
        )
        told = row["expiring_points"], row["expiring_at"]
        soon = expected.expiring_next
        assert told == ((soon.points, soon.expires_at) if soon else (None, None))
    await connection.close()


async def test_a_strange_customer_id_finds_its_own_account(
    client: httpx2.AsyncClient, shop: Shop
) -> None:
    for order, name in enumerate(("a/b", "ü ?#%", "entries/balance")):
        await shop.buys(name, f"s{order}", "10.00", datetime(2026, 11, 1, tzinfo=UTC))
        body = await get(client, f"/v1/customers/{quote(name, safe='')}/balance")
        assert (body["customer_id"], body["available"]) == (name, 10)


AWARD = {
    "kind": "earned",
    "points": 139,
    "base": 139,
    "bonus": 0,
    "balance_after": 139,
    "occurred_at": "2011-05-02T10:00:00.250000Z",
    "recorded_at": "2026-11-22T09:00:00Z",
    "available_at": "2011-05-02T10:00:00.250000Z",
    "expires_at": "2012-05-31T23:00:00Z",
    "shop": "online-retail",
    "order_id": "536365",
    "source_event_id": "event-536365",
    "tier": "bronze",
    "multiplier": "1",
    "reason": None,
}
CORRECTION = {
    **AWARD,
    "kind": "tier_bonus",
    "points": 34,
    "base": 0,
    "bonus": 34,
    "balance_after": 173,
    "source_event_id": "silver-17850",
    "tier": "silver",
    "multiplier": "1.25",
    "reason": "tier_bonus",
}
