"""Merged accounts keep nothing: what is in their lots moves on to the account as which they live on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from msgspec.structs import replace

from services.points import ledger
from services.points.domain import facts
from services.points.handlers.telling import adjusted
from services.points.ledger import FLAG_MERGED, FLAG_SPENT, Account, EntryRow
from services.points.ledger import customers as store
from services.points.ledger.activities import lock_by_account
from services.points.ledger.spending import set_flags
from shared.contracts import points as contract
from shared.events.model import Work
from shared.ids import derive, digest_uuid
from shared.program import Program

TRANSFERRED = "transferred"


class Move(NamedTuple):
    """A lot's way from a merged account to the next: ``lot`` as it was left, the merge that ``told`` it.

    ``known`` is the base of the other account's lot of this id; None if there is none yet.
    """

    lot: Any
    told: Any
    lot_id: UUID
    known: int | None


async def sweep(work: Work, program: Program, accounts: Collection[Account]) -> Collection[Account]:
    """Move what is in the lots of merged ones of these locked accounts to those as which they live on.

    A lot keeps its dates, its order and what it counts for at the tiers; it may be owed. Where they were merged
    one after the other, it goes the same way. Returns the accounts, and those that were locked for it.
    """
    held = {account.id: account for account in accounts}
    merged = {account.id: account for account in accounts if account.flags & FLAG_MERGED}
    while merged:
        lots = await store.left_behind(work.conn, merged.keys())
        if not lots:
            break
        told = await store.merged_into(work.conn, merged.keys())
        into = {told[lot["account_id"]]["into_id"] for lot in lots}
        held = await lock_by_account(work.conn, into, held.values())
        await _move(work, program, held, told, lots)
        merged = {heir: held[heir] for heir in into if held[heir].flags & FLAG_MERGED}
    return held.values()


async def _move(
    work: Work,
    program: Program,
    held: Mapping[int, Account],
    told: Mapping[int, Any],
    lots: Sequence[Any],
) -> None:
    """Move these parts of lots each to the next account."""
    names = [
        digest_uuid("merged", str(lot["lot_id"]), told[lot["account_id"]]["into"]) for lot in lots
    ]
    known: dict[UUID, int | None] = {**await store.known_lots(work.conn, names)}
    rows: list[EntryRow] = []
    for lot, lot_id in zip(lots, names, strict=True):
        account, merge = held[lot["account_id"]], told[lot["account_id"]]
        heir = held[merge["into_id"]]
        move = Move(lot, merge, lot_id, known.get(lot_id))
        known[lot_id] = lot["base"]
        rows.append(_line(work, program, account, move, -lot["points"], heir.customer_id))
        rows.append(_line(work, program, heir, move, lot["points"], account.customer_id))
        _tell(work, heir, rows[-1])
        heir.flags |= FLAG_SPENT
    involved = [held[account_id] for account_id in {row.account_id for row in rows}]
    await ledger.append(work.conn, rows, involved)
    await set_flags(work.conn, involved)


async def borrow(work: Work, accounts: Collection[Account]) -> Collection[Account]:
    """Let merged ones of these locked accounts have the way through the tiers of whom they live on as.

    Only here, not in the table: there it stays as it was told. Returns the accounts, and the others locked for it.
    """
    merged = [account for account in accounts if account.flags & FLAG_MERGED]
    if not merged:
        return accounts
    followed = await store.follow(work.conn, {account.customer_id: account for account in accounts})
    for account in merged:
        account.timeline = followed[account.customer_id].timeline
    present = {account.id for account in accounts}
    heirs = {heir.id: heir for heir in followed.values() if heir.id not in present}
    return [*accounts, *heirs.values()]


def _line(
    work: Work, program: Program, account: Account, move: Move, points: int, other: str
) -> EntryRow:
    """The entry on either side; that of the heir opens a lot which carries what the purchase counts for."""
    lot, told = move.lot, move.told
    incoming = account.id != lot["account_id"]
    first = incoming and move.known is None
    account.seq += 1
    account.balance += points
    lot_id = move.lot_id if incoming else lot["lot_id"]
    code = facts.MERGED_IN if incoming else facts.MERGED_OUT
    since = lot["counts_since"]
    return EntryRow(
        entry_id=lot_id if first else digest_uuid(code, str(lot_id), str(account.seq)),
        account_id=account.id,
        seq=account.seq,
        kind=TRANSFERRED,
        points=points,
        base=lot["base"] - (move.known or 0) if incoming else 0,
        bonus=0,
        balance_after=account.balance,
        lot_id=lot_id,
        occurred_at=lot["moves_at"],
        recorded_at=work.now,
        available_at=lot["available_at"],
        expires_at=lot["expires_at"],
        shop=lot["shop"],
        order_id=lot["order_id"],
        event_key=told["event_key"],
        event_id=told["event_id"],
        fingerprint=0,
        net_spend=lot["net_spend"] if first else Decimal(0),
        exact="0",
        tier=None,
        multiplier="1",
        reason=code,
        explanation=facts.pack_fact(
            code,
            points,
            points if incoming else 0,
            [other, *([since.isoformat()] if incoming and since else [])],
            program,
        ),
        active_from=lot["active_from"] if first else None,
    )


def _tell(work: Work, heir: Account, row: EntryRow) -> None:
    """Points only: what an award counts for at the tiers was told of whom it was granted to, and stays so."""
    if row.points == 0:
        return
    told = replace(adjusted(heir, row), kind=TRANSFERRED)
    event_id = derive(contract.ADJUSTED, str(row.entry_id))
    work.publish(
        contract.TOPIC, heir.customer_id, contract.ADJUSTED, event_id, row.occurred_at, told
    )
