"""``treue rebuild``: the databases once more from what the services were told, and whether they are equal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.status import Status

from shared import clock
from shared.cli import inputs, rebuilding
from shared.cli.common import DirOption, layout_of
from shared.cli.digest import OF_EACH, of_items
from shared.cli.export import Kept, kept_by
from shared.cli.letters import connection
from shared.cli.rebuilding import SUFFIX, Databases, Rebuilt
from shared.contracts.catalogue import CONSUMES
from shared.db import roles
from shared.db.types import Connection
from shared.errors import UsageError
from shared.events.model import Record
from shared.stack.files import read_json
from shared.stack.layout import Layout

NAMED_MAX = 20


@dataclass(slots=True)
class Part:
    """How one kind of thing compares: customers who have it here, and those who differ (the first are named)."""

    customers: int = 0
    differ: int = 0
    named: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What was replayed, and how it compares; no parts where there was nothing to compare with."""

    records: int = 0
    facts: int = 0
    dead_letters: int = 0
    seconds: float = 0.0
    moved: bool = False
    databases: list[str] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether every customer has the same."""
        return not any(part.differ for part in self.parts.values())


@dataclass(frozen=True, slots=True)
class Site:
    """What is rebuilt: the live stack, or what an export holds of one that is no more (``live`` is None)."""

    layout: Layout
    live: Mapping[str, Any] | None
    export: str | None
    into: Path | None
    keep: bool
    program: Path | None


def rebuild(
    folder: DirOption = None,
    from_export: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What Kafka no longer has, from `treue export`."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Build in a PostgreSQL of its own in DIR, and keep it."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the databases that were built (NAME_rebuilt).")
    ] = False,
    program: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The program, where no stack is up to tell it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Build the databases anew from Kafka, beside the live ones, and compare every customer.

    Nothing of the live stack is touched or waited for; run `treue drain` before. Exit code 1 names who differs.
    """
    layout = layout_of(folder)
    live = read_json(layout.stack_json)
    if live is None and (from_export is None or into is None):
        raise UsageError(
            f"no stack is up in {layout.dir}: start it with `treue up`, or build one from an export with"
            " --from-export FILE --into DIR"
        )
    site = Site(layout, live, from_export, into, keep or into is not None, program)
    with Console(stderr=True).status("Building …") as status:
        report = asyncio.run(_rebuild(site, status))
    print(json.dumps(_plain(report), indent=2)) if as_json else _show(report)
    if not report.equal:
        raise typer.Exit(1)


async def _rebuild(site: Site, status: Status) -> Report:
    began = clock.now()
    report = Report()
    async with _place(site) as (made, layout, stack):
        kept = await kept_by(site.live, site.layout, site.export)
        async with rebuilding.services(made, stack, layout, began) as rebuilt:
            report.facts = await _take(kept, made, stack, layout)
            async for records in _records(site, kept):
                await rebuilt.feed(records, kept.buried)
                _tell(status, rebuilt)
            await rebuilt.let_time_pass()
        report.records = rebuilt.counts["records"]
        report.dead_letters = rebuilt.counts["dead letters"]
        report.databases = list(made.names.values()) if site.keep else []
        if site.live is not None:
            report.parts = await compare(site.live["postgres"], made)
            report.moved = (await kept_by(site.live, site.layout, None)).positions != kept.positions
    report.seconds = round((clock.now() - began).total_seconds(), 1)
    return report


@asynccontextmanager
async def _place(site: Site) -> AsyncIterator[tuple[Databases, Layout, Mapping[str, Any]]]:
    """Where it is built, and what the services there are told: beside the live databases, or in another folder."""
    if site.into is None:
        if site.live is None:
            raise UsageError("no stack is up: build into a folder of its own with --into DIR")
        admin = rebuilding.admin_of(site.live, site.layout)
        names = {name: name + SUFFIX for name in CONSUMES}
        async with rebuilding.databases(admin, names, keep=site.keep) as made:
            yield made, site.layout, site.live
        return
    from shared.stack.control import default_program  # noqa: PLC0415

    layout = Layout(site.into.expanduser().resolve())
    program = site.program or default_program()
    stack = site.live or rebuilding.nowhere(program)
    # The codes of vouchers are made with the secret of the stack they are from.
    secrets = site.layout if site.layout.secret.is_file() else layout
    with _cluster(layout) as (admin, passwords):
        await roles.ensure(admin, passwords)
        names = {name: name for name in CONSUMES}
        async with rebuilding.databases(admin, names, keep=True) as made:
            yield made, secrets, stack


