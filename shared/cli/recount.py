"""``treue verify --events``: every award once more from the events that told of it, by the services' own code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from shared import clock
from shared.cli.agreement import compare, plain
from shared.cli.building import Site, built
from shared.cli.letters import connection
from shared.db import statements
from shared.invariants import Result
from shared.stack.layout import Layout

sql = statements.load(Path(__file__).parent / "sql" / "recount.sql")
LEDGER, EVENTS = "ledger", "events"
SAYS = {
    "awards": "every purchase in the ledger is worth what its events make it, point by point",
    "set_aside": "every purchase without credit is one by its event",
    "refunds": "every refund took what its event takes",
}


async def recount(stack: Mapping[str, Any], layout: Layout) -> list[Result]:
    """Read all events again into databases of their own, and compare award by award.

    Only meaningful while nothing is on its way. Raises UsageError where Kafka no longer has all of it.
    """
    site = Site(layout, stack, None, None, keep=False, program=None, called="recounted")
    found = []
    with Console(stderr=True).status("Reading all events again …") as status:
        async with built(site, clock.now(), status) as done:
            live, made = stack["postgres"]["points"], done.databases.dsns["points"]
            async with (
                connection("points", live) as one,
                connection("points", made) as other,
                one.transaction(isolation="repeatable_read", readonly=True),
                other.transaction(isolation="repeatable_read", readonly=True),
            ):
                for name, says in SAYS.items():
                    query = getattr(sql, name)
                    result = Result(f"{name.replace('_', '-')}-follow-from-events", says)
                    sides = {LEDGER: (one, query), EVENTS: (other, query)}
                    found.append(await compare(result, sides, plain))
    return found
