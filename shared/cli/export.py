"""``treue export``: what the services were told and what no event tells, as JSON lines that outlive Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from shared import clock
from shared.cli import inputs
from shared.cli.common import DirOption, layout_of, load_stack, versions_of
from shared.cli.inputs import Line
from shared.cli.letters import connection
from shared.cli.rebuilding import run
from shared.cli.verify import environment
from shared.contracts.catalogue import CONSUMES
from shared.db import statements
from shared.stack.layout import Layout

sql = statements.load(Path(__file__).parent / "sql" / "export.sql")
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Kept:
    """What the databases alone know: facts by service, which records were buried, and how far all was read.

    ``programs`` are the program file (under None) and its later versions, by their names.
    """

    facts: dict[str, list[bytes]] = field(default_factory=dict)
    buried: set[tuple[str, int, int]] = field(default_factory=set)
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    programs: dict[str | None, str] = field(default_factory=dict)


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Gzipped if it ends in .gz.")],
    folder: DirOption = None,
    from_export: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="An earlier export with what Kafka no longer has."),
    ] = None,
) -> None:
    """Write all input events and all facts as JSON lines, for `treue rebuild --from-export`."""
    records, facts = asyncio.run(_export(load_stack(folder), layout_of(folder), file, from_export))
    print(f"{records:,} records and {facts:,} facts written to {file}.")


async def _export(
    stack: Mapping[str, Any], layout: Layout, path: Path, earlier: str | None
) -> tuple[int, int]:
    kept = await kept_by(stack, layout, None)
    count = 0
    draft = path.with_name(f".half-{path.name}")
    try:
        with inputs.open_for_writing(draft) as file:
            head = {"version": version("treue"), "at": clock.now().isoformat()}
            file.write(_encode(Line(export=head)) + b"\n")
            for program in kept.programs.items():
                file.write(_encode(Line(program=program)) + b"\n")
            for place in sorted(kept.buried):
                file.write(_encode(Line(buried=place)) + b"\n")
            for service, lines in kept.facts.items():
                for line in lines:
                    file.write(_encode(Line(service=service, fact=msgspec.Raw(line))) + b"\n")
            async for records in inputs.all_of(stack["kafka"], earlier, kept.positions):
                count += len(records)
                file.write(b"".join(inputs.record_line(r) + b"\n" for r in records))
        # Nobody shall take half an export for a whole one.
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count, sum(map(len, kept.facts.values()))


async def kept_by(live: Mapping[str, Any] | None, layout: Layout, export: str | None) -> Kept:
    """Of the live databases where there are any, else of the export."""
    kept = Kept()
    if live is None:
        for line in inputs.lines_of(export or ""):
            if line.buried is not None:
                kept.buried.add(line.buried)
            elif line.service is not None:
                kept.facts.setdefault(line.service, []).append(bytes(line.fact))
            elif line.program is not None:
                name, text = line.program
                kept.programs[name] = text
        return kept
    kept.programs = _programs(live, layout)
    # Inputs are the affair of points alone: the others hear of them through it.
    kept.positions = await positions(live)
    async with connection("points", live["postgres"]["points"]) as conn:
        for row in await conn.fetch(sql.buried, inputs.INPUTS):
            kept.buried.add((row["topic"], row["partition"], row["offset"]))
    for name in CONSUMES:
        told = await run(name, "facts", environment(name, live, layout))
        kept.facts[name] = told.splitlines()
    return kept


def _programs(live: Mapping[str, Any], layout: Layout) -> dict[str | None, str]:
    found: dict[str | None, str] = {None: Path(live["program"]).read_text()}
    for file in sorted(versions_of(live, layout).glob("*.yaml")):
        found[file.name] = file.read_text()
    return found


async def positions(live: Mapping[str, Any]) -> dict[tuple[str, int], int]:
    """How far the live services have read their inputs."""
    async with connection("points", live["postgres"]["points"]) as conn:
        rows = await conn.fetch(sql.positions, inputs.INPUTS)
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
