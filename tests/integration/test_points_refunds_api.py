"""What became of refunds, as shops and operators read it; and why points were taken back, in both languages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.points import intake
from services.points.api import refunds
from services.points.api.routes import router
from shared import clock
from shared.db.types import Pool
from shared.events.runner import Runner
from shared.http.app import create_app
from shared.http.keys import KeyRing
from shared.program import Program
from tests.fixtures.events import cancelled, event, line, purchase, records, refunded
from tests.fixtures.http_probe import ALL, client_of, keys_file
from tests.fixtures.streams import NOW, running

pytestmark = pytest.mark.servers

Served = tuple[httpx2.AsyncClient, Runner]


@pytest.fixture
async def served(points_db: str, program: Program, tmp_path: Path) -> AsyncIterator[Served]:
    async with (
        running(points_db, intake.routes(program)) as (runner, pool),
        client_of(app_of(pool, program, tmp_path)) as client,
    ):
        yield client, runner


def app_of(pool: Pool, program: Program, folder: Path) -> Any:
    return create_app(
        service="points",
        version="0",
        routers=[router, refunds.router],
        keys=KeyRing(keys_file(folder)),
        readiness={},
        state={"program": program, "pool": pool},
    )


async def get(client: httpx2.AsyncClient, path: str, status: int = 200) -> Any:
    answer = await client.get(path, headers=ALL)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_refunds_that_wait_are_listed_and_overdue_after_a_week(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, runner = served
    told = [
        event(purchase()),
        refunded("r1", lines=[("1", "1")], reason="damaged"),
        refunded("r2", "unknown", lines=[("1", "1")]),
        cancelled("nowhere"),
    ]
    await runner.process(records(told))
    monkeypatch.setattr(clock, "now", lambda: NOW + timedelta(days=6))
    page = await get(client, "/v1/refunds?state=parked")
    assert {
        (one["kind"], one["order_id"], one["code"], one["overdue"]) for one in page["data"]
    } == {
        ("refund", "unknown", "awaiting-purchase", False),
        ("cancellation", "nowhere", "awaiting-purchase", False),
    }
    assert (await get(client, "/v1/refunds?state=parked&older_than_days=7"))["data"] == []
    monkeypatch.setattr(clock, "now", lambda: NOW + timedelta(days=8))
    page = await get(client, "/v1/refunds?state=parked&older_than_days=7")
    assert [one["overdue"] for one in page["data"]] == [True, True]
    (one,) = (await get(client, "/v1/refunds?state=matched&customer_id=c1"))["data"]
    assert (one["refund_id"], one["points"], one["reason"], one["overdue"]) == (
        "r1",
        10,
        "damaged",
        False,
    )


async def test_pages_show_each_refund_once(served: Served) -> None:
    client, runner = served
    await runner.process(records([refunded(f"r{n}", lines=[("1", "1")]) for n in range(7)]))
    seen: list[str] = []
    cursor = ""
    while True:
        page = await get(client, f"/v1/refunds?limit=3{cursor}")
        seen += [one["refund_id"] for one in page["data"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(seen) == [f"r{n}" for n in range(7)]
    assert (await get(client, "/v1/refunds?state=lost", 422))["code"] == "validation-failed"
    assert (await get(client, "/v1/refunds?customer_id=nobody"))["data"] == []


async def test_a_refund_without_an_order_names_the_one_it_was_matched_to(served: Served) -> None:
    client, runner = served
    blind = refunded("r1", None, lines=[("sku-1", "1")])
    await runner.process(records([event(purchase("o7")), blind]))
    (taken, _) = (await get(client, "/v1/customers/c1/entries"))["data"]
    assert taken["explanation"] == "−10 points: refund r1, 1 unit of order o7 returned."
    assert taken["order_id"] == "o7"


async def test_a_clawback_is_explained_in_both_languages(served: Served) -> None:
    client, runner = served
    sale = event(purchase(lines=[line(1, "24.50", "2")]))
    await runner.process(records([sale, refunded(lines=[("1", "1")])]))
    taken, award = (await get(client, "/v1/customers/c1/entries"))["data"]
    assert (taken["kind"], taken["points"], taken["lot_id"]) == ("clawed_back", -24, award["id"])
    assert taken["explanation"] == "−24 points: refund r1, 1 unit of order o1 returned."
    assert (
        taken["explanation_de"]
        == "−24 Punkte: Erstattung r1, 1 Stück aus Bestellung o1 zurückgegeben."
    )
    story = (await get(client, f"/v1/entries/{taken['id']}/explanation"))["explanation"]
    assert [(step["rule"], step["value"]) for step in story["steps"]] == [
        ("granted", "49"),
        ("due", "24"),
    ]
    (back,) = story["lines"]
    assert (back["sku"], back["quantity"], back["net"], back["points"]) == (
        "sku-1",
        "1",
        "24.5",
        -24,
    )
    await runner.process(records([cancelled("o1")], start=2))
    (last, *_) = (await get(client, "/v1/customers/c1/entries"))["data"]
    assert last["explanation"] == "−25 points: order o1 cancelled."
    assert last["explanation_de"] == "−25 Punkte: Bestellung o1 storniert."
    (lot,) = (await get(client, "/v1/customers/c1/lots"))["data"]
    assert lot["points"] == 0
