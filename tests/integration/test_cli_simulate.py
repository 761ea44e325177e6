"""What other rules would have given, by the services' own code on databases that are gone afterwards."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from rich.console import Console

from shared.cli import compare
from shared.cli.compare import Comparison
from shared.cli.simulate import recorded, replay, show
from shared.cli.whatif import PREFIX, Rules
from shared.contracts import purchases
from shared.contracts.catalogue import TOPICS
from shared.errors import TreueError
from shared.events.model import Record
from shared.program import Program, load, versions
from shared.stack import topics
from tests.fixtures.events import event, purchase, records
from tests.fixtures.servers import Addresses

pytestmark = pytest.mark.servers

RULES = """
program: demo
name: Treueprogramm
currency: GBP
timezone: Europe/London
earning:
  base: {points: 1, per: "1.00"}
  point_value: "0.01"
  expiry: {after: P12M, round_up: month_end}
tiers:
  window: {kind: lifetime}
  levels:
    - {id: bronze, name: Bronze, threshold: 0}
    - {id: silver, name: Silber, threshold: 500, multiplier: "1.5"}
"""
BOUGHT = [
    event(purchase("o1", "regular", "2026-01-05T10:00:00Z", "400.00")),
    event(purchase("o2", "regular", "2026-02-05T10:00:00Z", "200.00")),
    event(purchase("o3", "regular", "2026-03-05T10:00:00Z", "100.00")),
    event(purchase("o4", "small", "2026-03-05T10:00:00Z", "0.90")),
    event(purchase("o5", "old", "2024-03-05T10:00:00Z", "50.00")),
    event(purchase("bad", "small", "2026-03-05T10:00:00Z", "1.00", currency="XYZ")),
]


async def batches(*chunks: Sequence[Any]) -> AsyncIterator[Sequence[Record]]:
    start = 0
    for chunk in chunks:
        yield records(chunk, start=start)
        start += len(chunk)


async def compared(
    servers: Addresses, folder: Path, new: str, *chunks: Sequence[Any]
) -> tuple[Comparison, str]:
    """The comparison of RULES with other rules, and what a person is shown of it."""
    files = folder / "old.yaml", folder / "new.yaml"
    files[0].write_text(RULES)
    files[1].write_text(new)
    programs: tuple[Program, Program] = (load(files[0]), load(files[1]))
    given = chunks or (BOUGHT[:2], BOUGHT[2:])
    count, found = await replay(servers.dsn, list(map(Rules, files)), programs, batches(*given))
    assert count == sum(map(len, given))
    named = {
        name: {"id": p.id, "version": p.version}
        for name, p in zip(("old", "new"), programs, strict=True)
    }
    report = {"program": named, "currency": "GBP", **compare.plain(found)}
    assert json.loads(json.dumps(report)) == report
    text = io.StringIO()
    show(report, found, Console(file=text, width=120, highlight=False))
    return found, text.getvalue()


async def leftovers(servers: Addresses) -> int:
    conn = await asyncpg.connect(servers.dsn)
    try:
        count: int = await conn.fetchval(
            "SELECT count(*) FROM pg_database WHERE starts_with(datname, $1)", PREFIX
        )
    finally:
        await conn.close()
    return count


async def test_an_unchanged_program_changes_nothing(servers: Addresses, tmp_path: Path) -> None:
    # Only a comment and the layout differ: the same rules.
    found, text = await compared(servers, tmp_path, f"# other words\n{RULES}")
    assert not found.changes
    assert found.old == found.new
    assert (found.old.earned, found.old.expired, found.old.dead_letters) == (800, 50, 1)
    assert found.old.levels == {"bronze": 2, "silver": 1}
    assert "Nothing changes" in text
    assert await leftovers(servers) == 0


async def test_other_rules_are_told_in_points_money_levels_and_people(
    servers: Addresses, tmp_path: Path
) -> None:
    new = RULES.replace('per: "1.00"', 'per: "2.00"').replace("threshold: 500", "threshold: 2000")
    found, text = await compared(servers, tmp_path, new)
    assert found.changes
    # 400 + 200 + 100 × 1.5 in the old, all halves in the new; small's 0.90 is worth nothing in either.
    assert (found.old.granted, found.new.granted) == (800, 375)
    assert (str(found.old.worth), str(found.new.worth)) == ("8.00", "3.75")
    assert [(s.customer_id, s.granted, s.left) for s in found.losers] == [
        ("regular", -400, -400),
        ("old", -25, 0),
    ]
    assert found.winners == []
    assert found.moves == {("silver", "bronze"): 1}
    assert (found.old.upgrades, found.new.upgrades) == (1, 0)
    assert "2 customers lose: -425 points granted, -400 left today" in text
    assert "silver → bronze: 1 customer" in text
    assert "-425" in text
    assert "8.00" in text


async def test_only_dates_change_and_it_is_said(servers: Addresses, tmp_path: Path) -> None:
    new = RULES.replace("expiry: {after: P12M, round_up: month_end}", "expiry: {after: P13M}")
    found, text = await compared(servers, tmp_path, new)
    assert found.changes
    assert found.old.granted == found.new.granted
    assert (found.winners, found.losers) == ([], [])
    assert "other dates" in text


async def test_longer_life_lets_customers_win_what_is_left(
    servers: Addresses, tmp_path: Path
) -> None:
    new = RULES.replace("expiry: {after: P12M, round_up: month_end}", "expiry: {kind: none}")
    found, _ = await compared(servers, tmp_path, new)
    assert [(s.customer_id, s.granted, s.left) for s in found.winners] == [("old", 0, 50)]
    assert (found.old.expired, found.new.expired) == (50, 0)


async def test_batches_and_their_order_decide_nothing(servers: Addresses, tmp_path: Path) -> None:
    one, _ = await compared(servers, tmp_path, RULES, BOUGHT)
    other, _ = await compared(servers, tmp_path, RULES, *[[item] for item in reversed(BOUGHT)])
    assert one.old == other.old


async def test_what_goes_wrong_is_said_and_nothing_stays_behind(
    servers: Addresses, tmp_path: Path
) -> None:
    async def broken() -> AsyncIterator[Sequence[Record]]:
        yield records(BOUGHT[:1])
        raise TreueError("no more")

    file = tmp_path / "old.yaml"
    file.write_text(RULES)
    program = load(file)
    with pytest.raises(TreueError, match="no more"):
        await replay(servers.dsn, [Rules(file)] * 2, (program, program), broken())
    assert await leftovers(servers) == 0


DAY = timedelta(days=1)
JANUARY, FEBRUARY = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("span", "orders"),
    [
        ((None, None), {"december", "first", "last", "february", "unread"}),
        ((JANUARY, FEBRUARY), {"first", "last", "unread"}),
        ((None, JANUARY), {"december", "unread"}),
        ((FEBRUARY, None), {"february", "unread"}),
    ],
)
async def test_what_was_recorded_is_read_to_its_end(
    kafka: str, span: tuple[datetime | None, datetime | None], orders: set[str]
) -> None:
    await topics.create(kafka, TOPICS)
    mark = uuid.uuid4().hex
    dated = {
        "december": JANUARY - DAY,
        "first": JANUARY,
        "last": FEBRUARY - timedelta(seconds=1),
        "february": FEBRUARY,
    }
    values = [
        json.dumps(event(purchase(f"{mark}-{order}", at=at.isoformat()))).encode()
        for order, at in dated.items()
    ]
    producer = AIOKafkaProducer(bootstrap_servers=kafka, client_id="test")
    await producer.start()
    for number, value in enumerate([*values, f'no JSON, {mark}-unread"'.encode()]):
        await producer.send_and_wait(purchases.TOPIC, value, partition=number % 6)
    await producer.stop()
    found = [r.value or b"" async for batch in recorded(kafka, span) for r in batch]
    read = {
        order
        for order in (*dated, "unread")
        if any(f'{mark}-{order}"'.encode() in v for v in found)
    }
    assert read == orders


def test_the_level_at_an_instant() -> None:
    program = load(Path(__file__).parents[2] / "programs" / "demo.yaml")
    assert compare.tier_at([], datetime(2026, 1, 1, tzinfo=UTC), program) == "bronze"


GIFTS = RULES.replace('multiplier: "1.5"}', 'multiplier: "1.5", on_reach: [ten]}') + (
    'vouchers: {ten: {kind: percent, percent: "10", valid_for: P90D}}\n'
)


async def test_other_vouchers_change_something_and_it_is_said(
    servers: Addresses, tmp_path: Path
) -> None:
    found, text = await compared(servers, tmp_path, GIFTS)
    assert found.changes
    assert (found.old.vouchers, found.new.vouchers, found.touched) == (0, 1, 1)
    assert (found.winners, found.losers, found.moves) == ([], [], {})
    assert "vouchers given" in text
    assert "other vouchers" in text


async def test_versions_are_replayed_each_in_its_time(servers: Addresses, tmp_path: Path) -> None:
    spring = (
        "  campaigns: [{id: spring, from: 2026-01-01, until: 2026-12-31, bonus: 7}]\n  point_value"
    )
    second = GIFTS.replace("  point_value", spring).replace("threshold: 500", "threshold: 650")
    third = second.replace('"1.5"', '"2"').replace('percent: "10"', 'percent: "20"')
    file = tmp_path / "program.yaml"
    file.write_text(GIFTS)
    for name, first in (("one", second), ("other", third)):
        draft = tmp_path / f"{name}.yaml"
        draft.write_text(first)
        versions.apply(tmp_path / name, load(file), draft, FEBRUARY, JANUARY)
    program = load(file)
    one, other = (Rules(file, tmp_path / name) for name in ("one", "other"))
    _, same = await replay(servers.dsn, [one, one], (program, program), batches(BOUGHT))
    assert not same.changes
    # 400, 207, 107: silver takes 650 by then, and is reached with the third; small's bonus, and none in 2024.
    assert (same.old.granted, same.old.upgrades, same.old.vouchers) == (771, 1, 1)
    _, found = await replay(servers.dsn, [one, other], (program, program), batches(BOUGHT))
    # What silver gives from February on: nothing was bought with it, but another voucher comes with it.
    assert (found.old.granted, found.new.granted, found.touched) == (771, 771, 1)
    _, found = await replay(servers.dsn, [Rules(file), one], (program, program), batches(BOUGHT))
    # Without the version: no bonus, silver in February, so the third purchase is worth half more.
    assert (found.old.granted, found.new.granted) == (800, 771)
