"""``treue simulate``: what other rules would have given for the purchases that were made."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import msgspec
import typer
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from rich import box
from rich.console import Console
from rich.table import Table

from shared import clock
from shared.cli import compare
from shared.cli.common import DirOption, layout_of, load_stack, versions_of
from shared.cli.compare import Comparison, Outcome
from shared.cli.lag import Away, Watcher
from shared.cli.quiet import silence
from shared.cli.rebuilding import admin_of
from shared.cli.whatif import Rules, Side, sides
from shared.cli.words import counted
from shared.contracts import activities, purchases
from shared.contracts.tiers import TierMove
from shared.db import statements
from shared.errors import UsageError
from shared.events.model import Record
from shared.program import Program, ProgramError, load

sql = statements.load(Path(__file__).parent / "sql" / "simulate.sql")
_moves = msgspec.json.Decoder(list[TierMove])

TOPICS = (purchases.TOPIC, activities.TOPIC)
BATCH_RECORDS = 2000
BROKER_MS_MAX = 10_000


class _Data(msgspec.Struct):
    occurred_at: datetime | None = None


class _Envelope(msgspec.Struct):
    occurred_at: datetime | None = None
    data: _Data | None = None


_decode = msgspec.json.Decoder(_Envelope).decode


def simulate(
    program: Annotated[
        Path, typer.Option("--program", metavar="NEW.yaml", help="The other rules.")
    ],
    folder: DirOption = None,
    first: Annotated[
        str | None,
        typer.Option("--from", metavar="DATE", help="Only what happened from this day on."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DATE", help="… and up to this one, included.")
    ] = None,
    scratch: Annotated[
        str | None,
        typer.Option(
            metavar="DSN",
            help="Where databases for it may be made (default: the stack's own server, or TREUE_POSTGRES).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Replay the recorded events under the rules in force and under others, on databases of their own.

    Nothing is touched. What customers spent is left out: it would have been spent otherwise, nobody knows how.
    """
    stack = load_stack(folder)
    layout = layout_of(folder)
    files = (Rules(Path(stack["program"]), versions_of(stack, layout)), Rules(program))
    old, new = load(files[0].file), _load(program)
    span = _instant(first, old, 0), _instant(until, old, 1)
    admin = scratch or admin_of(stack, layout)
    began = time.monotonic()
    with Console(stderr=True).status("Preparing the replay …") as status:

        def tell(count: int) -> None:
            status.update(f"Replayed {counted(count, 'event')} under both programs …")

        records, found = asyncio.run(_replay(stack["kafka"], admin, files, (old, new), span, tell))
    report = {
        "program": {"old": _named(old), "new": _named(new)},
        "currency": new.currency,
        "from": first,
        "until": until,
        "events": records,
        **compare.plain(found),
    }
    if as_json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        show(report, found, Console(highlight=False))
        print(f"{counted(records, 'event')} replayed twice in {time.monotonic() - began:.0f} s.")


def _load(file: Path) -> Program:
    try:
        return load(file)
    except ProgramError as error:
        raise UsageError(str(error)) from None


def _named(program: Program) -> dict[str, str]:
    return {"id": program.id, "version": program.version}


def _instant(text: str | None, program: Program, days: int) -> datetime | None:
    if text is None:
        return None
    try:
        day = date.fromisoformat(text) + timedelta(days=days)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is not a day: write it as 2011-12-31") from None
    return clock.local_midnight(day, program.zone)


async def _replay(
    bootstrap: str,
    admin: str,
    files: tuple[Rules, Rules],
    programs: tuple[Program, Program],
    span: tuple[datetime | None, datetime | None],
    tell: Callable[[int], None],
) -> tuple[int, Comparison]:
    silence()
    async with aclosing(recorded(bootstrap, span)) as batches:
        return await replay(admin, files, programs, batches, tell)


async def replay(
    admin: str,
    files: Sequence[Rules],
    programs: tuple[Program, Program],
    batches: AsyncIterator[Sequence[Record]],
    tell: Callable[[int], None] = lambda _: None,
) -> tuple[int, Comparison]:
    """Apply the same records under both programs; how many there were, and what is different in the end."""
    now = clock.now()
    count = 0
    async with sides(admin, files, now) as both:
        async for batch in batches:
            await asyncio.gather(*(side.apply(batch) for side in both))
            count += len(batch)
            tell(count)
        await asyncio.gather(*(side.finish() for side in both))
        old, new = [
            await outcomes(side, now, program) for side, program in zip(both, programs, strict=True)
        ]
        found = compare.compare(old, new, programs)
        found.old.dead_letters, found.new.dead_letters = (side.dead_letters for side in both)
    return count, found


async def outcomes(side: Side, now: datetime, program: Program) -> dict[str, Outcome]:
    """What each customer has under a program."""
    rows = await _fetch(side.dsns["points"], sql.outcome, now)
    vouchers = {
        row["customer_id"]: (row["vouchers"], row["digest"])
        for row in await _fetch(side.dsns["rewards"], sql.vouchers)
    }
    found = {}
    for row in rows:
        way = _moves.decode(row["timeline"]) if row["timeline"] else []
        found[row["customer_id"]] = Outcome(
            *(row["earned"], row["taken"], row["left"], row["expired"], row["digest"] or ""),
            compare.tier_at(way, now, program),
            way,
            *vouchers.get(row["customer_id"], (0, "")),
        )
    return found


