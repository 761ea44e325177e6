"""What events do not tell: given out as JSON lines, and taken into a ledger that is built anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from services.points.domain.facts import MERGED_IN, MERGED_OUT
from services.points.ledger.entries import FLAG_SPENT, EntryRow, append, lock_accounts
from services.points.ledger.spending import FLAG_OWES
from shared.db import statements
from shared.db.types import Connection

sql = statements.load(Path(__file__).parents[1] / "sql" / "facts.sql")
# In this order they are taken: what comes first is needed by what comes later.
LINES, FLAGS = "lines", "flags"
TABLES = (FLAGS, "holds", "corrections", "draws")
KINDS = ("captured", "restored", "adjusted", "reversed", "transferred", "written_off")
# What a merge moved: its event will be told again.
SWEPT = (MERGED_OUT, MERGED_IN)
PREFETCH = 1000
AT_ONCE = 500


class Fact(msgspec.Struct):
    """One row: of which table, and what is in it, as JSON."""

    table: str
    row: msgspec.Raw


_decode = msgspec.json.Decoder(Fact).decode
_encode = msgspec.json.Encoder().encode
_customers = msgspec.json.Decoder(dict[str, Any])


async def give(conn: Connection) -> AsyncIterator[bytes]:
    """Every fact as a line of JSON, in the order in which they are to be taken."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        async for row in conn.cursor(sql.give_lines, KINDS, SWEPT, prefetch=PREFETCH):
            yield _encode(Fact(LINES, msgspec.Raw(row["fact"].encode())))
        for table in TABLES:
            which = (FLAG_SPENT | FLAG_OWES,) if table == FLAGS else ()
            query = getattr(sql, f"give_{table}")
            async for row in conn.cursor(query, *which, prefetch=PREFETCH):
                yield _encode(Fact(table, msgspec.Raw(row["fact"].encode())))


async def take(conn: Connection, lines: Iterable[bytes]) -> int:
    """Write facts into a ledger that has none of them yet, in one transaction; how many there were."""
    waiting: dict[str, list[bytes]] = {table: [] for table in (LINES, *TABLES)}
    for line in lines:
        fact = _decode(line)
        waiting[fact.table].append(bytes(fact.row))
    async with conn.transaction():
        for table, rows in waiting.items():
            for some in _some(rows):
                await _take(conn, table, some)
    return sum(map(len, waiting.values()))


async def _take(conn: Connection, table: str, rows: Sequence[bytes]) -> None:
    content = b"[" + b",".join(rows) + b"]"
    told = [_customers.decode(row) for row in rows]
    accounts = await lock_accounts(conn, {row["customer_id"] for row in told})
    if table != LINES:
        await conn.execute(getattr(sql, f"take_{table}"), content.decode())
        return
    lines: list[EntryRow] = []
    for row in await conn.fetch(sql.take_lines, content.decode()):
        account = accounts[row["customer_id"]]
        account.seq += 1
        account.balance += row["points"]
        known = EntryRow(*(row[name] for name in EntryRow._fields))
        lines.append(
            known._replace(account_id=account.id, seq=account.seq, balance_after=account.balance)
        )
    await append(conn, lines, accounts.values())


def _some(rows: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (rows[at : at + AT_ONCE] for at in range(0, len(rows), AT_ONCE))
