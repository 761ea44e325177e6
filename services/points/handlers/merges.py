"""Two customers who are one: from then on the one lives on as the other, and all that was theirs moves along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from services.points import ledger
from services.points.domain import validation
from services.points.handlers.activities import Activities
from services.points.handlers.purchases import Purchases
from services.points.handlers.settling import settle
from services.points.handlers.tier_changes import TierChanges
from services.points.ledger import FLAG_HEIR, FLAG_MERGED, FLAG_REFUNDS
from services.points.ledger import customers as store
from services.points.ledger.activities import lock_by_account
from services.points.ledger.customers import MergeRow
from shared.contracts import points as contract
from shared.contracts.activities import CustomerMerged
from shared.contracts.points import CustomersMerged
from shared.errors import Poison
from shared.events.model import Event, Work
from shared.ids import derive
from shared.program import Program

ITSELF = "merge-into-itself"
ALREADY = "already-merged"
CYCLE = "merge-cycle"
HOLDS = "holds-live"
KNOWN = "known"


class Merge(NamedTuple):
    """A merge from an event or a command; ``key`` is its identity, ``actor`` who commanded it."""

    key: UUID
    event_id: str
    data: CustomerMerged
    actor: str | None = None


class Merges:
    """The handler and the command, bound to the program in force."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def handle(self, work: Work, events: Sequence[Event[CustomerMerged]]) -> None:
        """Merge customers, one after the other."""
        known = await store.known_merges(work.conn, [event.key for event in events])
        for event in events:
            data = event.data
            if event.key in known:
                work.duplicate(event, f"event {event.id!r} is known")
                continue
            known.add(event.key)
            try:
                check_merge(data, work)
            except Poison as poison:
                work.poison(event, poison.field, poison.reason)
                continue
            verdict = await self.merge(work, Merge(event.key, event.id, data))
            if verdict == KNOWN:
                work.duplicate(event, f"{data.customer_id!r} lives on as {data.into!r} already")
            elif verdict == HOLDS:
                work.poison(
                    event,
                    "data.customer_id",
                    f"{HOLDS}: something is reserved at the moment; replay it later",
                )
            elif verdict:
                work.refuse(event, verdict)

    async def merge(self, work: Work, told: Merge) -> str | None:
        """Merge two customers; returns the code of the refusal, or that it is known; then nothing has changed."""
        data = told.data
        if data.customer_id == data.into:
            return ITSELF
        names = {data.customer_id, data.into}
        accounts = await ledger.lock_accounts(work.conn, names)
        followed = await store.follow(work.conn, accounts)
        account, heir = accounts[data.customer_id], followed[data.into]
        if account.flags & FLAG_MERGED:
            return KNOWN if followed[data.customer_id].id == heir.id else ALREADY
        if heir.id == account.id:
            return CYCLE
        if await store.has_live_hold(work.conn, account.id, work.now):
            return HOLDS
        await store.add_merge(
            work.conn,
            MergeRow(
                account_id=account.id,
                into_id=heir.id,
                event_key=told.key,
                event_id=told.event_id,
                occurred_at=data.occurred_at,
                recorded_at=work.now,
                reason=data.reason,
                actor=told.actor,
            ),
        )
        account.flags |= FLAG_MERGED
        _tell(work, told)
        concerned = await store.accept_refunds(work.conn, heir.id, work.now)
        held = await lock_by_account(work.conn, concerned, [account, heir])
        for account_id in concerned:
            held[account_id].flags |= FLAG_REFUNDS
        heir.flags |= FLAG_HEIR
        tiers = TierChanges(self._program)
        lent = await tiers.lend(work, heir, (told.key, told.event_id), held.values())
        held |= {one.id: one for one in lent}
        await Activities(self._program).join(work, heir, held)
        await settle(work, self._program, list(held.values()))
        if self._program.enrolment == "opt_in":
            names = {one.customer_id for one in (heir, *lent)}
            numbers = await store.cards_of(work.conn, {heir.id})
            await Purchases(self._program).look_again(work, numbers=numbers, customers=names)
        return None


def _tell(work: Work, told: Merge) -> None:
    """Others follow this and not what was told to us: what is refused here shall be nowhere."""
    data = told.data
    work.publish(
        contract.TOPIC,
        data.customer_id,
        contract.MERGED,
        derive(contract.MERGED, data.customer_id),
        work.now,
        CustomersMerged(data.customer_id, data.into, data.occurred_at, told.event_id),
    )


def check_merge(data: CustomerMerged, work: Work) -> None:
    """Raise ``Poison`` for what no retry could mend."""
    validation.check_id(data.customer_id, "data.customer_id")
    validation.check_id(data.into, "data.into")
    validation.check_instant(data.occurred_at, work.now)
    if data.reason is not None:
        validation.check_text(data.reason, "data.reason")
