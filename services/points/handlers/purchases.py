"""Purchases: an entry and an event each, once per order, whatever the event's id."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from services.points import ledger
from services.points.domain import bonus, earning, lots, packing, validation
from services.points.domain.bonus import TierInForce
from services.points.domain.campaigns import Offers
from services.points.domain.columns import Columns, columns_of
from services.points.domain.deciding import decide
from services.points.domain.earning import Assessment, Award
from services.points.domain.exact import exactly
from services.points.domain.packed_campaigns import CAMPAIGN
from services.points.domain.wording import multiplier_text
from services.points.handlers import campaigns, whose
from services.points.handlers.campaigns import Candidate, Decided
from services.points.handlers.refunds import meet
from services.points.handlers.settling import settle
from services.points.handlers.tier_changes import TierChanges
from services.points.handlers.whose import Abouts
from services.points.ledger import Account, EntryRow, Known, UncreditedRow
from services.points.ledger.customers import waiting
from shared.contracts import points as contract
from shared.contracts.points import PointsEarned, TierRef
from shared.contracts.purchases import COMPLETED, TOPIC, PurchaseCompleted
from shared.contracts.tiers import TierChanged, TierMove
from shared.errors import Poison
from shared.events.model import Event, Record, Work
from shared.ids import derive, digest_uuid
from shared.program import Program

# Purchases that are credited later have left their record behind.
NO_RECORD = Record(TOPIC, -1, -1, None, None, (), 0)
GUEST = "guest"
TEST = "test"


class Purchase(NamedTuple):
    """A purchase that passed its checks, valued but not yet awarded. ``id`` is a function of shop and order.

    ``offers`` is what campaigns would add; None where the program has none. ``found`` is whom it is credited to,
    or why it is nobody, where more than the purchase itself decides that; ``named`` is who that was before
    they were merged into another.
    """

    event: Event[PurchaseCompleted]
    id: UUID
    shop: str
    fingerprint: int
    assessment: Assessment
    columns: Columns
    offers: Offers | None = None
    found: tuple[str | None, str] | None = None
    named: str | None = None

    @property
    def customer(self) -> str | None:
        """Whose account is credited: nobody's for guests and test orders."""
        if self.found is not None:
            return self.found[0]
        data = self.event.data
        return None if data.is_test else data.customer_id

    @property
    def why(self) -> str | None:
        """Why no account is: it is a guest's, or a test, or what ``domain/customers`` says."""
        if self.customer:
            return None
        return self.found[1] if self.found else TEST if self.event.data.is_test else GUEST


