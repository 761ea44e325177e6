"""What time did to lots, written down: the points that unlocked, and those that expired."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from services.points import ledger
from services.points.domain import facts
from services.points.domain.expiry import (
    EXPIRED,
    TOLD_KINDS,
    UNLOCKED,
    Hold,
    Movement,
    losses,
)
from services.points.ledger import Account, EntryRow
from services.points.ledger import due as ledger_due
from shared import clock
from shared.contracts import points as contract
from shared.contracts.points import PointsExpired, PointsUnlocked
from shared.events.model import Work
from shared.ids import derive, digest_uuid
from shared.program import Program

Lines = Sequence[asyncpg.Record]
TICK = timedelta(microseconds=1)


class Told(NamedTuple):
    """A line to be written: ``points`` signed, ``number`` of its kind at that instant in that lot."""

    kind: str
    points: int
    at: datetime
    number: int


async def tell(work: Work, program: Program, accounts: Collection[Account]) -> None:
    """Write what time has done to these locked accounts by now, as the difference to what was written before."""
    lots: dict[tuple[int, UUID], list[asyncpg.Record]] = defaultdict(list)
    for line in await ledger_due.due_lines(work.conn, accounts, work.now):
        lots[line["account_id"], line["lot_id"]].append(line)
    by_id = {account.id: account for account in accounts}
    holds = await _holds(work, lots)
    rows = [
        _write(work, program, by_id[account_id], lines, told)
        for (account_id, lot_id), lines in lots.items()
        for told in (
            *_unlocked(lines, work.now),
            *_expired(lines, holds.get(lot_id, ()), work.now),
        )
    ]
    await ledger.append(work.conn, rows, accounts)


async def _holds(
    work: Work, lots: Mapping[tuple[int, UUID], Lines]
) -> Mapping[UUID, Sequence[Hold]]:
    """What holds reserve, or reserved, of the lots beyond their end; mostly there is none to ask about."""
    ended = {key: lines[0]["expires_at"] for key, lines in lots.items()}
    ended = {key: end for key, end in ended.items() if end is not None and end <= work.now}
    if not ended:
        return {}
    accounts, ids = {key[0] for key in ended}, [key[1] for key in ended]
    return await ledger_due.held_parts(work.conn, accounts, ids, min(ended.values()))


def _unlocked(lines: Lines, now: datetime) -> Sequence[Told]:
    """The one line that says that the lot is available."""
    at = lines[0]["available_at"]
    if any(line["kind"] == UNLOCKED for line in lines):
        return ()
    if at > now or at <= min(line["occurred_at"] for line in lines):
        return ()
    return (Told(UNLOCKED, sum(m.points for m in _movements(lines) if m.occurred_at <= at), at, 0),)


def _expired(lines: Lines, holds: Sequence[Hold], now: datetime) -> Sequence[Told]:
    """What is lost and has not been told, and what was told and is not lost; by instant."""
    expires_at = lines[0]["expires_at"]
    if expires_at is None:
        return ()
    target = losses(_movements(lines), holds, expires_at, now)
    told: dict[datetime, list[int]] = defaultdict(list)
    for line in lines:
        if line["kind"] == EXPIRED:
            told[line["occurred_at"]].append(line["points"])
    return [
        Told(EXPIRED, points, at, len(told.get(at, ())))
        for at in sorted({*target, *told})
        if (points := -target.get(at, 0) - sum(told.get(at, ())))
    ]


def _movements(lines: Lines) -> Sequence[Movement]:
    return [
        Movement(line["occurred_at"], line["points"])
        for line in lines
        if line["kind"] not in TOLD_KINDS
    ]


def _write(work: Work, program: Program, account: Account, lines: Lines, told: Told) -> EntryRow:
    lot = lines[0]
    change = 0 if told.kind == UNLOCKED else told.points
    account.seq += 1
    account.balance += change
    cause = (told.kind, str(lot["lot_id"]), told.at.isoformat(), str(told.number))
    day = clock.local_date(
        told.at if told.kind == UNLOCKED else lot["expires_at"] - TICK, program.zone
    )
    row = EntryRow(
        entry_id=digest_uuid(*cause),
        account_id=account.id,
        seq=account.seq,
        kind=told.kind,
        points=change,
        base=0,
        bonus=0,
        balance_after=account.balance,
        lot_id=lot["lot_id"],
        occurred_at=told.at,
        recorded_at=work.now,
        available_at=lot["available_at"],
        expires_at=lot["expires_at"],
        shop=lot["shop"],
        order_id=lot["order_id"],
        event_key=digest_uuid("time", *cause),
        event_id=str(derive(*cause)),
        fingerprint=0,
        net_spend=Decimal(0),
        exact="0",
        tier=None,
        multiplier="1",
        reason=told.kind,
        explanation=_why(told, day, program),
    )
    _publish(work, account, row, told)
    return row


def _why(told: Told, day: date, program: Program) -> str:
    if told.kind == EXPIRED:
        return msgspec.json.encode(facts.expiry(told.points, day, program)).decode()
    return facts.pack_fact(facts.UNLOCKED, told.points, told.points, facts.both(day), program)


def _publish(work: Work, account: Account, row: EntryRow, told: Told) -> None:
    who, entry, lot = account.customer_id, str(row.entry_id), str(row.lot_id)
    if told.kind == UNLOCKED:
        kind = contract.UNLOCKED
        event: PointsUnlocked | PointsExpired = PointsUnlocked(
            who, entry, lot, row.order_id, told.points, row.available_at, row.expires_at
        )
    else:
        kind, expires_at = contract.EXPIRED, row.expires_at or told.at
        event = PointsExpired(who, entry, lot, row.order_id, told.points, told.at, expires_at)
    work.publish(contract.TOPIC, who, kind, row.event_id, told.at, event)
