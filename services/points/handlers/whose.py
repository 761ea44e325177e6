"""Whose purchases are where more than they themselves decides it: cards, claims, enrolment, merged customers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from services.points.domain.customers import About, beneficiary, is_open
from services.points.ledger import FLAG_MERGED, Account
from services.points.ledger import customers as store
from shared.contracts.purchases import PurchaseCompleted
from shared.db.types import Connection
from shared.events.model import Work
from shared.program import Program

CARD, ORDER = "card", "order"
Abouts = Mapping[UUID, About]


async def look(
    work: Work, program: Program, purchases: Iterable[tuple[UUID, PurchaseCompleted]]
) -> Abouts:
    """What is known of those purchases of which more than they say decides whose they are; mostly of none.

    Whoever tells more of their cards and orders waits until this transaction is done.
    """
    asked = [(key, data) for key, data in purchases if is_open(data, program)]
    if not asked:
        return {}
    names = {(CARD, number) for number in _numbers(asked)}
    if program.guests.claim_within is not None:
        names |= {(ORDER, str(key)) for key, _ in asked}
    await store.lock_names(work.conn, names)
    return await known(work.conn, program, asked)


async def known(
    conn: Connection, program: Program, asked: Sequence[tuple[UUID, PurchaseCompleted]]
) -> Abouts:
    """What has been told by now of the cards and orders of those purchases; nothing is locked."""
    numbers = _numbers(asked)
    cards = await store.cards(conn, numbers) if numbers else {}
    claimable = program.guests.claim_within is not None
    claims = await store.claims_of(conn, [key for key, _ in asked]) if claimable else {}
    return {
        key: About(
            None if data.customer_id else cards.get(data.card_number or ""), claims.get(key, ())
        )
        for key, data in asked
    }


def customers_of(abouts: Abouts) -> set[str]:
    """Everybody whom the purchases may turn out to belong to."""
    found = {claim.customer_id for about in abouts.values() for claim in about.claims}
    return found | {about.card.customer_id for about in abouts.values() if about.card}


async def beneficiaries(
    conn: Connection,
    program: Program,
    asked: Sequence[tuple[UUID, PurchaseCompleted]],
    abouts: Abouts,
    accounts: Mapping[str, Account],
) -> dict[UUID, tuple[str | None, str]]:
    """Whom each of those purchases is credited to, or why it is nobody; who books has their accounts locked."""
    enrolled: dict[str, datetime] = {}
    if accounts and program.enrolment == "opt_in":
        since = await store.enrolled_since(conn, {a.id for a in accounts.values()})
        enrolled = {name: since[a.id] for name, a in accounts.items() if a.id in since}
    return {
        key: beneficiary(data, abouts[key], enrolled, program)
        for key, data in asked
        if key in abouts
    }


async def follow(work: Work, accounts: Mapping[str, Account]) -> Mapping[str, Account]:
    """The accounts by every name, merged ones by those as whom they live on; mostly as they are."""
    if not any(account.flags & FLAG_MERGED for account in accounts.values()):
        return accounts
    found = await store.follow(work.conn, accounts)
    return found | {account.customer_id: account for account in found.values()}


def kept(purchase: PurchaseCompleted, program: Program) -> str | None:
    """What a purchase without credit is kept with: all of it where its customer may become known yet, as JSON."""
    return msgspec.json.encode(purchase).decode() if is_open(purchase, program) else None


async def remember_cards(work: Work, credited: Iterable[tuple[UUID, PurchaseCompleted]]) -> None:
    """Note which purchases were credited without naming their customer, but a card."""
    await store.add_card_purchases(
        work.conn,
        [
            (key, data.card_number, data.occurred_at)
            for key, data in credited
            if data.card_number and not data.customer_id
        ],
    )


def _numbers(asked: Sequence[tuple[UUID, PurchaseCompleted]]) -> set[str]:
    return {data.card_number for _, data in asked if data.card_number and not data.customer_id}
