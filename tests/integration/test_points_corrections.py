"""Corrections by people, over HTTP on a real ledger: given, taken, approved, reversed, extended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import msgspec
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.points import invariants
from services.points.api import corrections, routes, spending
from services.points.handlers import Handlers
from services.points.ledger import correction_checks
from shared import clock
from shared.contracts import activities, purchases
from shared.contracts import points as contract
from shared.contracts.activities import CustomerMerged
from shared.contracts.points import PointsAdjusted
from shared.contracts.purchases import PurchaseRefunded
from shared.db import pool
from shared.db.types import Pool
from shared.http.app import create_app
from shared.http.keys import KeyRing
from shared.invariants import check
from shared.program import Program
from shared.program.corrections import Corrections
from tests.fixtures.http_probe import client_of, write_keys
from tests.integration.test_points_api import Shop

pytestmark = pytest.mark.servers

DESK, BOSS = "desk", "boss"
DAY = timedelta(days=1)


class Desk:
    """People at their desks: each call is a request of its own, with a key of its own."""

    def __init__(self, app: FastAPI, client: httpx2.AsyncClient, shop: Shop) -> None:
        self.app, self.client, self.shop = app, client, shop
        self.pool: Pool = app.state.pool

    async def post(
        self, path: str, body: Any, status: int | None = None, *, who: str = DESK, key: str = ""
    ) -> Any:
        headers = {"Authorization": f"Bearer {who}", "Idempotency-Key": key or str(uuid4())}
        answer = await self.client.post(f"/v1/{path}", json=body, headers=headers)
        assert status is None or answer.status_code == status, answer.text
        return answer.json()

    async def get(self, path: str) -> Any:
        answer = await self.client.get(f"/v1/{path}", headers={"Authorization": f"Bearer {DESK}"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def adjust(self, points: int, status: int = 201, **more: Any) -> Any:
        body = {"points": points, "reason_code": "goodwill", "reason": "parcel late"}
        return await self.post("customers/c/adjustments", {**body, **more}, status)

    async def balance(self) -> tuple[int, int]:
        shown = await self.get("customers/c/balance")
        return shown["available"], shown["deficit"]

    async def rows(self) -> Sequence[asyncpg.Record]:
        return await self.pool.fetch("SELECT * FROM entries ORDER BY seq")

    async def told(self) -> list[PointsAdjusted]:
        """The corrections published so far."""
        found = []
        for row in await self.pool.fetch("SELECT payloads FROM outbox ORDER BY id"):
            for payload in row["payloads"]:
                event = msgspec.json.decode(payload)
                if event["type"] == contract.ADJUSTED:
                    found.append(msgspec.convert(event["data"], PointsAdjusted))
        return found

    async def violations(self) -> list[str]:
        async with self.pool.acquire() as conn:
            results = await check(
                conn,
                [
                    i
                    for i in invariants.of(self.app.state.program)
                    if i.name != "applied-purchases-are-kept"
                ],
            )
        return [f"{result.name}: {result.rows}" for result in results if result.violations]

    def bound(self, **rules: Any) -> None:
        """Run with these bounds from now on."""
        bounds = Corrections.model_construct(**rules)
        self.app.state.program = self.app.state.program.model_copy(update={"corrections": bounds})


@asynccontextmanager
async def desk_at(points_db: str, program: Program, folder: Path) -> AsyncIterator[Desk]:
    file = folder / "keys.json"
    write_keys(file, [(who, who, ["points:read", "points:write"]) for who in (DESK, BOSS)])
    connection = await asyncpg.connect(points_db)
    shop = Shop(connection, program)
    shop.now = clock.now()
    async with await pool.create(points_db, name="test", size=8) as connections:
        app = create_app(
            service="points",
            version="0",
            routers=[routes.router, corrections.router, spending.router],
            keys=KeyRing(file),
            readiness={},
            state={"program": program, "pool": connections},
        )
        async with client_of(app) as client:
            found = Desk(app, client, shop)
            await shop.buys("c", "1", "100.00", clock.now() - 100 * DAY)
            await shop.buys("c", "2", "50.00", clock.now() - 10 * DAY)
            yield found
    await connection.close()


@pytest.fixture
async def desk(points_db: str, program: Program, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk_at(points_db, program, tmp_path) as found:
        yield found


async def test_goodwill_is_a_lot_of_its_own_and_tells_who_and_why(desk: Desk) -> None:
    shown = await desk.adjust(30)
    assert (shown["kind"], shown["points"], shown["total"]) == ("adjusted", 30, 30)
    assert (shown["reason"], shown["actor"], shown["lot_id"]) == ("goodwill", DESK, shown["id"])
    assert shown["explanation"] == "+30 points: parcel late (corrected by desk)."
    assert shown["explanation_de"] == "+30 Punkte: parcel late (Korrektur durch desk)."
    assert shown["occurred_at"] == shown["available_at"]
    assert await desk.balance() == (180, 0)
    why = await desk.get(f"entries/{shown['id']}/explanation")
    assert why["explanation"]["sentence"]["en"] == shown["explanation"]
    (event,) = await desk.told()
    assert (event.kind, event.points, event.reason) == ("adjusted", 30, "goodwill")
    assert (event.actor, event.note, event.order_id) == (DESK, "parcel late", None)
    assert await desk.violations() == []


async def test_goodwill_expires_by_the_program_or_as_said(desk: Desk) -> None:
    ruled = await desk.adjust(1)
    bought = await desk.shop.connection.fetchval(
        "SELECT max(expires_at) FROM entries WHERE kind = 'earned'"
    )
    assert datetime.fromisoformat(ruled["expires_at"]) >= bought
    until = (clock.now() + 5 * DAY).replace(microsecond=0)
    said = await desk.adjust(1, expires_at=until.isoformat())
    assert datetime.fromisoformat(said["expires_at"]) == until
    past = await desk.adjust(1, 422, expires_at="2020-01-01T00:00:00Z")
    assert past["code"] == "expires-in-the-past"
    assert await desk.balance() == (152, 0)


async def test_a_debit_takes_lots_in_spend_order_a_line_each(desk: Desk) -> None:
    shown = await desk.adjust(-120)
    assert [entry["points"] for entry in shown["entries"]] == [-100, -20]
    assert shown["total"] == -120
    lots = {lot["order_id"]: lot["points"] for lot in (await desk.get("customers/c/lots"))["data"]}
    assert lots == {"1": 0, "2": 30}
    assert await desk.shop.connection.fetchval("SELECT flags FROM accounts") & 2
    assert sum(event.points for event in await desk.told()) == -120
    assert await desk.violations() == []


async def test_a_debit_may_not_take_more_than_there_is(desk: Desk) -> None:
    before = await desk.rows()
    refused = await desk.adjust(-151, 409)
    assert (refused["code"], refused["available"]) == ("insufficient-points", 150)
    assert await desk.rows() == before
    assert await desk.told() == []


async def test_where_the_program_allows_it_the_rest_is_a_deficit_that_credits_pay(
    desk: Desk,
) -> None:
    desk.bound(overdraw=True)
    shown = await desk.adjust(-170)
    assert [entry["points"] for entry in shown["entries"]] == [-100, -50, -20]
    assert await desk.balance() == (0, 20)
    await desk.adjust(100)
    assert await desk.balance() == (80, 0)


@pytest.mark.parametrize(
    "body",
    [
        {"points": 0},
        {"points": 1.5},
        {"points": "5"},
        {"points": 10**12},
        {"points": None},
        {"reason": " "},
        {"reason": "x" * 501},
        {"reason": "a\0b"},
        {"reason_code": "Not A Code"},
        {"reason_code": "extension"},
        {"expires_at": "tomorrow"},
        {"expires_at": "2030-01-01T00:00:00"},
        {"points": -1, "expires_at": "2090-01-01T00:00:00Z"},
    ],
)
async def test_what_cannot_be_meant_is_refused(desk: Desk, body: dict[str, Any]) -> None:
    await desk.adjust(**{"points": 5, **body}, status=422)
    assert len(await desk.rows()) == 2


async def test_the_program_may_list_the_reason_codes(desk: Desk) -> None:
    desk.bound(reasons=("goodwill",))
    await desk.adjust(1)
    refused = await desk.adjust(1, 422, reason_code="other")
    assert refused["code"] == "unknown-reason-code"


async def test_an_unknown_customer_gets_nothing(desk: Desk) -> None:
    body = {"points": 5, "reason_code": "goodwill", "reason": "x"}
    refused = await desk.post("customers/nobody/adjustments", body, 404)
    assert refused["code"] == "customer-not-found"
    assert await desk.shop.connection.fetchval("SELECT count(*) FROM accounts") == 1


async def test_a_repetition_after_the_answer_was_forgotten_is_still_the_same(desk: Desk) -> None:
    body = {"points": -120, "reason_code": "goodwill", "reason": "x"}
    first = await desk.post("customers/c/adjustments", body, 201, key="k")
    await desk.pool.execute("DELETE FROM idempotency")
    again = await desk.post("customers/c/adjustments", body, 201, key="k")
    assert again == first
    await desk.pool.execute("DELETE FROM idempotency")
    other = await desk.post("customers/c/adjustments", {**body, "points": -5}, 422, key="k")
    assert other["code"] == "idempotency-key-reused"
    assert await desk.balance() == (30, 0)


async def test_a_dry_run_tells_what_would_be_and_changes_nothing(desk: Desk) -> None:
    desk.bound(limit=1000)
    before = await desk.rows()
    path = "customers/c/adjustments?dry_run=true"
    body = {"points": -120, "reason_code": "goodwill", "reason": "x"}
    shown = await desk.post(path, body, 200, key="k")
    assert [entry["points"] for entry in shown["entries"]] == [-100, -20]
    assert (await desk.post(path, {**body, "points": 1001}, 200, key="k"))["state"] == "pending"
    assert (await desk.post(path, {**body, "points": -151}, 409))["code"] == "insufficient-points"
    assert await desk.rows() == before
    assert (await desk.get("adjustments"))["data"] == []
    assert await desk.pool.fetchval("SELECT count(*) FROM idempotency") == 0
    assert await desk.told() == []
    await desk.post("customers/c/adjustments", body, 201, key="k")


async def test_above_the_limit_a_second_person_decides(desk: Desk) -> None:
    desk.bound(limit=1000)
    await desk.adjust(1000)
    waiting = await desk.adjust(1001, 202)
    assert (waiting["state"], waiting["requested_by"], waiting["entries"]) == ("pending", DESK, [])
    assert await desk.balance() == (1150, 0)
    assert (await desk.get("adjustments?state=pending"))["data"] == [waiting]
    path = f"adjustments/{waiting['id']}"
    refused = await desk.post(f"{path}/approve", {}, 403)
    assert refused["code"] == "second-person-required"
    approved = await desk.post(f"{path}/approve", {"note": "called them"}, 200, who=BOSS)
    assert (approved["state"], approved["decided_by"], approved["note"]) == (
        "approved",
        BOSS,
        "called them",
    )
    (entry,) = approved["entries"]
    assert (entry["points"], entry["actor"]) == (1001, DESK)
    assert (
        entry["explanation"] == "+1,001 points: parcel late (corrected by desk, approved by boss)."
    )
    assert await desk.balance() == (2151, 0)
    for action in ("approve", "decline"):
        again = await desk.post(f"{path}/{action}", {}, 409, who=BOSS)
        assert again["code"] == "already-decided"
    assert (await desk.get("adjustments?state=pending"))["data"] == []
    assert (await desk.get("adjustments"))["data"] == [approved]
    assert await desk.get(path) == approved
    assert await desk.violations() == []


async def test_what_is_declined_is_never_booked(desk: Desk) -> None:
    desk.bound(limit=10)
    waiting = await desk.adjust(11, 202)
    declined = await desk.post(f"adjustments/{waiting['id']}/decline", {}, 200, who=BOSS)
    assert (declined["state"], declined["entries"]) == ("declined", [])
    assert len(await desk.rows()) == 2


async def test_an_approval_looks_at_the_points_that_are_there_then(desk: Desk) -> None:
    desk.bound(limit=10)
    waiting = await desk.adjust(-150, 202)
    for _ in range(2):
        await desk.adjust(-10)
    refused = await desk.post(f"adjustments/{waiting['id']}/approve", {}, 409, who=BOSS)
    assert (refused["code"], refused["available"]) == ("insufficient-points", 130)
    assert (await desk.get(f"adjustments/{waiting['id']}"))["state"] == "pending"


async def test_two_who_approve_at_once_book_it_once(desk: Desk) -> None:
    desk.bound(limit=10)
    waiting = await desk.adjust(11, 202)
    path = f"adjustments/{waiting['id']}/approve"
    answers = await asyncio.gather(*(desk.post(path, {}, who=BOSS) for _ in range(6)))
    assert sum("entries" in answer for answer in answers) == 1
    assert await desk.balance() == (161, 0)


async def test_an_entry_is_reversed_once(desk: Desk) -> None:
    given = await desk.adjust(30)
    path = f"entries/{given['id']}/reversal"
    undone = await desk.post(path, {"reason": "wrong customer"}, 201)
    assert (undone["kind"], undone["points"], undone["lot_id"]) == ("reversed", -30, given["id"])
    assert undone["explanation"] == "−30 points: wrong customer (entry reversed by desk)."
    assert await desk.balance() == (150, 0)
    again = await desk.post(path, {"reason": "once more"}, 409)
    assert again["code"] == "already-reversed"
    itself = await desk.post(f"entries/{undone['id']}/reversal", {"reason": "no"}, 409)
    assert itself["code"] == "not-reversible"
    assert [event.kind for event in await desk.told()] == ["adjusted", "reversed"]
    assert await desk.violations() == []


async def test_reversals_at_once_undo_once(desk: Desk) -> None:
    given = await desk.adjust(30)
    path = f"entries/{given['id']}/reversal"
    answers = await asyncio.gather(*(desk.post(path, {"reason": "x"}) for _ in range(8)))
    assert sorted(answer.get("code", "done") for answer in answers) == ["already-reversed"] * 7 + [
        "done"
    ]
    assert await desk.balance() == (150, 0)


async def test_a_purchase_is_corrected_by_a_refund(desk: Desk) -> None:
    bought = (await desk.rows())[0]["entry_id"]
    refused = await desk.post(f"entries/{bought}/reversal", {"reason": "x"}, 409)
    assert refused["code"] == "not-reversible"
    assert "refund" in refused["detail"]
    unknown = await desk.post(f"entries/{uuid4()}/reversal", {"reason": "x"}, 404)
    assert unknown["code"] == "entry-not-found"


async def test_reversing_what_was_spent_leaves_a_deficit_or_takes_other_lots(desk: Desk) -> None:
    until = (clock.now() + DAY).isoformat()
    given = await desk.adjust(30, expires_at=until)
    taken = await desk.adjust(-180)
    assert taken["entries"][0]["lot_id"] == given["id"]
    await desk.post(f"entries/{given['id']}/reversal", {"reason": "x"}, 201)
    assert await desk.balance() == (0, 30)
    await desk.post(f"entries/{taken['entries'][1]['id']}/reversal", {"reason": "x"}, 201)
    assert await desk.balance() == (70, 0)
    assert await desk.violations() == []


async def test_a_lot_counts_longer_by_moving_to_a_new_one(desk: Desk) -> None:
    lot = (await desk.rows())[0]["lot_id"]
    await desk.adjust(-40)
    until = (clock.now() + 2000 * DAY).replace(microsecond=0)
    body = {"expires_at": until.isoformat(), "reason": "was in hospital"}
    shown = await desk.post(f"lots/{lot}/extension", body, 201)
    assert [entry["points"] for entry in shown["entries"]] == [-60, 60]
    assert (shown["total"], shown["reason"]) == (0, "extension")
    assert datetime.fromisoformat(shown["entries"][1]["expires_at"]) == until
    assert (
        shown["entries"][1]["explanation"]
        == "+60 points: was in hospital (counts longer; by desk)."
    )
    assert await desk.balance() == (110, 0)
    for entry in shown["entries"]:
        refused = await desk.post(f"entries/{entry['id']}/reversal", {"reason": "x"}, 409)
        assert refused["code"] == "not-reversible"
    new = shown["entries"][1]["lot_id"]
    sooner = {"expires_at": (until - DAY).isoformat(), "reason": "x"}
    assert (await desk.post(f"lots/{new}/extension", sooner, 409))["code"] == "not-an-extension"
    assert (await desk.post(f"lots/{lot}/extension", body, 409))["code"] == "nothing-to-extend"
    ever = await desk.post(f"lots/{new}/extension", {"expires_at": None, "reason": "x"}, 201)
    assert ever["entries"][1]["expires_at"] is None
    last = await desk.post(f"lots/{ever['entries'][1]['lot_id']}/extension", body, 409)
    assert last["code"] == "lot-never-expires"
    assert (await desk.post(f"lots/{uuid4()}/extension", body, 404))["code"] == "lot-not-found"
    assert await desk.violations() == []


async def test_a_refund_of_an_extended_purchase_is_paid_in_spend_order(desk: Desk) -> None:
    lot = (await desk.rows())[0]["lot_id"]
    longer = {"expires_at": "2090-01-01T00:00:00Z", "reason": "x"}
    await desk.post(f"lots/{lot}/extension", longer, 201)
    refunded = PurchaseRefunded("r", "GBP", clock.now(), "1", "c", amount=Decimal("40.00"))
    refund = Handlers(desk.app.state.program).refunds
    await desk.shop._hand(refund, purchases.REFUNDED, "refund", refunded)
    assert await desk.balance() == (110, 0)
    lots = {one["lot_id"]: one["points"] for one in (await desk.get("customers/c/lots"))["data"]}
    assert sorted(lots.values()) == [0, 10, 100]
    assert lots[str(lot)] == 0
    assert await desk.violations() == []


async def test_what_has_expired_is_not_revived(desk: Desk) -> None:
    await desk.shop.buys("c", "old", "70.00", datetime(2011, 1, 1, tzinfo=UTC))
    lot = await desk.pool.fetchval("SELECT lot_id FROM entries WHERE order_id = 'old'")
    body = {"expires_at": "2090-01-01T00:00:00Z", "reason": "x"}
    assert (await desk.post(f"lots/{lot}/extension", body, 409))["code"] == "nothing-to-extend"


async def test_an_extension_sent_again_is_the_same(desk: Desk) -> None:
    lot = (await desk.rows())[0]["lot_id"]
    body = {"expires_at": "2090-01-01T00:00:00Z", "reason": "x"}
    first = await desk.post(f"lots/{lot}/extension", body, 201, key="k")
    await desk.pool.execute("DELETE FROM idempotency")
    assert await desk.post(f"lots/{lot}/extension", body, 201, key="k") == first


async def test_what_a_hold_reserves_is_neither_taken_nor_extended(desk: Desk) -> None:
    body = {"customer_id": "c", "points": 120, "expires_in": "PT15M"}
    await desk.post("holds", body, 201)
    assert (await desk.adjust(-31, 409))["available"] == 30
    first, second = [row["lot_id"] for row in await desk.rows()]
    longer = {"expires_at": "2090-01-01T00:00:00Z", "reason": "x"}
    assert (await desk.post(f"lots/{first}/extension", longer, 409))["code"] == "nothing-to-extend"
    shown = await desk.post(f"lots/{second}/extension", longer, 201)
    assert [entry["points"] for entry in shown["entries"]] == [-30, 30]
    assert await desk.balance() == (30, 0)
    assert await desk.violations() == []


async def test_who_lives_on_as_another_is_corrected_there(desk: Desk) -> None:
    given = await desk.adjust(30)
    await desk.shop.buys("d", "3", "20.00", clock.now() - DAY)
    merged = CustomerMerged("c", "d", clock.now())
    merge = Handlers(desk.app.state.program).merges
    await desk.shop._hand(merge, activities.MERGED, "merge", merged)
    added = await desk.adjust(5)
    assert added["lot_id"] == added["id"]
    balances = "SELECT customer_id, balance FROM accounts ORDER BY customer_id"
    assert [tuple(row) for row in await desk.pool.fetch(balances)] == [("c", 0), ("d", 205)]
    await desk.post(f"entries/{given['id']}/reversal", {"reason": "x"}, 201)
    assert [tuple(row) for row in await desk.pool.fetch(balances)] == [("c", 0), ("d", 175)]
    owed = await desk.pool.fetch(
        "SELECT lot_id FROM entries GROUP BY lot_id HAVING sum(points) < 0"
    )
    assert owed == []
    assert await desk.violations() == []


async def test_a_lost_and_a_doubled_line_are_told(desk: Desk) -> None:
    """The checks bite: a reversal without what it reverses, half an extension, an approval nobody gave."""
    given = await desk.adjust(30)
    await desk.post(f"entries/{given['id']}/reversal", {"reason": "x"}, 201)
    desk.bound(limit=10)
    waiting = await desk.adjust(11, 202)
    await desk.pool.execute(
        "UPDATE corrections SET state = 'approved', decided_by = 'boss', decided_at = now()"
        " WHERE correction_id = $1",
        waiting["id"],
    )
    forged = {
        "reversed": {"entry_id": str(uuid4()), "seq": 97},
        "adjusted": {"entry_id": str(uuid4()), "seq": 98, "actor": None, "reason": "extension"},
    }
    for kind, fields in forged.items():
        await desk.pool.execute(
            "INSERT INTO entries SELECT (jsonb_populate_record(e, $2)).* FROM entries e WHERE kind = $1",
            *(kind, json.dumps(fields)),
        )
    found = " ".join(await desk.violations())
    for check_of in correction_checks.of():
        assert check_of.name in found


async def test_pages_of_corrections_show_each_once(desk: Desk) -> None:
    desk.bound(limit=1)
    waiting = [(await desk.adjust(5 + number, 202))["id"] for number in range(5)]
    shown, cursor = [], ""
    while True:
        page = await desk.get(f"adjustments?limit=2{cursor}")
        shown += [item["id"] for item in page["data"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert shown == waiting


async def test_fifty_debits_of_everything_one_wins(desk: Desk) -> None:
    body = {"points": -150, "reason_code": "goodwill", "reason": "x"}
    answers = await asyncio.gather(*(desk.post("customers/c/adjustments", body) for _ in range(50)))
    assert sorted({answer.get("code", "done") for answer in answers}) == [
        "done",
        "insufficient-points",
    ]
    assert sum("total" in answer for answer in answers) == 1
    assert await desk.balance() == (0, 0)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["adjust", "reverse", "extend"]), st.integers(-200, 200)),
        max_size=12,
    )
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_corrected_adds_up_and_what_is_refused_changes_nothing(
    steps: list[tuple[str, int]],
    database: Callable[[str], str],
    program: Program,
    tmp_path: Path,
) -> None:
    """An entry and its reversal are 0 together; the books are right after every step."""
    dsn = database("points")

    async def walk() -> None:
        async with desk_at(dsn, program, tmp_path) as found:
            await _walk(found, steps)

    asyncio.run(walk())


async def _walk(desk: Desk, steps: list[tuple[str, int]]) -> None:
    total = 150
    for step, number in steps:
        before = await desk.rows()
        if step == "adjust":
            body = {"points": number or 1, "reason_code": "goodwill", "reason": "x"}
            answer = await desk.post("customers/c/adjustments", body)
        else:
            chosen = before[number % len(before)]
            reverse = step == "reverse"
            body = (
                {"reason": "x"}
                if reverse
                else {"reason": "x", "expires_at": "2090-01-01T00:00:00Z"}
            )
            path = (
                f"entries/{chosen['entry_id']}/reversal"
                if reverse
                else f"lots/{chosen['lot_id']}/extension"
            )
            answer = await desk.post(path, body)
        after = await desk.rows()
        assert after[: len(before)] == before
        if "code" in answer:
            assert len(after) == len(before)
            continue
        total += answer["total"]
        if step == "reverse":
            assert answer["points"] == -chosen["points"]
        if step == "extend":
            assert answer["total"] == 0
        available, deficit = await desk.balance()
        assert available - deficit == total
        assert await desk.violations() == []
