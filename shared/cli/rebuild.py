"""``treue rebuild``: the databases once more from what the services were told, and whether they are equal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.status import Status

from shared import clock
from shared.cli.agreement import alongside
from shared.cli.building import Site, built
from shared.cli.common import DirOption, layout_of
from shared.cli.digest import OF_EACH, of_items
from shared.cli.letters import connection
from shared.cli.rebuilding import Databases
from shared.db.types import Connection
from shared.errors import UsageError
from shared.stack.files import read_json

NAMED_MAX = 20
KIB_A_MIB = 1024
FACTS = Path(__file__).parent / "sql" / "rebuild.sql"

# Customers in order, each with the fingerprint of what they have.
Each = AsyncIterator[tuple[str, str]]


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
    peak_mib: dict[str, float] = field(default_factory=dict)
    databases: list[str] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether every customer has the same."""
        return not any(part.differ for part in self.parts.values())


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
    async with built(site, began, status) as done:
        report = Report(done.records, done.facts, done.dead_letters, moved=done.moved)
        report.databases = list(done.databases.names.values()) if site.keep else []
        if site.live is not None:
            report.parts = await compare(site.live["postgres"], done.databases)
    report.seconds = round((clock.now() - began).total_seconds(), 1)
    report.peak_mib = {"command": _own_peak(), "largest service": _peak(RUSAGE_CHILDREN)}
    return report


def _own_peak() -> float:
    """The most memory, in MiB, that this process has ever had at once.

    As the kernel tells it of processes; where it does not, ``getrusage``, which may count who started us in.
    """
    try:
        told = Path("/proc/self/status").read_text()
    except OSError:
        return _peak(RUSAGE_SELF)
    lines = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
    return round(int(lines["VmHWM"].split()[0]) / KIB_A_MIB, 1)


def _peak(who: int) -> float:
    """The same of the process, or of the largest of those it has waited for."""
    return round(getrusage(who).ru_maxrss / KIB_A_MIB, 1)


async def compare(live: Mapping[str, str], made: Databases) -> dict[str, Part]:
    """Every customer's share of every part of the digest, and of the facts beside it, here and there."""
    found: dict[str, Part] = {}
    for service, name, items in (*of_items(), *of_items(FACTS)):
        query = OF_EACH.format(items=items)
        async with (
            connection(service, live[service]) as one,
            connection(service, made.dsns[service]) as other,
            one.transaction(isolation="repeatable_read", readonly=True),
            other.transaction(isolation="repeatable_read", readonly=True),
        ):
            found[name] = await differing(_each(one, query), _each(other, query))
    return found


async def differing(here: Each, there: Each) -> Part:
    """Read both alongside each other, in the order of customers: neither has to fit into memory."""
    part = Part()
    async for key, one, other in alongside(here, there):
        part.customers += one is not None
        if one != other:
            part.differ += 1
            if len(part.named) < NAMED_MAX:
                part.named.append(key)
    return part


async def _each(conn: Connection, query: str) -> Each:
    async for row in conn.cursor(query, prefetch=1000, timeout=600):
        yield row["key"], row["sha256"]


def _plain(report: Report) -> dict[str, Any]:
    return {
        "equal": report.equal,
        "compared": bool(report.parts),
        "records": report.records,
        "facts": report.facts,
        "dead_letters": report.dead_letters,
        "seconds": report.seconds,
        "peak_mib": report.peak_mib,
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
        print(f"{name:12}{part.customers:>10,} customers  {says}")
        if part.named:
            more = (
                f" … and {part.differ - len(part.named):,} more"
                if part.differ > len(part.named)
                else ""
            )
            print(f"{'':12}{', '.join(part.named)}{more}")
    if report.moved:
        print(
            "New events came meanwhile: whoever they concern may be named. Run `treue drain`, then again."
        )
    if report.databases:
        print(f"Kept: {', '.join(report.databases)}")
    if not report.parts:
        print("There was no live stack to compare with.")
