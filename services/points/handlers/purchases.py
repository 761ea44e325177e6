"""Purchases: an entry and an event each, once per order, whatever the event's id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from services.points import ledger
from services.points.domain import bonus, earning, lots, packing, validation
from services.points.domain.bonus import TierInForce
from services.points.domain.columns import Columns, columns_of
from services.points.domain.earning import Assessment
from services.points.domain.exact import exactly
from services.points.domain.wording import multiplier_text
from services.points.handlers.refunds import meet
from services.points.handlers.settling import settle
from services.points.ledger import Account, EntryRow, Known, UncreditedRow
from shared.contracts import points as contract
from shared.contracts.points import PointsEarned, TierRef
from shared.contracts.purchases import PurchaseCompleted
from shared.errors import Poison
from shared.events.model import Event, Work
from shared.ids import derive, digest_uuid
from shared.program import Program
from shared.program.model import Level

GUEST = "guest"
TEST = "test"


class Purchase(NamedTuple):
    """A purchase that passed its checks, valued but not yet awarded. ``id`` is a function of shop and order."""

    event: Event[PurchaseCompleted]
    id: UUID
    shop: str
    fingerprint: int
    assessment: Assessment
    columns: Columns

    @property
    def customer(self) -> str | None:
        """Whose account is credited: nobody's for guests and test orders."""
        data = self.event.data
        return None if data.is_test else data.customer_id

    @property
    def why(self) -> str | None:
        """Why no account is: it is a guest's, or a test."""
        return None if self.customer else TEST if self.event.data.is_test else GUEST


