"""Customers: enrolments and what they claim, cards; each may let purchases find whom they are credited to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, TypeVar
from uuid import UUID

import msgspec

from services.points import ledger
from services.points.domain import validation
from services.points.handlers.purchases import Purchases
from services.points.handlers.settling import settle
from services.points.handlers.whose import CARD, ORDER, follow
from services.points.ledger import FLAG_HEIR, FLAG_WITHDRAWN, Account
from services.points.ledger import customers as store
from services.points.ledger.activities import lock_by_account
from services.points.ledger.customers import CardRow, ClaimRow, EnrolmentRow
from shared.contracts.activities import (
    CardChanged,
    CustomerEnrolled,
    CustomerUpdated,
    OrderRef,
)
from shared.errors import Poison
from shared.events.model import Event, Work
from shared.ids import digest_uuid
from shared.program import Program

T = TypeVar("T", bound=msgspec.Struct)
AnyEnrolment = CustomerEnrolled | CustomerUpdated
ORDERS_MAX = 100
TEXT_CHARS_MAX = 1000
TAKEN = "card-taken"
_encode = msgspec.json.Encoder(order="sorted").encode


class Change(NamedTuple):
    """What became of a card, from an event or a command; ``key`` is its identity, ``actor`` who commanded it."""

    key: UUID
    event_id: str
    data: CardChanged
    actor: str | None = None


class Customers:
    """The handlers of enrolments and cards, bound to the program in force."""

    def __init__(self, program: Program, purchases: Purchases) -> None:
        self._program = program
        self._purchases = purchases

    async def enrolled(self, work: Work, events: Sequence[Event[AnyEnrolment]]) -> None:
        """Keep what customers were enrolled or updated with, and credit what they take part in or claim by it."""
        told = _checked(work, events, _check_enrolment)
        known = await store.known_events(work.conn, [event.key for event in told])
        fresh = _unknown(work, told, known)
        orders = [(event, ref) for event in fresh for ref in _orders(event.data)]
        claimed = [digest_uuid("purchase", ref.shop, ref.order_id) for _, ref in orders]
        await store.lock_names(work.conn, {(ORDER, str(purchase_id)) for purchase_id in claimed})
        names = {event.data.customer_id for event in fresh}
        named = await ledger.lock_accounts(work.conn, names)
        accounts = await follow(work, named)
        await store.add_enrolments(work.conn, [_enrolment(work, e, accounts) for e in fresh])
        await store.add_claims(
            work.conn,
            [
                ClaimRow(
                    purchase_id,
                    # As it was told, whoever that is by now: so it says the same before a merge and after it.
                    named[event.data.customer_id].id,
                    event.data.occurred_at,
                    event.key,
                    ref.shop,
                    ref.order_id,
                )
                for purchase_id, (event, ref) in zip(claimed, orders, strict=True)
            ],
        )
        joined = {e.data.customer_id for e in fresh if isinstance(e.data, CustomerEnrolled)}
        if self._program.enrolment == "opt_in" and joined:
            for account in [accounts[name] for name in joined]:
                joined |= {account.customer_id}
                if account.flags & FLAG_HEIR:
                    lives_on = await store.who_lives_on_as(work.conn, account.id)
                    joined |= set(lives_on.values())
            numbers = await store.cards_of(work.conn, {a.id for a in accounts.values()})
            await self._purchases.look_again(
                work, purchases=claimed, numbers=numbers, customers=joined
            )
        elif claimed:
            await self._purchases.look_again(work, purchases=claimed)

    async def cards(self, work: Work, events: Sequence[Event[CardChanged]]) -> None:
        """Keep what became of cards, and credit or take back what was bought with them."""
        told = _checked(work, events, check_card)
        known = await store.known_events(work.conn, [event.key for event in told])
        fresh = _unknown(work, told, known)
        changes = [Change(event.key, event.id, event.data) for event in fresh]
        taken = await self.change_cards(work, changes)
        for event in fresh:
            if event.key in taken:
                work.poison(event, "data.card_number", f"{TAKEN}: it is another customer's card")

    async def change_cards(self, work: Work, changes: Sequence[Change]) -> set[UUID]:
        """Do the same with checked new changes. Returns those refused: a card is one customer's for ever."""
        numbers = {number for change in changes for number in _numbers(change.data)}
        await store.lock_names(work.conn, {(CARD, number) for number in numbers})
        names = {change.data.customer_id for change in changes}
        named = await ledger.lock_accounts(work.conn, names)
        accounts = await follow(work, named)
        owners = {c.number: c.customer_id for c in (await store.cards(work.conn, numbers)).values()}
        raw = await ledger.lock_accounts(work.conn, set(owners.values()) - accounts.keys())
        accounts = {**accounts, **await follow(work, raw)}
        whose = {number: accounts[name].id for number, name in owners.items()}
        refused: set[UUID] = set()
        rows: list[CardRow] = []
        for change in changes:
            account = accounts[change.data.customer_id]
            if any(whose.get(n, account.id) != account.id for n in _numbers(change.data)):
                refused.add(change.key)
                continue
            whose.update(dict.fromkeys(_numbers(change.data), account.id))
            rows += _card_rows(work, change, named[change.data.customer_id])
        await store.add_card_changes(work.conn, rows)
        await self._withdraw(work, {row.card_number for row in rows}, accounts.values())
        await self._purchases.look_again(work, numbers={row.card_number for row in rows})
        return refused

    async def _withdraw(
        self, work: Work, numbers: Collection[str], held: Collection[Account]
    ) -> None:
        touched = await store.withdraw(work.conn, numbers, work.now) if numbers else set()
        if not touched:
            return
        accounts = await lock_by_account(work.conn, touched, held)
        for account_id in touched:
            accounts[account_id].flags |= FLAG_WITHDRAWN
        await settle(work, self._program, [accounts[account_id] for account_id in touched])


