"""Walking accounts anew from all their entries: store and publish what changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from services.tiers import ledger
from services.tiers.domain import changes
from services.tiers.domain.rules import Rules
from services.tiers.domain.standing import Standing
from services.tiers.ledger import Account, ChangeRow
from shared.contracts import tiers as contract
from shared.contracts.tiers import TierChanged, TierMove
from shared.events.model import Work
from shared.ids import derive

TYPES: dict[str, str] = {
    "upgraded": contract.UPGRADED,
    "retained": contract.RETAINED,
    "downgraded": contract.DOWNGRADED,
}


async def walk(
    work: Work, rules: Rules, accounts: Sequence[Account], until: Callable[[Account], datetime]
) -> int:
    """Walk locked accounts anew from all their entries; store and publish what changed. Returns how many did."""
    if not accounts:
        return 0
    ids = [account.id for account in accounts]
    entries = await ledger.entries_of(work.conn, ids, rules.basis)
    standings: dict[int, Standing] = {}
    timelines: dict[int, tuple[int, str | None, Sequence[TierMove]]] = {}
    history: list[ChangeRow] = []
    for account in accounts:
        found = rules.walk(entries.get(account.id, ()), until(account))
        standings[account.id] = rules.standing_of(found)
        told = account.told()
        if found.moves == told:
            continue
        account.revision += 1
        level = None if found.level is None else found.level.id
        timelines[account.id] = (account.revision, level, found.moves)
        history += _history(account, told, found.moves, work.now)
        _publish(work, account, told, found.moves, rules)
    await ledger.walked(work.last, standings, timelines, history, rules.version, work.now)
    return len(timelines)


def _history(
    account: Account, told: Sequence[TierMove], moves: Sequence[TierMove], now: datetime
) -> list[ChangeRow]:
    return [
        ChangeRow(
            account_id=account.id,
            revision=account.revision,
            number=number,
            kind=change.kind,
            tier=change.move.tier,
            previous=change.move.previous,
            multiplier=change.move.multiplier,
            since=change.move.since,
            valid_until=change.move.valid_until,
            reach=change.move.reach,
            cause=change.move.cause,
            replaced=None if change.replaced is None else ledger.encode(change.replaced),
            recorded_at=now,
        )
        for number, change in enumerate(changes.between(told, moves))
    ]


def _publish(
    work: Work, account: Account, told: Sequence[TierMove], moves: Sequence[TierMove], rules: Rules
) -> None:
    """An event for each move that is new, each with the whole way: a receiver needs only the newest."""
    for move in changes.announced(told, moves, rules.tiers):
        work.publish(
            contract.TOPIC,
            account.customer_id,
            TYPES[move.kind],
            derive(
                "tier",
                account.customer_id,
                str(account.revision),
                move.kind,
                move.tier,
                move.since.isoformat(),
            ),
            move.since,
            TierChanged(account.customer_id, account.revision, move, list(moves)),
        )
