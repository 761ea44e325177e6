"""The events every contestant reads: real purchases and a synthetic mix of small ones, as bytes."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec
from aiokafka.partitioner import murmur2

from shared.contracts import purchases
from shared.contracts.catalogue import PARTITIONS
from shared.contracts.envelope import Incoming

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = ROOT / "data" / "online_retail.csv.gz"
SOURCE = "/shops/online-retail"
# Every 50th event comes a second time, 1,000 events later: at least once is what Kafka promises.
REPEAT_EVERY, REPEAT_AFTER = 50, 1000
CUSTOMERS = 50_000
SEED = 20261122


class Sent(NamedTuple):
    """One record as it goes to Kafka."""

    partition: int
    key: bytes | None
    value: bytes


@dataclass(frozen=True)
class Load:
    """The records of one topic, and what they are."""

    name: str
    about: str
    records: list[Sent]

    @property
    def bytes(self) -> int:
        """What the values weigh together."""
        return sum(len(record.value) for record in self.records)


def small(count: int) -> Load:
    """``count`` purchases of two lines each by zipf-distributed customers, plus repetitions."""
    events = list(itertools.islice(_small_events(), count))
    about = f"2 lines each, {CUSTOMERS:,} customers zipf 1.0, 2 % repeated"
    return Load("small", about, _with_repeats(events))


def real(cache: Path, passes: int) -> Load:
    """The Online Retail purchases, ``passes`` times under own order and customer ids, plus repetitions."""
    # Purchases alone: that is what the other contestants know how to add up.
    bought = f'"type":"{purchases.COMPLETED}"'.encode()
    lines = [line for line in _converted(cache).read_bytes().splitlines() if bought in line]
    events: list[Sent] = []
    for number in range(passes):
        events += (_renumbered(line, number) for line in lines)
    about = f"Online Retail, {passes} × {len(lines):,} purchases, 2 % repeated"
    return Load("real", about, _with_repeats(events))


def _small_events() -> Iterator[Sent]:
    rng = random.Random(SEED)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, CUSTOMERS + 1)))
    population = range(CUSTOMERS)
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for number in itertools.count():
        customer = f"c{rng.choices(population, cum_weights=weights)[0]}"
        yield small_event(f"o{number}", customer, start + timedelta(seconds=10 * number), rng)


def small_event(order: str, customer: str, when: datetime, rng: random.Random) -> Sent:
    """One synthetic purchase of two lines, some 690 bytes."""
    lines = [
        {
            "line_id": str(index + 1),
            "sku": f"S{rng.randrange(4000):04}",
            "name": "White hanging heart",
            "category": "home",
            "kind": "product",
            "quantity": str(rng.randrange(1, 6)),
            "unit_price": f"{rng.randrange(50, 4000) / 100:.2f}",
        }
        for index in range(2)
    ]
    time = f"{when:%Y-%m-%dT%H:%M:%SZ}"
    event = {
        "specversion": "1.0",
        "id": f"purchase-{order}",
        "source": SOURCE,
        "type": purchases.COMPLETED,
        "subject": order,
        "time": time,
        "datacontenttype": "application/json",
        "data": {
            "order_id": order,
            "customer_id": customer,
            "currency": "GBP",
            "occurred_at": time,
            "lines": lines,
        },
    }
    key = customer.encode()
    return Sent(partition(key), key, json.dumps(event, separators=(",", ":")).encode())


def partition(key: bytes) -> int:
    """Where Java's and our producers put this key."""
    return int((murmur2(key) & 0x7FFFFFFF) % PARTITIONS)


def _converted(cache: Path) -> Path:
    """The real purchases as events, converted once by the product's own command."""
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        part = cache.with_suffix(".part")
        command = [
            sys.executable,
            "-m",
            "shared.cli.main",
            "convert",
            "online-retail",
            str(REAL_DATA),
        ]
        with part.open("wb") as out:
            subprocess.run(command, stdout=out, cwd=ROOT, check=True)
        part.rename(cache)
    return cache


class _Ids(msgspec.Struct):
    order_id: str
    customer_id: str | None = None


_envelope = msgspec.json.Decoder(Incoming).decode
_ids = msgspec.json.Decoder(_Ids).decode


def _renumbered(line: bytes, number: int) -> Sent:
    """The event with its own order and customer id for a further pass; pass 0 stays as it is."""
    envelope = _envelope(line)
    ids = _ids(envelope.data)
    customer = ids.customer_id
    if number:
        line = _replace(line, b'"id":', envelope.id, f"{envelope.id}-{number}")
        line = _replace(line, b'"order_id":', ids.order_id, f"{ids.order_id}-{number}")
        if customer:
            line = _replace(line, b'"customer_id":', customer, f"{customer}-{number}")
            customer = f"{customer}-{number}"
    if customer is None:
        return Sent(crc32(envelope.id.encode()) % PARTITIONS, None, line)
    key = customer.encode()
    return Sent(partition(key), key, line)


def _replace(line: bytes, field: bytes, old: str, new: str) -> bytes:
    before, after = f'"{old}"'.encode(), f'"{new}"'.encode()
    for gap in (b"", b" "):
        if field + gap + before in line:
            return line.replace(field + gap + before, field + gap + after, 1)
    raise ValueError(f"no {field.decode()} {old!r} in the event")


def _with_repeats(events: list[Sent]) -> list[Sent]:
    out: list[Sent] = []
    for index, event in enumerate(events):
        out.append(event)
        again = index - REPEAT_AFTER
        if again >= 0 and again % REPEAT_EVERY == 0:
            out.append(events[again])
    return out
