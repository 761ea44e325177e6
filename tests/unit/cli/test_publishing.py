"""Where a line goes and under which key; lines out of bytes; what is said at the end."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from shared.cli import lines as reading
from shared.cli.files import open_bytes, position, size_of
from shared.cli.lines import Chunks
from shared.cli.publish import summary, told
from shared.cli.publisher import Result
from shared.cli.routing import Rejected, route
from shared.contracts.catalogue import STRUCTS, TOPIC_OF, TOPICS
from shared.errors import UsageError


def line(**changes: Any) -> bytes:
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/shops/x",
        "type": "treue.purchase.completed.v1",
        "data": {"order_id": "o1", "customer_id": "c1"},
    }
    return json.dumps({k: v for k, v in (event | changes).items() if v is not None}).encode()


@pytest.mark.parametrize(
    ("given", "topic", "key"),
    [
        (line(), "treue.purchases", b"c1"),
        (line(data={"order_id": "o1"}), "treue.purchases", b"o1"),
        (line(data={"order_id": "o1", "customer_id": None}), "treue.purchases", b"o1"),
        (line(data={"order_id": "o1", "customer_id": "ä"}), "treue.purchases", "ä".encode()),
        # What is wrong inside data is for the services to say: it goes out, with the best key there is.
        (line(data={"order_id": "o1", "customer_id": 5}), "treue.purchases", b"1"),
        (line(data={"order_id": 7, "customer_id": "c1"}), "treue.purchases", b"c1"),
        (line(data=[1]), "treue.purchases", b"1"),
        (line(data=None), "treue.purchases", b"1"),
        (line(type="treue.purchase.refunded.v1"), "treue.purchases", b"c1"),
        (line(type="treue.activity.completed.v1"), "treue.activities", b"c1"),
        (line(type="treue.customer.enrolled.v1"), "treue.activities", b"c1"),
        (line(type="treue.points.earned.v1"), "treue.points", b"c1"),
        (line(type="treue.tier.upgraded.v1"), "treue.tiers", b"c1"),
        (line(type="treue.voucher.issued.v1"), "treue.rewards", b"c1"),
    ],
)
def test_route(given: bytes, topic: str, key: bytes) -> None:
    assert route(given) == (topic, key)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"x", "no CloudEvent in JSON"),
        (b"[]", "no CloudEvent in JSON"),
        (b"\xff\xfe", "no CloudEvent in JSON"),
        (b"[" * 100_000, "no CloudEvent in JSON"),
        (line(id=None), "`id`"),
        (line(source=None), "`source`"),
        (line(id=""), "id: is empty"),
        (line(source=""), "source: is empty"),
        (line(specversion="0.3"), "specversion: must be '1.0', is '0.3'"),
        (line(type="foo"), "type: 'foo' is unknown"),
    ],
)
def test_a_line_that_is_no_event_is_refused_with_the_reason(given: bytes, says: str) -> None:
    with pytest.raises(Rejected) as raised:
        route(given)
    assert says in str(raised.value)


def test_every_type_has_a_topic_that_exists() -> None:
    assert set(TOPIC_OF) == set(STRUCTS)
    assert set(TOPIC_OF.values()) <= {spec.name for spec in TOPICS}


async def collect(data: bytes) -> list[bytes]:
    found: list[bytes] = []
    async for some in Chunks(io.BytesIO(data), "some.jsonl"):
        found += some
    return found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\n\nb", [b"a", b"", b"b"]),
        (b"a\r\nb\r\n", [b"a\r", b"b\r"]),
    ],
)
async def test_lines(data: bytes, expected: list[bytes]) -> None:
    assert await collect(data) == expected


async def test_lines_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHUNK_BYTES", 7)
    expected = [str(number).encode() * 5 for number in range(200)]
    assert await collect(b"\n".join(expected)) == expected


async def test_a_line_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LINE_BYTES_MAX", 1000)
    with pytest.raises(UsageError, match=r"some.jsonl, line 3: is longer than 1,000 bytes"):
        await collect(b"a\nb\n" + b"c" * 2000)


async def test_a_broken_archive_is_named_with_its_line(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(f"{number}\n".encode() * 50 for number in range(20_000)))
    path = tmp_path / "broken.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with open_bytes(str(path)) as file, pytest.raises(UsageError, match=r"broken.gz, after line"):
        async for _ in Chunks(file, "broken.gz"):
            pass


async def test_a_pause_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "IDLE_SECONDS", 0.001)

    class Slow(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            asyncio.run(asyncio.sleep(0.05))
            return super().read1(size)

    found = [some async for some in Chunks(Slow(b"a\n"), "slow")]
    assert [] in found
    assert [b"a"] in found


def test_a_gzipped_file_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(gzip.compress(b"text" * 1000))
    with open_bytes(str(path)) as file:
        assert file.read() == b"text" * 1000
        assert position(file) == size_of(str(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or directory"):
        open_bytes(str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="is a directory"):
        open_bytes(str(tmp_path))
    assert size_of(str(tmp_path / "nothing")) is None


def test_what_is_told_at_the_end() -> None:
    result = Result()
    result.accepted.update({"treue.purchases": 5})
    result.acknowledged.update({"treue.purchases": 5})
    assert result.complete
    assert summary(result) == "Published 5 events (5 to treue.purchases)."
    result.rejected = [(7, "type: is unknown")]
    result.rejected_count = 30
    assert not result.complete
    assert summary(result) == "Published 5 events (5 to treue.purchases); 30 not published."
    assert told("-", result) == [
        "stdin, line 7: not published: type: is unknown",
        "… and 29 more lines that are no events of ours",
    ]


def test_an_event_that_was_not_acknowledged_is_not_published() -> None:
    result = Result()
    result.accepted.update({"treue.purchases": 5})
    result.acknowledged.update({"treue.purchases": 3})
    assert not result.complete
    assert "2 not published" in summary(result)