class Purchases:
    """The handler of completed purchases, bound to the program in force."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._tiers = TierChanges(program)

    async def handle(self, work: Work, events: Sequence[Event[Any]]) -> None:
        """Credit purchases: an entry and an event each, once per order, whatever the event's id.

        What the tiers service told in the same batch is taken over first, under the same lock.
        """
        self._program.look()
        told = [event for event in events if isinstance(event.data, TierChanged)]
        bought = [event for event in events if event.data.__class__ is not TierChanged]
        if not bought:
            await self._tiers.handle(work, told)
            return
        candidates = self._valued(work, bought)
        abouts = await whose.look(work, self._program, ((p.id, p.event.data) for p in candidates))
        await campaigns.reserve(work.conn, (p.offers for p in candidates))
        customers = {p.customer for p in candidates if p.customer} | whose.customers_of(abouts)
        accounts, known, awaited = await ledger.lock_and_know(
            work.conn,
            customers | {event.data.customer_id for event in told},
            [p.id for p in candidates],
            [p.event.key for p in candidates],
        )
        if told:
            await self._tiers.follow(work, told, accounts)
            accounts = {customer: accounts[customer] for customer in customers}
        await self.receive(work, _unknown(work, candidates, known), accounts, abouts, awaited)

    async def receive(
        self,
        work: Work,
        fresh: Sequence[Purchase],
        accounts: Mapping[str, Account],
        abouts: Abouts,
        awaited: Collection[UUID],
        *,
        again: bool = False,
    ) -> None:
        """Book purchases with locked accounts, let the refunds that were ``awaited`` meet them, and settle.

        ``again``: they are among the uncredited already, and stay there if nobody is found.
        """
        found_under, accounts = accounts, await whose.follow(work, accounts)
        if abouts:
            asked = [(p.id, p.event.data) for p in fresh]
            found = await whose.beneficiaries(work.conn, self._program, asked, abouts, accounts)
            fresh = [p._replace(found=found.get(p.id)) for p in fresh]
        if again:
            fresh = [p for p in fresh if p.customer]
        if accounts is not found_under:
            fresh = [_followed(p, accounts) for p in fresh]
        await self.book(work, fresh, accounts)
        if abouts or awaited or any(a.flags for a in accounts.values()):
            await work.flush()
        if abouts:
            credited = [(p.id, p.event.data) for p in fresh if p.customer]
            await whose.remember_cards(work, credited)
        if awaited:
            come = [(p.id, p.customer, p.why) for p in fresh if p.id in awaited]
            await meet(work, come, accounts.values())
        flagged = {a.id: a for a in accounts.values() if a.flags}
        await settle(work, self._program, list(flagged.values()))

    async def look_again(
        self,
        work: Work,
        *,
        purchases: Collection[UUID] = (),
        numbers: Collection[str] = (),
        customers: Collection[str] = (),
    ) -> None:
        """Credit those purchases of these ids, cards or customers that earned nothing until now, but shall."""
        rows = await waiting(work.conn, purchases=purchases, numbers=numbers, customers=customers)
        found = [self._valued_again(row) for row in rows]
        if found:
            asked = [(p.id, p.event.data) for p in found]
            abouts = await whose.look(work, self._program, asked)
            names = {p.customer for p in found if p.customer} | whose.customers_of(abouts)
            ids = [p.id for p in found]
            accounts, _, awaited = await ledger.lock_and_know(work.conn, names, ids, ())
            await self.receive(work, found, accounts, abouts, awaited, again=True)

    async def book(
        self, work: Work, fresh: Iterable[Purchase], accounts: Mapping[str, Account]
    ) -> None:
        """Write what purchases earn that have not been credited before, now or when their customer became known.

        ``accounts`` holds that of every customer among them, locked.
        """
        decided: Mapping[UUID, Decided] = {}
        fresh = list(fresh)
        if any(purchase.offers is not None for purchase in fresh):
            credited = [self.candidate(purchase) for purchase in fresh if purchase.customer]
            decided = await campaigns.decide(
                work.conn, self._program, credited, accounts, campaigns.budgets_of(work)
            )
        entries: list[EntryRow] = []
        uncredited: list[UncreditedRow] = []
        for purchase in fresh:
            if purchase.customer is None:
                uncredited.append(self._uncredited(work, purchase))
            else:
                account = accounts[purchase.customer]
                entries.append(self._credit(work, purchase, account, decided.get(purchase.id)))
        await ledger.append(work.conn, entries, accounts.values(), work.last)
        if decided or uncredited:
            await work.flush()
        if decided:
            flagged = {row.account_id for row in entries if row.entry_id in decided}
            await campaigns.record(work, decided, [a for a in accounts.values() if a.id in flagged])
        await ledger.add_uncredited(work.conn, uncredited)

    @exactly
    def _valued(self, work: Work, events: Iterable[Event[PurchaseCompleted]]) -> list[Purchase]:
        found: list[Purchase] = []
        for event in events:
            try:
                shop = validation.shop_of(event.source, self._program)
                found.append(self.value(event, shop, work.now))
            except Poison as poison:
                work.poison(event, poison.field, poison.reason)
        return found

    @exactly
    def value(self, event: Event[PurchaseCompleted], shop: str, now: datetime) -> Purchase:
        """Check and value a purchase; ``Poison`` with the field's path if it can never be credited."""
        data = event.data
        columns = columns_of(data.lines)
        validation.check(data, self._program, now, columns)
        # The rules in force then: late events are decided by their own version.
        program = self._program.at(data.occurred_at)
        assessment = earning.assess(data, program, columns)
        offers = earning.offered(data, shop, assessment, program, columns)
        purchase_id = digest_uuid("purchase", shop, data.order_id)
        fingerprint = packing.fingerprint(data, columns)
        return Purchase(event, purchase_id, shop, fingerprint, assessment, columns, offers)

    @exactly
    def _valued_again(self, row: Any) -> Purchase:
        """A purchase as it was kept among the uncredited."""
        data = msgspec.json.decode(row["data"], type=PurchaseCompleted)
        shop, columns = row["shop"], columns_of(data.lines)
        program = self._program.at(data.occurred_at)
        assessment = earning.assess(data, program, columns)
        offers = earning.offered(data, shop, assessment, program, columns)
        event = Event(row["event_key"], shop, row["event_id"], COMPLETED, data, NO_RECORD)
        return Purchase(
            event, row["purchase_id"], shop, row["fingerprint"], assessment, columns, offers
        )

    def candidate(self, purchase: Purchase) -> Candidate:
        """A purchase as campaigns look at it."""
        offers = purchase.offers
        at = purchase.event.data.occurred_at
        case = offers and earning.case_of(purchase.assessment, offers, self._program.at(at))
        changeable = offers is not None and offers.changeable
        return Candidate(purchase.id, purchase.customer or "", at, case, changeable)

    def award(
        self, purchase: Purchase, timeline: Sequence[TierMove], decided: Decided | None = None
    ) -> tuple[TierInForce, Award]:
        """What a purchase earns with a customer's way through the tiers, and the tier it earns with."""
        at = purchase.event.data.occurred_at
        tier, program = bonus.tier_at(timeline, self._program, at), self._program.at(at)
        if purchase.offers is None:
            return tier, earning.award(purchase.assessment, tier, program)
        if decided is None:
            case = earning.case_of(purchase.assessment, purchase.offers, program)
            decision = decide(case, tier, first=False)
        else:
            tier, decision, _ = decided
        return tier, earning.decided(purchase.assessment, purchase.offers, tier, decision)

    def _credit(
        self, work: Work, purchase: Purchase, account: Account, decided: Decided | None = None
    ) -> EntryRow:
        event, data = purchase.event, purchase.event.data
        tier, award = self.award(purchase, account.timeline, decided)
        program = self._program.at(data.occurred_at)
        available_at, expires_at = lots.dates(data.occurred_at, program)
        account.seq += 1
        account.balance += award.total
        explanation = packing.pack(
            data, purchase.assessment, award, tier, program, purchase.columns
        )
        # By place, in the order of the columns: by name costs a µs more, for each purchase.
        row = EntryRow(
            purchase.id,
            account.id,
            account.seq,
            lots.EARNED,
            award.total,
            award.base,
            award.bonus,
            account.balance,
            purchase.id,
            data.occurred_at,
            work.now,
            available_at,
            expires_at,
            purchase.shop,
            data.order_id,
            event.key,
            event.id,
            purchase.fingerprint,
            purchase.assessment.net_spend,
            str(award.value),
            tier.id,
            multiplier_text(tier.multiplier),
            CAMPAIGN if purchase.offers and purchase.offers.changeable else None,
            explanation.decode(),
            None,
            lots.active_from(data.occurred_at, program),
        )
        work.publish(
            contract.TOPIC,
            account.customer_id,
            contract.EARNED,
            derive(contract.EARNED, str(purchase.id)),
            data.occurred_at,
            self._earned(row, account, tier, purchase.named or purchase.customer),
        )
        return row

    def _earned(
        self, row: EntryRow, account: Account, tier: TierInForce, named: str | None
    ) -> PointsEarned:
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
            # Whoever is credited for another's purchase is who that one lives on as.
            bought_as=None if named == account.customer_id else named,
        )

    def _uncredited(self, work: Work, purchase: Purchase) -> UncreditedRow:
        event, data, value = purchase.event, purchase.event.data, purchase.assessment
        nobody = TierInForce(None, bonus.ONE)
        program = self._program.at(data.occurred_at)
        award = earning.award(value, nobody, program)
        return UncreditedRow(
            purchase_id=purchase.id,
            event_key=event.key,
            why=purchase.why or GUEST,
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
                data, value, award, nobody, program, purchase.columns
            ).decode(),
            card_number=None if data.customer_id else data.card_number,
            data=whose.kept(data, self._program),
        )


