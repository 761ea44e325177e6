"""Campaigns of purchases: decided when they are credited, and again when something came late."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

from services.points.domain import deciding, lots
from services.points.domain.bonus import TierInForce
from services.points.domain.campaigns import Offer, Offers
from services.points.domain.deciding import TOTAL, Case, Decision, Recorded
from services.points.domain.packed_campaigns import CAMPAIGN, pack_decision
from services.points.domain.wording import multiplier_text
from services.points.handlers.telling import adjusted
from services.points.ledger import FLAG_CAPPED, FLAG_REFUNDS, Account, EntryRow, append, refunds
from services.points.ledger import campaigns as ledger
from services.points.ledger.campaigns import ALL_SPENT, Draw, Held
from shared.contracts import points as contract
from shared.contracts.points import Reduction, Standing
from shared.db.types import Connection
from shared.events.model import Work
from shared.ids import derive, digest_uuid
from shared.program import Program


class Decided(NamedTuple):
    """What campaigns give a purchase, with which tier; ``drawn`` is what it had from budgets before."""

    tier: TierInForce
    decision: Decision
    drawn: Mapping[str, int]


class Candidate(NamedTuple):
    """A purchase to be credited, as far as campaigns need it."""

    id: UUID
    customer: str
    occurred_at: datetime
    case: Case | None
    changeable: bool


class Locker(Protocol):
    """How budgets are read: locked by who draws, only looked at by who asks."""

    async def __call__(self, conn: Connection, wanted: Mapping[str, int]) -> dict[str, int]:
        """What each of these campaigns, whose budgets are named, has given by now."""
        ...


async def reserve(conn: Connection, offers: Iterable[Offers | None]) -> None:
    """Lock the budgets that purchases may draw from, before any account: nobody waits for them with a lock."""
    wanted = budgeted(offer for made in offers if made for offer in made.made)
    if wanted:
        await ledger.lock_budgets(conn, wanted)


async def decide(
    conn: Connection,
    program: Program,
    candidates: Sequence[Candidate],
    accounts: Mapping[str, Account],
    budgets: Locker = ledger.lock_budgets,
) -> dict[UUID, Decided]:
    """Decide what campaigns give to new purchases whose customer decides along, by all that is known of them.

    Nothing is written. ``accounts`` are those of the candidates' customers, locked by who will write.
    """
    asked = [one for one in candidates if one.changeable]
    if not asked:
        return {}
    # One account may be asked for by several names: those of merged customers.
    touched = {accounts[one.customer].id: accounts[one.customer] for one in asked}
    known = await ledger.held(conn, [a.id for a in touched.values() if a.flags & FLAG_CAPPED])
    new = {one.id for one in asked}
    firsts = await _firsts(conn, candidates, accounts)
    wanted = budgeted(_offers(one.case for one in asked))
    spent = await budgets(conn, wanted)
    # None has, unless the ledger is built anew: what they were given once is known then.
    drawn = await ledger.draws_of(conn, new) if wanted else {}
    found: dict[UUID, Decided] = {}
    for account in touched.values():
        own = [h.recorded for h in known.get(account.id, ()) if h.recorded.lot_id not in new]
        own += [
            Recorded(one.id, one.occurred_at, one.case, drawn.get(one.id, {}))
            for one in asked
            if accounts[one.customer].id == account.id and one.case is not None
        ]
        decided = deciding.replay(own, account.timeline, program, firsts.get(account.id), spent)
        found |= {
            lot: Decided(*decision, drawn.get(lot, {}))
            for lot, decision in decided.items()
            if lot in new
        }
    return found


def budgets_of(work: Work) -> Locker:
    """What may still be drawn: a ledger that is built anew knows all that ever was, and draws no more."""
    return _nothing_left if work.rebuilding else ledger.lock_budgets


async def _nothing_left(conn: Connection, wanted: Mapping[str, int]) -> dict[str, int]:
    del conn
    return dict.fromkeys(wanted, ALL_SPENT)


async def record(work: Work, decided: Mapping[UUID, Decided], accounts: Iterable[Account]) -> None:
    """Write down what new purchases draw from budgets, and that these accounts are looked at from now on."""
    draws = [
        Draw(campaign, lot, lot, points)
        for lot, (_, decision, drawn) in decided.items()
        for campaign, points in deciding.draws(decision, drawn).items()
    ]
    await ledger.draw(work.conn, draws, work.now)
    await ledger.flag_capped(work.conn, accounts)


async def settle(work: Work, program: Program, accounts: Collection[Account]) -> None:
    """Bring purchases of locked accounts to what their campaigns give by all that is known now."""
    flagged = {account.id: account for account in accounts if account.flags & FLAG_CAPPED}
    if not flagged:
        return
    known = await ledger.held(work.conn, list(flagged))
    firsts = await ledger.first_purchases(work.conn, list(flagged))
    decided = _replayed(program, flagged, known, firsts, None)
    short = any(_short_of_budget(decision) for _, decision in decided.values())
    if short and not work.rebuilding:
        cases = (one.recorded.case for ones in known.values() for one in ones)
        spent = await ledger.lock_budgets(work.conn, budgeted(_offers(cases)))
        decided = _replayed(program, flagged, known, firsts, spent)
    changed = [
        (one, *decided[one.recorded.lot_id])
        for ones in known.values()
        for one in ones
        if _stands(one)
        != (decided[one.recorded.lot_id][1].base, decided[one.recorded.lot_id][1].total)
    ]
    if changed:
        await _correct(work, flagged, changed)


def budgeted(offers: Iterable[Offer]) -> dict[str, int]:
    """The campaigns with an overall budget among these offers, and how much it is."""
    found: dict[str, int] = {}
    for offer in offers:
        if offer.total is not None:
            found[offer.id] = max(offer.total, found.get(offer.id, 0))
    return found


def _offers(cases: Iterable[Case | None]) -> Iterator[Offer]:
    return (offer for case in cases if case for offer in case.offers)


def _replayed(
    program: Program,
    accounts: Mapping[int, Account],
    known: Mapping[int, Sequence[Held]],
    firsts: Mapping[int, tuple[datetime, UUID]],
    spent: dict[str, int] | None,
) -> dict[UUID, tuple[TierInForce, Decision]]:
    """Decide all anew. Without ``spent`` nothing can be drawn that has not been drawn already."""
    found: dict[UUID, tuple[TierInForce, Decision]] = {}
    for account_id, ones in known.items():
        recorded = [one.recorded for one in ones]
        left = spent
        if left is None:
            left = {o.id: ALL_SPENT for one in recorded for o in one.case.offers}
        _, first = firsts.get(account_id, (None, None))
        moves = accounts[account_id].timeline
        found |= deciding.replay(recorded, moves, program, first, left)
    return found


def _short_of_budget(decision: Decision) -> bool:
    return any(grant.capped == TOTAL for grant in decision.grants) or any(
        missed.condition == TOTAL for missed in decision.missed
    )


def _stands(one: Held) -> tuple[int, int]:
    return one.row["base"], one.row["total"]


async def _firsts(
    conn: Connection, candidates: Sequence[Candidate], accounts: Mapping[str, Account]
) -> dict[int, UUID]:
    """The first purchase of each account, those to be credited now included."""
    asked = {
        accounts[one.customer].id
        for one in candidates
        if one.case is not None
        and any(offer.first for offer in one.case.offers)
        and accounts[one.customer].seq
    }
    firsts = await ledger.first_purchases(conn, asked)
    for one in candidates:
        account = accounts[one.customer].id
        before, mine = firsts.get(account), (one.occurred_at, one.id)
        if before is None or _order(mine) < _order(before):
            firsts[account] = mine
    return {account: lot for account, (_, lot) in firsts.items()}


def _order(purchase: tuple[datetime, UUID]) -> tuple[datetime, bytes]:
    return purchase[0], purchase[1].bytes


async def _correct(
    work: Work,
    accounts: Mapping[int, Account],
    changed: Sequence[tuple[Held, TierInForce, Decision]],
) -> None:
    """Write the correcting entries, what they draw from budgets, and what the purchases count for now."""
    refunded = [one for one, _, _ in changed if _account(accounts, one).flags & FLAG_REFUNDS]
    reductions: Mapping[UUID, list[Reduction]] = {}
    if refunded:
        owners = {one.row["account_id"] for one in refunded}
        refunded_lots = [one.recorded.lot_id for one in refunded]
        reductions = await refunds.reductions(work.conn, owners, refunded_lots)
    rows: list[EntryRow] = []
    draws: list[Draw] = []
    for one, tier, decision in changed:
        account = _account(accounts, one)
        row = _entry(work, account, one, tier, decision)
        rows.append(row)
        draws += [
            Draw(campaign, row.entry_id, row.lot_id, points)
            for campaign, points in deciding.draws(decision, one.recorded.drawn).items()
        ]
        standing = _standing(row, decision.base, reductions.get(row.lot_id, []))
        told = adjusted(account, row, standing)
        event_id = derive(contract.ADJUSTED, str(row.entry_id))
        work.publish(
            contract.TOPIC, account.customer_id, contract.ADJUSTED, event_id, work.now, told
        )
    await append(
        work.conn, rows, {row.account_id: accounts[row.account_id] for row in rows}.values()
    )
    await ledger.draw(work.conn, draws, work.now)


def _account(accounts: Mapping[int, Account], one: Held) -> Account:
    return accounts[one.row["account_id"]]


def _entry(
    work: Work,
    account: Account,
    one: Held,
    tier: TierInForce,
    decision: Decision,
) -> EntryRow:
    stood, award, case = one.row, one.award, one.recorded.case
    points, base = decision.total - stood["total"], decision.base - stood["base"]
    weights = deciding.weights(decision, case, award.nets, award.reasons or {})
    account.seq += 1
    account.balance += points
    lot_id = one.recorded.lot_id
    return EntryRow(
        entry_id=digest_uuid(CAMPAIGN, str(lot_id), str(stood["corrections"] + 1)),
        account_id=account.id,
        seq=account.seq,
        kind=lots.CAMPAIGN,
        points=points,
        base=base,
        bonus=points - base,
        balance_after=account.balance,
        lot_id=lot_id,
        occurred_at=stood["occurred_at"],
        recorded_at=work.now,
        available_at=stood["available_at"],
        expires_at=stood["expires_at"],
        shop=stood["shop"],
        order_id=stood["order_id"],
        event_key=stood["event_key"],
        event_id=stood["event_id"],
        fingerprint=stood["fingerprint"],
        net_spend=stood["net_spend"],
        exact=str(decision.exact),
        tier=tier.id,
        multiplier=multiplier_text(tier.multiplier),
        reason=CAMPAIGN,
        explanation=pack_decision(
            case,
            (stood["base"], stood["total"]),
            (tier, decision),
            weights,
            (award.program, award.version),
        ).decode(),
    )


def _standing(row: EntryRow, base: int, reductions: list[Reduction]) -> Standing:
    return Standing(
        lot_id=str(row.lot_id),
        seq=row.seq,
        base=base,
        net_spend=f"{row.net_spend:f}",
        purchases=1,
        occurred_at=row.occurred_at,
        reductions=_within(reductions, base),
    )


def _within(reductions: Iterable[Reduction], base: int) -> list[Reduction]:
    """What refunds have taken out, never more than the purchase counts for since; clawing back says it exactly."""
    found = []
    for reduction in reductions:
        taken = min(reduction.base, base)
        base -= taken
        found.append(msgspec.structs.replace(reduction, base=taken))
    return found
