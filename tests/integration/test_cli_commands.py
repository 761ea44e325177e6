"""``treue publish``, ``drain`` and ``dead-letters`` as people run them, on a real broker and databases."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from shared.cli.lag import Look, Watcher
from shared.cli.settle import settle
from shared.contracts import points, purchases, tiers
from shared.contracts.catalogue import CONSUMES
from shared.events.dead_letters import pack_headers
from shared.stack import topics
from tests.fixtures.events import event, purchase

pytestmark = pytest.mark.servers

NOWHERE = "127.0.0.1:9"


@dataclass(frozen=True)
class Given:
    """A stack's addresses in a folder, as ``treue up`` leaves them."""

    folder: Path
    kafka: str
    postgres: Mapping[str, str]

    def write(self, kafka: str) -> None:
        content = {"kafka": kafka, "postgres": dict(self.postgres)}
        (self.folder / "stack.json").write_text(json.dumps(content))

    def run(
        self, *arguments: str, expect: int = 0, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [sys.executable, "-m", "shared.cli.main", *arguments],
            env={**os.environ, "TREUE_DIR": str(self.folder), "COLUMNS": "200"},
            input=stdin,
            capture_output=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == expect, (done.stdout + done.stderr).decode()
        assert b"Traceback" not in done.stderr
        return done

    async def ends(self) -> dict[tuple[str, int], int]:
        async with Watcher(self.kafka, self.postgres) as watcher:
            return await watcher.ends()

    async def catch_up(self, service: str) -> None:
        """Mark everything as consumed by a service."""
        ends = await self.ends()
        conn = await asyncpg.connect(self.postgres[service])
        for (topic, partition), end in ends.items():
            if topic in CONSUMES[service]:
                await conn.execute(
                    "INSERT INTO offsets (topic, partition, next_offset) VALUES ($1, $2, $3)"
                    " ON CONFLICT (topic, partition) DO UPDATE SET next_offset = $3",
                    *(topic, partition, end),
                )
        await conn.close()


@pytest.fixture
def given(kafka: str, database: Callable[[str], str], tmp_path: Path) -> Given:
    asyncio.run(topics.create(kafka))
    made = Given(tmp_path, kafka, {service: database(service) for service in CONSUMES})
    made.write(kafka)
    return made


def lines(*events: Any) -> bytes:
    return b"".join(
        (one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in events
    )


async def read(kafka: str, start: Mapping[tuple[str, int], int], topic: str) -> list[Any]:
    """The records of a topic from there to its end now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    places = {TopicPartition(*place): at for place, at in start.items() if place[0] == topic}
    left = sum((await consumer.end_offsets(list(places))).values()) - sum(places.values())
    consumer.assign(list(places))
    for place, at in places.items():
        consumer.seek(place, at)
    found: list[Any] = []
    while len(found) < left:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            found += records
    await consumer.stop()
    return found


def purchases_of(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        event(purchase(f"k{number}", f"c{number % 7}", amount="1.00"))
        for number in range(start, start + count)
    ]


def test_events_go_to_their_topics_keyed_and_in_order(given: Given, tmp_path: Path) -> None:
    before = asyncio.run(given.ends())
    file = tmp_path / "events.jsonl"
    file.write_bytes(lines(*purchases_of(3000)))
    done = given.run("publish", str(file))
    assert done.stdout.decode() == "Published 3,000 events (3,000 to treue.purchases).\n"
    records = asyncio.run(read(given.kafka, before, purchases.TOPIC))
    assert len(records) == 3000
    by_key: dict[bytes, list[int]] = {}
    places: dict[bytes, set[int]] = {}
    for record in records:
        assert dict(record.headers) == {"content-type": b"application/cloudevents+json"}
        order = json.loads(record.value)["data"]["order_id"]
        by_key.setdefault(record.key, []).append(int(order[1:]))
        places.setdefault(record.key, set()).add(record.partition)
    assert set(by_key) == {f"c{number}".encode() for number in range(7)}
    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    assert all(len(where) == 1 for where in places.values())


def test_the_partition_is_the_one_every_kafka_client_would_take(given: Given) -> None:
    before = asyncio.run(given.ends())
    given.run("publish", "-", stdin=lines(*purchases_of(50)))

    async def plain() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=given.kafka)
        await producer.start()
        for number in range(7):
            await producer.send_and_wait(purchases.TOPIC, b"{}", key=f"c{number}".encode())
        await producer.stop()

    asyncio.run(plain())
    places: dict[bytes, set[int]] = {}
    for record in asyncio.run(read(given.kafka, before, purchases.TOPIC)):
        places.setdefault(record.key, set()).add(record.partition)
    assert len(places) == 7
    assert all(len(where) == 1 for where in places.values())


def test_lines_that_are_no_events_are_named_and_the_others_go(given: Given) -> None:
    before = asyncio.run(given.ends())
    big = event(purchase("big", note="x" * 300_000))
    huge = event(purchase("huge", note="x" * 5_000_000))
    done = given.run(
        *("publish", "-"),
        expect=1,
        stdin=lines(*purchases_of(2), b"{broken", b"", {"id": "1"}, big, huge, *purchases_of(1, 2)),
    )
    err = done.stderr.decode()
    assert "stdin, line 3: not published: no CloudEvent in JSON" in err
    assert "stdin, line 5: not published" in err
    assert "stdin, line 7: not published: has 5,000," in err
    assert b"Published 4 events (4 to treue.purchases); 3 not published." in done.stdout
    assert len(asyncio.run(read(given.kafka, before, purchases.TOPIC))) == 4


def test_raw_lines_go_as_they_stand(given: Given) -> None:
    before = asyncio.run(given.ends())
    given.run("publish", "-", "--raw", purchases.TOPIC, stdin=b"{broken\n\xff\x00\n\nlast")
    records = asyncio.run(read(given.kafka, before, purchases.TOPIC))
    assert sorted(record.value for record in records) == [b"last", b"{broken", b"\xff\x00"]
    assert {record.key for record in records} == {None}


def test_nothing_to_publish_is_no_mistake(given: Given) -> None:
    assert b"Published 0 events (none)." in given.run("publish", "-").stdout


@pytest.mark.parametrize("command", [("publish", "-"), ("dead-letters", "list"), ("drain",)])
def test_without_a_stack_one_sentence_says_what_to_do(
    command: Sequence[str], tmp_path: Path
) -> None:
    done = Given(tmp_path / "none", NOWHERE, {}).run(*command, expect=1)
    assert done.stderr.decode().count("\n") == 1
    assert b"start it with `treue up`" in done.stderr


def test_a_broker_that_is_away_is_told_soon(given: Given) -> None:
    given.write(NOWHERE)
    began = time.monotonic()
    done = given.run("publish", "-", expect=1, stdin=lines(*purchases_of(1)))
    assert time.monotonic() - began < 15
    assert done.stderr.decode() == (
        f"treue: Kafka at {NOWHERE} does not answer; start the stack with `treue up`\n"
    )


def test_drain_says_what_is_left(given: Given) -> None:
    given.run("publish", "-", stdin=lines(*purchases_of(20)))
    for service in CONSUMES:
        asyncio.run(given.catch_up(service))
    given.run("publish", "-", stdin=lines(*purchases_of(20)))

    async def to_send() -> None:
        conn = await asyncpg.connect(given.postgres["tiers"])
        await conn.execute(
            "INSERT INTO outbox (topic, keys, payloads) VALUES ('treue.tiers', '{a,b}', '{x,y}')"
        )
        await conn.close()

    asyncio.run(to_send())
    done = given.run("drain", "--timeout", "1", expect=1)
    err = done.stderr.decode()
    assert "Not drained after 1 s:" in err
    assert "points: " in err
    assert " of treue.purchases/" in err
    assert "tiers: 2 events in the outbox not published" in err
    assert "rewards" not in err


def test_drain_ends_when_all_is_consumed(given: Given) -> None:
    given.run("publish", "-", stdin=lines(*purchases_of(20)))
    for service in CONSUMES:
        asyncio.run(given.catch_up(service))
    done = given.run("drain", "--timeout", "20")
    assert b"Everything is consumed and published after" in done.stdout


def test_drain_waits_for_a_broker_that_comes_back(given: Given) -> None:
    """The address answers nothing, then the right one is asked: as after a restart."""
    for service in CONSUMES:
        asyncio.run(given.catch_up(service))
    given.write(NOWHERE)
    done = given.run("drain", "--timeout", "1", expect=1)
    assert f"Kafka at {NOWHERE}".encode() in done.stderr
    given.write(given.kafka)
    given.run("drain", "--timeout", "20")


async def hop(
    given: Given, conn: asyncpg.Connection, producer: Any, service: str, topic: str
) -> None:
    """What a service does with an event: commit position and answer, send it, forget it."""
    ends = await given.ends()
    async with conn.transaction():
        for (name, partition), end in ends.items():
            if name in CONSUMES[service]:
                await conn.execute(
                    "INSERT INTO offsets (topic, partition, next_offset) VALUES ($1, $2, $3)"
                    " ON CONFLICT (topic, partition) DO UPDATE SET next_offset = $3",
                    *(name, partition, end),
                )
        await conn.execute(
            "INSERT INTO outbox (topic, keys, payloads) VALUES ($1, '{k}', '{x}')", topic
        )
    await asyncio.sleep(0.05)
    await producer.send_and_wait(topic, b"x", key=b"k")
    await conn.execute("DELETE FROM outbox")


async def test_drain_is_not_deceived_by_events_that_go_round(
    kafka: str, tmp_path: Path, databases_of_three: Mapping[str, str]
) -> None:
    """One event circles from points to tiers and back; whenever we look, it may just be elsewhere."""
    given = Given(tmp_path, kafka, databases_of_three)
    await topics.create(kafka)
    for service in CONSUMES:
        await given.catch_up(service)
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    await producer.send_and_wait(points.TOPIC, b"x", key=b"k")
    finished: list[float] = []

    async def circle() -> None:
        conns = {s: await asyncpg.connect(given.postgres[s]) for s in ("points", "tiers")}
        for _ in range(8):
            await hop(given, conns["tiers"], producer, "tiers", tiers.TOPIC)
            await hop(given, conns["points"], producer, "points", points.TOPIC)
        for service in CONSUMES:
            await given.catch_up(service)
        finished.append(time.monotonic())
        for conn in conns.values():
            await conn.close()

    looks: list[Look | None] = []
    circling = asyncio.create_task(circle())
    settled = await settle(kafka, given.postgres, 60, lambda look, _: looks.append(look))
    ended = time.monotonic()
    await circling
    await producer.stop()
    assert settled.done
    assert finished[0] <= ended
    assert len(looks) > 1


@pytest.fixture
def databases_of_three(database: Callable[[str], str]) -> Mapping[str, str]:
    return {service: database(service) for service in CONSUMES}


def bury(given: Given, service: str, value: bytes, reason: str, replays: int = 0) -> int:
    """A dead letter as the runner leaves it."""
    headers: list[tuple[str, bytes]] = [("content-type", b"json"), ("x-treue-reason", b"r")]
    if replays:
        headers.append(("x-replays", str(replays).encode()))

    async def insert() -> int:
        conn = await asyncpg.connect(given.postgres[service])
        number = await conn.fetchval(
            'INSERT INTO dead_letters (topic, partition, "offset", key, value, headers, field, reason,'
            " service) VALUES ($1, 3, 17, 'c1', $2, $3::text::json, 'data.total', $4, $5) RETURNING id",
            *(purchases.TOPIC, value, pack_headers(headers), reason, service),
        )
        await conn.close()
        return int(number)

    return asyncio.run(insert())


def test_dead_letters_are_listed_and_shown(given: Given) -> None:
    assert b"No dead letters" in given.run("dead-letters", "list").stdout
    one = bury(given, "points", b'{"id": "1"}', "is no amount")
    bury(given, "tiers", b"\x00\xff", "is [bold]odd[/bold]")
    listed = given.run("dead-letters", "list").stdout.decode()
    assert f"points:{one}" in listed
    assert "treue.purchases/3/17" in listed
    assert "is [bold]odd[/bold]" in listed
    some = json.loads(given.run("dead-letters", "list", "--json", "--service", "tiers").stdout)
    assert [row["service"] for row in some] == ["tiers"]
    assert json.loads(given.run("dead-letters", "list", "--json", "--reason", "AMOUNT").stdout)
    shown = given.run("dead-letters", "show", f"points:{one}").stdout.decode()
    assert "reason:      is no amount" in shown
    assert '{"id": "1"}' in shown
    raw = given.run("dead-letters", "show", "--raw", f"points:{one}")
    assert raw.stdout == b'{"id": "1"}'
    assert b"hex:00ff" in given.run("dead-letters", "show", "1", "--service", "tiers").stdout
    assert (
        b"there is no dead letter"
        in given.run("dead-letters", "show", "points:99", expect=1).stderr
    )


def test_a_dead_letter_goes_back_byte_by_byte(given: Given) -> None:
    before = asyncio.run(given.ends())
    one = bury(given, "points", b"\x00 the very bytes \xff", "is odd", replays=1)
    worn = bury(given, "points", b"again and again", "is odd", replays=5)
    assert (
        b"1 dead letter sent again." in given.run("dead-letters", "replay", f"points:{one}").stdout
    )
    (record,) = asyncio.run(read(given.kafka, before, purchases.TOPIC))
    assert record.value == b"\x00 the very bytes \xff"
    assert record.key == b"c1"
    assert list(record.headers) == [("content-type", b"json"), ("x-replays", b"2")]
    done = given.run("dead-letters", "replay", "--all", expect=1)
    assert f"points:{worn}: not sent again: it has come back 5 times".encode() in done.stderr
    rows = json.loads(given.run("dead-letters", "list", "--json", "--state", "all").stdout)
    assert {row["id"]: (row["state"], row["replays"]) for row in rows} == {
        f"points:{one}": ("replayed", 2),
        f"points:{worn}": ("open", 5),
    }


def test_a_dead_letter_is_given_up_with_a_reason(given: Given) -> None:
    one, two = bury(given, "points", b"x", "is odd"), bury(given, "tiers", b"x", "is late")
    given.run("dead-letters", "discard", f"points:{one}", "--reason", "a test of ours")
    again = given.run(
        *("dead-letters", "discard", f"points:{one}", "--reason", "once more"), expect=1
    )
    assert b"it is not open" in again.stderr
    refused = given.run("dead-letters", "replay", f"points:{one}", expect=1)
    assert b"it was discarded (a test of ours)" in refused.stderr
    given.run("dead-letters", "discard", "--all", "--matching", "late", "--reason", "too late")
    rows = json.loads(given.run("dead-letters", "list", "--json", "--state", "discarded").stdout)
    assert {row["id"]: row["note"] for row in rows} == {
        f"points:{one}": "a test of ours",
        f"tiers:{two}": "too late",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("dead-letters", "replay"),
        ("dead-letters", "replay", "points:1", "--all"),
        ("dead-letters", "replay", "nothing:1"),
        ("dead-letters", "list", "--service", "nothing"),
        ("dead-letters", "list", "--state", "nothing"),
        ("dead-letters", "discard", "points:1", "--reason", " "),
        ("publish", "no-such-file"),
        ("convert", "online-retail", "no-such-file"),
        ("convert", "online-retail", "-", "--shift-to", "soon"),
    ],
)
def test_mistakes_are_told_in_one_line(given: Given, arguments: Sequence[str]) -> None:
    done = given.run(*arguments, expect=1)
    assert done.stderr.startswith(b"treue: ")
    assert done.stderr.count(b"\n") == 1
