"""``treue status``: what runs, how far behind each service is, what was refused, what went wrong."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.cli.common import DirOption, layout_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from shared.cli.lag import Watcher
    from shared.stack.layout import Layout

FIGURES = ("lag", "consumed", "outbox", "dead_letters", "dead_letters_by_reason")
ANSWER_SECONDS_MAX = 5.0


def status(
    folder: DirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What runs, lag, outbox, dead letters, last error; exit code 0 if all is healthy, else 1."""
    from rich.console import Console  # noqa: PLC0415 - only a run needs it

    layout = layout_of(folder)
    report = gather(layout)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _show(report, Console(highlight=False))
    raise typer.Exit(0 if report["healthy"] else 1)


def gather(layout: Layout) -> dict[str, Any]:
    """Everything ``status`` tells, as JSON; parts that do not answer say so in ``error``."""
    from shared.stack import report  # noqa: PLC0415 - psutil
    from shared.stack.files import read_json  # noqa: PLC0415

    processes = report.of(layout)
    stack = read_json(layout.stack_json)
    up = stack is not None and any(one.healthy for one in processes)
    services = asyncio.run(_services(stack)) if up and stack else {}
    healthy = (
        up
        and all(one.healthy for one in processes)
        and not any(service["error"] for service in services.values())
    )
    return {
        "dir": str(layout.dir),
        "healthy": healthy,
        "ready": stack is not None,
        "version": stack["version"] if stack else None,
        "program": stack["program"] if stack else None,
        "processes": [asdict(one) for one in processes],
        "services": services,
    }


async def _services(stack: dict[str, Any]) -> dict[str, dict[str, Any]]:
    from shared.cli.lag import Away, Watcher  # noqa: PLC0415 - Kafka's client is heavy
    from shared.contracts.catalogue import CONSUMES  # noqa: PLC0415

    ends: dict[tuple[str, int], int] | None = None
    away = ""
    async with Watcher(stack["kafka"], stack["postgres"]) as watcher:
        try:
            ends = await watcher.ends()
        except Away as error:
            away = str(error)
        return {service: await _service(watcher, service, ends, away) for service in CONSUMES}


async def _service(
    watcher: Watcher, service: str, ends: dict[tuple[str, int], int] | None, away: str
) -> dict[str, Any]:
    """One service's figures; those that cannot be had are null, and ``error`` says why."""
    import asyncpg  # noqa: PLC0415

    from shared.cli.lag import AWAY  # noqa: PLC0415
    from shared.contracts.catalogue import CONSUMES  # noqa: PLC0415
    from shared.db import statements  # noqa: PLC0415

    sql = statements.load(Path(__file__).parent / "sql" / "status.sql")
    figures: dict[str, Any] = dict.fromkeys(FIGURES)
    try:
        connection = await watcher.connection(service)
        row = await connection.fetchrow(sql.service_status, timeout=ANSWER_SECONDS_MAX)
    except (*AWAY, asyncpg.UndefinedTableError) as error:
        return figures | {"error": f"database {service}: {error or type(error).__name__}"}
    if row is None:
        return figures | {"error": f"database {service} gave no answer"}
    positions = {(topic, number): at for topic, number, at in json.loads(row["positions"])}
    lag = None
    if ends is not None:
        lag = {
            topic: sum(
                max(0, end - positions.get(place, 0))
                for place, end in ends.items()
                if place[0] == topic
            )
            for topic in CONSUMES[service]
        }
    return {
        "lag": lag,
        "consumed": json.loads(row["counters"]),
        "outbox": row["outbox"],
        "dead_letters": row["dead_letter_count"],
        "dead_letters_by_reason": json.loads(row["dead_letters"]),
        "error": away,
    }


def _show(report: dict[str, Any], console: Console) -> None:
    from rich.markup import escape  # noqa: PLC0415 - only this output needs it

    if not report["processes"]:
        console.print(f"Nothing has been started in {report['dir']}: `treue up` does.")
        return
    console.print(_process_table(report["processes"]))
    if report["services"]:
        console.print()
        console.print(_service_table(report["services"]))
    for service, figures in report["services"].items():
        if figures["error"]:
            console.print(f"[red]{service}[/]: {escape(figures['error'])}", soft_wrap=True)
        for letter in figures["dead_letters_by_reason"] or ():
            about = ": ".join(part for part in (letter["field"], letter["reason"]) if part)
            line = f"[yellow]{service}[/] {letter['count']:,} × {escape(about)}"
            console.print(line, soft_wrap=True)
    for process in report["processes"]:
        if process["last_error"]:
            line = f"[dim]{process['name']}, last error:[/] {escape(process['last_error'])}"
            console.print(line, soft_wrap=True)
    console.print()
    well = "[green]All is healthy.[/]" if report["healthy"] else "[red]Not healthy.[/]"
    console.print(f"{well} [dim]{escape(report['dir'])}[/]", soft_wrap=True)


def _process_table(processes: list[dict[str, Any]]) -> Table:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for heading in ("process", "state", "pid", "up", "restarts", "last exit"):
        table.add_column(heading, justify="right" if heading in ("pid", "up") else "left")
    for one in processes:
        colour = "green" if one["state"] == "ready" else "red"
        ended = one["last_exit"]
        table.add_row(
            one["name"],
            f"[{colour}]{one['state']}[/]",
            str(one["pid"] or "–"),
            _duration(one["uptime_seconds"]),
            str(one["restarts"]),
            f"{ended['code']} at {ended['at'][:19]}Z" if ended else "–",
        )
    return table


def _service_table(services: dict[str, dict[str, Any]]) -> Table:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for heading in ("service", "lag", "applied", "duplicates", "refused", "outbox", "dead letters"):
        table.add_column(heading, justify="left" if heading == "service" else "right")
    for service, figures in services.items():
        lag, consumed = figures["lag"], figures["consumed"] or {}
        table.add_row(
            service,
            _number(sum(lag.values()) if lag is not None else None),
            *(_number(consumed.get(what)) for what in ("applied", "duplicates", "refused")),
            _number(figures["outbox"]),
            _number(figures["dead_letters"]),
        )
    return table


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
