"""Redemptions from Kafka: what one costs is held when it is requested, and captured or released when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.points import ledger
from services.points.domain import spending
from services.points.domain.spending import HOLD_MAX, POINTS_MAX, Hold, Means, Refused
from services.points.domain.validation import check_id
from services.points.handlers import spending_events as told
from services.points.handlers.spending import Spending
from services.points.handlers.spending_decisions import Wish, insufficient
from services.points.ledger import spending as store
from services.points.ledger.spending import Change
from shared.contracts import rewards
from shared.contracts.rewards import RedemptionEnded, RedemptionRequested
from shared.errors import Poison
from shared.events.model import Event, Work
from shared.ids import derive
from shared.program import Program

AnyRedemption = RedemptionRequested | RedemptionEnded


class Redemptions:
    """The handler of redemptions, bound to the program in force. A hold's id follows from its redemption's."""

    def __init__(self, program: Program) -> None:
        self._spending = Spending(program)

    async def handle(self, work: Work, events: Sequence[Event[AnyRedemption]]) -> None:
        """Each once, whatever the event's id; the accounts in the order in which every writer locks them."""
        checked = [event for event in events if _checked(work, event)]
        known = await store.account_ids(work.conn, {e.data.customer_id for e in checked})
        # An account that is missing is made for the refusal, which is remembered like any other.
        missing = {e.data.customer_id for e in checked} - known.keys()
        if missing:
            made = await ledger.lock_accounts(work.conn, missing)
            known |= {name: account.id for name, account in made.items()}
        for event in sorted(checked, key=lambda one: known[one.data.customer_id]):
            if isinstance(event.data, RedemptionRequested):
                await self._request(work, event, event.data)
            else:
                await self._end(work, event)

    async def _request(
        self, work: Work, event: Event[AnyRedemption], data: RedemptionRequested
    ) -> None:
        hold_id = hold_of(data.redemption_id)
        purse = await store.lock_customer(work.conn, data.customer_id, work.now)
        if purse is None:
            raise Refused("customer-not-found", f"{data.customer_id!r} has no account")
        found = await store.find_hold(work.conn, hold_id)
        if found is not None:
            names = (data.customer_id, purse.account.customer_id)
            if found.customer_id in names and found.points == data.points:
                work.duplicate(event, f"redemption {data.redemption_id!r} is known")
            else:
                reason = f"redemption {data.redemption_id!r} is known with other content"
                work.poison(event, "data.redemption_id", reason)
            return
        wish = Wish(
            data.customer_id,
            data.points,
            HOLD_MAX,
            redemption_id=data.redemption_id,
            id=hold_id,
        )
        if spending.allocate(purse.lots, data.points, work.now) is not None:
            await self._spending.hold(work, wish)
            return
        means = spending.means(purse.lots, work.now)
        declined = _declined(work, purse.account.customer_id, wish, hold_id)
        change = Change(declined, purse.account, made=True)
        await store.store(work.conn, [change], work.now)
        refused = insufficient(means, data.points)
        told.declined(work, declined, Means(*means), refused.code)
        work.refuse(event, refused.detail)

    async def _end(self, work: Work, event: Event[AnyRedemption]) -> None:
        data, hold_id = event.data, hold_of(event.data.redemption_id)
        purse = await store.lock_hold(work.conn, hold_id, work.now)
        hold = purse.hold if purse else None
        if hold is None:
            work.refuse(event, f"nothing is held for redemption {data.redemption_id!r}")
            return
        if hold.customer_id != data.customer_id and not await self._lives_on(work, hold, data):
            reason = f"redemption {data.redemption_id!r} is another customer's"
            work.poison(event, "data.customer_id", reason)
            return
        completed = event.type == rewards.REDEMPTION_COMPLETED
        wanted = "captured" if completed else "released"
        state = hold.state_at(work.now)
        if state == wanted or (not completed and state in ("expired", "declined")):
            work.duplicate(event, f"redemption {data.redemption_id!r} is {state}")
        elif state != "held":
            work.refuse(event, f"the points of redemption {data.redemption_id!r} are {state}")
        elif completed:
            await self._spending.capture(work, hold_id, None)
        else:
            await self._spending.release(work, hold_id)

    async def _lives_on(self, work: Work, hold: Hold, data: AnyRedemption) -> bool:
        """Whether the customer that was named is the hold's under another name, by a merge."""
        purse = await store.lock_customer(work.conn, data.customer_id, work.now)
        return purse is not None and purse.account.customer_id == hold.customer_id


def hold_of(redemption_id: str) -> UUID:
    """The hold for a redemption."""
    return derive("hold", redemption_id)


def _checked(work: Work, event: Event[AnyRedemption]) -> bool:
    data = event.data
    try:
        check_id(data.redemption_id, "data.redemption_id")
        check_id(data.customer_id, "data.customer_id")
        if not 1 <= data.points <= POINTS_MAX:
            raise Poison("data.points", f"is {data.points}, not from 1 to {POINTS_MAX}")
    except Poison as poison:
        work.poison(event, poison.field, poison.reason)
        return False
    return True


def _declined(work: Work, customer_id: str, wish: Wish, hold_id: UUID) -> Hold:
    return Hold(
        id=hold_id,
        customer_id=customer_id,
        state="declined",
        points=wish.points,
        captured=0,
        restored=0,
        parts=(),
        order_id=None,
        redemption_id=wish.redemption_id,
        held_at=work.now,
        expires_at=work.now,
        ended_at=work.now,
    )
