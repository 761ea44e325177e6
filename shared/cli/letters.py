"""Dead letters of all three services: found, shown, sent again or given up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from shared.cli.publisher import Publisher
from shared.db import statements
from shared.db.pool import TRANSIENT
from shared.db.types import Connection
from shared.errors import UsageError
from shared.events.dead_letters import PREFIX, unpack_headers

sql = statements.load(Path(__file__).parent / "sql" / "dead_letters.sql")

REPLAYS_MAX = 5
REPLAYS_HEADER = "x-replays"
AT_ONCE_MAX = 200
CONNECT_SECONDS_MAX = 10.0

Row = asyncpg.Record


@dataclass(frozen=True, slots=True)
class Ref:
    """One dead letter by service and number, written ``points:12``."""

    service: str
    id: int

    def __str__(self) -> str:
        return f"{self.service}:{self.id}"


def parse_ref(text: str, services: Iterable[str], default: str | None) -> Ref:
    """``points:12``, or ``12`` where the service is given otherwise. Raises UsageError."""
    service, _, number = text.rpartition(":")
    service = service or default or ""
    known = list(services)
    if service not in known or not number.isdecimal():
        example = f"{known[0]}:{number if number.isdecimal() else 12}"
        raise UsageError(
            f"{text!r} names no dead letter: write SERVICE:NUMBER like {example},"
            " as `treue dead-letters list` shows it"
        )
    return Ref(service, int(number))


@asynccontextmanager
async def connection(service: str, dsn: str) -> AsyncIterator[Connection]:
    """A connection to one service's database. Raises UsageError if it does not answer."""
    try:
        conn = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS_MAX)
    except TRANSIENT as error:
        raise UsageError(
            f"the database of {service} does not answer ({error}); see `treue status`"
        ) from None
    try:
        yield conn
    finally:
        await conn.close()


async def find(
    dsns: Mapping[str, str], reason: str, state: str, limit: int
) -> list[dict[str, Any]]:
    """Dead letters of the given services, newest first."""
    found: list[dict[str, Any]] = []
    for service, dsn in dsns.items():
        async with connection(service, dsn) as conn:
            rows = await conn.fetch(sql.list_letters, state, reason, limit)
        found += [_listed(service, row) for row in rows]
    found.sort(key=lambda row: row["recorded_at"], reverse=True)
    return found[:limit]


def _listed(service: str, row: Row) -> dict[str, Any]:
    facts = dict(row)
    del facts["headers"]
    return facts | {"id": str(Ref(service, row["id"])), "replays": replayed(row)}


async def get(dsns: Mapping[str, str], ref: Ref) -> Row:
    """One dead letter with everything. Raises UsageError if there is none."""
    async with connection(ref.service, dsns[ref.service]) as conn:
        rows = await conn.fetch(sql.get_letters, [ref.id])
    if not rows:
        raise UsageError(f"there is no dead letter {ref}; `treue dead-letters list` shows them")
    return rows[0]


async def open_refs(dsns: Mapping[str, str], reason: str) -> list[Ref]:
    """Everything that is open and fits, oldest first within a service."""
    refs: list[Ref] = []
    for service, dsn in dsns.items():
        async with connection(service, dsn) as conn:
            refs += [Ref(service, row["id"]) for row in await conn.fetch(sql.open_ids, reason)]
    return refs


def originals(headers: str) -> list[tuple[str, bytes]]:
    """The headers the record came with, without what we wrote beside them."""
    return [(name, value) for name, value in unpack_headers(headers) if not name.startswith(PREFIX)]


def replayed(row: Row) -> int:
    """How often this record was sent again, counted over the letters it died as."""
    counts = [value for name, value in originals(row["headers"]) if name == REPLAYS_HEADER]
    before = int(counts[-1]) if counts and counts[-1].isdigit() else 0
    return max(before, int(row["replays"]))


@dataclass(slots=True)
class Outcome:
    """What a replay or a discard did; ``refused`` says why not, by dead letter."""

    done: int
    refused: dict[str, str]


async def replay(bootstrap: str, dsns: Mapping[str, str], refs: Sequence[Ref]) -> Outcome:
    """Send the original bytes to their topic again, with their key and headers, and mark the rows.

    Marked after the broker has acknowledged: a crash in between sends twice, which changes nothing.
    """
    outcome = Outcome(0, {})
    if not refs:
        return outcome
    async with Publisher(bootstrap) as publisher:
        for service in dict.fromkeys(ref.service for ref in refs):
            ids = [ref.id for ref in refs if ref.service == service]
            async with connection(service, dsns[service]) as conn:
                for start in range(0, len(ids), AT_ONCE_MAX):
                    some = ids[start : start + AT_ONCE_MAX]
                    await _replay(conn, publisher, service, some, outcome)
    return outcome


async def _replay(
    conn: Connection, publisher: Publisher, service: str, ids: Sequence[int], outcome: Outcome
) -> None:
    rows = {row["id"]: row for row in await conn.fetch(sql.get_letters, ids)}
    sent: dict[int, int] = {}
    for number in ids:
        row = rows.get(number)
        why = refusal(row)
        if row is None or why:
            outcome.refused[str(Ref(service, number))] = why
            continue
        sent[number] = replayed(row) + 1
        headers = [h for h in originals(row["headers"]) if h[0] != REPLAYS_HEADER]
        headers.append((REPLAYS_HEADER, str(sent[number]).encode()))
        await publisher.send(row["topic"], row["key"], row["value"], headers)
    result = await publisher.finish()
    if not result.complete:
        raise UsageError(
            f"the broker did not take every record ({_first(result.errors)}): try again"
        )
    await conn.execute(sql.mark_replayed, list(sent), list(sent.values()))
    outcome.done += len(sent)


def _first(errors: Iterable[str]) -> str:
    return next(iter(errors), "no reason given")


def refusal(row: Row | None) -> str:
    """Why a dead letter is not sent again, or nothing."""
    if row is None:
        return "there is no such dead letter"
    if row["state"] == "discarded":
        return f"it was discarded ({row['note']})"
    if row["value"] is None:
        return "it has no value: there is nothing to send"
    if replayed(row) >= REPLAYS_MAX:
        return f"it has come back {REPLAYS_MAX} times: mend the cause, publish anew, discard this"
    return ""


async def discard(dsns: Mapping[str, str], refs: Sequence[Ref], note: str) -> Outcome:
    """Mark dead letters as given up; their rows and bytes stay."""
    outcome = Outcome(0, {})
    for service in dict.fromkeys(ref.service for ref in refs):
        ids = [ref.id for ref in refs if ref.service == service]
        async with connection(service, dsns[service]) as conn:
            done = {row["id"] for row in await conn.fetch(sql.mark_discarded, note, ids)}
        outcome.done += len(done)
        outcome.refused |= {
            str(Ref(service, number)): "it is not open" for number in ids if number not in done
        }
    return outcome
