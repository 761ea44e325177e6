"""Spending: holds, their capture, release and time-out, and points given back. Each a command on one account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

from services.points.domain import facts, spending
from services.points.domain.spending import Hold, Means, Part, Refused, Spendable
from services.points.handlers import spending_events as events
from services.points.handlers.covers import cover
from services.points.handlers.lines import Line, line
from services.points.handlers.sweeping import sweep
from services.points.ledger import FLAG_SPENT, Account, EntryRow
from services.points.ledger import spending as ledger
from services.points.ledger.spending import FLAG_OWES, Purse
from shared import clock
from shared.contracts.points import RestoredPart
from shared.events.model import Work
from shared.ids import digest_uuid
from shared.program import Program

DEFAULT_LASTS = timedelta(minutes=15)
CANCELLED, ASKED = "cancelled", "restored"


class Wish(NamedTuple):
    """What a hold is asked for; ``id`` where it follows from what it is for."""

    customer_id: str
    points: int
    lasts: timedelta = DEFAULT_LASTS
    order_id: str | None = None
    redemption_id: str | None = None
    id: UUID | None = None


class Restored(NamedTuple):
    """A hold after points of it were given back, and where they went."""

    hold: Hold
    parts: Sequence[RestoredPart]


class Spending:
    """The commands, bound to the program in force. All raise ``Refused``; then nothing has been written."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def hold(self, work: Work, wish: Wish) -> Hold:
        """Reserve points of concrete lots for a while."""
        purse, parts = await self._reserve(work, wish)
        hold = _new_hold(work, purse.account.customer_id, wish, parts, work.now + wish.lasts)
        await ledger.store(work.conn, hold, purse.account)
        left = spending.means(purse.lots, work.now).available - wish.points
        events.held(work, hold, left)
        return hold

    async def spend(self, work: Work, wish: Wish) -> Hold:
        """Reserve and capture in one step, for tills."""
        purse, parts = await self._reserve(work, wish)
        hold = _new_hold(work, purse.account.customer_id, wish, parts, work.now)
        return await self._take(work, purse, hold, wish.points)

    async def capture(self, work: Work, hold_id: UUID, points: int | None) -> Hold:
        """Spend reserved points, all or fewer; the rest is free again."""
        purse, hold = await self._live(work, hold_id)
        wanted = hold.points if points is None else points
        if wanted > hold.points:
            raise Refused(
                "capture-exceeds-hold",
                f"{wanted} points are more than the {hold.points} of this hold.",
                held=hold.points,
            )
        return await self._take(work, purse, hold, wanted)

    async def release(self, work: Work, hold_id: UUID) -> Hold:
        """Let go of reserved points."""
        purse, hold = await self._live(work, hold_id)
        return await self._let_go(work, purse, hold, "released", _end(work, hold))

    async def time_out(self, work: Work, hold_id: UUID) -> bool:
        """Write down that a hold's time is over; false if there is nothing to write."""
        purse = await ledger.lock_hold(work.conn, hold_id, work.now)
        hold = purse and purse.hold
        if not purse or not hold or hold.state != "held" or work.now < hold.expires_at:
            return False
        await self._let_go(work, purse, hold, "expired", hold.expires_at)
        return True

    async def restore(
        self, work: Work, hold_id: UUID, points: int | None, reason: str = ASKED
    ) -> Restored:
        """Give spent points back to their lots: what was taken last comes back first."""
        purse, hold = await self._known(work, hold_id)
        if hold.state != "captured":
            raise _closed(hold, work.now, "Only captured points can be given back.")
        left = hold.captured - hold.restored
        wanted = left if points is None else points
        if not 0 < wanted <= left:
            raise Refused(
                "restore-exceeds-capture",
                f"{left} of the {hold.captured} captured points are not given back yet.",
                restorable=left,
            )
        return await self._give_back(work, purse, hold, wanted, reason)

    async def restore_order(
        self, work: Work, account: Account, order_id: str
    ) -> Sequence[Restored]:
        """Give back all that was spent on an order, and let go of what is reserved for it.

        For a cancellation, in its transaction: ``account`` is locked and all its lines so far are appended; it
        moves on by those written here. Nothing spent is nothing to do.
        """
        found = []
        for row in await ledger.holds_of_order(work.conn, account, order_id):
            purse, hold = await self._known(work, row["hold_id"])
            if hold.state == "held":
                end = min(max(work.now, hold.held_at), hold.expires_at)
                state: spending.State = "expired" if end == hold.expires_at else "released"
                await self._let_go(work, purse, hold, state, end)
            else:
                left = hold.captured - hold.restored
                found.append(await self._give_back(work, purse, hold, left, CANCELLED))
            account.seq, account.balance = purse.account.seq, purse.account.balance
            account.flags |= purse.account.flags
        return found

    async def _reserve(self, work: Work, wish: Wish) -> tuple[Purse, list[Part]]:
        purse = await ledger.lock_customer(work.conn, wish.customer_id, work.now)
        if purse is None:
            raise unknown_customer(wish.customer_id)
        parts = spending.allocate(purse.lots, wish.points, work.now)
        if parts is None:
            raise insufficient(spending.means(purse.lots, work.now), wish.points)
        return purse, parts

    async def _known(self, work: Work, hold_id: UUID) -> tuple[Purse, Hold]:
        purse = await ledger.lock_hold(work.conn, hold_id, work.now)
        if purse is None or purse.hold is None:
            raise Refused("hold-not-found", f"There is no hold {hold_id}.")
        return purse, purse.hold

    async def _live(self, work: Work, hold_id: UUID) -> tuple[Purse, Hold]:
        purse, hold = await self._known(work, hold_id)
        state = hold.state_at(work.now)
        if state == "expired":
            ended = hold.expires_at.isoformat()
            raise Refused("hold-expired", f"This hold's time was over at {ended}.", state=state)
        if state != "held":
            raise _closed(hold, work.now, "Only a live hold can be captured or released.")
        return purse, hold

    async def _take(self, work: Work, purse: Purse, hold: Hold, points: int) -> Hold:
        taken, at = spending.first(hold.parts, points), _end(work, hold)
        done = replace(hold, state="captured", captured=points, ended_at=at)
        account, lots = purse.account, {lot.lot_id: lot for lot in purse.lots}
        rows = [
            self._row(work, account, hold, Line(
                digest_uuid(spending.CAPTURED, str(hold.id), str(part.lot_id)), spending.CAPTURED,
                facts.SPENT, -part.points, part.lot_id, lots[part.lot_id], at,
            ))
            for part in taken
        ]  # fmt: skip
        account.flags |= FLAG_SPENT
        await ledger.store(work.conn, done, account, rows, _due(lots, hold.parts, at))
        events.captured(work, done, taken)
        count = {part.lot_id: part.points for part in taken}
        short = any(lot.points < count.get(lot.lot_id, 0) for lot in purse.lots)
        if short or account.flags & FLAG_OWES:
            await cover(work, self._program, [account])
        return done

    async def _let_go(
        self, work: Work, purse: Purse, hold: Hold, state: spending.State, at: datetime
    ) -> Hold:
        done = replace(hold, state=state, ended_at=at)
        lots = {lot.lot_id: lot for lot in purse.lots}
        await ledger.store(work.conn, done, purse.account, due=_due(lots, hold.parts, work.now))
        events.released(work, done)
        if purse.account.flags & FLAG_OWES:
            await cover(work, self._program, [purse.account])
        return done

    async def _give_back(
        self, work: Work, purse: Purse, hold: Hold, points: int, reason: str
    ) -> Restored:
        account, lots = purse.account, {lot.lot_id: lot for lot in purse.lots}
        done = replace(hold, restored=hold.restored + points)
        at = max(work.now, hold.ended_at)
        rows: list[EntryRow] = []
        parts: list[RestoredPart] = []
        for part in spending.given_back(hold.parts, hold.captured, hold.restored, points):
            back = self._returning(hold, part, lots[part.lot_id], at)
            rows.append(self._row(work, account, hold, back))
            parts.append(
                RestoredPart(
                    lot_id=str(part.lot_id),
                    points=part.points,
                    into_lot_id=str(back.lot_id),
                    expires_at=back.dates.expires_at,
                    expired=not back.dates.counts(at) and back.dates.available_at <= at,
                )
            )
        ends = [row.expires_at for row in rows if row.expires_at is not None]
        await ledger.store(work.conn, done, account, rows, max(min(ends), at) if ends else None)
        events.restored(work, done, points, parts, reason, at)
        # What comes back to a merged account moves on to the one as which it lives on.
        accounts = await sweep(work, self._program, [account])
        await cover(work, self._program, [a for a in accounts if a.flags & FLAG_OWES])
        return Restored(done, parts)

    def _returning(self, hold: Hold, part: Part, lot: Spendable, at: datetime) -> Line:
        """The line that gives points back: to their lot, or where that is over, by grace to one of their own."""
        entry_id = digest_uuid(
            spending.RESTORED, str(hold.id), str(part.lot_id), str(hold.restored)
        )
        grace, lot_id, code = self._program.grace_on_restore, part.lot_id, facts.GIVEN_BACK
        if grace is not None and lot.expires_at is not None and lot.expires_at <= at:
            ends = clock.end_of_day(at, grace, self._program.zone)
            lot = lot._replace(occurred_at=at, available_at=at, expires_at=ends)
            lot_id, code = entry_id, facts.GIVEN_NEW_LIFE
        return Line(entry_id, spending.RESTORED, code, part.points, lot_id, lot, at)

    def _row(self, work: Work, account: Account, hold: Hold, written: Line) -> EntryRow:
        about = hold.order_id or hold.redemption_id or ""
        return line(work, self._program, account, written, hold.id, [about], order_id=hold.order_id)


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


def _new_hold(
    work: Work, customer_id: str, wish: Wish, parts: Sequence[Part], ends: datetime
) -> Hold:
    return Hold(
        id=wish.id or uuid4(),
        customer_id=customer_id,
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


def _end(work: Work, hold: Hold) -> datetime:
    """Now, but not before it began by another process's clock."""
    return max(work.now, hold.held_at)


def _closed(hold: Hold, now: datetime, detail: str) -> Refused:
    state = hold.state_at(now)
    return Refused("hold-closed", f"This hold is {state}. {detail}", state=state)


def _due(lots: dict[UUID, Spendable], parts: Sequence[Part], at: datetime) -> datetime | None:
    """When time has to be told of what a hold let go: at once, where a lot has expired meanwhile."""
    ends = (lots[part.lot_id].expires_at for part in parts if part.lot_id in lots)
    return at if any(end is not None and end <= at for end in ends) else None
