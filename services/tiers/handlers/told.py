"""What points tells of lots: check it, keep what is new, and walk on the customers it may move."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg.pgproto import pgproto

from services.tiers import ledger
from services.tiers.domain import standing, validation
from services.tiers.domain.qualification import Basis, Qualifying, Reduction, amount
from services.tiers.domain.rules import Rules
from services.tiers.domain.standing import Standing as Room
from services.tiers.domain.validation import Numbers, Taken
from services.tiers.handlers.walking import walk, walk_persons
from services.tiers.ledger import Account, QualifyingRow, StandingRow
from shared.contracts.points import PointsClawedBack, PointsEarned, Standing
from shared.errors import Poison
from shared.events.model import Event, Work


@dataclass(frozen=True, slots=True)
class Told:
    """What points told of a lot, checked: that it was credited, or (``standing``) how it stands since."""

    event: Event[Any]
    lot_id: UUID
    numbers: Numbers
    occurred_at: datetime
    taken: Sequence[Taken] = ()
    standing: Standing | None = None

    @property
    def customer_id(self) -> str:
        """Whose it is: of several ids that are one person the one under which it was bought, if that is told."""
        data = self.event.data
        bought_as: str | None = data.bought_as if isinstance(data, PointsEarned) else None
        customer_id: str = data.customer_id
        return bought_as or customer_id

    def counts(self, basis: Basis) -> Qualifying:
        """What it adds, and had taken out of it, under the program's basis."""
        taken = tuple(Reduction(t.at, amount(basis, *t.numbers)) for t in self.taken)
        return Qualifying(self.lot_id, self.occurred_at, amount(basis, *self.numbers), taken)


class PointsTold:
    """The handler of what points tells of lots, bound to the rules in force."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    async def handle(self, work: Work, events: Sequence[Event[Any]]) -> None:
        """Count purchases once, follow what is refunded and corrected, and walk on the customers it may move."""
        told = _checked(work, events)
        if not told:
            return
        self.rules.look()
        accounts = await ledger.lock_accounts(
            work.conn,
            {item.customer_id for item in told},
            self.rules.version,
            self.rules.first_standing,
            work.now,
        )
        fresh = await _append(work, told, accounts)
        added: dict[str, list[Told]] = defaultdict(list)
        for item in told:
            if _key(item) in fresh:
                added[item.customer_id].append(item)
            else:
                work.duplicate(item.event, f"{_named(item)} is known")
        await self._walk_on(work, {c: (accounts[c], items) for c, items in added.items()})

    async def _walk_on(
        self, work: Work, added: Mapping[str, tuple[Account, Sequence[Told]]]
    ) -> None:
        quiet: dict[int, Room] = {}
        until: dict[int, datetime] = {}
        moving: list[Account] = []
        persons: set[int] = set()
        for account, items in added.values():
            if account.person_id is not None:
                persons.add(account.person_id)
                continue
            entries = [item.counts(self.rules.basis) for item in items]
            only_more = not any(item.standing for item in items)
            same_rules = account.rules == self.rules.version
            found = (
                standing.unmoved(account.standing, entries) if same_rules and only_more else None
            )
            if found is not None:
                quiet[account.id] = found
                continue
            newest = max(entry.known_until for entry in entries)
            until[account.id] = max(newest, account.standing.computed_until or newest)
            moving.append(account)
        await ledger.advance(work.conn, quiet, self.rules.version, work.now)
        await walk(work, self.rules, moving, lambda account: until[account.id])
        await walk_persons(work, self.rules, persons)


def _checked(work: Work, events: Sequence[Event[Any]]) -> list[Told]:
    """Those that can be applied, each once; the others get their verdict."""
    found: dict[object, Told] = {}
    for event in events:
        try:
            told = _check(event)
        except Poison as poison:
            work.poison(event, poison.field, poison.reason)
            continue
        if told is None:
            # A correction that leaves alone what counts here, like that of a tier bonus.
            continue
        if _key(told) in found:
            work.duplicate(event, f"{_named(told)} is known")
        else:
            found[_key(told)] = told
    return list(found.values())


def _check(event: Event[Any]) -> Told | None:
    data = event.data
    if isinstance(data, PointsEarned):
        numbers = validation.check_earned(data)
        lot_id = _uuid(data.entry_id, "data.entry_id")
        return Told(event, lot_id, numbers, data.occurred_at)
    if data.standing is None:
        return None
    validation.check_texts(data.customer_id, getattr(data, "refund_id", None))
    numbers, taken = validation.check_standing(data.standing)
    lot_id = _uuid(data.standing.lot_id, "data.standing.lot_id")
    return Told(event, lot_id, numbers, data.standing.occurred_at, taken, data.standing)


def _uuid(text: str, field: str) -> UUID:
    try:
        # asyncpg's own UUID: a subclass, read six times quicker, and written as it is.
        return pgproto.UUID(text)
    except ValueError:
        raise Poison(field, f"{text[:50]!r} is not a UUID") from None


def _key(told: Told) -> tuple[UUID, int | None]:
    return told.lot_id, None if told.standing is None else told.standing.seq


def _named(told: Told) -> str:
    of = "" if told.standing is None else f" as of {told.standing.seq}"
    return f"entry {told.lot_id}{of}"


async def _append(
    work: Work, told: Sequence[Told], accounts: Mapping[str, Account]
) -> set[tuple[UUID, int | None]]:
    """Keep what is new; returns the keys of that."""
    credited = [
        _credit(item, accounts[item.customer_id].id, work.now)
        for item in told
        if item.standing is None
    ]
    restated = [
        _standing(item, item.standing, accounts[item.customer_id].id, work.now)
        for item in told
        if item.standing is not None
    ]
    fresh: set[tuple[UUID, int | None]] = set()
    if credited:
        fresh |= {(lot_id, None) for lot_id in await ledger.add_qualifying(work.conn, credited)}
    if restated:
        fresh |= await ledger.add_standings(work.conn, restated)
    return fresh


def _credit(told: Told, account_id: int, now: datetime) -> QualifyingRow:
    data = told.event.data
    return QualifyingRow(
        entry_id=told.lot_id,
        account_id=account_id,
        occurred_at=told.occurred_at,
        base=told.numbers.base,
        net_spend=told.numbers.net_spend,
        purchases=told.numbers.purchases,
        shop=data.shop or None,
        order_id=data.order_id or None,
        recorded_at=now,
    )


def _standing(told: Told, found: Standing, account_id: int, now: datetime) -> StandingRow:
    data = told.event.data
    refund = data if isinstance(data, PointsClawedBack) else None
    return StandingRow(
        lot_id=told.lot_id,
        seq=found.seq,
        account_id=account_id,
        occurred_at=told.occurred_at,
        base=told.numbers.base,
        net_spend=told.numbers.net_spend,
        purchases=told.numbers.purchases,
        reductions=ledger.encode(found.reductions),
        refunded_at=None if refund is None else refund.occurred_at,
        refund_id=None if refund is None else refund.refund_id,
        recorded_at=now,
    )
