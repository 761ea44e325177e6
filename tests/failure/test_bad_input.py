"""What no shop should ever send, among real purchases: kept aside with its bytes, told, and nobody is held up."""

from __future__ import annotations

import asyncio
import json
import subprocess
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from shared import clock
from shared.contracts import purchases
from shared.contracts.catalogue import DEAD_LETTERS
from tests.fixtures import retail
from tests.fixtures.events import event, line, purchase, refunded
from tests.fixtures.live import TREUE, until
from tests.fixtures.story import Story

pytestmark = [pytest.mark.stack, pytest.mark.servers]

Headers = list[tuple[str, bytes]]


def encoded(data: Any, **envelope: Any) -> bytes:
    return json.dumps(event(data) | envelope).encode()


def with_line(**more: Any) -> bytes:
    return encoded(purchase("bad-line", lines=[line() | more]))


def without(field: str) -> bytes:
    data = purchase("bad-missing")
    del data[field]
    return json.dumps(event(data, "bad-missing")).encode()


def refund_of(quantity: str) -> bytes:
    return json.dumps(refunded("r2", lines=[("1", quantity)])).encode()


def ahead() -> str:
    return (clock.now() + timedelta(days=2)).isoformat()


BINARY = [("ce_id", b"b1"), ("ce_type", purchases.COMPLETED.encode()), ("ce_specversion", b"1.0")]
# What is sent: value, headers; and the field that the reason must name.
BAD: dict[str, tuple[bytes | None, Headers, str]] = {
    "no JSON": (b'{"specversion":"1.0",', [], ""),
    "NUL bytes": (b"\x00" * 64, [], ""),
    "no UTF-8": (b'{"id":"\xff\xfe"}', [], ""),
    "no value": (None, [], ""),
    "a list": (b"[]", [], ""),
    "nested without end": (b"[" * 100_000, [], ""),
    "no id": (encoded(purchase("bad"), id=""), [], "id"),
    "old CloudEvents": (encoded(purchase("bad"), specversion="0.3"), [], "specversion"),
    "unknown type": (encoded(purchase("bad"), type="treue.purchase.dreamt.v1"), [], "type"),
    "no refund": (encoded(purchase("bad"), type=purchases.REFUNDED), [], "data.refund_id"),
    "refund of nothing": (json.dumps(refunded("r1", None)).encode(), [], "data.order_id"),
    "refund of -1": (refund_of("-1"), [], "data.lines[0].quantity"),
    "no data": (json.dumps({**event(purchase("bad")), "data": None}).encode(), [], "data"),
    "no order": (without("order_id"), [], "data.order_id"),
    "no lines": (without("lines"), [], "data.lines"),
    "list for a number": (with_line(quantity=[]), [], "data.lines[0].quantity"),
    "negative quantity": (with_line(quantity="-1"), [], "data.lines[0].quantity"),
    "number overflow": (with_line(unit_price="1e400"), [], "data.lines[0].unit_price"),
    "no number": (with_line(unit_price="NaN"), [], "data.lines[0].unit_price"),
    "unknown currency": (encoded(purchase("bad", currency="XYZ")), [], "data.currency"),
    "no exchange rate": (encoded(purchase("bad", currency="EUR")), [], "data.exchange_rate"),
    "1 MB": (encoded(purchase("bad", metadata={"x": "y" * 1_000_000})), [], ""),
    "10 kB customer": (encoded(purchase("bad", "c" * 10_000)), [], "data.customer_id"),
    "NUL customer": (encoded(purchase("bad", "a\x00b")), [], "data.customer_id"),
    "surrogate customer": (encoded(purchase("bad", "\ud800")), [], ""),
    "year 1": (encoded(purchase("bad", at="0001-01-01T00:00:00Z")), [], "data.occurred_at"),
    "year 9999": (encoded(purchase("bad", at="9999-12-31T23:59:59Z")), [], "data.occurred_at"),
    "the day after tomorrow": (encoded(purchase("bad", at=ahead())), [], "data.occurred_at"),
    "no date": (encoded(purchase("bad", at="yesterday")), [], "data.occurred_at"),
    "binary without source": (b"{}", list(BINARY), "ce_source"),
    "binary, bad header": (b"{}", [*BINARY, ("ce_source", b"\xff")], "headers"),
}


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return retail.part(16)


def letters(tale: Story, *filters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        tale.stack.run("dead-letters", "list", "--json", "--limit", "1000", *filters)
    )
    return found


async def on_the_topic(bootstrap: str) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []
    async with AIOKafkaConsumer(
        DEAD_LETTERS,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    ) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            batches = await consumer.getmany(timeout_ms=500)
            found += [record for batch in batches.values() for record in batch]
    return found


async def test_bad_among_good_is_kept_aside_and_the_rest_goes_on(
    tale: Story, lines: list[bytes]
) -> None:
    bootstrap = tale.stack.json()["kafka"]
    await asyncio.to_thread(tale.told, lines)
    good = iter(lines)
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, max_request_size=4 * 1024 * 1024
    ) as producer:
        for number, (value, headers, _) in enumerate(BAD.values()):
            for _ in range(20):
                await producer.send(purchases.TOPIC, next(good), key=b"good")
            await producer.send(purchases.TOPIC, value, key=b"bad%d" % number, headers=headers)
        for one in good:
            await producer.send(purchases.TOPIC, one, key=b"good")
    await asyncio.to_thread(tale.holds)


