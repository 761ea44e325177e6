"""The step of settling that brings an account's clawbacks to what its refunds amount to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from uuid import UUID

from services.points import ledger
from services.points.domain import clawbacks
from services.points.domain.clawbacks import PackedClawback, Told
from services.points.domain.refunds import (
    CANCELLATION,
    CLAWED_BACK,
    MATCHED,
    PARKED,
    Bought,
    Outcome,
    targets_of,
)
from services.points.handlers.spending import Spending
from services.points.ledger import Account, EntryRow
from services.points.ledger import refunds as store
from services.points.ledger.customers import catch_up
from services.points.ledger.refunds import Settling, Taken
from shared.contracts import points as contract
from shared.contracts.points import PointsClawedBack, Reduction, Standing
from shared.events.model import Work
from shared.ids import derive, digest_uuid
from shared.program import Program

Pair = tuple[UUID, UUID]


async def claw_back(
    work: Work, program: Program, accounts: Collection[Account], held: Collection[Account] = ()
) -> bool:
    """Write what is missing or too much of these locked accounts' clawbacks; whether that was anything.

    What was spent on a cancelled order comes back to whichever account of the person: others in hand (``held``)
    move on.
    """
    if not accounts:
        return False
    by_id = {account.id: account for account in accounts}
    rows: list[EntryRow] = []
    decided: list[tuple[UUID, str, str | None, int]] = []
    cancelled: list[tuple[Account, str]] = []
    due = await store.to_settle(work.conn, by_id.keys())
    if not due:
        return False
    for settling in await store.load(work.conn, due):
        outcomes = settling.outcomes()
        decided += _changed(settling, outcomes)
        rows += _correct(work, program, by_id[settling.account_id], settling, outcomes)
        cancelled += _cancelled(by_id[settling.account_id], settling, outcomes)
    written = {row.account_id for row in rows}
    await ledger.append(work.conn, rows, [by_id[account_id] for account_id in written])
    await store.decide(work.conn, {key: by_id[key].seq for key in due}, decided, work.now)
    for account, order_id in cancelled:
        await restore_spent(work, program, account, order_id)
    if cancelled:
        await catch_up(work.conn, [*accounts, *held])
    return bool(rows)


async def restore_spent(work: Work, program: Program, account: Account, order_id: str) -> None:
    """Give back what this locked account's person has spent on a cancelled order; all their lines are appended."""
    if work.rebuilding:
        # Whatever was given back is known.
        return
    await Spending(program).restore_order(work, account, order_id)


def _cancelled(
    account: Account, settling: Settling, outcomes: Sequence[Outcome]
) -> list[tuple[Account, str]]:
    """Orders whose cancellation has found its purchase just now."""
    return [
        (account, settling.rows[outcome.refund.key]["order_id"])
        for outcome in outcomes
        if outcome.refund.kind == CANCELLATION
        and outcome.state == MATCHED
        and settling.rows[outcome.refund.key]["state"] == PARKED
    ]


def _changed(
    settling: Settling, outcomes: Sequence[Outcome]
) -> list[tuple[UUID, str, str | None, int]]:
    found = []
    for outcome in outcomes:
        row, points = settling.rows[outcome.refund.key], outcome.points
        if (row["state"], row["code"], row["points"]) != (outcome.state, outcome.code, points):
            found.append((outcome.refund.key, outcome.state, outcome.code, points))
    return found


def _correct(
    work: Work,
    program: Program,
    account: Account,
    settling: Settling,
    outcomes: Sequence[Outcome],
) -> list[EntryRow]:
    """The entries that are missing, and their events; each event tells its purchase's whole standing."""
    targets = targets_of(outcomes)
    pairs = sorted(targets.keys() | settling.taken.keys(), key=lambda pair: _order(settling, pair))
    asked = {refund.key: refund for refund in settling.refunds}
    now: dict[Pair, PackedClawback] = {}
    changed: list[tuple[Pair, Taken]] = []
    for pair in pairs:
        (key, lot_id), bought = pair, settling.purchases[pair[1]]
        # The order that it turned out to be of, where the shop named none.
        order_id = settling.awards[lot_id]["order_id"]
        refund = Told(asked[key], settling.rows[key]["refund_id"], order_id)
        taken = settling.taken.get(pair) or Taken()
        now[pair] = clawbacks.packed(refund, bought, targets.get(pair), taken.told, program)
        before = taken.told.standing if taken.told else (0, 0, Decimal(0), 0)
        if now[pair].standing != before:
            changed.append((pair, taken))
    reductions = _reductions(now)
    rows = []
    for pair, taken in changed:
        row = _row(work, account, settling, now[pair], pair, taken)
        rows.append(row)
        standing = _standing(settling.purchases[pair[1]], row.seq, reductions.get(pair[1], []))
        _publish(work, account, row, now[pair], standing)
    return rows


def _order(settling: Settling, pair: Pair) -> tuple[object, ...]:
    return settling.rows[pair[0]]["occurred_at"], pair


def _reductions(now: Mapping[Pair, PackedClawback]) -> dict[UUID, list[Reduction]]:
    found: dict[UUID, list[Reduction]] = {}
    for (_, lot_id), told in now.items():
        if reduction := store.reduction_of(told):
            found.setdefault(lot_id, []).append(reduction)
    for parts in found.values():
        parts.sort(key=lambda part: part.at)
    return found


def _standing(bought: Bought, seq: int, reductions: list[Reduction]) -> Standing:
    return Standing(
        lot_id=str(bought.lot_id),
        seq=seq,
        base=bought.base,
        net_spend=f"{bought.net_spend:f}",
        purchases=1,
        occurred_at=bought.occurred_at,
        reductions=reductions,
    )


def _row(
    work: Work,
    account: Account,
    settling: Settling,
    told: PackedClawback,
    pair: Pair,
    taken: Taken,
) -> EntryRow:
    refund_key, lot_id = pair
    award, refund = settling.awards[lot_id], settling.rows[refund_key]
    points = taken.points - told.points
    base = taken.base - told.base
    account.seq += 1
    account.balance += points
    return EntryRow(
        entry_id=digest_uuid(CLAWED_BACK, str(refund_key), str(lot_id), str(taken.entries)),
        account_id=account.id,
        seq=account.seq,
        kind=CLAWED_BACK,
        points=points,
        base=base,
        bonus=points - base,
        balance_after=account.balance,
        lot_id=lot_id,
        occurred_at=told.at,
        recorded_at=work.now,
        available_at=award["available_at"],
        expires_at=award["expires_at"],
        shop=award["shop"],
        order_id=award["order_id"],
        event_key=refund_key,
        event_id=refund["event_id"],
        fingerprint=0,
        net_spend=Decimal(0),
        exact="0",
        tier=None,
        multiplier="1",
        reason=told.refund_kind,
        explanation=clawbacks.encode(told),
    )


def _publish(
    work: Work, account: Account, row: EntryRow, told: PackedClawback, standing: Standing
) -> None:
    work.publish(
        contract.TOPIC,
        account.customer_id,
        contract.CLAWED_BACK,
        derive(contract.CLAWED_BACK, str(row.entry_id)),
        row.occurred_at,
        PointsClawedBack(
            customer_id=account.customer_id,
            entry_id=str(row.entry_id),
            lot_id=str(row.lot_id),
            order_id=row.order_id,
            refund_id=told.refund_id,
            points=row.points,
            base=row.base,
            occurred_at=row.occurred_at,
            reason=told.refund_kind,
            standing=standing,
            cause=row.event_id,
        ),
    )