def _followed(purchase: Purchase, accounts: Mapping[str, Account]) -> Purchase:
    """Credit a merged customer's purchase to whom they live on as."""
    if purchase.customer is None:
        return purchase
    found = accounts[purchase.customer].customer_id, ""
    return purchase._replace(found=found, named=purchase.customer)


def _unknown(work: Work, candidates: Sequence[Purchase], known: Sequence[Known]) -> list[Purchase]:
    """Those not seen before; the others are duplicates, or poison if they say something else than then."""
    orders: dict[UUID, int] = {seen.purchase_id: seen.fingerprint for seen in known}
    events: dict[UUID, int] = {seen.event_key: seen.fingerprint for seen in known}
    fresh: list[Purchase] = []
    for purchase in candidates:
        event = purchase.event
        seen, field = events.get(event.key), "id"
        if seen is None:
            seen, field = orders.get(purchase.id), "data.order_id"
        if seen is None:
            fresh.append(purchase)
            orders[purchase.id] = events[event.key] = purchase.fingerprint
            continue
        what = f"event {event.id!r}" if field == "id" else f"order {event.data.order_id!r}"
        if seen == purchase.fingerprint:
            work.duplicate(event, f"{what} is known")
        else:
            work.poison(event, field, f"{what} of {event.source} is known with other content")
    return fresh
