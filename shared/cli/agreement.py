"""Checks across the three databases: what one service told, the others must hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import msgspec

from shared.cli.letters import connection
from shared.contracts.tiers import TierMove
from shared.db import statements
from shared.db.types import Connection
from shared.invariants import ROWS_SHOWN_MAX, Result

sql = statements.load(Path(__file__).parent / "sql" / "verify.sql")
_moves = msgspec.json.Decoder(list[TierMove]).decode

T = TypeVar("T")
Facts = tuple[Any, ...]
Services = Mapping[str, Connection]
Read = Callable[[asyncpg.Record], Facts]


def plain(row: asyncpg.Record) -> Facts:
    """Everything beside the key, as it is."""
    return tuple(row)[1:]


def moves(row: asyncpg.Record) -> Facts:
    """A way through the levels by its content: services may write the same moves differently."""
    return tuple(_moves(row["timeline"]))


async def check(dsns: Mapping[str, str]) -> list[Result]:
    """Run all of them, each service on one snapshot. Only meaningful while nothing is on its way."""
    async with AsyncExitStack() as stack:
        services = {
            name: await stack.enter_async_context(connection(name, dsn))
            for name, dsn in dsns.items()
        }
        for conn in services.values():
            snapshot = conn.transaction(isolation="repeatable_read", readonly=True)
            await stack.enter_async_context(snapshot)
        return [
            await _awards(services),
            await _refunds(services),
            await _corrections(services),
            await _timelines(services, "points"),
            await _timelines(services, "rewards"),
            await _promotions(services),
            await _persons(services, "tiers"),
            await _persons(services, "rewards"),
            await _customers(services, "tiers"),
            await _customers(services, "rewards"),
            await _counted(services),
        ]


async def _awards(services: Services) -> Result:
    result = Result(
        "every-award-qualifies-once",
        "each purchase credited in points counts once in tiers, with the same base and spend",
    )
    points, tiers = (services["points"], sql.awards), (services["tiers"], sql.qualifying)
    return await compare(result, {"points": points, "tiers": tiers}, plain)


async def _refunds(services: Services) -> Result:
    result = Result(
        "every-refund-counts-in-tiers",
        "of each purchase that was refunded, tiers takes out the base points that points took back",
    )
    points, tiers = (services["points"], sql.refunded), (services["tiers"], sql.standings)
    return await compare(result, {"points": points, "tiers": tiers}, plain)


async def _corrections(services: Services) -> Result:
    result = Result(
        "every-correction-counts-in-tiers",
        "of each purchase or activity that was corrected, tiers counts the base points it has now",
    )
    points, tiers = (services["points"], sql.corrected), (services["tiers"], sql.restated)
    return await compare(result, {"points": points, "tiers": tiers}, plain)


async def _timelines(services: Services, name: str) -> Result:
    result = Result(
        f"{name}-knows-every-tier",
        f"{name} holds each customer's way through the levels as tiers has it",
    )
    sides = {service: (services[service], sql.timelines) for service in ("tiers", name)}
    return await compare(result, sides, moves)


async def _promotions(services: Services) -> Result:
    result = Result(
        "rewards-knows-every-promotion",
        "where ids are one person, rewards gives something for the promotions that tiers tells beside the way",
    )
    sides = {name: (services[name], sql.promotions) for name in ("tiers", "rewards")}
    return await compare(result, sides, moves)


async def _persons(services: Services, name: str) -> Result:
    result = Result(
        f"{name}-knows-every-merge",
        f"{name} lets each merged id end in the same one as points does",
    )
    points, other = (services["points"], sql.merged), (services[name], sql.persons)
    return await compare(result, {"points": points, name: other}, plain)


async def _customers(services: Services, name: str) -> Result:
    result = Result(f"{name}-knows-every-customer", f"{name} knows the customers of points")
    points, other = (services["points"], sql.credited), (services[name], sql.customers)
    return await compare(result, {"points": points, name: other}, plain)


async def _counted(services: Services) -> Result:
    result = Result(
        "every-record-has-a-verdict",
        "records read = applied + duplicates + refused + parked + dead letters, in each partition",
    )
    for name, conn in services.items():
        for row in await conn.fetch(sql.miscounted):
            _note(result, {"service": name, **row})
    return result


async def compare(
    result: Result, sides: Mapping[str, tuple[Connection, str]], read: Read
) -> Result:
    """Read two ordered lists alongside each other and note what stands on one side only, or differs."""
    (left_name, left_source), (right_name, right_source) = sides.items()
    left, right = _rows(*left_source, read), _rows(*right_source, read)
    async for key, one, other in alongside(left, right):
        if one != other:
            _note(result, {"key": key, left_name: _told(one), right_name: _told(other)})
    return result


async def alongside(
    left: AsyncIterator[tuple[Any, T]], right: AsyncIterator[tuple[Any, T]]
) -> AsyncIterator[tuple[Any, T | None, T | None]]:
    """Two lists in the order of their keys: each key, with what stands on either side, or None."""
    one, other = await anext(left, None), await anext(right, None)
    while one or other:
        key = min(row[0] for row in (one, other) if row)
        here = one if one and one[0] == key else None
        there = other if other and other[0] == key else None
        yield key, here and here[1], there and there[1]
        if here:
            one = await anext(left, None)
        if there:
            other = await anext(right, None)


async def _rows(conn: Connection, query: str, read: Read) -> AsyncIterator[tuple[Any, Facts]]:
    async for row in conn.cursor(query, prefetch=1000):
        yield row["key"], read(row)


def _told(facts: Facts | None) -> list[str] | None:
    return None if facts is None else [str(fact) for fact in facts]


def _note(result: Result, row: dict[str, Any]) -> None:
    result.violations += 1
    if len(result.rows) < ROWS_SHOWN_MAX:
        result.rows.append(row)
