"""What each command of spending does to a locked account: decided here, written and told by who asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from services.points.domain import facts, spending
from services.points.domain.spending import Hold, Means, Part, Refused, Spendable, State
from services.points.handlers import spending_events as events
from services.points.handlers.lines import Line, line
from services.points.ledger import FLAG_SPENT, Account, EntryRow
from services.points.ledger.spending import FLAG_OWES, Change, Purse
from shared.events.model import Work
from shared.ids import digest_uuid, random_uuid
from shared.program import Program

DEFAULT_LASTS = timedelta(minutes=15)


class Wish(NamedTuple):
    """What a hold is asked for; ``id`` where it follows from what it is for. ``spent``: captured at once."""

    customer_id: str
    points: int
    lasts: timedelta = DEFAULT_LASTS
    order_id: str | None = None
    redemption_id: str | None = None
    id: UUID | None = None
    spent: bool = False


class Capture(NamedTuple):
    """A hold whose points, all or so many, are to be spent."""

    hold_id: UUID
    points: int | None


class Release(NamedTuple):
    """A hold whose points are to be free again."""

    hold_id: UUID


Asked = Wish | Capture | Release


class Decided(NamedTuple):
    """What is to be written; ``owing``: other lots may have to pay then. It is told by ``tell``."""

    change: Change
    owing: bool
    # What is free afterwards, for a new hold; how many points of which lots were spent.
    available: int = 0
    taken: Sequence[Part] = ()

    def tell(self, work: Work) -> None:
        """Publish what happened."""
        hold = self.change.hold
        if hold.state == "held":
            events.held(work, hold, self.available)
        elif hold.state == "captured":
            events.captured(work, hold, self.taken)
        else:
            events.released(work, hold)


def decide(work: Work, program: Program, purse: Purse, asked: Asked) -> Decided:
    """Decide on what a locked account has; raises ``Refused``. Nothing that was given is changed."""
    if isinstance(asked, Wish):
        return _reserve(work, program, purse, asked)
    hold = _live(purse, asked.hold_id, work.now)
    if isinstance(asked, Release):
        return let_go(work, purse, hold, "released", _end(work, hold))
    wanted = hold.points if asked.points is None else asked.points
    if wanted > hold.points:
        raise Refused(
            "capture-exceeds-hold",
            f"{wanted} points are more than the {hold.points} of this hold.",
            held=hold.points,
        )
    return _take(work, program, purse, hold, wanted)


def known(purse: Purse | None, hold_id: UUID) -> tuple[Purse, Hold]:
    """Tell the purse with its hold; raises ``Refused`` if there is none."""
    if purse is None or purse.hold is None:
        raise Refused("hold-not-found", f"There is no hold {hold_id}.")
    return purse, purse.hold


def closed(hold: Hold, now: datetime, detail: str) -> Refused:
    """Tell how a hold has ended."""
    state = hold.state_at(now)
    return Refused("hold-closed", f"This hold is {state}. {detail}", state=state)


def insufficient(found: Means, points: int) -> Refused:
    """Fewer points than asked for can be spent, or none while something is owed."""
    detail = f"{points} points were asked for, {found.available} are available."
    if found.deficit:
        detail = f"{found.deficit} points are owed: until they are earned, none can be spent."
    available = 0 if found.deficit else found.available
    return Refused("insufficient-points", detail, available=available, deficit=found.deficit)


def unknown_customer(customer_id: str) -> Refused:
    """Nobody by this id has an account."""
    return Refused("customer-not-found", f"There is no customer {customer_id!r} here.")


def let_go(work: Work, purse: Purse, hold: Hold, state: State, at: datetime) -> Decided:
    """What a hold reserved is free again, by word or by time."""
    done = replace(hold, state=state, ended_at=at)
    due = _due(_by_id(purse.lots), hold.parts, work.now)
    change = Change(done, replace(purse.account), due=due)
    return Decided(change, owing=bool(purse.account.flags & FLAG_OWES))


def written(
    work: Work, program: Program, account: Account, hold: Hold, lines: Sequence[Line]
) -> list[EntryRow]:
    """Move the account by a hold's lines and return their rows."""
    said = [hold.order_id or hold.redemption_id or ""]
    order_id = hold.order_id
    return [line(work, program, account, one, hold.id, said, order_id=order_id) for one in lines]


