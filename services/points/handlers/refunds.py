"""Refunds and cancellations: recorded once each, then their accounts are settled, or wait for their purchase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from services.points import ledger
from services.points.domain import refund_checks as checks
from services.points.domain import refunds, validation
from services.points.domain.exact import exactly
from services.points.domain.refunds import Refund
from services.points.handlers.clawbacks import restore_spent
from services.points.handlers.settling import settle
from services.points.handlers.whose import follow
from services.points.ledger import FLAG_REFUNDS, Account
from services.points.ledger import refunds as store
from services.points.ledger.refunds import RefundRow, Standing, Whose
from shared.contracts.purchases import PurchaseCancelled, PurchaseRefunded
from shared.errors import Poison
from shared.events.decode import time_of
from shared.events.model import Event, Work
from shared.program import Program

AnyRefund = PurchaseRefunded | PurchaseCancelled


class Told(NamedTuple):
    """A refund or cancellation that passed its checks, with the event that told it."""

    event: Event[AnyRefund]
    refund: Refund
    fingerprint: int

    @property
    def customer(self) -> str | None:
        """Whose it is, as far as the shop says."""
        return self.event.data.customer_id


class Refunds:
    """The handler of refunds and cancellations, bound to the program in force."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def handle(self, work: Work, events: Sequence[Event[AnyRefund]]) -> None:
        """Record what is new, then bring the accounts concerned to what their refunds amount to."""
        told = self._checked(work, events)
        accounts = await ledger.lock_accounts(work.conn, {t.customer for t in told if t.customer})
        known = await store.known(
            work.conn, [t.refund.key for t in told], [t.event.key for t in told]
        )
        fresh = _unknown(work, told, [tuple(row) for row in known])
        if not fresh:
            return
        whose = await _whose(work, fresh)
        owners = {one.customer_id for one in whose.values() if one.customer_id} - accounts.keys()
        if owners:
            accounts |= await ledger.lock_accounts(work.conn, owners)
        followed = await follow(work, accounts)
        lives_on = {account.id: followed[name].id for name, account in accounts.items()}
        standings = [_standing(one, whose, accounts, lives_on) for one in fresh]
        await store.add(work.conn, [_row(work, one) for one in fresh], standings)
        marked = {standing.account_id for standing in standings}
        concerned = [account for account in accounts.values() if account.id in marked]
        for account in concerned:
            account.flags |= FLAG_REFUNDS
        await settle(work, self._program, concerned)
        await self._tell(work, fresh, accounts)

    async def _tell(
        self, work: Work, fresh: Sequence[Told], accounts: Mapping[str, Account]
    ) -> None:
        """Count what waits and what was refused as such.

        A cancelled order may never become a purchase: what was spent on it does not wait for that.
        """
        states = await store.states(work.conn, [one.refund.key for one in fresh])
        for one in fresh:
            state, code = states[one.refund.key]
            if state == refunds.REFUSED:
                work.refuse(one.event, code or "")
            elif state == refunds.PARKED:
                work.park(one.event, code or "")
                order_id = one.event.data.order_id
                if one.refund.kind == refunds.CANCELLATION and one.customer and order_id:
                    await restore_spent(work, self._program, accounts[one.customer], order_id)

    @exactly
    def _checked(self, work: Work, events: Iterable[Event[AnyRefund]]) -> list[Told]:
        found: list[Told] = []
        for event in events:
            data = event.data
            try:
                shop = validation.shop_of(event.source, self._program)
                if isinstance(data, PurchaseRefunded):
                    refund = checks.refund(data, shop, work.now)
                else:
                    refund = checks.cancellation(data, shop, time_of(event.record), work.now)
            except Poison as poison:
                work.poison(event, poison.field, poison.reason)
                continue
            found.append(Told(event, refund, checks.fingerprint(data)))
        return found


async def meet(
    work: Work,
    purchases: Sequence[tuple[UUID, str | None, str | None]],
    accounts: Iterable[Account],
) -> None:
    """Let refunds that waited for these purchases (id, customer, or why nobody's) find them.

    Called where a purchase has come or found its customer; who it concerns is settled by the caller.
    """
    by_customer = {account.customer_id: account for account in accounts}
    come = [
        (purchase_id, by_customer[customer].id if customer else None, customer, why)
        for purchase_id, customer, why in purchases
    ]
    concerned = await store.meet(work.conn, come, work.now)
    for account in by_customer.values():
        if account.id in concerned:
            account.flags |= FLAG_REFUNDS


