"""``treue verify``: the invariants of each service and those between them, with every violation named."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from shared.cli import agreement
from shared.cli.common import DirOption, layout_of, load_stack, versions_of
from shared.cli.lag import Look
from shared.cli.settle import settle
from shared.cli.words import counted
from shared.contracts.catalogue import CONSUMES
from shared.errors import UsageError
from shared.invariants import Result
from shared.stack.layout import Layout

BETWEEN = "between them"
FROM_EVENTS = "from the events"
# Jobs may have their moment just now: one that comes between is waited for, a stream is not.
TRIES_MAX = 3
STILL_SECONDS = 2.0


@dataclass(slots=True)
class Report:
    """What was checked, by service; ``left`` is what was still on its way, so that less could be checked."""

    checks: dict[str, list[Result]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        """How many rows contradict an invariant."""
        return sum(result.violations for results in self.checks.values() for result in results)

    @property
    def count(self) -> int:
        """How many invariants were checked."""
        return sum(len(results) for results in self.checks.values())

    @property
    def ok(self) -> bool:
        """Whether everything could be checked, and holds."""
        return not self.left and not self.violations


def verify(
    folder: DirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    events: Annotated[
        bool, typer.Option("--events", help="Read all events again, too, and recount every award.")
    ] = False,
) -> None:
    """Check the invariants over the three databases: exit code 0 if all hold, else 1.

    What one service told another can only be compared once it has arrived: run `treue drain` before.
    """
    stack, layout = load_stack(folder), layout_of(folder)
    report = asyncio.run(check(stack, layout))
    if events and not report.left:
        from shared.cli.recount import recount  # noqa: PLC0415 - it looks at what this module offers

        report.checks[FROM_EVENTS] = asyncio.run(recount(stack, layout))
    if as_json:
        print(json.dumps(_plain(report), default=str, indent=2))
    else:
        show(report, Console(highlight=False))
    if not report.ok:
        raise typer.Exit(1)


async def check(stack: Mapping[str, Any], layout: Layout) -> Report:
    """Each service's own invariants, and those between the databases if nothing is on its way."""
    found = await asyncio.gather(*(_service(name, stack, layout) for name in CONSUMES))
    report = Report(dict(zip(CONSUMES, found, strict=True)))
    for _ in range(TRIES_MAX):
        before = await _still(stack)
        report.left = before.told()
        if report.left:
            return report
        between = await agreement.check(stack["postgres"])
        after = await _still(stack)
        if after.ends == before.ends:
            report.checks[BETWEEN] = between
            return report
    # Whatever differs may be what has just come in: that is no finding.
    report.left = ["new events came whenever the databases were compared"]
    return report


async def _still(stack: Mapping[str, Any]) -> Look:
    """How things stand once nothing moves, or after a moment."""
    settled = await settle(stack["kafka"], stack["postgres"], STILL_SECONDS)
    if settled.look is None:
        raise UsageError(f"{settled.away}; see `treue status`")
    return settled.look


async def _service(name: str, stack: Mapping[str, Any], layout: Layout) -> list[Result]:
    """A service checks itself, in a process of its own: shared code knows no service."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{name}", "check", "--json"),
        env={**os.environ, **environment(name, stack, layout)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    try:
        told = json.loads(out)["checks"]
    except (ValueError, KeyError):
        why = _why(err.decode(errors="replace")) or f"exit code {process.returncode}"
        raise UsageError(f"{name} could not check itself: {why}") from None
    return [Result(**result) for result in told]


def _why(text: str) -> str:
    """The sentence that matters in what a failed process wrote: the error of a traceback, else the last line."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (errors or lines or [""])[-1]


def environment(name: str, stack: Mapping[str, Any], layout: Layout) -> dict[str, str]:
    """The settings a service of this stack runs with, as far as a check needs them."""
    port = urlsplit(stack[f"{name}_url"]).port
    settings = {
        "DATABASE": stack["postgres"][name],
        "KAFKA": stack["kafka"],
        "PROGRAM": stack["program"],
        "PORT": str(port),
        "WORKER_PORT": str(port),
        "LOG_LEVEL": "ERROR",
    }
    # Where the services are not our own processes (compose), keys and secret come from the environment.
    files = {"KEYS_FILE": layout.keys_json, "SECRET_FILE": layout.secret}
    for key, file in (files | {"PROGRAM_VERSIONS": versions_of(stack, layout)}).items():
        if file.exists():
            settings[key] = str(file)
    return {f"TREUE_{name.upper()}_{key}": value for key, value in settings.items()}


def _plain(report: Report) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "drained": not report.left,
        "left": report.left,
        "invariants": report.count,
        "violations": report.violations,
        "checks": [
            {"service": service, **asdict(result)}
            for service, results in report.checks.items()
            for result in results
        ],
    }


def show(report: Report, console: Console) -> None:
    """The list of what was checked, then every violation with its rows."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("invariant", overflow="fold")
    table.add_column("violations", justify="right")
    for service, results in report.checks.items():
        table.add_section()
        for number, result in enumerate(results):
            style = "bold red" if result.violations else ""
            count = f"{result.violations:,}"
            table.add_row("" if number else service, result.says, count, style=style)
    console.print(table)
    for service, results in report.checks.items():
        for result in results:
            _violations(service, result, console)
    violations = counted(report.violations, "violation")
    console.print(f"{report.count} invariants checked, {violations}.")
    if report.left:
        console.print("Not compared between the services, because not everything has arrived:")
        for line in report.left:
            console.print(f"  {line}", markup=False)
        console.print("Run `treue drain` first.")


def _violations(service: str, result: Result, console: Console) -> None:
    if not result.violations:
        return
    console.print(
        f"{service}: {result.name} does not hold ({result.violations:,}):", style="bold red"
    )
    for row in result.rows:
        facts = ", ".join(f"{name} {value}" for name, value in row.items())
        console.print(f"  {facts}", markup=False)
    more = result.violations - len(result.rows)
    if more:
        console.print(f"  … and {more:,} more")
