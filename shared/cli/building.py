"""What a rebuild goes through: a place for the databases, the facts, every record, and what time does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.status import Status

from shared.cli import inputs, rebuilding
from shared.cli.export import Kept, kept_by, positions
from shared.cli.feeding import Rebuilt
from shared.cli.rebuilding import Databases
from shared.contracts import rewards
from shared.contracts.catalogue import CONSUMES
from shared.db import roles
from shared.errors import UsageError
from shared.stack.layout import Layout


@dataclass(frozen=True, slots=True)
class Site:
    """What is rebuilt: the live stack, or what an export holds of one that is no more (``live`` is None)."""

    layout: Layout
    live: Mapping[str, Any] | None
    export: str | None
    into: Path | None
    keep: bool
    program: Path | None
    called: str = "rebuilt"


@dataclass(frozen=True, slots=True)
class Built:
    """The databases as they are now, what went into them, and whether the live ones went on meanwhile."""

    databases: Databases
    records: int
    facts: int
    dead_letters: int
    moved: bool


@asynccontextmanager
async def built(site: Site, now: datetime, status: Status) -> AsyncIterator[Built]:
    """The databases built anew, for as long as the block."""
    kept = await kept_by(site.live, site.layout, site.export)
    async with _place(site, kept) as (made, layout, stack):
        async with rebuilding.services(made, stack, layout, now) as rebuilt:
            facts = await _take(kept, made, stack, layout)
            bootstrap = site.live["kafka"] if site.live is not None else None
            async for records in inputs.all_of(bootstrap, site.export, kept.positions):
                await rebuilt.feed(records, kept.buried)
                _tell(status, rebuilt)
            await rebuilt.let_time_pass()
        counts, moved = rebuilt.counts, False
        if site.live is not None:
            moved = _told(await positions(site.live)) != _told(kept.positions)
        yield Built(made, counts["records"], facts, counts["dead letters"], moved)


@asynccontextmanager
async def _place(
    site: Site, kept: Kept
) -> AsyncIterator[tuple[Databases, Layout, Mapping[str, Any]]]:
    """Where it is built, and what the services there are told: beside the live databases, or in another folder."""
    if site.into is None:
        if site.live is None:
            raise UsageError("no stack is up: build into a folder of its own with --into DIR")
        admin = rebuilding.admin_of(site.live, site.layout)
        names = {name: f"{name}_{site.called}" for name in CONSUMES}
        async with rebuilding.databases(admin, names, keep=site.keep) as made:
            yield made, site.layout, site.live
        return
    layout = Layout(site.into.expanduser().resolve())
    stack = site.live or _rules(layout, site.program, kept)
    # The codes of vouchers are made with the secret of the stack they are from.
    secrets = site.layout if site.layout.secret.is_file() else layout
    with _cluster(layout) as (admin, passwords):
        await roles.ensure(admin, passwords)
        names = {name: name for name in CONSUMES}
        async with rebuilding.databases(admin, names, keep=True) as made:
            yield made, secrets, stack


def _rules(layout: Layout, program: Path | None, kept: Kept) -> Mapping[str, Any]:
    """Put the program files of an export where a stack in this folder would have them; a stack of these alone."""
    from shared.stack.control import default_program  # noqa: PLC0415

    layout.versions.mkdir(parents=True, exist_ok=True)
    strange = {file.name for file in layout.versions.glob("*.yaml")} - kept.programs.keys()
    if strange:
        raise UsageError(
            f"{layout.versions} has versions of the program that the export does not know:"
            f" {', '.join(sorted(strange))}"
        )
    for name, text in kept.programs.items():
        # Only a name, whatever somebody has written into the file.
        file = layout.program if name is None else layout.versions / Path(name).name
        file.write_text(text)
    found = program or (layout.program if None in kept.programs else default_program())
    return rebuilding.nowhere(found, layout.versions)


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


def _told(read: Mapping[tuple[str, int], int]) -> Mapping[tuple[str, int], int]:
    """What came from outside: on the topic of rewards stand mostly its own words, told late, to no effect."""
    return {place: offset for place, offset in read.items() if place[0] != rewards.TOPIC}


async def _take(kept: Kept, made: Databases, stack: Mapping[str, Any], layout: Layout) -> int:
    """Have the services take what no event tells, before they hear of any event."""
    count = 0
    for name, lines in kept.facts.items():
        if lines:
            settings = rebuilding.settings_of(made, name, stack, layout)
            await rebuilding.run(name, "take-facts", settings, b"\n".join(lines))
            count += len(lines)
    return count


def _tell(status: Status, rebuilt: Rebuilt) -> None:
    status.update(f"Replayed {rebuilt.counts['records']:,} records")
