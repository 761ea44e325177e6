"""Tier changes: the customers' ways through the levels, and the bonus of what was credited before."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID

import asyncpg

from services.points import ledger
from services.points.domain import bonus, lots, packing
from services.points.domain.bonus import TierInForce
from services.points.domain.wording import multiplier_text
from services.points.handlers.settling import settle
from services.points.handlers.telling import adjusted
from services.points.ledger import FLAG_HEIR, FLAG_MERGED, Account, EntryRow
from services.points.ledger import customers as store
from services.points.ledger.activities import lock_by_account
from shared.contracts import points as contract
from shared.contracts.tiers import TierChanged
from shared.events.model import Event, Work
from shared.ids import derive, digest_uuid
from shared.program import Program


class Cause(NamedTuple):
    """What a correction is due to: the event, and whose telling of which revision it was."""

    event_key: UUID
    event_id: str
    telling: str


class TierChanges:
    """The handler of what the tiers service tells, bound to the program in force."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def handle(self, work: Work, events: Sequence[Event[TierChanged]]) -> None:
        """Take over what was told of customers, as ``follow`` does, and lock them for it."""
        self._program.look()
        customers = {event.data.customer_id for event in events}
        await self.follow(work, events, await ledger.lock_accounts(work.conn, customers))

    async def follow(
        self,
        work: Work,
        events: Sequence[Event[TierChanged]],
        accounts: Mapping[str, Account],
    ) -> None:
        """Take over the ways of locked customers through the tiers; correct the bonus of what they got before."""
        newest: dict[str, Event[TierChanged]] = {}
        for event in events:
            held = newest.get(event.data.customer_id)
            if held is None or event.data.revision > held.data.revision:
                newest[event.data.customer_id] = event
        changed: dict[int, tuple[Account, Event[TierChanged]]] = {}
        for event in events:
            account = accounts[event.data.customer_id]
            told = event.data
            known = told.revision == account.revision and list(account.timeline) == told.timeline
            if known or told.revision < account.revision:
                work.duplicate(event, f"revision {account.revision} is known")
            elif event is newest[told.customer_id]:
                changed[account.id] = (account, event)
        for account, event in changed.values():
            account.revision, account.timeline = event.data.revision, event.data.timeline
        awards = await ledger.take_timelines(work.conn, [a for a, _ in changed.values()])
        causes = {
            # What is told of a merged customer is kept, but it is another's way that counts for them.
            key: Cause(event.key, event.id, str(account.revision))
            for key, (account, event) in changed.items()
            if not account.flags & FLAG_MERGED
        }
        rows = [
            row
            for award in awards
            if (cause := causes.get(award["account_id"]))
            and (row := self._correct(work, award, changed[award["account_id"]][0], cause))
        ]
        await ledger.append(work.conn, rows, [account for account, _ in changed.values()])
        lent = [
            account
            for heir, event in changed.values()
            if heir.flags & FLAG_HEIR
            for account in await self.lend(work, heir, (event.key, event.id), accounts.values())
        ]
        flagged = {a.id: a for a in (*(a for a, _ in changed.values() if a.flags), *lent)}
        await settle(work, self._program, list(flagged.values()))

    async def lend(
        self, work: Work, heir: Account, told: tuple[UUID, str], held: Collection[Account]
    ) -> list[Account]:
        """Correct the bonus of all who live on as a locked account by its way; returns their accounts, locked.

        So it does not matter whether a purchase came before the merge or after it. ``told`` is the event's key
        and id.
        """
        ids = await store.who_lives_on_as(work.conn, heir.id)
        known = await lock_by_account(work.conn, ids, held)
        merged = [known[account_id] for account_id in sorted(ids)]
        awards = await ledger.take_timelines(work.conn, merged)
        for account in merged:
            account.timeline = heir.timeline
        cause = Cause(*told, f"{heir.customer_id}:{heir.revision}")
        rows = [
            row
            for award in awards
            if (row := self._correct(work, award, known[award["account_id"]], cause))
        ]
        await ledger.append(work.conn, rows, merged)
        return merged

    def _correct(
        self, work: Work, award: asyncpg.Record, account: Account, cause: Cause
    ) -> EntryRow | None:
        """The correcting entry that brings an award to its tier in force, or None if it stands right."""
        tier = bonus.tier_at(account.timeline, self._program, award["occurred_at"])
        before = TierInForce(award["tier"], bonus.exact_multiplier(award["multiplier"]))
        exact = Fraction(award["exact"])
        if tier.multiplier == before.multiplier:
            return None
        delta = bonus.correction(
            exact, award["total"], tier.multiplier, self._program.earning.rounding
        )
        if delta == 0:
            return None
        account.seq += 1
        account.balance += delta
        lot_id = award["entry_id"]
        entry_id = digest_uuid(lots.TIER_BONUS, str(lot_id), cause.telling, str(tier.multiplier))
        row = EntryRow(
            entry_id=entry_id,
            account_id=account.id,
            seq=account.seq,
            kind=lots.TIER_BONUS,
            points=delta,
            base=0,
            bonus=delta,
            balance_after=account.balance,
            lot_id=lot_id,
            occurred_at=award["occurred_at"],
            recorded_at=work.now,
            available_at=award["available_at"],
            expires_at=award["expires_at"],
            shop=award["shop"],
            order_id=award["order_id"],
            event_key=cause.event_key,
            event_id=cause.event_id,
            fingerprint=award["fingerprint"],
            net_spend=award["net_spend"],
            exact=award["exact"],
            tier=tier.id,
            multiplier=multiplier_text(tier.multiplier),
            reason=lots.TIER_BONUS,
            explanation=packing.pack_correction(
                exact,
                (before, award["total"]),
                (tier, award["total"] + delta),
                self._program.at(award["occurred_at"]),
            ).decode(),
        )
        work.publish(
            contract.TOPIC,
            account.customer_id,
            contract.ADJUSTED,
            derive(contract.ADJUSTED, str(entry_id)),
            work.now,
            adjusted(account, row),
        )
        return row
