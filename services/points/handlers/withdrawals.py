"""Purchases whose credit was taken back for good: their lots hold nothing any more, whatever is told of them."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any

from services.points import ledger
from services.points.domain import facts
from services.points.handlers.telling import adjusted
from services.points.ledger import Account, EntryRow
from services.points.ledger import customers as store
from shared.contracts import points as contract
from shared.contracts.points import Standing
from shared.events.model import Work
from shared.ids import derive, digest_uuid
from shared.program import Program

WITHDRAWN = "withdrawn"


async def withdraw(work: Work, program: Program, accounts: Collection[Account]) -> None:
    """Bring the lots of withdrawn purchases of these locked accounts to nothing, by correcting entries."""
    if not accounts:
        return
    by_id = {account.id: account for account in accounts}
    lots = await store.withdrawn_lots(work.conn, by_id.keys())
    rows = [_entry(work, program, by_id[lot["account_id"]], lot) for lot in lots]
    await ledger.append(work.conn, rows, accounts)


def _entry(work: Work, program: Program, account: Account, lot: Any) -> EntryRow:
    points = -lot["points"]
    account.seq += 1
    account.balance += points
    entry_id = digest_uuid(WITHDRAWN, str(lot["purchase_id"]), str(account.seq))
    row = EntryRow(
        entry_id=entry_id,
        account_id=account.id,
        seq=account.seq,
        kind=WITHDRAWN,
        points=points,
        base=0,
        bonus=0,
        balance_after=account.balance,
        lot_id=lot["purchase_id"],
        occurred_at=lot["occurred_at"],
        recorded_at=work.now,
        available_at=lot["available_at"],
        expires_at=lot["expires_at"],
        shop=lot["shop"],
        order_id=lot["order_id"],
        event_key=lot["event_key"],
        event_id=lot["event_id"],
        fingerprint=0,
        net_spend=Decimal(0),
        exact="0",
        tier=None,
        multiplier="1",
        reason=facts.CARD_BLOCKED,
        explanation=facts.pack_fact(facts.CARD_BLOCKED, points, 0, [lot["card_number"]], program),
    )
    standing = Standing(str(row.lot_id), row.seq, 0, "0", 0, row.occurred_at, [])
    told = adjusted(account, row, standing)
    event_id = derive(contract.ADJUSTED, str(entry_id))
    work.publish(contract.TOPIC, account.customer_id, contract.ADJUSTED, event_id, work.now, told)
    return row
