"""Spending over HTTP and from Kafka: each once, with stable codes for what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import msgspec
import pytest

from services.points.api import routes, spending
from services.points.handlers.redemptions import hold_of
from services.points.jobs.holds import time_out
from shared import clock
from shared.contracts import activities, rewards
from shared.contracts import points as contract
from shared.db import pool as database
from shared.http.app import create_app
from shared.http.keys import KeyRing
from shared.program import Program
from tests.fixtures.bank import MINUTE, Bank, bank, instant
from tests.fixtures.http_probe import ALL, client_of, keys_file

pytestmark = pytest.mark.servers


@pytest.fixture
async def shop(points_db: str, program: Program) -> AsyncIterator[Bank]:
    async with bank(points_db, program, transfers=True) as opened:
        opened.now = clock.now()
        await opened.buy("o1", "100.00", opened.now - timedelta(days=1))
        yield opened


@pytest.fixture
async def client(points_db: str, shop: Bank, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(
        service="points",
        version="1",
        routers=[routes.router, spending.router],
        keys=KeyRing(keys_file(tmp_path)),
        readiness={},
        state={"program": shop.program},
    )
    app.state.pool = await database.create(points_db, name="api", size=4)
    async with client_of(app) as opened:
        yield opened
    await app.state.pool.close()


async def post(
    client: httpx2.AsyncClient, path: str, body: Any = None, status: int = 201, key: str = ""
) -> Any:
    headers = {**ALL, "Idempotency-Key": key or str(uuid4())}
    response = await client.post(path, json=body, headers=headers)
    assert response.status_code == status, response.text
    return response.json()


async def get(client: httpx2.AsyncClient, path: str, status: int = 200) -> Any:
    response = await client.get(path, headers=ALL)
    assert response.status_code == status, response.text
    return response.json()


async def test_a_hold_from_its_making_to_its_restoring(
    client: httpx2.AsyncClient, shop: Bank
) -> None:
    asked = {"customer_id": "c1", "points": 80, "order_id": "basket"}
    held = await post(client, "/v1/holds", asked, key="one")
    assert (held["state"], held["points"], held["captured"]) == ("held", 80, 0)
    assert held["ended_at"] is None
    assert await post(client, "/v1/holds", asked, key="one") == held
    reused = await post(client, "/v1/holds", {**asked, "points": 81}, 422, key="one")
    assert reused["code"] == "idempotency-key-reused"
    refused = await post(client, "/v1/holds", {**asked, "points": 30}, 409)
    assert (refused["code"], refused["available"]) == ("insufficient-points", 20)
    path = f"/v1/holds/{held['id']}"
    assert await get(client, path) == held
    done = await post(client, f"{path}/capture", {"points": 60}, 200, key="two")
    assert (done["state"], done["captured"]) == ("captured", 60)
    assert await post(client, f"{path}/capture", {"points": 60}, 200, key="two") == done
    closed = await post(client, f"{path}/release", {}, 409)
    assert (closed["code"], closed["state"]) == ("hold-closed", "captured")
    balance = await get(client, "/v1/customers/c1/balance")
    assert (balance["available"], balance["held"], balance["lifetime_earned"]) == (40, 0, 100)
    back = await post(client, f"{path}/restore", None, 200)
    assert back["restored"] == 60
    (part,) = back["restored_lots"]
    assert (part["lot_id"], part["points"], part["expired"]) == (
        held["allocations"][0]["lot_id"],
        60,
        False,
    )
    entries = (await get(client, "/v1/customers/c1/entries"))["data"]
    assert [(entry["kind"], entry["points"]) for entry in entries] == [
        ("restored", 60),
        ("captured", -60),
        ("earned", 100),
    ]
    assert entries[1]["explanation"] == "−60 points: spent on basket."
    assert entries[1]["explanation_de"] == "−60 Punkte: eingelöst für basket."
    (lot,) = (await get(client, "/v1/customers/c1/lots"))["data"]
    assert (lot["points"], lot["reserved"], lot["order_id"]) == (100, 0, "o1")
    assert await shop.violations() == []


async def test_a_till_spends_in_one_step(client: httpx2.AsyncClient, shop: Bank) -> None:
    done = await post(client, "/v1/captures", {"customer_id": "c1", "points": 70})
    assert (done["state"], done["captured"]) == ("captured", 70)
    assert (await get(client, "/v1/customers/c1/balance"))["available"] == 30
    assert await shop.violations() == []


async def test_points_are_given_to_another_customer(client: httpx2.AsyncClient, shop: Bank) -> None:
    await shop.buy("o2", "1.00", customer="c2")
    asked = {"from_customer_id": "c1", "to_customer_id": "c2", "points": 40}
    done = await post(client, "/v1/transfers", asked)
    assert [lot["points"] for lot in done["lots"]] == [40]
    entries = (await get(client, "/v1/customers/c2/entries"))["data"]
    assert (entries[0]["kind"], entries[0]["explanation"]) == (
        "transferred",
        "+40 points: given by c1.",
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"customer_id": "c1", "points": 0}, "points"),
        ({"customer_id": "c1", "points": -5}, "points"),
        ({"customer_id": "c1", "points": "5"}, "points"),
        ({"customer_id": "c1", "points": 10**12}, "points"),
        ({"customer_id": "c1", "points": 1, "expires_in": "P8D"}, "expires_in"),
        ({"customer_id": "c1", "points": 1, "expires_in": "P1M"}, "expires_in"),
        ({"customer_id": "c1", "points": 1, "expires_in": "PT0S"}, "expires_in"),
        ({"customer_id": "c1", "points": 1, "expires_in": 900}, "expires_in"),
        ({"customer_id": "a\0b", "points": 1}, "customer_id"),
        ({"customer_id": "c1", "points": 1, "pionts": 2}, "pionts"),
    ],
)
async def test_a_hold_that_makes_no_sense_names_its_field(
    client: httpx2.AsyncClient, body: dict[str, Any], field: str
) -> None:
    refused = await post(client, "/v1/holds", body, 422)
    assert [error["field"] for error in refused["errors"]] == [field]


async def test_unknown_ids_have_their_codes(client: httpx2.AsyncClient) -> None:
    unknown = f"/v1/holds/{uuid4()}"
    assert (await get(client, unknown, 404))["code"] == "hold-not-found"
    for action in ("capture", "release", "restore"):
        refused = await post(client, f"{unknown}/{action}", None, 404)
        assert refused["code"] == "hold-not-found"
    nobody = {"customer_id": "nobody", "points": 1}
    for path in ("/v1/holds", "/v1/captures"):
        assert (await post(client, path, nobody, 404))["code"] == "customer-not-found"


async def test_the_job_tells_time_outs_late(client: httpx2.AsyncClient, shop: Bank) -> None:
    asked = {"customer_id": "c1", "points": 80, "expires_in": "PT10M"}
    held = await post(client, "/v1/holds", asked)
    later = clock.now() + 11 * MINUTE
    for _ in range(2):
        await time_out(shop.pool, lambda: None, shop.program, later)
    rows = await shop.pool.fetch("SELECT state, ended_at = expires_at AS ends FROM holds")
    assert [tuple(row) for row in rows] == [("expired", True)]
    told = await sent(shop)
    assert [(kind, data["hold_id"]) for kind, data in told] == [
        (contract.HELD, held["id"]),
        (contract.RELEASED, held["id"]),
    ]
    assert (told[1][1]["reason"], told[1][1]["occurred_at"]) == ("timed_out", held["expires_at"])
    closed = await post(client, f"/v1/holds/{held['id']}/capture", None, 409)
    assert closed["code"] == "hold-expired"


async def sent(shop: Bank) -> list[tuple[str, dict[str, Any]]]:
    """What points has told about holds, in order."""
    rows = await shop.pool.fetch("SELECT payloads FROM outbox ORDER BY id")
    events = [msgspec.json.decode(payload) for row in rows for payload in row["payloads"]]
    return [(e["type"], e["data"]) for e in events if e["type"] in contract.SPENDING]


async def redeem(
    shop: Bank, number: str, points: int, kind: str = "requested", again: str = "", who: str = "c1"
) -> None:
    data = {
        "redemption_id": number,
        "customer_id": who,
        "reward": "five-off",
        "points": points,
        "requested_at" if kind == "requested" else "occurred_at": instant(shop.now),
    }
    await shop.send(data, f"treue.redemption.{kind}.v1", rewards.TOPIC, again)


async def test_a_redemption_holds_once_and_ends_once(shop: Bank) -> None:
    await redeem(shop, "r1", 80)
    await redeem(shop, "r1", 80, again="again")
    assert (await shop.balance())["held"] == 80
    await redeem(shop, "r1", 80, "completed")
    await redeem(shop, "r1", 80, "completed", again="again")
    await redeem(shop, "r1", 80, "declined")
    assert await shop.balance() == {"available": 20, "pending": 0, "held": 0, "deficit": 0}
    told = await sent(shop)
    assert [(kind, data["redemption_id"]) for kind, data in told] == [
        (contract.HELD, "r1"),
        (contract.CAPTURED, "r1"),
    ]
    assert told[0][1]["hold_id"] == str(hold_of("r1"))
    assert await shop.violations() == []


async def test_a_redemption_that_cannot_be_paid_is_declined_for_good(shop: Bank) -> None:
    await redeem(shop, "r1", 101)
    await shop.buy("o2", "50.00")
    await redeem(shop, "r1", 101, again="again")
    await redeem(shop, "r2", 1, who="nobody")
    await redeem(shop, "r3", 30)
    await redeem(shop, "r3", 30, "declined")
    assert await shop.balance() == {"available": 150, "pending": 0, "held": 0, "deficit": 0}
    told = await sent(shop)
    assert [(kind, data["redemption_id"], data.get("available")) for kind, data in told] == [
        (contract.HOLD_DECLINED, "r1", 100),
        (contract.HOLD_DECLINED, "r2", 0),
        (contract.HELD, "r3", 120),
        (contract.RELEASED, "r3", None),
    ]
    assert told[0][1]["reason"] == "insufficient-points"
    await redeem(shop, "r1", 5, again="other content")
    letter = await shop.pool.fetchrow("SELECT field FROM dead_letters")
    assert letter is not None
    assert letter["field"] == "data.redemption_id"
    assert await shop.violations() == []


async def test_who_lives_on_as_another_spends_as_that_one(
    client: httpx2.AsyncClient, shop: Bank
) -> None:
    spent = await post(client, "/v1/captures", {"customer_id": "c1", "points": 30})
    await shop.buy("o2", "10.00", shop.now - timedelta(days=1), customer="c2")
    data = {"customer_id": "c1", "into": "c2", "occurred_at": instant(shop.now)}
    await shop.send(data, activities.MERGED, activities.TOPIC)
    held = await post(client, "/v1/holds", {"customer_id": "c1", "points": 75})
    assert held["customer_id"] == "c2"
    assert await shop.available("c2") == 5
    await post(client, f"/v1/holds/{spent['id']}/restore", {"points": 20}, 200)
    assert await shop.available("c2") == 25
    assert await shop.violations() == []