async def meet_stragglers(work: Work, program: Program, count: int) -> int:
    """Let refunds find their purchases where both came at the same moment, in different batches; how many were."""
    purchases = await store.stragglers(work.conn, count)
    if purchases:
        whose = await store.purchases_of(work.conn, purchases)
        accounts = await ledger.lock_accounts(
            work.conn, {one.customer_id for one in whose.values() if one.customer_id}
        )
        come = [(purchase, one.customer_id, one.why) for purchase, one in whose.items()]
        await meet(work, come, accounts.values())
        await settle(work, program, [account for account in accounts.values() if account.flags])
    return len(purchases)


def _unknown(
    work: Work, told: Sequence[Told], known: Sequence[tuple[UUID, UUID, int]]
) -> list[Told]:
    """Those not seen before; the others are duplicates, or poison if they say something else than then."""
    keys = {key: fingerprint for key, _, fingerprint in known}
    events = {event_key: fingerprint for _, event_key, fingerprint in known}
    fresh: list[Told] = []
    for one in told:
        event, data = one.event, one.event.data
        if isinstance(data, PurchaseRefunded):
            field, what = "data.refund_id", f"refund {data.refund_id!r}"
        else:
            field, what = "data.order_id", f"the cancellation of order {data.order_id!r}"
        for seen, place, name in (
            (events.get(event.key), "id", f"event {event.id!r}"),
            (keys.get(one.refund.key), field, what),
        ):
            if seen is None:
                continue
            if seen == one.fingerprint:
                work.duplicate(event, f"{name} is known")
            else:
                work.poison(event, place, f"{name} of {event.source} is known with other content")
            break
        else:
            fresh.append(one)
            keys[one.refund.key] = events[event.key] = one.fingerprint
    return fresh


async def _whose(work: Work, fresh: Sequence[Told]) -> Mapping[UUID, Whose]:
    """Whose purchases they are about. One of nobody's and nothing known makes purchases wait for a moment."""
    ids = {one.refund.purchase_id for one in fresh if one.refund.purchase_id}
    found = await store.purchases_of(work.conn, ids)
    if any(one.customer is None and one.refund.purchase_id in ids - found.keys() for one in fresh):
        await store.hold_purchases(work.conn)
        found = await store.purchases_of(work.conn, ids)
    return found


def _standing(
    one: Told,
    whose: Mapping[UUID, Whose],
    accounts: Mapping[str, Account],
    lives_on: Mapping[int, int],
) -> Standing:
    """How a refund stands before anything is taken; ``lives_on`` tells merged customers' accounts."""
    refund = one.refund
    named = accounts[one.customer].id if one.customer else None
    if refund.purchase_id is None:
        if named is None:
            return Standing(refund.key, None, refunds.UNCREDITED, refunds.GUEST_PURCHASE)
        return Standing(refund.key, named, refunds.UNMATCHED, refunds.NO_PURCHASE_FOUND)
    found = whose.get(refund.purchase_id)
    if found is None:
        return Standing(refund.key, named, refunds.PARKED, refunds.AWAITING_PURCHASE)
    if found.customer_id is None:
        return Standing(refund.key, None, refunds.UNCREDITED, refunds.uncredited(found.why or ""))
    owner = accounts[found.customer_id].id
    if named is not None and lives_on[named] != lives_on[owner]:
        return Standing(refund.key, named, refunds.REFUSED, refunds.OTHER_CUSTOMER)
    return Standing(refund.key, owner, refunds.PARKED, refunds.AWAITING_PURCHASE)


def _row(work: Work, one: Told) -> RefundRow:
    event, data, refund = one.event, one.event.data, one.refund
    refund_id, amount, quantities = None, None, []
    if isinstance(data, PurchaseRefunded):
        refund_id = data.refund_id
        amount = None if refund.amount is None else data.amount
        quantities = [line.quantity for line in data.lines]
    return RefundRow(
        refund_key=refund.key,
        event_key=event.key,
        kind=refund.kind,
        shop=refund.shop,
        refund_id=refund_id,
        order_id=data.order_id,
        purchase_id=refund.purchase_id,
        customer_id=data.customer_id,
        currency=refund.currency,
        lines=store.stored_lines(refund.lines, quantities),
        amount=amount,
        reason=data.reason,
        occurred_at=refund.occurred_at,
        recorded_at=work.now,
        event_id=event.id,
        fingerprint=one.fingerprint,
    )
