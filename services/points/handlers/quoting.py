"""Quotes: what a purchase would earn, by the very code that would credit it; nothing is written or locked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from services.points.domain import explain, packing, validation
from services.points.domain.customers import holder
from services.points.domain.explain import Explanation
from services.points.handlers import campaigns
from services.points.handlers.campaigns import Decided
from services.points.handlers.purchases import NO_RECORD, Purchase, Purchases
from services.points.ledger import Account, customers
from services.points.ledger import campaigns as ledger
from shared.contracts.purchases import COMPLETED, PurchaseCompleted
from shared.db.types import Connection
from shared.events.model import Event
from shared.ids import event_key
from shared.program import Program

QUOTE = "quote"


class Quote(NamedTuple):
    """What a purchase would earn now: ``points`` = ``base`` + ``bonus``, each line's share, and why."""

    points: int
    base: int
    bonus: int
    lines: list[tuple[str, int]]
    explanation: Explanation


class Quotes:
    """What answers quotes, bound to the program in force."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._purchases = Purchases(program)

    def value(self, data: PurchaseCompleted, shop: str | None, now: datetime) -> Purchase:
        """Check and value a purchase; ``Poison`` with the field's path if it could never be credited.

        Without a shop it is the program's only one, else none: campaigns for some shops then do not count.
        """
        if shop is None:
            only = self._program.shops or ()
            shop = only[0] if len(only) == 1 else ""
        source = f"{validation.SHOP_PREFIX}{shop}"
        if shop:
            validation.shop_of(source, self._program)
        event = Event(event_key(source, QUOTE), source, QUOTE, COMPLETED, data, NO_RECORD)
        return self._purchases.value(event, shop, now)

    async def answer(self, conn: Connection, purchase: Purchase) -> Quote:
        """Quote a valued purchase with its customer's tier and what caps leave; nobody known has the base tier."""
        account = await self._account(conn, purchase)
        decided: Mapping[UUID, Decided] = {}
        if purchase.offers is not None:
            candidate = self._purchases.candidate(purchase)._replace(customer=account.customer_id)
            known = {account.customer_id: account}
            decided = await campaigns.decide(
                conn, self._program, [candidate], known, ledger.budgets
            )
        tier, award = self._purchases.award(purchase, account.timeline, decided.get(purchase.id))
        data = purchase.event.data
        program = self._program.at(data.occurred_at)
        packed = packing.pack(data, purchase.assessment, award, tier, program, purchase.columns)
        names = {level.id: level.name for level in program.tiers.levels} if program.tiers else {}
        told = explain.unpack(packed, names)
        lines = [(line.line_id, line.points) for line in told.lines]
        return Quote(award.total, award.base, award.bonus, lines, told)

    async def _account(self, conn: Connection, purchase: Purchase) -> Account:
        customer, number = purchase.customer, purchase.event.data.card_number
        if customer is None and number is not None:
            cards = await customers.cards(conn, [number])
            customer, _ = holder(purchase.event.data, cards.get(number))
        found = await ledger.quoted_account(conn, customer) if customer else None
        return found or Account(0, customer or "", 0, 0, 0, (), 0)