@contextmanager
def _cluster(layout: Layout) -> Iterator[tuple[str, Mapping[str, str]]]:
    """A PostgreSQL in the folder, as `treue up` makes it, while the block lasts: its superuser, its passwords."""
    from shared.stack import credentials, processes, servers  # noqa: PLC0415

    layout.create()
    secrets = credentials.ensure(layout)
    (port,) = processes.free_ports(1)
    cluster = servers.cluster_of(layout, secrets, port)
    cluster.prepare()
    server = servers.Server(cluster.spec(), layout.dir)
    server.start()
    try:
        yield cluster.superuser_dsn(), secrets.passwords
    finally:
        server.stop()


async def _take(kept: Kept, made: Databases, stack: Mapping[str, Any], layout: Layout) -> int:
    """Have the services take what no event tells, before they hear of any event."""
    count = 0
    for name, lines in kept.facts.items():
        if lines:
            settings = rebuilding.settings_of(made, name, stack, layout)
            await rebuilding.run(name, "take-facts", settings, b"\n".join(lines))
            count += len(lines)
    return count


async def _records(site: Site, kept: Kept) -> AsyncIterator[list[Record]]:
    """The export's records, then what Kafka has beyond them, as far as the live services have come."""
    known: dict[tuple[str, int], int] = {}
    if site.export is not None:
        batch: list[Record] = []
        for line in inputs.lines_of(site.export):
            record = inputs.record_of(line)
            if record is None:
                continue
            known[record.topic, record.partition] = record.offset + 1
            batch.append(record)
            if len(batch) == inputs.BATCH_ROWS:
                yield batch
                batch = []
        if batch:
            yield batch
    if site.live is not None:
        async with inputs.reading(site.live["kafka"]) as consumer:
            async for records in inputs.read(consumer, known, kept.positions):
                yield records


def _tell(status: Status, rebuilt: Rebuilt) -> None:
    status.update(f"Replayed {rebuilt.counts['records']:,} records")


async def compare(live: Mapping[str, str], made: Databases) -> dict[str, Part]:
    """Every customer's share of every part of the digest, here and there."""
    found: dict[str, Part] = {}
    for service, name, items in of_items():
        part = found[name] = Part()
        query = OF_EACH.format(items=items)
        async with (
            connection(service, live[service]) as one,
            connection(service, made.dsns[service]) as other,
        ):
            here, there = await _each(one, query), await _each(other, query)
        part.customers = len(here)
        differ = sorted(
            key for key in here.keys() | there.keys() if here.get(key) != there.get(key)
        )
        part.differ, part.named = len(differ), differ[:NAMED_MAX]
    return found


async def _each(conn: Connection, query: str) -> dict[str, bytes]:
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        return {
            row["key"]: bytes.fromhex(row["sha256"])
            async for row in conn.cursor(query, prefetch=1000, timeout=600)
        }


def _plain(report: Report) -> dict[str, Any]:
    return {
        "equal": report.equal,
        "compared": bool(report.parts),
        "records": report.records,
        "facts": report.facts,
        "dead_letters": report.dead_letters,
        "seconds": report.seconds,
        "moved": report.moved,
        "databases": report.databases,
        "parts": {
            name: {"customers": part.customers, "differ": part.differ, "named": part.named}
            for name, part in report.parts.items()
        },
    }


def _show(report: Report) -> None:
    print(
        f"Rebuilt from {report.records:,} records and {report.facts:,} facts in {report.seconds} s;"
        f" {report.dead_letters:,} dead letters."
    )
    for name, part in report.parts.items():
        says = f"{part.differ:,} differ" if part.differ else "equal"
        print(f"{name:10}{part.customers:>10,} customers  {says}")
        if part.named:
            more = (
                f" … and {part.differ - len(part.named):,} more"
                if part.differ > len(part.named)
                else ""
            )
            print(f"{'':10}{', '.join(part.named)}{more}")
    if report.moved:
        print(
            "New events came meanwhile: whoever they concern may be named. Run `treue drain`, then again."
        )
    if report.databases:
        print(f"Kept: {', '.join(report.databases)}")
    if not report.parts:
        print("There was no live stack to compare with.")
