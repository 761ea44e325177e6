"""Quotes: what a purchase would earn, by the very code that would credit it; nothing is written or locked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from services.points.domain import explain, lots, packing, validation
from services.points.domain.customers import is_open
from services.points.domain.explain import Explanation
from services.points.handlers import campaigns, whose
from services.points.handlers.campaigns import Decided
from services.points.handlers.purchases import NO_RECORD, Purchase, Purchases
from services.points.ledger import Account
from services.points.ledger import campaigns as ledger
from shared.contracts.purchases import COMPLETED, PurchaseCompleted
from shared.db.types import Connection
from shared.events.model import Event
from shared.ids import event_key
from shared.program import Program

QUOTE = "quote"


class Quote(NamedTuple):
    """What a purchase would earn now: ``points`` = ``base`` + ``bonus``, each line's share, why, and for how long.

    All are 0 where nobody would be credited: ``why`` says so by a code of ``domain/customers``, and ``otherwise``
    what it would be for a customer who takes part and buys for the first time. That is explained then.
    """

    points: int
    base: int
    bonus: int
    lines: list[tuple[str, int]]
    explanation: Explanation
    available_at: datetime
    expires_at: datetime | None
    why: str | None = None
    otherwise: int = 0


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
        """Quote a valued purchase with its customer's tier and what caps leave; a new one has the base tier."""
        customer, why = await self._whose(conn, purchase)
        found = await ledger.quoted_account(conn, customer) if customer else None
        account = found or Account(0, customer or "", 0, 0, 0, (), 0)
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
        dates = lots.dates(data.occurred_at, program)
        if customer is None:
            nothing = [(line.line_id, 0) for line in told.lines]
            return Quote(0, 0, 0, nothing, told, *dates, why, award.total)
        lines = [(line.line_id, line.points) for line in told.lines]
        return Quote(award.total, award.base, award.bonus, lines, told, *dates)

    async def _whose(self, conn: Connection, purchase: Purchase) -> tuple[str | None, str | None]:
        """Whom the purchase would be credited to, or why nobody: as when it comes, but nothing is locked."""
        data, program = purchase.event.data, self._program
        if not is_open(data, program):
            return purchase.customer, purchase.why
        asked = [(purchase.id, data)]
        abouts = await whose.known(conn, program, asked)
        card = abouts[purchase.id].card
        name = data.customer_id or (card and card.customer_id)
        accounts: dict[str, Account] = {}
        if name and program.enrolment == "opt_in":
            account = await ledger.quoted_account(conn, name)
            accounts = {name: account} if account else {}
        found = await whose.beneficiaries(conn, program, asked, abouts, accounts)
        return found[purchase.id]