class Purchases:
    """The handler of completed purchases, bound to the program in force."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._levels: Sequence[Level] = program.tiers.levels if program.tiers else ()

    async def handle(self, work: Work, events: Sequence[Event[PurchaseCompleted]]) -> None:
        """Credit purchases: an entry and an event each, once per order, whatever the event's id."""
        candidates = self._valued(work, events)
        accounts, known, awaited = await ledger.lock_and_know(
            work.conn,
            {p.customer for p in candidates if p.customer},
            [p.id for p in candidates],
            [p.event.key for p in candidates],
        )
        fresh = _unknown(work, candidates, known)
        await self.book(work, fresh, accounts)
        if awaited:
            come = [(p.id, p.customer, p.why) for p in fresh if p.id in awaited]
            await meet(work, come, accounts.values())
        await settle(work, self._program, [a for a in accounts.values() if a.flags])

    async def book(
        self, work: Work, fresh: Iterable[Purchase], accounts: Mapping[str, Account]
    ) -> None:
        """Write what purchases earn that have not been credited before, now or when their customer became known.

        ``accounts`` holds that of every customer among them, locked.
        """
        entries: list[EntryRow] = []
        uncredited: list[UncreditedRow] = []
        for purchase in fresh:
            if purchase.customer is None:
                uncredited.append(self._uncredited(work, purchase))
            else:
                entries.append(self._credit(work, purchase, accounts[purchase.customer]))
        await ledger.append(work.conn, entries, accounts.values())
        await ledger.add_uncredited(work.conn, uncredited)

    @exactly
    def _valued(self, work: Work, events: Iterable[Event[PurchaseCompleted]]) -> list[Purchase]:
        found: list[Purchase] = []
        for event in events:
            data = event.data
            try:
                shop = validation.shop_of(event.source, self._program)
                columns = columns_of(data.lines)
                validation.check(data, self._program, work.now, columns)
                assessment = earning.assess(data, self._program, columns)
            except Poison as poison:
                work.poison(event, poison.field, poison.reason)
                continue
            purchase_id = digest_uuid("purchase", shop, data.order_id)
            fingerprint = packing.fingerprint(data, columns)
            found.append(Purchase(event, purchase_id, shop, fingerprint, assessment, columns))
        return found

    def _credit(self, work: Work, purchase: Purchase, account: Account) -> EntryRow:
        event, data = purchase.event, purchase.event.data
        tier = bonus.tier_in_force(account.timeline, self._levels, data.occurred_at)
        award = earning.award(purchase.assessment, tier, self._program)
        available_at, expires_at = lots.dates(data.occurred_at, self._program)
        account.seq += 1
        account.balance += award.total
        row = EntryRow(
            entry_id=purchase.id,
            account_id=account.id,
            seq=account.seq,
            kind=lots.EARNED,
            points=award.total,
            base=award.base,
            bonus=award.bonus,
            balance_after=account.balance,
            lot_id=purchase.id,
            occurred_at=data.occurred_at,
            recorded_at=work.now,
            available_at=available_at,
            expires_at=expires_at,
            shop=purchase.shop,
            order_id=data.order_id,
            event_key=event.key,
            event_id=event.id,
            fingerprint=purchase.fingerprint,
            net_spend=purchase.assessment.net_spend,
            exact=str(purchase.assessment.exact),
            tier=tier.id,
            multiplier=multiplier_text(tier.multiplier),
            reason=None,
            explanation=packing.pack(
                data, purchase.assessment, award, tier, self._program, purchase.columns
            ).decode(),
        )
        work.publish(
            contract.TOPIC,
            account.customer_id,
            contract.EARNED,
            derive(contract.EARNED, str(purchase.id)),
            data.occurred_at,
            self._earned(row, account, tier),
        )
        return row

    def _earned(self, row: EntryRow, account: Account, tier: TierInForce) -> PointsEarned:
        return PointsEarned(
            customer_id=account.customer_id,
            entry_id=str(row.entry_id),
            lot_id=str(row.lot_id),
            shop=row.shop or "",
            order_id=row.order_id or "",
            points=row.points,
            base=row.base,
            bonus=row.bonus,
            currency=self._program.currency,
            net_spend=f"{row.net_spend:f}",
            occurred_at=row.occurred_at,
            available_at=row.available_at,
            expires_at=row.expires_at,
            tier=TierRef(tier.id, row.multiplier),
            cause=row.event_id,
        )

    def _uncredited(self, work: Work, purchase: Purchase) -> UncreditedRow:
        event, data, value = purchase.event, purchase.event.data, purchase.assessment
        nobody = TierInForce(None, bonus.ONE)
        award = earning.award(value, nobody, self._program)
        return UncreditedRow(
            purchase_id=purchase.id,
            event_key=event.key,
            why=TEST if data.is_test else GUEST,
            customer_id=data.customer_id,
            shop=purchase.shop,
            order_id=data.order_id,
            event_id=event.id,
            fingerprint=purchase.fingerprint,
            net_spend=value.net_spend,
            exact=str(value.exact),
            occurred_at=data.occurred_at,
            recorded_at=work.now,
            explanation=packing.pack(
                data, value, award, nobody, self._program, purchase.columns
            ).decode(),
        )


def _unknown(work: Work, candidates: Sequence[Purchase], known: Sequence[Known]) -> list[Purchase]:
    """Those not seen before; the others are duplicates, or poison if they say something else than then."""
    orders: dict[UUID, int] = {seen.purchase_id: seen.fingerprint for seen in known}
    events: dict[UUID, int] = {seen.event_key: seen.fingerprint for seen in known}
    fresh: list[Purchase] = []
    for purchase in candidates:
        event = purchase.event
        for seen, field, what in (
            (events.get(event.key), "id", f"event {event.id!r}"),
            (orders.get(purchase.id), "data.order_id", f"order {event.data.order_id!r}"),
        ):
            if seen is None:
                continue
            if seen == purchase.fingerprint:
                work.duplicate(event, f"{what} is known")
            else:
                work.poison(event, field, f"{what} of {event.source} is known with other content")
            break
        else:
            fresh.append(purchase)
            orders[purchase.id] = events[event.key] = purchase.fingerprint
    return fresh
