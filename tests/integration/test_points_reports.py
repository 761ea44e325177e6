"""Expiries, statements and the liability over a real ledger: each adds up, whether or not the job has run."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.points import intake, views
from services.points.api import reports, routes
from services.points.domain import flows
from services.points.jobs.due import tell_due
from shared import clock
from shared.contracts import purchases, tiers
from shared.db.types import Pool
from shared.events.runner import Runner
from shared.http.app import create_app
from shared.http.keys import KeyRing
from tests.fixtures.events import event, move, purchase, records, tier_change
from tests.fixtures.http_probe import ALL, client_of, keys_file
from tests.fixtures.streams import NOW, running
from tests.unit.points.samples import program as rules

pytestmark = pytest.mark.servers

ZONE = "Europe/Berlin"
SHORT = rules(
    {
        "available_after": "P14D",
        "expiry": {"after": "P3M", "round_up": "month_end"},
        "point_value": "0.005",
    },
    timezone=ZONE,
    name="Punkte & mehr",
)


class Given:
    """A service on a database of its own, and a client of its API."""

    def __init__(self, runner: Runner, pool: Pool, client: httpx2.AsyncClient) -> None:
        self.pool = pool
        self._runner = runner
        self._client = client
        self._offsets = {purchases.TOPIC: 0, tiers.TOPIC: 0}

    async def told(self, topic: str, *events: Any) -> None:
        await self._runner.process(records(list(events), topic, start=self._offsets[topic]))
        self._offsets[topic] += len(events)

    async def buys(self, order: str, at: str, amount: str, customer: str = "c1") -> None:
        await self.told(purchases.TOPIC, event(purchase(order, customer, at, amount)))

    async def runs_the_job(self) -> None:
        await tell_due(self.pool, lambda: None, SHORT, NOW, settle=timedelta(0))

    async def asked(self, path: str, status: int = 200) -> httpx2.Response:
        answer = await self._client.get(path, headers=ALL)
        assert answer.status_code == status, answer.text
        return answer


@pytest.fixture
async def given(
    points_db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Given]:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    async with running(points_db, intake.routes(SHORT)) as (runner, pool):
        app = create_app(
            service="points",
            version="0",
            routers=[routes.router, reports.router],
            keys=KeyRing(keys_file(tmp_path)),
            readiness={},
            state={"program": SHORT, "pool": pool},
        )
        async with client_of(app) as client:
            yield Given(runner, pool, client)


async def test_upcoming_expiries_are_listed_by_date(given: Given) -> None:
    await given.buys("lost", "2026-06-01T10:00:00Z", "100.00")
    await given.buys("a", "2026-09-20T10:00:00Z", "30.00")
    await given.buys("b", "2026-09-25T10:00:00Z", "40.00")
    await given.buys("pending", "2026-11-20T10:00:00Z", "50.00")
    await given.runs_the_job()
    january = {"expires_at": "2027-01-31T23:00:00Z", "last_day": "2027-01-31"}
    march = {"expires_at": "2027-03-31T22:00:00Z", "last_day": "2027-03-31"}
    found = (await given.asked("/v1/customers/c1/expiries")).json()
    assert found == {
        "data": [january | {"points": 70, "lots": 2}, march | {"points": 50, "lots": 1}],
        "next_cursor": None,
        "has_more": False,
    }
    first = (await given.asked("/v1/customers/c1/expiries?limit=1")).json()
    assert (first["data"], first["has_more"]) == (found["data"][:1], True)
    cursor = first["next_cursor"]
    second = (await given.asked(f"/v1/customers/c1/expiries?limit=1&cursor={cursor}")).json()
    assert (second["data"], second["has_more"]) == (found["data"][1:], False)
    # In the past: what was to come then. In the future: what is left to come.
    past = (await given.asked("/v1/customers/c1/expiries?at=2026-09-22T00:00:00Z")).json()
    assert [(e["last_day"], e["points"]) for e in past["data"]] == [
        ("2026-09-30", 100),
        ("2027-01-31", 30),
    ]
    future = (await given.asked("/v1/customers/c1/expiries?at=2027-02-01T00:00:00Z")).json()
    assert [e["last_day"] for e in future["data"]] == ["2027-03-31"]
    later = (await given.asked("/v1/customers/c1/expiries?at=2028-01-01T00:00:00Z")).json()
    assert later["data"] == []
    assert (await given.asked("/v1/customers/nobody/expiries", 404)).json()["code"] == (
        "customer-not-found"
    )


async def test_what_a_hold_reserves_is_not_about_to_expire(given: Given) -> None:
    await given.buys("a", "2026-09-20T10:00:00Z", "30.00")
    lot = await given.pool.fetchrow("SELECT account_id, lot_id FROM entries")
    assert lot is not None
    await given.pool.execute(
        "INSERT INTO holds (hold_id, account_id, state, points, lots, parts, held_at, expires_at, ended_at)"
        " VALUES (gen_random_uuid(), $1, 'held', 12, $2, $3, $4, $5, $5)",
        *(lot["account_id"], [lot["lot_id"]], [12]),
        *(NOW - timedelta(minutes=5), NOW + timedelta(minutes=10)),
    )
    found = (await given.asked("/v1/customers/c1/expiries")).json()
    assert [e["points"] for e in found["data"]] == [18]
    after = (await given.asked("/v1/customers/c1/expiries?at=2026-11-22T13:00:00Z")).json()
    assert [e["points"] for e in after["data"]] == [30]


async def test_a_year_adds_up_line_by_line(given: Given) -> None:
    await given.buys("before", "2025-10-01T10:00:00Z", "100.00")
    await given.buys("within", "2026-01-10T10:00:00Z", "200.00")
    await given.buys("open", "2026-11-01T10:00:00Z", "50.00")
    silver = tier_change("c1", 1, [move("silver", "2026-10-01T00:00:00Z", "1.25")])
    await given.told(tiers.TOPIC, silver)
    before = (await given.asked("/v1/customers/c1/statement?year=2026")).json()
    sums = before["sums"]
    assert sums == {
        "opening": 100,
        "earned": 262,
        "spent": 0,
        "expired": 300,
        "corrected": 0,
        "closing": 62,
        "kinds": {"earned": 250, "expired": -300, "tier_bonus": 12},
        "money": {
            "currency": "GBP",
            "point_value": "0.005",
            "opening": "0.500",
            "earned": "1.310",
            "spent": "0.000",
            "expired": "1.500",
            "corrected": "0.000",
            "closing": "0.310",
        },
    }
    shown = [(e["kind"], e["points"], e["balance"], e["order_id"]) for e in before["entries"]]
    assert shown == [
        ("earned", 200, 300, "within"),
        ("expired", -100, 200, "before"),
        ("expired", -200, 0, "within"),
        ("earned", 50, 50, "open"),
        ("tier_bonus", 12, 62, "open"),
    ]
    assert before["starts_at"] == "2025-12-31T23:00:00Z"
    assert before["as_of"] == "2026-11-22T12:00:00Z"
    await given.runs_the_job()
    assert (await given.asked("/v1/customers/c1/statement?year=2026")).json() == before
    earlier = (await given.asked("/v1/customers/c1/statement?year=2025")).json()
    assert earlier["sums"]["closing"] == sums["opening"]
    # Without a year: this one.
    assert (await given.asked("/v1/customers/c1/statement")).json() == before
    refused = (await given.asked("/v1/customers/c1/statement?year=2027", 422)).json()
    assert refused["code"] == "period-not-begun"
    unknown = (await given.asked("/v1/customers/nobody/statement?year=2026", 404)).json()
    assert unknown["code"] == "customer-not-found"


async def test_points_good_through_new_years_eve_are_lost_with_the_year(given: Given) -> None:
    await given.buys("a", "2025-09-10T10:00:00Z", "100.00")
    found = (await given.asked("/v1/customers/c1/statement?year=2025")).json()
    assert [(e["kind"], e["occurred_at"]) for e in found["entries"]] == [
        ("earned", "2025-09-10T10:00:00Z"),
        ("expired", "2025-12-31T23:00:00Z"),
    ]
    assert found["sums"]["closing"] == 0
    following = (await given.asked("/v1/customers/c1/statement?year=2026")).json()
    assert (following["sums"]["opening"], following["entries"]) == (0, [])
    assert "31.12.2025" in found["entries"][1]["explanation_de"]


async def test_a_statement_as_csv_opens_in_a_spreadsheet_and_runs_nothing(given: Given) -> None:
    await given.buys("=HYPERLINK(1)", "2026-11-01T10:00:00Z", "50.00")
    answer = await given.asked("/v1/customers/c1/statement?year=2026&format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "statement-c1-2026.csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(r["kind"], r["points"], r["balance"], r["order_id"]) for r in rows] == [
        ("opening", "", "0", ""),
        ("earned", "50", "50", "'=HYPERLINK(1)"),
        ("closing", "", "50", ""),
    ]


async def test_the_page_is_german_self_contained_and_escaped(given: Given) -> None:
    customer = "<script>alert(1)</script>"
    await given.buys("<b>&\"'", "2026-01-10T10:00:00Z", "1234.00", customer)
    answer = await given.asked(f"/v1/customers/{customer}/statement?year=2026&format=html")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    text = answer.text
    assert "<html lang=de>" in text
    assert "Punkteauszug 2026" in text
    assert "Punkte &amp; mehr" in text
    assert "+1.234" in text
    assert "−1.234" in text
    assert "10.01.2026" in text
    # Lost at the midnight after its last day: shown with that day.
    assert "30.04.2026" in text
    assert "0,005 GBP" in text
    assert "<script" not in text
    assert "&lt;b&gt;&amp;&quot;&#x27;" in text
    assert "src=" not in text
    assert "http" not in text


async def test_the_liability_adds_up_for_every_month_and_agrees_with_every_balance(
    given: Given,
) -> None:
    chance = random.Random(7)
    customers = [f"c{number}" for number in range(6)]
    bought = []
    for number in range(80):
        at = NOW - timedelta(days=chance.randint(0, 500), minutes=chance.randint(0, 1440))
        amount = f"{chance.randint(1, 90)}.00"
        bought.append(
            event(purchase(f"o{number}", chance.choice(customers), at.isoformat(), amount))
        )
    await given.told(purchases.TOPIC, *bought)
    for revision, customer in enumerate(customers[:3], start=1):
        way = [move("silver", "2026-02-01T00:00:00Z", "1.25")]
        await given.told(tiers.TOPIC, tier_change(customer, revision, way))
    path = "/v1/reports/liability?from=2025-01&until=2026-11"
    found = (await given.asked(path)).json()
    await given.runs_the_job()
    assert (await given.asked(path)).json() == found
    assert len(found["months"]) == 23
    opening = 0
    for month in found["months"]:
        assert month["opening"] == opening
        parts = month["earned"] - month["spent"] - month["expired"] + month["corrected"]
        assert month["closing"] == opening + parts
        opening = month["closing"]
        end = flows.month_start(flows.month_after(month["month"]), SHORT.zone)
        at = min(end, NOW)
        assert month["closing"] == await owed(given.pool, customers, at), month["month"]
    assert any(month["expired"] for month in found["months"])
    total = found["total"]
    assert (total["opening"], total["closing"]) == (0, opening)
    assert total["earned"] == sum(month["earned"] for month in found["months"])


async def owed(pool: Pool, customers: list[str], at: datetime) -> int:
    """What all customers have at an instant, by the balances they are told."""
    total = 0
    async with pool.acquire() as conn:
        for customer in customers:
            row = await views.balance(conn, customer, at, live=False)
            assert row is not None
            total += row["available"] + row["pending"] + row["held"] - row["deficit"]
    return total


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("from=2026-05&until=2026-04", "period-backwards"),
        ("until=2026-12", "period-not-begun"),
        ("from=1990-01&until=2026-01", "period-too-long"),
        ("from=2026-13", "validation-failed"),
        ("from=26-1", "validation-failed"),
    ],
)
async def test_a_period_that_makes_no_sense_is_refused(given: Given, query: str, code: str) -> None:
    found = (await given.asked(f"/v1/reports/liability?{query}", 422)).json()
    assert found["code"] == code


async def test_an_empty_ledger_owes_nothing(given: Given) -> None:
    found = (await given.asked("/v1/reports/liability")).json()
    assert [month["closing"] for month in found["months"]] == [0] * 12
    assert found["months"][-1]["month"] == "2026-11"
    assert datetime.fromisoformat(found["as_of"]) == datetime(2026, 11, 22, 12, tzinfo=UTC)
