"""Purchases through the runner into a real database: once each, in full, whatever comes between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
import pytest

from services.points import intake
from shared.contracts import purchases, tiers
from shared.db.types import Pool
from shared.events.model import Event, Route, Work
from shared.events.parcel import unpack
from shared.events.runner import POISON_IN_A_ROW_MAX
from shared.program import Program
from tests.fixtures.events import event, line, move, purchase, record, records, tier_change
from tests.fixtures.points import violations
from tests.fixtures.servers import owner_of
from tests.fixtures.streams import counts, running

pytestmark = pytest.mark.servers


async def lots(pool: Pool) -> list[tuple[Any, ...]]:
    rows = await pool.fetch(
        "SELECT order_id, sum(points)::int AS points, min(available_at) AS a, min(expires_at) AS e"
        " FROM entries GROUP BY order_id, lot_id ORDER BY order_id"
    )
    return [tuple(row) for row in rows]


async def test_a_purchase_becomes_an_entry_and_an_event(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        assert await runner.process(records([event(purchase(amount="12.99"))]))
        entry = await pool.fetchrow("SELECT * FROM entries")
        assert entry is not None
        assert (entry["points"], entry["base"], entry["bonus"], entry["balance_after"]) == (
            12,
            12,
            0,
            12,
        )
        # 1 May + 12 months, rounded up to the month's end, to the local midnight after (BST).
        assert entry["expires_at"] == datetime(2027, 5, 31, 23, tzinfo=UTC)
        outgoing = await pool.fetchrow("SELECT topic, keys, payloads FROM outbox")
        assert outgoing is not None
        assert outgoing["topic"] == "treue.points"
        assert outgoing["keys"] == [b"c1"]
        data = msgspec.json.decode(outgoing["payloads"][0])["data"]
        assert (data["points"], data["base"], data["net_spend"]) == (12, 12, "12.99")
        assert await violations(pool, program) == []


async def test_many_events_of_a_batch_wait_packed(points_db: str, program: Program) -> None:
    orders = [f"o{number}" for number in range(200)]
    async with running(points_db, intake.routes(program), packs=True) as (runner, pool):
        # A partition's very first batch locks its position, and goes as it is.
        assert await runner.process(records([event(purchase(order="first"))]))
        await pool.execute("DELETE FROM outbox")
        bought = [event(purchase(order=order)) for order in orders]
        assert await runner.process(records(bought, start=1))
        row = await pool.fetchrow("SELECT keys, payloads, packed FROM outbox")
    assert row is not None
    assert (len(row["keys"]), row["payloads"]) == (200, [])
    told = unpack(row["payloads"], row["packed"])
    assert [msgspec.json.decode(payload)["data"]["order_id"] for payload in told] == orders
    assert len(row["packed"]) * 4 < sum(map(len, told))


async def test_golden_duplicates(points_db: str, program: Program) -> None:
    """One purchase three times, once under another event id."""
    async with running(points_db, intake.routes(program)) as (runner, pool):
        first = event(purchase())
        await runner.process(records([first, first]))
        await runner.process(records([event(purchase(), "another")], start=2))
        assert await pool.fetchval("SELECT count(*) FROM entries") == 1
        assert await counts(pool) == {"applied": 1, "duplicates": 2, "refused": 0, "poison": 0}


async def test_numbers_written_otherwise_are_the_same_purchase(
    points_db: str, program: Program
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        again = purchase(lines=[line(price="10.0", quantity="1.000")])
        await runner.process(records([event(purchase()), event(again)]))
        assert await counts(pool) == {"applied": 1, "duplicates": 1, "refused": 0, "poison": 0}


@pytest.mark.parametrize(
    ("second", "field"),
    [
        (event(purchase(amount="99.00")), "id"),
        (event(purchase(amount="99.00"), "another"), "data.order_id"),
        (event(purchase(order="o2"), "event-o1"), "id"),
        (event(purchase(customer="c2"), "another"), "data.order_id"),
    ],
    ids=["same event", "same order", "event of another order", "order of another customer"],
)
async def test_the_same_id_with_other_content_is_kept_aside(
    points_db: str, program: Program, second: dict[str, Any], field: str
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await runner.process(records([event(purchase()), second]))
        letter = await pool.fetchrow("SELECT field, reason, value FROM dead_letters")
        assert letter is not None
        assert letter["field"] == field
        assert "other content" in letter["reason"]
        assert msgspec.json.decode(letter["value"]) == second
        assert await pool.fetchval("SELECT count(*) FROM entries") == 1


async def test_guests_and_tests_are_recorded_without_credit(
    points_db: str, program: Program
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        guest, trial = event(purchase("g", None)), event(purchase("t", is_test=True))
        await runner.process(records([guest, trial, guest]))
        rows = await pool.fetch("SELECT order_id, why FROM uncredited ORDER BY order_id")
        assert [tuple(row) for row in rows] == [("g", "guest"), ("t", "test")]
        assert await pool.fetchval("SELECT count(*) FROM accounts") == 0
        assert (await counts(pool))["duplicates"] == 1


BAD: list[tuple[Any, str]] = [
    (b"{", ""),
    (b"\x00" * 10, ""),
    (event(purchase(lines=[line(quantity="-1")])), "data.lines[0].quantity"),
    (event(purchase(lines=[line(price="1e400")])), "data.lines[0].unit_price"),
    (event(purchase(lines=[line(price="NaN")])), "data.lines[0].unit_price"),
    (event(purchase(currency="XYZ")), "data.currency"),
    (event(purchase(currency="EUR")), "data.exchange_rate"),
    (event(purchase(customer="x" * 10_000)), "data.customer_id"),
    (event(purchase(customer="a\x00b")), "data.customer_id"),
    (event(purchase(at="0001-01-01T00:00:00Z")), "data.occurred_at"),
    (event(purchase(at="9999-12-31T23:59:59Z")), "data.occurred_at"),
    (event(purchase(), event_type="treue.purchase.invented.v1"), "type"),
    (b'{"x":"' + b"a" * 1_000_000 + b'"}', ""),
]


async def test_bad_events_are_kept_with_bytes_and_field_and_the_rest_goes_on(
    points_db: str, program: Program
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        mixed: list[Any] = []
        for number, (bad, _) in enumerate(BAD):
            mixed += [bad, event(purchase(f"good-{number}"))]
        feed = records(mixed)
        await runner.process(feed)
        letters = await pool.fetch('SELECT value, field FROM dead_letters ORDER BY "offset"')
        assert [(row["value"], row["field"]) for row in letters] == [
            (feed[2 * number].value, field) for number, (_, field) in enumerate(BAD)
        ]
        assert await pool.fetchval("SELECT count(*) FROM entries") == len(BAD)
        sent = await pool.fetchrow(
            "SELECT headers, payloads FROM outbox WHERE topic = 'treue.dead-letters'"
        )
        assert sent is not None
        assert len(sent["payloads"]) == len(BAD)
        assert await violations(pool, program) == []


async def test_records_before_the_stored_offset_are_left_out(
    points_db: str, program: Program
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        feed = records([event(purchase(f"o{n}")) for n in range(4)])
        await runner.process(feed[:3])
        await runner.process(feed[1:])
        assert await counts(pool) == {"applied": 4, "duplicates": 0, "refused": 0, "poison": 0}
        assert await pool.fetchval("SELECT next_offset FROM offsets") == 4


async def test_a_bug_on_one_event_buries_that_event_alone(points_db: str, program: Program) -> None:
    async def handler(work: Work, events: Sequence[Event[Any]]) -> None:
        if any(e.data.order_id == "o5" for e in events):
            raise ZeroDivisionError("planted")
        await intake.routes(program)[0].handler(work, events)

    routes = [Route(purchases.TOPIC, purchases.COMPLETED, purchases.PurchaseCompleted, handler)]
    async with running(points_db, routes) as (runner, pool):
        await runner.process(records([event(purchase(f"o{n}")) for n in range(9)]))
        assert await counts(pool) == {"applied": 8, "duplicates": 0, "refused": 0, "poison": 1}
        reason = await pool.fetchval("SELECT reason FROM dead_letters")
        assert reason == "ZeroDivisionError: planted"


async def test_nothing_is_half_done_when_a_connection_breaks(
    points_db: str, program: Program
) -> None:
    broken: list[int] = []

    async def handler(work: Work, events: Sequence[Event[Any]]) -> None:
        await intake.routes(program)[0].handler(work, events)
        if not broken:
            broken.append(await work.conn.fetchval("SELECT pg_backend_pid()"))
            async with pool.acquire() as other:
                await other.execute("SELECT pg_terminate_backend($1)", broken[0])

    routes = [Route(purchases.TOPIC, purchases.COMPLETED, purchases.PurchaseCompleted, handler)]
    async with running(points_db, routes) as (runner, pool):
        assert await runner.process(records([event(purchase(f"o{n}")) for n in range(5)]))
        assert broken
        assert await counts(pool) == {"applied": 5, "duplicates": 0, "refused": 0, "poison": 0}
        assert await violations(pool, program) == []


async def test_two_owners_of_a_partition_write_once(points_db: str, program: Program) -> None:
    feed = records([event(purchase(f"o{n}", f"c{n % 7}")) for n in range(200)])
    async with (
        running(points_db, intake.routes(program)) as (one, pool),
        running(points_db, intake.routes(program)) as (two, _),
    ):
        await asyncio.gather(one.process(feed), two.process(feed))
        assert (await counts(pool))["applied"] + (await counts(pool))["duplicates"] >= 200
        assert await pool.fetchval("SELECT count(*) FROM entries") == 200
        assert await violations(pool, program) == []


async def test_too_much_poison_in_a_row_stops_the_partition(
    points_db: str, program: Program
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, _):
        await runner.process(records([b"{"] * POISON_IN_A_ROW_MAX))
        assert runner.stopped == {(purchases.TOPIC, 0)}


async def test_a_late_tier_corrects_what_was_credited_before(
    points_db: str, program: Program
) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await runner.process(
            records(
                [
                    event(purchase("before", at="2026-05-01T10:00:00Z", amount="101.00")),
                    event(purchase("crossing", at="2026-05-02T10:00:00Z", amount="450.00")),
                    event(purchase("after", at="2026-05-03T10:00:00Z", amount="101.00")),
                ]
            )
        )
        silver = move("silver", "2026-05-02T10:00:00Z", "1.25")
        change = record(tier_change("c1", 1, [silver]), 0, tiers.TOPIC)
        await runner.process([change])
        assert [row[:2] for row in await lots(pool)] == [
            ("after", 126),
            ("before", 101),
            ("crossing", 450),
        ]
        adjusted = await pool.fetch(
            "SELECT points, reason, kind FROM entries WHERE kind = 'tier_bonus'"
        )
        assert [tuple(row) for row in adjusted] == [(25, "tier_bonus", "tier_bonus")]
        # A correction of the correction, and an old telling that changes nothing any more.
        earlier = move("silver", "2026-05-01T09:00:00Z", "1.25")
        await runner.process([record(tier_change("c1", 3, [earlier]), 1, tiers.TOPIC)])
        await runner.process([record(tier_change("c1", 2, [silver]), 2, tiers.TOPIC)])
        assert [row[:2] for row in await lots(pool)] == [
            ("after", 126),
            ("before", 126),
            ("crossing", 562),
        ]
        assert await violations(pool, program) == []


async def test_the_ledger_refuses_to_be_edited(points_db: str, program: Program) -> None:
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await runner.process(records([event(purchase()), event(purchase("g", None))]))
        for statement in (
            "UPDATE entries SET points = 1",
            "DELETE FROM entries",
            "TRUNCATE entries",
            "DELETE FROM uncredited",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await pool.execute(statement)
            owner = await asyncpg.connect(owner_of(points_db))
            with pytest.raises(asyncpg.RaiseError, match="append-only"):
                await owner.execute(statement)
            await owner.close()


async def test_a_newer_telling_of_the_same_way_outdates_those_in_between(
    points_db: str, program: Program
) -> None:
    silver = move("silver", "2026-05-01T09:00:00Z", "1.25")
    gold = move("gold", "2026-05-01T09:30:00Z", "1.5")
    tellings = [(1, [silver]), (3, [silver]), (2, [silver, gold])]
    async with running(points_db, intake.routes(program)) as (runner, pool):
        await runner.process(records([event(purchase(amount="100.00"))]))
        for offset, (revision, moves) in enumerate(tellings):
            change = tier_change("c1", revision, moves)
            await runner.process([record(change, offset, tiers.TOPIC)])
        assert await pool.fetchval("SELECT revision FROM accounts") == 3
        assert [row[:2] for row in await lots(pool)] == [("o1", 125)]
