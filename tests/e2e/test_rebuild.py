"""The ledger proven from outside: verified, recounted from its events, built anew, exported, built from that."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from shared.cli.digest import take
from shared.contracts import purchases
from shared.db.roles import owner_of
from shared.stack import credentials, processes, servers
from shared.stack.layout import SERVICES, Layout, Ports
from tests.fixtures.events import event, line, purchase
from tests.fixtures.live import LiveStack, live_stack

pytestmark = [pytest.mark.stack, pytest.mark.servers, pytest.mark.timeout(400)]

CUSTOMERS = [f"c{number}" for number in range(12)]
VICTIM = "c5"

# The tests of this module are one story and build on each other, because a start costs seconds.


def refund(number: int) -> dict[str, Any]:
    data = {
        "refund_id": f"r{number}",
        "order_id": f"o{number}",
        "customer_id": CUSTOMERS[number % 12],
        "currency": "GBP",
        "occurred_at": "2026-07-01T10:00:00Z",
        "lines": [{"line_id": "1", "quantity": "1"}],
        "reason": "too small",
    }
    return event(data, f"refund-{number}", purchases.REFUNDED)


def told() -> list[bytes]:
    """Purchases of some months with refunds, guests, repetitions and one that can never be applied."""
    chance = random.Random(4)
    sold = [
        event(
            purchase(
                f"o{number}",
                CUSTOMERS[number % 12] if number % 40 else None,
                f"2026-{1 + number % 6:02}-{1 + number % 28:02}T10:00:00Z",
                lines=[
                    line(1, f"{chance.randint(5, 90)}.99", "2"),
                    line(2, f"{chance.randint(5, 40)}.50"),
                ],
            )
        )
        for number in range(1, 300)
    ]
    returned = [refund(number) for number in range(5, 300, 11)]
    wrong = event(purchase("wrong", "c1", amount="-"), "wrong")
    events = [*sold, *returned, *sold[:20], wrong]
    chance.shuffle(events)
    return [json.dumps(one).encode() for one in events]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    with live_stack(tmp_path_factory.mktemp("rebuild") / "stack") as one:
        yield one


def post(stack: LiveStack, path: str, body: dict[str, Any]) -> dict[str, Any]:
    content = stack.json()
    headers = {
        "Authorization": f"Bearer {content['api_key']}",
        "Content-Type": "application/json",
        "Idempotency-Key": str(uuid.uuid4()),
    }
    request = Request(content["points_url"] + path, json.dumps(body).encode(), headers)  # noqa: S310
    with urlopen(request, timeout=20) as answer:  # noqa: S310 - our own http
        found: dict[str, Any] = json.load(answer)
    return found


def tamper(stack: LiveStack, statement: str) -> None:
    """What somebody does who may do everything, and knows of the triggers."""

    async def run() -> None:
        dsn = credentials.ensure(stack.layout).dsn("postgres", Ports(stack.base).postgres, "points")
        conn = await asyncpg.connect(dsn)
        await conn.execute("SET session_replication_role = replica")
        assert await conn.execute(statement) == "UPDATE 1"
        await conn.close()

    asyncio.run(run())


def rebuilt(stack: LiveStack, *arguments: str, expect: int = 0) -> dict[str, Any]:
    return content_of(stack.run("rebuild", "--json", *arguments, expect=expect))


def content_of(text: str) -> dict[str, Any]:
    """The JSON that a command wrote; a failed one's errors come after it."""
    found, _ = json.JSONDecoder().raw_decode(text)
    assert isinstance(found, dict)
    return found


def test_what_was_told_and_done_verifies_and_recounts(stack: LiveStack) -> None:
    stack.publish(told())
    stack.drain()
    for number, customer in enumerate(CUSTOMERS):
        post(
            stack,
            f"/v1/customers/{customer}/adjustments",
            {"points": 40 + number, "reason_code": "goodwill", "reason": "late delivery"},
        )
        hold = post(stack, "/v1/holds", {"customer_id": customer, "points": 60})
        if number % 3 == 0:
            post(stack, f"/v1/holds/{hold['id']}/capture", {"points": 50})
        elif number % 3 == 1:
            post(stack, f"/v1/holds/{hold['id']}/release", {})
    stack.drain()
    stack.run("dead-letters", "discard", "--all", "--reason", "a test")
    report = json.loads(stack.run("verify", "--events", "--json"))
    assert report["ok"], report
    names = {check["name"] for check in report["checks"]}
    assert {"entries-as-written", "checkpoints-hold", "awards-follow-from-events"} <= names


