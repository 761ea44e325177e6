"""Deficits: other lots pay for one that is owed, as a replay of the account says; corrected when that changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from services.points.domain import facts, settlement
from services.points.domain.settlement import (
    COVERED,
    WRITTEN_OFF,
    Cover,
    Dates,
    Moved,
    Reserve,
    WriteOff,
)
from services.points.domain.spending import Spendable
from services.points.handlers.lines import Line, line
from services.points.handlers.sweeping import sweep
from services.points.ledger import FLAG_MERGED, FLAG_SPENT, Account, EntryRow, append
from services.points.ledger import spending as ledger
from services.points.ledger.customers import merged_into
from services.points.ledger.spending import FLAG_OWES
from shared.events.model import Work
from shared.ids import digest_uuid
from shared.program import Program

CLAMP = "clamp_to_zero"


async def cover(work: Work, program: Program, accounts: Collection[Account]) -> None:
    """Let these locked accounts' lots pay for those that are owed, by entries that sum to 0 at each instant.

    All their lines so far are appended. Accounts that never spent anything owe nothing, and cost nothing here.
    """
    merged = [account for account in accounts if account.flags & FLAG_MERGED]
    if merged:
        # What was owed before the merge was paid among their own lots.
        told = await merged_into(work.conn, {account.id for account in merged})
        until = {account_id: row["occurred_at"] for account_id, row in told.items()}
        await _pay(work, program, merged, until)
    await _pay(work, program, await sweep(work, program, accounts))


async def _pay(
    work: Work,
    program: Program,
    accounts: Collection[Account],
    until: Mapping[int, datetime] | None = None,
) -> None:
    """Write what is missing or too much of what pays; ``until``: only what was before these instants."""
    spent = [account for account in accounts if account.flags & (FLAG_SPENT | FLAG_OWES)]
    if not spent:
        return
    owing = await ledger.owing(work.conn, spent)
    if not owing:
        return
    lines = await ledger.replayed_lines(work.conn, owing)
    reserves = await ledger.reserves(work.conn, owing)
    changed = [account for account in spent if account.id in owing]
    rows = [
        row
        for account in changed
        for row in _settle(
            work,
            program,
            account,
            lines[account.id],
            reserves[account.id],
            until.get(account.id) if until else None,
        )
    ]
    await append(work.conn, rows, changed)
    unflagged = [account for account in changed if not account.flags & FLAG_OWES]
    if unflagged:
        for account in unflagged:
            account.flags |= FLAG_OWES
        await ledger.set_flags(work.conn, unflagged)


def _settle(
    work: Work,
    program: Program,
    account: Account,
    lines: Sequence[Moved],
    reserves: Sequence[Reserve],
    until: datetime | None,
) -> list[EntryRow]:
    lots = settlement.dates_of(lines)
    left: dict[UUID, int] = defaultdict(int)
    for row in lines:
        left[row.lot_id] += row.points
    rows = []
    # A ledger that is built anew knows what was written off, and its lots are below 0 until their credit comes.
    clamp = program.earning.refunds == CLAMP and not work.rebuilding
    for change in settlement.changes(lines, reserves, write_off=clamp):
        if until is not None and change.occurred_at >= until:
            continue
        rows.append(_row(work, program, account, lots[change.lot_id], left[change.lot_id], change))
        left[change.lot_id] += change.points
    return rows


def _row(
    work: Work,
    program: Program,
    account: Account,
    dates: Dates,
    left: int,
    change: Cover | WriteOff,
) -> EntryRow:
    if isinstance(change, WriteOff):
        kind, code = WRITTEN_OFF, facts.OWED_WRITTEN_OFF
    else:
        kind, code = COVERED, facts.OWED_PAID if change.points > 0 else facts.OWED_PAYS
    instant = change.occurred_at.isoformat()
    # The account's position tells a correction of the same instant from what it corrects.
    entry_id = digest_uuid(kind, str(change.lot_id), instant, str(account.seq))
    lot = Spendable(change.lot_id, left, 0, *dates)
    cause = digest_uuid(kind, account.customer_id, instant)
    written = Line(entry_id, kind, code, change.points, change.lot_id, lot, change.occurred_at)
    return line(work, program, account, written, cause, [])
