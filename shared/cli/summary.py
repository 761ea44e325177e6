"""What the demonstration tells at its end: speed, points, levels, vouchers, and where to look on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from shared.cli import story
from shared.cli.convert import left_out
from shared.cli.letters import connection
from shared.cli.online_retail import Account
from shared.cli.story import Story, sql
from shared.contracts.catalogue import CONSUMES
from shared.program import Program, load
from shared.program.model import base_level

BAR_CHARS = 30


@dataclass(frozen=True, slots=True)
class Counters:
    """What became of all records of the purchases' topic so far."""

    applied: int
    duplicates: int
    poison: int


@dataclass(slots=True)
class Figures:
    """The demonstration in numbers; the lower half is collected when all is settled."""

    account: Account
    of: int
    moved: timedelta
    published: int
    seconds_points: float
    seconds_all: float
    events: int
    applied: int
    duplicates: int
    poison: int
    invariants: int = 0
    totals: Mapping[str, int] = field(default_factory=dict)
    cancellations: Mapping[str, int] = field(default_factory=dict)
    levels: Mapping[str | None, int] = field(default_factory=dict)
    vouchers: list[dict[str, Any]] = field(default_factory=list)


async def counters(stack: Mapping[str, Any]) -> Counters:
    """The verdicts on purchases so far."""
    async with connection("points", stack["postgres"]["points"]) as conn:
        row = await conn.fetchrow(sql.points_purchases)
    return Counters(**row) if row is not None else Counters(0, 0, 0)


async def collect(stack: Mapping[str, Any], figures: Figures) -> None:
    """Ask the three databases what there is now."""
    dsns = stack["postgres"]
    async with connection("points", dsns["points"]) as conn:
        figures.totals = dict(await conn.fetchrow(sql.points_totals) or {})
        rows = await conn.fetch(sql.points_cancellations)
        figures.cancellations = {row["state"]: row["count"] for row in rows}
    async with connection("tiers", dsns["tiers"]) as conn:
        figures.levels = {r["level"]: r["customers"] for r in await conn.fetch(sql.tiers_levels)}
    async with connection("rewards", dsns["rewards"]) as conn:
        figures.vouchers = [dict(row) for row in await conn.fetch(sql.rewards_vouchers)]


def show(stack: Mapping[str, Any], figures: Figures, told: Story | None, screen: Console) -> None:
    """Everything, on one page."""
    program = load(Path(stack["program"]))
    screen.print()
    screen.print(Rule(f"{program.name}: a year of real purchases", align="left"))
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, what in _facts(figures):
        table.add_row(name, what)
    screen.print(table)
    screen.print(Rule("Customers and vouchers", align="left"))
    screen.print(_levels(figures, program))
    screen.print(_vouchers(figures, program))
    if told is not None:
        screen.print(Rule("One customer's story", align="left"))
        story.tell(told, program.zone, screen)
    screen.print(Rule("Look yourself", align="left"))
    for line in links(stack, told.customer if told is not None else "12347"):
        # Not wrapped: these lines are meant to be copied.
        screen.print(line, soft_wrap=True, markup=False)
    screen.print()
    screen.print("The stack stays up. `treue status` shows it, `treue down` stops it.")


def _facts(figures: Figures) -> list[tuple[str, str]]:
    account, totals = figures.account, figures.totals
    facts = [("purchases", _published(figures))]
    if account.cancellations:
        facts.append(("cancellations", _cancelled(figures)))
    if figures.duplicates:
        every = "all of them" if figures.duplicates == figures.published else "of them"
        known = f"{figures.duplicates:,}, {every}: recognised, they change nothing"
        facts.append(("known before", known))
    speed = figures.published / max(figures.seconds_points, 0.001)
    fast = (
        f"{speed:,.0f} purchases and cancellations/s from the file into the ledger;"
        f" {figures.events:,} events through three services in {figures.seconds_all:.1f} s"
    )
    points = (
        f"{totals['points']:,} earned by {totals['customers']:,} customers"
        f" with {totals['credited']:,} purchases, {totals['bonus']:,} of them through their tier"
    )
    left = (
        f"{totals['available']:,} can be spent now;"
        f" {totals['taken']:,} were taken back for what was cancelled"
    )
    facts += [
        ("speed", fast),
        ("points", points),
        ("of these", left),
        ("guests", f"{totals['guests']:,} purchases name no customer: kept, but they earn nothing"),
        ("left out", "; ".join(left_out(account)) or "nothing"),
        ("checked", f"{figures.invariants} invariants over three databases, 0 violations"),
    ]
    if figures.poison:
        facts.append(("dead letters", f"{figures.poison:,}: `treue dead-letters list` says why"))
    return facts


def _published(figures: Figures) -> str:
    account, by = figures.account, figures.moved
    part = f" (the first of {figures.of:,})" if account.purchases < figures.of else ""
    text = f"{account.purchases:,}{part} with {account.purchase_lines:,} lines"
    if account.first is None or account.last is None:
        return text
    return (
        f"{text}, {account.first:%Y-%m-%d} to {account.last:%Y-%m-%d}"
        f" (in truth {account.first - by:%Y-%m-%d} to {account.last - by:%Y-%m-%d})"
    )


def _cancelled(figures: Figures) -> str:
    """How many found their purchase, for the data set does not say which one it is."""
    account, states = figures.account, figures.cancellations
    words = {
        "matched": "found all of it among the customer's purchases",
        "partly": "a part of it",
        "unmatched": "nothing (bought before the data set begins, or never)",
        "uncredited": "are guests', who had earned nothing",
        "refused": "were refused",
        "parked": "wait",
    }
    told = [f"{states[state]:,} {word}" for state, word in words.items() if states.get(state)]
    lines = f"{account.cancellations:,} with {account.cancelled_lines:,} lines"
    return f"{lines}, told without an order: {', '.join(told)}"


def _levels(figures: Figures, program: Program) -> Table:
    table = _columns()
    levels = program.tiers.levels if program.tiers else ()
    counts = dict(figures.levels)
    lowest = base_level(levels)
    if lowest is not None:
        # Nobody has to reach a level that begins at nothing: who has reached no other is there.
        counts[lowest.id] = counts.get(lowest.id, 0) + counts.pop(None, 0)
    most = max(counts.values(), default=0)
    for level in reversed(levels):
        count = counts.pop(level.id, 0)
        table.add_row(level.name, f"{count:,}", "█" * round(BAR_CHARS * count / max(most, 1)))
    for other, count in counts.items():
        table.add_row(
            other or "no level", f"{count:,}", "█" * round(BAR_CHARS * count / max(most, 1))
        )
    return table


def _vouchers(figures: Figures, program: Program) -> Table:
    table = _columns()
    for row in figures.vouchers:
        known = program.vouchers.get(row["definition"])
        name = getattr(known, "name", None) or row["definition"]
        table.add_row(name, f"{row['issued']:,}", f"vouchers, {row['valid']:,} of them valid now")
    return table


def _columns() -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", min_width=16)
    table.add_column(justify="right", min_width=8)
    table.add_column()
    return table


def links(stack: Mapping[str, Any], customer: str) -> list[str]:
    """Pages to click and commands to copy."""
    paths = {"points": "balance", "tiers": "tier", "rewards": "vouchers"}
    pages = [f"{service:8} {stack[f'{service}_url']}/docs" for service in CONSUMES]
    commands = [
        f"curl -H 'Authorization: Bearer {stack['api_key']}'"
        f" {stack[f'{service}_url']}/v1/customers/{customer}/{paths[service]}"
        for service in CONSUMES
    ]
    return pages + commands
