"""Cards, enrolments and merges over HTTP, on a real ledger; what was commanded comes back as an event."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import msgspec
import pytest

from services.points import intake
from services.points.api import customers, routes
from services.points.api.spending import router as spending
from shared.contracts import activities
from shared.db.types import Pool
from shared.events.runner import Runner
from shared.http.app import create_app
from shared.http.keys import KeyRing
from shared.program import Program
from tests.fixtures.events import enrolment, event, purchase, record
from tests.fixtures.http_probe import client_of, write_keys
from tests.fixtures.streams import counts, running

pytestmark = pytest.mark.servers


@dataclass
class Desk:
    """A shop's service desk with the worker beside it."""

    client: httpx2.AsyncClient
    runner: Runner
    pool: Pool
    next: dict[str, int] = field(
        default_factory=lambda: {"treue.purchases": 0, activities.TOPIC: 0}
    )

    async def post(self, path: str, body: Any, status: int, key: str = "") -> Any:
        headers = {"Authorization": "Bearer desk", "Idempotency-Key": key or str(uuid4())}
        answer = await self.client.post(f"/v1/customers/{path}", json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(self, path: str, status: int = 200) -> Any:
        headers = {"Authorization": "Bearer desk"}
        answer = await self.client.get(f"/v1/customers/{path}", headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def available(self, customer: str) -> int:
        return int((await self.get(f"{customer}/balance"))["available"])

    async def hears(self, *told: Any) -> None:
        batch = []
        for one in told:
            topic = activities.TOPIC if ".customer." in one["type"] else "treue.purchases"
            batch.append(record(one, self.next[topic], topic))
            self.next[topic] += 1
        assert await self.runner.process(batch)

    async def told(self) -> list[dict[str, Any]]:
        """What was published to the topic of activities."""
        rows = await self.pool.fetch(
            "SELECT payloads FROM outbox WHERE topic = $1 ORDER BY id", activities.TOPIC
        )
        return [msgspec.json.decode(payload) for row in rows for payload in row["payloads"]]


@pytest.fixture
async def desk(points_db: str, program: Program, tmp_path: Path) -> AsyncIterator[Desk]:
    write_keys(tmp_path / "keys.json", [("desk", "desk", ["points:read", "points:write"])])
    async with running(points_db, intake.routes(program)) as (runner, pool):
        app = create_app(
            service="points",
            version="0",
            routers=[routes.router, customers.router, spending],
            keys=KeyRing(tmp_path / "keys.json"),
            readiness={},
            state={"program": program, "pool": pool},
        )
        async with client_of(app) as client:
            yield Desk(client, runner, pool)


def shown(number: str, at: str = "2026-05-02T10:00:00Z") -> dict[str, Any]:
    return event(purchase(f"with-{number}-{at}", None, at, "40.00", card_number=number))


async def test_a_card_from_its_issue_to_its_end(desk: Desk) -> None:
    await desk.hears(shown("7001"), enrolment("ada"))
    issued = {"card_number": "7001", "issued_at": "2026-05-01T00:00:00Z"}
    card = await desk.post("ada/cards", issued, 201)
    assert (card["customer_id"], card["state"], card["ended_at"]) == ("ada", "active", None)
    assert await desk.available("ada") == 40
    body = {"card_number": "7002", "reason": "damaged", "replaced_at": "2026-05-03T00:00:00Z"}
    assert (await desk.post("ada/cards/7001/replace", body, 201))["card_number"] == "7002"
    await desk.hears(shown("7002", "2026-05-04T10:00:00Z"), shown("7001", "2026-05-04T10:00:00Z"))
    assert await desk.available("ada") == 80
    blocked = {"reason": "lost", "blocked_at": "2026-05-03T12:00:00Z"}
    assert (await desk.post("ada/cards/7002/block", blocked, 200))["state"] == "blocked"
    assert await desk.available("ada") == 40
    found = (await desk.get("ada/cards"))["data"]
    assert [(c["card_number"], c["state"], c["reason"]) for c in found] == [
        ("7002", "blocked", "lost"),
        ("7001", "replaced", "damaged"),
    ]
    # What was commanded is told, and changes nothing when it is heard.
    told = await desk.told()
    assert [one["data"]["change"] for one in told] == ["issued", "replaced", "blocked"]
    await desk.hears(*told)
    assert (await counts(desk.pool))["duplicates"] == 3
    assert await desk.available("ada") == 40


async def test_a_command_is_done_once(desk: Desk) -> None:
    await desk.hears(enrolment("ada"))
    body, key = {"card_number": "7001"}, str(uuid4())
    first = await desk.post("ada/cards", body, 201, key)
    assert await desk.post("ada/cards", body, 201, key) == first
    # Also when its answer has been forgotten since.
    await desk.pool.execute("DELETE FROM idempotency")
    assert (await desk.post("ada/cards", body, 201, key))["card_number"] == "7001"
    assert await desk.pool.fetchval("SELECT count(*) FROM card_changes") == 1
    assert len(await desk.told()) == 1


async def test_refusals_have_codes_and_change_nothing(desk: Desk) -> None:
    await desk.hears(enrolment("ada"), enrolment("ben"))
    await desk.post("ada/cards", {"card_number": "7001"}, 201)
    await desk.post("ben/cards", {"card_number": "8001"}, 201)
    await desk.post("ben/cards/8001/block", {}, 200)
    before = await desk.pool.fetchval("SELECT count(*) FROM card_changes")
    for path, body, status, code in (
        ("ben/cards", {"card_number": "7001"}, 409, "card-taken"),
        ("ben/cards/7001/block", {}, 404, "card-not-found"),
        ("ada/cards/7001/replace", {"card_number": "8001"}, 409, "card-taken"),
        ("ada/cards/7001/replace", {"card_number": "7001"}, 422, "validation-failed"),
        ("ben/cards/8001/block", {}, 409, "card-ended"),
        ("nobody/cards", {"card_number": "9"}, 404, "customer-not-found"),
        ("nobody/cards/7001/block", {}, 404, "customer-not-found"),
        ("ada/cards", {"card_number": ""}, 422, "validation-failed"),
        (
            "ada/cards",
            {"card_number": "9", "issued_at": "9000-01-01T00:00:00Z"},
            422,
            "validation-failed",
        ),
        ("ada/merge", {"into": "ada"}, 409, "merge-into-itself"),
        ("ada/merge", {"into": "nobody"}, 404, "customer-not-found"),
        ("nobody/merge", {"into": "ada"}, 404, "customer-not-found"),
    ):
        assert (await desk.post(path, body, status))["code"] == code, path
    assert await desk.pool.fetchval("SELECT count(*) FROM card_changes") == before
    assert await desk.pool.fetchval("SELECT count(*) FROM merges") == 0


async def test_two_customers_become_one(desk: Desk) -> None:
    await desk.hears(event(purchase("a1", "ann")), event(purchase("b1", "anna", amount="5.00")))
    await desk.post("ann/cards", {"card_number": "7001"}, 201)
    merged = await desk.post("ann/merge", {"into": "anna", "reason": "two sign-ups"}, 200)
    assert (merged["customer_id"], merged["into"]) == ("ann", "anna")
    assert await desk.available("ann") == await desk.available("anna") == 15
    assert [c["card_number"] for c in (await desk.get("anna/cards"))["data"]] == ["7001"]
    assert await desk.get("ann/entries") == await desk.get("anna/entries")
    newest = (await desk.get("ann/entries"))["data"][0]
    assert (newest["kind"], newest["explanation"]) == (
        "transferred",
        "+10 points: taken over from account ann.",
    )
    assert newest["explanation_de"] == "+10 Punkte: übernommen vom Konto ann."
    # Spent under the old id, it is the survivor's points.
    headers = {"Authorization": "Bearer desk", "Idempotency-Key": str(uuid4())}
    body = {"customer_id": "ann", "points": 12}
    answer = await desk.client.post("/v1/holds", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    assert await desk.available("anna") == 3
    for path, into, code in (
        ("ann/merge", "anna", "already-merged"),
        ("anna/merge", "ann", "merge-cycle"),
    ):
        assert (await desk.post(path, {"into": into}, 409))["code"] == code
    await desk.hears(event(purchase("c1", "cleo")))
    assert (await desk.post("anna/merge", {"into": "cleo"}, 409))["code"] == "holds-live"
    told = await desk.told()
    assert told[-1]["type"] == activities.MERGED
    await desk.hears(*told)
    assert (await counts(desk.pool))["duplicates"] == 2


async def test_the_history_of_an_enrolment(desk: Desk) -> None:
    later = enrolment("ada", "2026-05-03T10:00:00Z", name="Ada", event_id="two")
    later["type"] = activities.UPDATED
    later["data"].pop("orders")
    await desk.hears(
        enrolment("ada", birthday="1984-02-29", consents={"newsletter": True}, event_id="one"),
        later,
    )
    found = (await desk.get("ada/enrolments"))["data"]
    assert [(e["kind"], e["birthday"], e["name"], e["consents"]) for e in found] == [
        ("updated", None, "Ada", {}),
        ("enrolled", "1984-02-29", None, {"newsletter": True}),
    ]
    assert (await desk.get("nobody/enrolments", 404))["code"] == "customer-not-found"