def check_card(data: CardChanged, work: Work) -> None:
    """Raise ``Poison`` for what no retry could mend."""
    validation.check_id(data.customer_id, "data.customer_id")
    validation.check_id(data.card_number, "data.card_number")
    validation.check_instant(data.occurred_at, work.now)
    if data.change == "replaced":
        if data.replaced_by is None:
            raise Poison("data.replaced_by", "is missing: a card is replaced by another")
        validation.check_id(data.replaced_by, "data.replaced_by")
        if data.replaced_by == data.card_number:
            raise Poison("data.replaced_by", "is the card itself")
    elif data.replaced_by is not None:
        raise Poison("data.replaced_by", f"has no meaning where a card is {data.change}")
    if data.reason is not None:
        _check_text(data.reason, "data.reason")


def _check_enrolment(data: AnyEnrolment, work: Work) -> None:
    validation.check_id(data.customer_id, "data.customer_id")
    validation.check_instant(data.occurred_at, work.now)
    if data.name is not None:
        _check_text(data.name, "data.name")
    for consent in data.consents:
        _check_text(consent, "data.consents")
    orders = _orders(data)
    if len(orders) > ORDERS_MAX:
        raise Poison("data.orders", f"has {len(orders)} orders, more than {ORDERS_MAX}")
    for index, ref in enumerate(orders):
        validation.check_id(ref.shop, f"data.orders[{index}].shop")
        validation.check_id(ref.order_id, f"data.orders[{index}].order_id")


def _check_text(text: str, field: str) -> None:
    if len(text) > TEXT_CHARS_MAX or "\0" in text:
        raise Poison(field, f"has more than {TEXT_CHARS_MAX} characters, or a NUL among them")


def _orders(data: AnyEnrolment) -> Sequence[OrderRef]:
    return data.orders if isinstance(data, CustomerEnrolled) else ()


def _checked(
    work: Work, events: Sequence[Event[T]], check: Callable[[T, Work], None]
) -> list[Event[T]]:
    found: list[Event[T]] = []
    for event in events:
        try:
            check(event.data, work)
        except Poison as poison:
            work.poison(event, poison.field, poison.reason)
        else:
            found.append(event)
    return found


def _unknown(work: Work, events: Sequence[Event[T]], known: Mapping[UUID, int]) -> list[Event[T]]:
    """Those not told before; the others are duplicates, or poison if they say something else than then."""
    seen = dict(known)
    fresh: list[Event[T]] = []
    for event in events:
        content = fingerprint(event.data)
        if event.key not in seen:
            seen[event.key] = content
            fresh.append(event)
        elif seen[event.key] == content:
            work.duplicate(event, f"event {event.id!r} is known")
        else:
            work.poison(event, "id", f"event {event.id!r} is known with other content")
    return fresh


def fingerprint(data: msgspec.Struct) -> int:
    """Hash what was told to a signed 64-bit number."""
    digest = blake2b(_encode(data), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _enrolment(
    work: Work, event: Event[AnyEnrolment], accounts: Mapping[str, Account]
) -> EnrolmentRow:
    data = event.data
    return EnrolmentRow(
        event_key=event.key,
        account_id=accounts[data.customer_id].id,
        kind="enrolled" if isinstance(data, CustomerEnrolled) else "updated",
        event_id=event.id,
        fingerprint=fingerprint(data),
        occurred_at=data.occurred_at,
        recorded_at=work.now,
        birthday=data.birthday,
        name=data.name,
        consents=msgspec.json.encode(data.consents).decode(),
    )


def _numbers(data: CardChanged) -> list[str]:
    return [data.card_number, *([data.replaced_by] if data.replaced_by else [])]


def _card_rows(work: Work, change: Change, account: Account) -> list[CardRow]:
    """A change of a card; a replacement also issues the other one."""
    data = change.data
    first = CardRow(
        change_id=change.key,
        card_number=data.card_number,
        account_id=account.id,
        change=data.change,
        event_id=change.event_id,
        fingerprint=fingerprint(data),
        occurred_at=data.occurred_at,
        recorded_at=work.now,
        replaced_by=data.replaced_by,
        reason=data.reason,
        actor=change.actor,
    )
    if data.replaced_by is None:
        return [first]
    return [first, first._replace(card_number=data.replaced_by, change="issued", replaced_by=None)]