def afterwards(lots: Sequence[Spendable], before: Hold | None, change: Change) -> list[Spendable]:
    """The lots as a change leaves them, for the next one; ``before`` is the live hold that it ended."""
    points = {row.lot_id: row.points for row in change.rows}
    reserved = {part.lot_id: -part.points for part in before.parts} if before else {}
    if change.hold.state == "held":
        reserved = {part.lot_id: part.points for part in change.hold.parts}
    return [
        lot._replace(
            points=lot.points + points.get(lot.lot_id, 0),
            reserved=lot.reserved + reserved.get(lot.lot_id, 0),
        )
        for lot in lots
    ]


def _reserve(work: Work, program: Program, purse: Purse, wish: Wish) -> Decided:
    parts = spending.allocate(purse.lots, wish.points, work.now)
    if parts is None:
        raise insufficient(spending.means(purse.lots, work.now), wish.points)
    ends = work.now if wish.spent else work.now + wish.lasts
    hold = Hold(
        id=wish.id or random_uuid(),
        customer_id=purse.account.customer_id,
        state="held",
        points=wish.points,
        captured=0,
        restored=0,
        parts=parts,
        order_id=wish.order_id,
        redemption_id=wish.redemption_id,
        held_at=work.now,
        expires_at=ends,
        ended_at=ends,
    )
    if wish.spent:
        decided = _take(work, program, purse, hold, wish.points)
        return decided._replace(change=decided.change._replace(made=True))
    left = spending.means(purse.lots, work.now).available - wish.points
    change = Change(hold, purse.account, made=True)
    return Decided(change, owing=False, available=left)


def _live(purse: Purse, hold_id: UUID, now: datetime) -> Hold:
    _, hold = known(purse, hold_id)
    state = hold.state_at(now)
    if state == "expired":
        ended = hold.expires_at.isoformat()
        raise Refused("hold-expired", f"This hold's time was over at {ended}.", state=state)
    if state != "held":
        raise closed(hold, now, "Only a live hold can be captured or released.")
    return hold


def _take(work: Work, program: Program, purse: Purse, hold: Hold, points: int) -> Decided:
    taken, at = spending.first(hold.parts, points), _end(work, hold)
    done = replace(hold, state="captured", captured=points, ended_at=at)
    account, lots = replace(purse.account), _by_id(purse.lots)
    lines = [
        Line(
            digest_uuid(spending.CAPTURED, str(hold.id), str(part.lot_id)), spending.CAPTURED,
            facts.SPENT, -part.points, part.lot_id, lots[part.lot_id], at,
        )
        for part in taken
    ]  # fmt: skip
    rows = written(work, program, account, done, lines)
    account.flags |= FLAG_SPENT
    count = {part.lot_id: part.points for part in taken}
    short = any(lot.points < count.get(lot.lot_id, 0) for lot in purse.lots)
    change = Change(done, account, rows, _due(lots, hold.parts, at))
    return Decided(change, owing=short or bool(account.flags & FLAG_OWES), taken=taken)


def _end(work: Work, hold: Hold) -> datetime:
    """Now, but not before it began by another process's clock."""
    return max(work.now, hold.held_at)


def _by_id(lots: Sequence[Spendable]) -> Mapping[UUID, Spendable]:
    return {lot.lot_id: lot for lot in lots}


def _due(lots: Mapping[UUID, Spendable], parts: Sequence[Part], at: datetime) -> datetime | None:
    """When time has to be told of what a hold let go: at once, where a lot has expired meanwhile."""
    ends = (lots[part.lot_id].expires_at for part in parts if part.lot_id in lots)
    return at if any(end is not None and end <= at for end in ends) else None
