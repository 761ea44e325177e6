"""``treue digest``: one fingerprint of balances, lots, tiers and vouchers, to compare two stacks by."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from shared.cli.common import DirOption, load_stack
from shared.cli.letters import connection
from shared.db import statements

SQL = Path(__file__).parent / "sql" / "digest.sql"
# Around a statement that gives items: one fingerprint of all of them, or one a customer, in order of customers.
_SHA256 = """encode(sha256(convert_to(coalesce(string_agg(item, E'\\n' ORDER BY item COLLATE "C"), ''),
                                    'UTF8')), 'hex') AS sha256"""
OF_ALL = f"SELECT count(*) AS items, {_SHA256} FROM ({{items}}) AS items"
OF_EACH = (
    f"SELECT customer_id AS key, count(*) AS items, {_SHA256} FROM ({{items}}) AS items"
    ' GROUP BY customer_id ORDER BY customer_id COLLATE "C"'
)


@dataclass(frozen=True, slots=True)
class Part:
    """The fingerprint of one kind of thing, and how many of them there are."""

    items: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Digest:
    """The fingerprint of the whole end state, and its parts by name."""

    sha256: str
    parts: dict[str, Part]


def digest(
    folder: DirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Print one SHA-256 over balances, lots, tiers and vouchers: equal for equal sets of events."""
    found = asyncio.run(take(load_stack(folder)["postgres"]))
    if as_json:
        print(json.dumps(asdict(found)))
        return
    for name, part in found.parts.items():
        print(f"{name:10}{part.items:>10,}  {part.sha256}")
    print(f"{'all':20}  {found.sha256}")


async def take(dsns: Mapping[str, str]) -> Digest:
    """The digest of the state in the three databases; meaningful when they are drained."""
    parts: dict[str, Part] = {}
    for service, part, items in of_items():
        async with connection(service, dsns[service]) as conn:
            row = await conn.fetchrow(OF_ALL.format(items=items), timeout=600)
        if row is not None:
            parts[part] = Part(row["items"], row["sha256"])
    whole = "\n".join(f"{name} {part.sha256}" for name, part in parts.items())
    return Digest(hashlib.sha256(whole.encode()).hexdigest(), parts)


def of_items(file: Path = SQL) -> list[tuple[str, str, str]]:
    """Service, part, and the statement that gives its items, of all that a digest (or ``file``) is made of."""
    sql = statements.load(file)
    found = []
    for name in sql.names():
        service, _, part = name.partition("_")
        found.append((service, part, getattr(sql, name).rstrip().rstrip(";")))
    return found
