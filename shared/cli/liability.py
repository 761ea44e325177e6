"""``treue liability``: what the program owes its customers, month by month, in points and money."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from shared.cli.ask import ask
from shared.cli.common import DirOption, load_stack

COLUMNS = ("opening", "earned", "spent", "expired", "corrected", "closing")


def liability(
    folder: DirOption = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="YYYY-MM", help="First month.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="YYYY-MM", help="Last month, included.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show opening + earned - spent - expired + corrected = closing, month by month (else the last twelve)."""
    stack = load_stack(folder)
    report = ask(stack, "points", "/v1/reports/liability", {"from": first, "until": until})
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        show(report, Console(highlight=False))


def show(report: dict[str, Any], console: Console) -> None:
    """The months as a table, the sum of all below, then the same in money."""
    money = report["total"]["money"]
    titles = ["points"] + (
        [f"{money['currency']}, at {money['point_value']} a point"] if money else []
    )
    for title in titles:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
        table.add_column("month")
        for name in COLUMNS:
            table.add_column(name, justify="right")
        for month in report["months"]:
            table.add_row(month["month"], *_cells(month, in_money=title != "points"))
        table.add_section()
        table.add_row("all", *_cells(report["total"], in_money=title != "points"))
        console.print(table)
    console.print(f"Months of {report['timezone']}, as of {report['as_of']}.")


def _cells(sums: dict[str, Any], *, in_money: bool) -> list[str]:
    if in_money:
        return [str(sums["money"][name]) for name in COLUMNS]
    return [f"{sums[name]:,}" for name in COLUMNS]
