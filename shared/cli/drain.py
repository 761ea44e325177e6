"""``treue drain``: wait until every consumer has caught up and every outbox is empty."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer
from rich.console import Console

from shared.cli.common import DirOption, load_stack
from shared.cli.lag import Look
from shared.cli.settle import settle


def drain(
    folder: DirOption = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Give up after so many seconds.")
    ] = 300,
) -> None:
    """Wait until everything published is consumed by every service and every outbox is empty.

    Servers and workers may go away and come back meanwhile. Exit code 1 and what is left on time-out.
    """
    stack = load_stack(folder)
    with Console(stderr=True).status("looking") as status:

        def show(look: Look | None, away: str) -> None:
            status.update(away or progress(look))

        settled = asyncio.run(settle(stack["kafka"], stack["postgres"], timeout, show))
    if settled.done and settled.look is not None:
        events = ", ".join(f"{name} {count:,}" for name, count in settled.look.consumed.items())
        print(
            f"Everything is consumed and published after {settled.seconds:.1f} s ({events} events)."
        )
        return
    print(f"Not drained after {settled.seconds:.0f} s:", file=sys.stderr)
    if settled.away:
        print(f"  {settled.away}", file=sys.stderr)
    for line in settled.look.told() if settled.look is not None else []:
        print(f"  {line}", file=sys.stderr)
    print("See `treue status` for what runs and the last error.", file=sys.stderr)
    raise typer.Exit(1)


def progress(look: Look | None) -> str:
    """What still waits, in a few words."""
    if look is None:
        return "looking"
    waiting = [f"{name} {look.behind(name):,}" for name in look.outbox if look.behind(name)]
    unsent = [f"{name} {count:,}" for name, count in look.outbox.items() if count]
    parts = [f"to consume: {', '.join(waiting)}"] if waiting else []
    parts += [f"to publish: {', '.join(unsent)}"] if unsent else []
    return " · ".join(parts) or "settling"
