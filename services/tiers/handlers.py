"""One function per kind of event: append what counts, let the domain walk, publish what changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from uuid import UUID

from asyncpg.pgproto import pgproto

from services.tiers import ledger
from services.tiers.domain import changes, standing
from services.tiers.domain.progression import timeline
from services.tiers.domain.qualification import Qualifying, amount
from services.tiers.domain.rules import Rules
from services.tiers.domain.standing import Standing
from services.tiers.ledger import Account, ChangeRow, QualifyingRow
from shared.contracts import tiers as contract
from shared.contracts.points import PointsEarned
from shared.contracts.tiers import TierChanged, TierMove
from shared.errors import Poison
from shared.events.model import Event, Work
from shared.ids import derive
from shared.program import Program

BASE_MAX = 2**63 - 1
# Sums of such amounts stay exact within the 60 digits we calculate with.
SPEND_WHOLE_DIGITS_MAX = 28
SPEND_FRACTION_DIGITS_MAX = 25
YEARS = range(1900, 9000)
TYPES: dict[str, str] = {
    "upgraded": contract.UPGRADED,
    "retained": contract.RETAINED,
    "downgraded": contract.DOWNGRADED,
}


@dataclass(frozen=True, slots=True)
class Earned:
    """A points entry that passed its checks."""

    event: Event[PointsEarned]
    entry_id: UUID
    base: int
    net_spend: Decimal


class Handlers:
    """The handlers, bound to the program in force."""

    def __init__(self, program: Program) -> None:
        self.rules = Rules(program)

    async def points_earned(self, work: Work, events: Sequence[Event[PointsEarned]]) -> None:
        """Count purchases, once per points entry, and walk on the customers they may move."""
        earned = _checked(work, events)
        if not earned:
            return
        accounts = await ledger.lock_accounts(
            work.conn,
            {item.event.data.customer_id for item in earned},
            self.rules.version,
            self.rules.first_standing,
            work.now,
        )
        rows = [_row(item, accounts[item.event.data.customer_id], work.now) for item in earned]
        fresh = await ledger.add_qualifying(work.conn, rows)
        added: dict[str, list[Qualifying]] = defaultdict(list)
        for item in earned:
            data = item.event.data
            if item.entry_id not in fresh:
                work.duplicate(item.event, f"entry {item.entry_id} is known")
                continue
            adds = amount(self.rules.basis, item.base, item.net_spend, 1)
            added[data.customer_id].append(Qualifying(item.entry_id, data.occurred_at, adds))
        await self._walk_on(work, {c: (accounts[c], entries) for c, entries in added.items()})

    async def _walk_on(
        self, work: Work, added: Mapping[str, tuple[Account, Sequence[Qualifying]]]
    ) -> None:
        quiet: dict[int, Standing] = {}
        until: dict[int, datetime] = {}
        moving: list[Account] = []
        for account, entries in added.values():
            same_rules = account.rules == self.rules.version
            found = standing.unmoved(account.standing, entries) if same_rules else None
            if found is not None:
                quiet[account.id] = found
                continue
            newest = max(entry.occurred_at for entry in entries)
            until[account.id] = max(newest, account.standing.computed_until or newest)
            moving.append(account)
        await ledger.advance(work.conn, quiet, self.rules.version, work.now)
        await walk(work, self.rules, moving, lambda account: until[account.id])


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
        found = timeline(entries.get(account.id, ()), rules.tiers, rules.zone, until(account))
        standings[account.id] = standing.standing_of(found, rules.tiers)
        told = account.told()
        if found.moves == told:
            continue
        account.revision += 1
        level = None if found.level is None else found.level.id
        timelines[account.id] = (account.revision, level, found.moves)
        history += _history(account, told, found.moves, work.now)
        _publish(work, account, told, found.moves, rules)
    await ledger.walked(work.conn, standings, timelines, history, rules.version, work.now)
    return len(timelines)


def _checked(work: Work, events: Sequence[Event[PointsEarned]]) -> list[Earned]:
    """Those that can be applied, each entry once; the others get their verdict."""
    found: dict[UUID, Earned] = {}
    for event in events:
        try:
            earned = _check(event)
        except Poison as poison:
            work.poison(event, poison.field, poison.reason)
            continue
        if earned.entry_id in found:
            work.duplicate(event, f"entry {earned.entry_id} is known")
        else:
            found[earned.entry_id] = earned
    return list(found.values())


def _check(event: Event[PointsEarned]) -> Earned:
    data = event.data
    if not data.customer_id or "\0" in data.customer_id + data.shop + data.order_id:
        raise Poison("data", "customer_id, shop and order_id need text without NUL characters")
    if data.occurred_at.tzinfo is None or data.occurred_at.year not in YEARS:
        raise Poison("data.occurred_at", f"{data.occurred_at.isoformat()} is no instant we can use")
    if not 0 <= data.base <= BASE_MAX:
        raise Poison("data.base", f"{data.base} base points: 0 to {BASE_MAX} are possible")
    try:
        # asyncpg's own UUID: a subclass, read six times quicker, and written as it is.
        entry_id: UUID = pgproto.UUID(data.entry_id)
    except ValueError:
        raise Poison("data.entry_id", f"{data.entry_id[:50]!r} is not a UUID") from None
    return Earned(event, entry_id, data.base, _spend(data.net_spend))


def _spend(text: str) -> Decimal:
    try:
        spend = Decimal(text)
    except InvalidOperation:
        raise Poison("data.net_spend", f"{text[:50]!r} is not a decimal number") from None
    if not spend.is_finite() or spend < 0:
        raise Poison("data.net_spend", f"{text[:50]} is not an amount of 0 or more")
    exponent = spend.as_tuple().exponent
    too_long = isinstance(exponent, int) and -exponent > SPEND_FRACTION_DIGITS_MAX
    if too_long or spend.adjusted() >= SPEND_WHOLE_DIGITS_MAX:
        raise Poison("data.net_spend", f"{text[:50]} has too many digits")
    return spend


def _row(earned: Earned, account: Account, now: datetime) -> QualifyingRow:
    data = earned.event.data
    return QualifyingRow(
        entry_id=earned.entry_id,
        account_id=account.id,
        occurred_at=data.occurred_at,
        base=earned.base,
        net_spend=earned.net_spend,
        purchases=1,
        shop=data.shop,
        order_id=data.order_id,
        recorded_at=now,
    )


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