async def test_the_database_and_the_topic_keep_the_bytes_the_place_and_the_reason(
    tale: Story,
) -> None:
    stack = tale.stack.json()
    conn = await asyncpg.connect(stack["postgres"]["points"])
    try:
        kept = await conn.fetch("SELECT key, value, field, reason FROM dead_letters ORDER BY id")
    finally:
        await conn.close()
    by_key = {row["key"]: row for row in kept}
    assert len(kept) == len(by_key) == len(BAD)
    sent = {record.key: record for record in await on_the_topic(stack["kafka"])}
    for number, (name, (value, headers, field)) in enumerate(BAD.items()):
        row, record = by_key[b"bad%d" % number], sent[b"bad%d" % number]
        assert (row["value"] or b"") == (value or b"") == (record.value or b""), name
        assert row["field"].startswith(field), (name, row["field"], row["reason"])
        assert bool(field) == bool(row["field"]), (name, row["field"], row["reason"])
        told = dict(record.headers)
        assert [told[header] for header, _ in headers] == [content for _, content in headers]
        assert told["x-treue-topic"] == purchases.TOPIC.encode()
        assert told["x-treue-service"] == b"points"
        assert told["x-treue-field"].decode() == row["field"]
        assert told["x-treue-reason"].decode() == row["reason"] != ""
        assert int(told["x-treue-offset"]) >= 0


def test_status_metrics_and_list_show_them(tale: Story) -> None:
    report = tale.stack.status()["services"]["points"]
    assert report["dead_letters"] == len(BAD)
    assert report["consumed"]["poison"] == len(BAD)
    assert sum(one["count"] for one in report["dead_letters_by_reason"]) >= 20
    # A worker reads its gauges once a second.
    gauge = f"treue_dead_letters_open {len(BAD)}.0"
    until(lambda: gauge in tale.stack.metrics("points"), 10, gauge)
    assert 'verdict="poison"' in tale.stack.metrics("points")
    assert len(letters(tale)) == len(BAD)
    assert "dreamt" in tale.stack.run("dead-letters", "list", "--reason", "dreamt")


def test_show_gives_the_original_bytes(tale: Story) -> None:
    letter = letters(tale, "--reason", "at most 262144")[0]
    shown = subprocess.run(
        [*TREUE, "dead-letters", "show", letter["id"], "--raw"],
        env=tale.stack.env,
        capture_output=True,
        check=True,
    )
    assert shown.stdout == BAD["1 MB"][0]


def test_replayed_without_a_cure_they_come_back_and_say_how_often(tale: Story) -> None:
    before = {letter["id"] for letter in letters(tale, "--state", "all")}
    for reason in ("dreamt", "at most 262144"):
        (letter,) = letters(tale, "--reason", reason)
        tale.stack.run("dead-letters", "replay", letter["id"])
    tale.stack.drain()
    new = [one for one in letters(tale, "--state", "all") if one["id"] not in before]
    assert len(new) == 2
    assert {one["state"] for one in new} == {"open"}
    assert len(letters(tale, "--state", "replayed")) == 2
    assert len(letters(tale)) == len(BAD)
    tale.holds()


def test_discarded_they_are_off_the_list_and_kept(tale: Story) -> None:
    tale.stack.run("dead-letters", "discard", "--all", "--reason", "tried what happens")
    assert letters(tale) == []
    discarded = letters(tale, "--state", "discarded")
    assert len(discarded) == len(BAD)
    assert {letter["note"] for letter in discarded} == {"tried what happens"}
    assert tale.stack.status()["services"]["points"]["dead_letters"] == 0


def test_known_ids_with_other_content_are_dead_letters_and_with_the_same_duplicates(
    tale: Story, lines: list[bytes]
) -> None:
    """And the rule against a shop that repeats itself does not depend on how it writes its numbers."""
    known = msgspec.json.decode(lines[0])
    other = known["data"] | {"lines": [known["data"]["lines"][0] | {"unit_price": "99.99"}]}
    before = tale.stack.status()["services"]["points"]["consumed"]
    changed = [
        msgspec.json.encode(known | {"data": other}),
        msgspec.json.encode(known | {"data": other, "id": "another-id"}),
    ]
    same = [lines[0], msgspec.json.encode(known | {"id": "a-third-id"})]
    tale.stack.publish([*changed, *same])
    tale.stack.drain()
    after = tale.stack.status()["services"]["points"]["consumed"]
    assert after["poison"] - before["poison"] == len(changed)
    assert after["duplicates"] - before["duplicates"] == len(same)
    assert {letter["field"] for letter in letters(tale)} == {"id", "data.order_id"}
    tale.stack.run("dead-letters", "discard", "--all", "--reason", "seen")
    tale.holds()