async def _fetch(dsn: str, query: str, *values: object) -> list[asyncpg.Record]:
    conn = await asyncpg.connect(dsn)
    try:
        return await conn.fetch(query, *values)
    finally:
        await conn.close()


async def recorded(
    bootstrap: str, span: tuple[datetime | None, datetime | None]
) -> AsyncGenerator[Sequence[Record], None]:
    """All events that shops and apps have sent up to now, in the order of each partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id="treue-simulate",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=BROKER_MS_MAX,
    )
    try:
        async with Watcher(bootstrap, {}) as watcher:
            found = await watcher.ends()
        ends = {TopicPartition(*place): end for place, end in found.items() if place[0] in TOPICS}
        places = sorted(ends)
        await consumer.start()
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        while True:
            open_places = [p for p in places if await consumer.position(p) < ends[p]]
            if not open_places:
                return
            got = await consumer.getmany(*open_places, timeout_ms=1000, max_records=BATCH_RECORDS)
            batch = [
                Record(r.topic, r.partition, r.offset, r.key, r.value, r.headers, r.timestamp)
                for place, records in got.items()
                for r in records
                if r.offset < ends[place] and _within(r.value, span)
            ]
            if batch:
                yield batch
    except (KafkaError, OSError, Away) as error:
        raise UsageError(f"Kafka at {bootstrap}: {error}; see `treue status`") from None
    finally:
        # Its own tasks end by being cancelled, and some of them say so (aiokafka without a group).
        await asyncio.gather(consumer.stop(), return_exceptions=True)


def _within(value: bytes | None, span: tuple[datetime | None, datetime | None]) -> bool:
    """Whether an event happened in the span; what says no instant stays: it will be refused by both."""
    first, until = span
    if value is None or (first is None and until is None):
        return True
    try:
        told = _decode(value)
    except msgspec.MsgspecError:
        return True
    at = told.data.occurred_at if told.data else told.occurred_at
    if at is None:
        return True
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return (first is None or first <= at) and (until is None or at < until)


ROWS = (
    ("points granted", "granted"),
    ("of these left today", "left"),
    ("expired", "expired"),
    ("taken back by refunds", "taken_back"),
    ("worth of the granted points", "worth"),
    ("upgrades", "upgrades"),
    ("downgrades", "downgrades"),
    ("vouchers given", "vouchers"),
    ("dead letters", "dead_letters"),
)


def show(report: Mapping[str, Any], found: Comparison, console: Console) -> None:
    """Old and new side by side, who wins and loses, and who would stand on another level."""
    old, new = report["old"], report["new"]
    versions = {name: f"{p['id']} {p['version']}" for name, p in report["program"].items()}
    if not found.changes:
        console.print(
            f"Nothing changes: {versions['new']} gives {counted(found.customers, 'customer')} the same"
            f" {new['granted']:,} points in the same lots, and the same levels and vouchers, as {versions['old']}."
        )
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", f"old: {versions['old']}", f"new: {versions['new']}", "difference"):
        table.add_column(name, justify="right" if name else "left")
    for title, key in ROWS:
        if old[key] is not None or new[key] is not None:
            unit = f" ({report['currency']})" if key == "worth" else ""
            table.add_row(title + unit, *_cells(old[key], new[key]))
    table.add_section()
    for level in dict.fromkeys((*old["levels"], *new["levels"])):
        name = f"customers on {level}" if level else "customers below the first level"
        table.add_row(name, *_cells(old["levels"].get(level, 0), new["levels"].get(level, 0)))
    console.print(table)
    for word, group in (("win", report["winners"]), ("lose", report["losers"])):
        _people(word, group, console)
    for move in report["tier_moves"]:
        count = counted(move["customers"], "customer")
        console.print(
            f"{move['from'] or 'no level'} → {move['to'] or 'no level'}: {count}", markup=False
        )
    if not report["winners"]["customers"] and not report["losers"]["customers"]:
        touched = counted(found.touched, "customer")
        console.print(
            f"{touched} would have other dates, another way or other vouchers, with the same points."
        )


def _people(word: str, group: Mapping[str, Any], console: Console) -> None:
    if not group["customers"]:
        return
    ends = "s" if group["customers"] == 1 else ""
    console.print(
        f"{counted(group['customers'], 'customer')} {word}{ends}:"
        f" {group['granted']:+,} points granted, {group['left']:+,} left today"
    )
    for item in group["most"]:
        console.print(
            f"  {item['customer_id']}: {item['granted']:+,} granted, {item['left']:+,} left",
            markup=False,
        )


def _cells(old: Any, new: Any) -> tuple[str, str, str]:
    if isinstance(old, int) and isinstance(new, int):
        return f"{old:,}", f"{new:,}", f"{new - old:+,}" if new != old else "="
    return str(old or "–"), str(new or "–"), "" if old == new else "≠"