def test_a_rebuild_is_equal_and_leaves_nothing_behind(stack: LiveStack) -> None:
    before = stack.digest()
    report = rebuilt(stack)
    assert report["equal"]
    assert report["compared"]
    assert not report["moved"]
    # Besides what shops told there is what rewards wrote, on a topic that others may write to as well.
    assert report["records"] >= len(told())
    assert report["facts"] > 30
    assert report["dead_letters"] == 1
    assert report["parts"]["balances"] == {"customers": 12, "differ": 0, "named": []}
    assert report["databases"] == []
    assert stack.digest() == before
    assert asyncio.run(databases(stack)) == {"postgres", *SERVICES}
    stack.verify()


async def databases(stack: LiveStack) -> set[str]:
    dsn = credentials.ensure(stack.layout).dsn("postgres", Ports(stack.base).postgres, "postgres")
    conn = await asyncpg.connect(dsn)
    rows = await conn.fetch("SELECT datname FROM pg_database WHERE NOT datistemplate")
    await conn.close()
    return {row["datname"] for row in rows}


def test_kept_databases_belong_to_whom_the_live_ones_do_and_verify(stack: LiveStack) -> None:
    report = rebuilt(stack, "--keep")
    assert report["databases"] == [f"{service}_rebuilt" for service in SERVICES]

    async def look() -> None:
        secrets, port = credentials.ensure(stack.layout), Ports(stack.base).postgres
        for service in SERVICES:
            conn = await asyncpg.connect(secrets.dsn(service, port, f"{service}_rebuilt"))
            owner = await conn.fetchval(
                "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'accounts'"
            )
            assert owner == owner_of(service)
            assert await conn.fetchval("SELECT count(*) FROM outbox") == 0
            await conn.close()
        conn = await asyncpg.connect(secrets.dsn("points", port, "points_rebuilt"))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute("DELETE FROM entries")
        await conn.close()

    asyncio.run(look())


def test_whoever_was_tampered_with_is_named(stack: LiveStack) -> None:
    which = (
        "WHERE entry_id = (SELECT entry_id FROM entries JOIN accounts USING (account_id)"
        f" WHERE customer_id = '{VICTIM}' AND kind = 'earned' ORDER BY entries.seq LIMIT 1)"
    )
    change = "points = points + {0}, base = base + {0}"
    tamper(stack, f"UPDATE entries SET {change.format(1000)} {which}")
    try:
        report = rebuilt(stack, expect=1)
        assert not report["equal"]
        assert report["parts"]["lots"] == {"customers": 12, "differ": 1, "named": [VICTIM]}
        told_by = content_of(stack.run("verify", "--events", "--json", expect=1))
        checks = {
            check["name"]: check["rows"] for check in told_by["checks"] if check["violations"]
        }
        assert checks["entries-as-written"][0]["customer_id"] == VICTIM
        assert len(checks["entries-as-written"]) == 1
        assert len(checks["awards-follow-from-events"]) == 1
    finally:
        tamper(stack, f"UPDATE entries SET {change.format(-1000)} {which}")
    assert rebuilt(stack)["equal"]


async def drop_records(stack: LiveStack) -> None:
    """What retention does to all that shops have told so far."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.json()["kafka"])
    await admin.start()
    places = {
        TopicPartition(purchases.TOPIC, n): RecordsToDelete(before_offset=-1) for n in range(6)
    }
    await admin.delete_records(places, timeout_ms=10_000)
    await admin.close()


async def digest_in(folder: Path) -> Any:
    layout = Layout(folder)
    secrets = credentials.ensure(layout)
    (port,) = processes.free_ports(1)
    cluster = servers.cluster_of(layout, secrets, port)
    server = servers.Server(cluster.spec(), layout.dir)
    server.start()
    try:
        return await take({service: secrets.dsn(service, port) for service in SERVICES})
    finally:
        server.stop()


def test_an_export_outlives_the_records_of_kafka(stack: LiveStack, tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl.gz", tmp_path / "second.jsonl"
    stack.run("export", str(first))
    assert list(tmp_path.iterdir()) == [first]
    later = [json.dumps(event(purchase(f"later-{n}", f"c{n}"))).encode() for n in range(8)]
    asyncio.run(drop_records(stack))
    stack.publish(later)
    stack.drain()
    assert "--from-export" in stack.run("rebuild", expect=1)
    assert "--from-export" in stack.run("export", str(second), expect=1)
    assert not second.exists()
    report = rebuilt(stack, "--from-export", str(first))
    assert report["equal"]
    assert report["records"] >= len(told()) + len(later)
    stack.run("export", str(second), "--from-export", str(first))
    # Now as if nothing but the second export were left.
    folder, nowhere = tmp_path / "other", tmp_path / "nowhere"
    stack.run(
        *("rebuild", "--json", "--dir", str(nowhere)),
        *("--from-export", str(second), "--into", str(folder)),
    )
    assert asyncio.run(digest_in(folder)) == stack.digest()
    assert processes.find(folder) == []
